"""Read DSQ datasets from a path or over HTTP, and train from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dsqclient.opening import open_dataset, open_source
from dsqclient.retry import HttpOptions
from dsqclient.transport import HttpSource

if TYPE_CHECKING:
    from dsqclient.loader import StreamingLoader
    from dsqclient.pull import PullReport, pull_dataset
    from dsqclient.streaming import StreamingDataset

__all__ = [
    "HttpOptions",
    "HttpSource",
    "PullReport",
    "StreamingDataset",
    "StreamingLoader",
    "open_dataset",
    "open_source",
    "pull_dataset",
]

# Imported when first used: torch takes a second to import, and reading needs none of it.
_LAZY = {
    "PullReport": "dsqclient.pull",
    "StreamingDataset": "dsqclient.streaming",
    "StreamingLoader": "dsqclient.loader",
    "pull_dataset": "dsqclient.pull",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"dsqclient.{name} needs torch: pip install 'dsqformat[client,torch]'", name="torch"
        ) from error


def __dir__() -> list[str]:
    return __all__
