"""DSQ: image datasets as integer codes, in shards that can be read from any prefix."""

from dsqformat._version import __version__

__all__ = ["__version__"]
