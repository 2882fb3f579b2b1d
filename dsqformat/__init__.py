"""DSQ: datasets as integer codes, in shards that can be read from any prefix.

with DatasetWriter("flowers") as writer:
writer.write({"image": picture, "label": 3}, key="0001")

dataset = open_dataset("flowers")
dataset[0]["image"], dataset[10:20]["label"], dataset.by_key("0001")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dsqformat._version import __version__
from dsqformat.errors import (
    CorruptShardError,
    DatasetError,
    DsqError,
    FetchError,
    PublishConflictError,
    SampleError,
    TruncatedShardError,
    UnknownKeyError,
    UnsupportedFeatureError,
)

if TYPE_CHECKING:
    from dsqformat.dataset import Dataset, open_dataset
    from dsqformat.schema import Column, Domain, Field, Schema
    from dsqformat.writer import DatasetWriter, FieldSpec, WriteReport

__all__ = [
    "Column",
    "CorruptShardError",
    "Dataset",
    "DatasetError",
    "DatasetWriter",
    "Domain",
    "DsqError",
    "FetchError",
    "Field",
    "FieldSpec",
    "PublishConflictError",
    "SampleError",
    "Schema",
    "TruncatedShardError",
    "UnknownKeyError",
    "UnsupportedFeatureError",
    "WriteReport",
    "__version__",
    "open_dataset",
]

# Imported when first used: the command line and the server's start need none of it.
_LAZY = {
    "Column": "dsqformat.schema",
    "Dataset": "dsqformat.dataset",
    "DatasetWriter": "dsqformat.writer",
    "Domain": "dsqformat.schema",
    "Field": "dsqformat.schema",
    "FieldSpec": "dsqformat.writer",
    "Schema": "dsqformat.schema",
    "WriteReport": "dsqformat.writer",
    "open_dataset": "dsqformat.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
