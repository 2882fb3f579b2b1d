"""`dsq bench`: bytes, fidelity and speed of DSQ beside picture codecs, measured on real files.

Needs the extra `bench`. Nothing here is imported by the rest of the package.
"""
