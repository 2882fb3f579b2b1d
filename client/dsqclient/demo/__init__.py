"""`dsq demo`: real photographs are packed, served, streamed over a slow link and trained from."""
