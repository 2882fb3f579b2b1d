"""What needs a network while a dataset is condensed: the only part of dsqformat that knows torch.

Every module says what it gives; nothing is imported here, so that those which need no torch can
be used without it.
"""
