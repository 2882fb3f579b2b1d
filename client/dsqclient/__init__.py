"""Read DSQ datasets from a path or over HTTP, and train from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsqclient.opening import open_dataset, open_source
from dsqclient.retry import HttpOptions
from dsqclient.transport import HttpSource

if TYPE_CHECKING:
    from dsqclient.loader import StreamingLoader
    from dsqclient.streaming import StreamingDataset

__all__ = [
    "HttpOptions",
    "HttpSource",
    "StreamingDataset",
    "StreamingLoader",
    "open_dataset",
    "open_source",
]


def __getattr__(name: str) -> Any:
    # torch takes a second to import, and reading needs none of it.
    if name == "StreamingDataset":
        from dsqclient.streaming import StreamingDataset

        return StreamingDataset
    if name == "StreamingLoader":
        from dsqclient.loader import StreamingLoader

        return StreamingLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
