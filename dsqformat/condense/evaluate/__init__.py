"""`dsq evaluate`: what a network learns from each of several datasets, beside their bytes.

Only `network` and `training` know torch; they are imported when the first run begins.
"""
