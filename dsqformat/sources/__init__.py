"""What people have already: picture folders, WebDataset tars, Parquet, NumPy archives.

Needs the extra `pack`. A source is opened with open_source, which looks through it once; what
it found is in `facts`, and `samples` then yields arrays and columns one sample at a time.
"""

from dsqformat.sources.detection import detect, open_source
from dsqformat.sources.pictures import PictureOptions
from dsqformat.sources.sample_source import (
    FieldFacts,
    Kind,
    Source,
    SourceFacts,
    SourceOptions,
    SourceSample,
    raise_bad,
)

__all__ = [
    "FieldFacts",
    "Kind",
    "PictureOptions",
    "Source",
    "SourceFacts",
    "SourceOptions",
    "SourceSample",
    "detect",
    "open_source",
    "raise_bad",
]
