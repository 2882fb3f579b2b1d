"""Writes datasets: samples in any order and number, in bounded memory, published atomically."""

from dsqformat.writer.dataset_writer import DatasetWriter
from dsqformat.writer.field_spec import FieldSpec
from dsqformat.writer.report import WriteReport
from dsqformat.writer.tally import PatchStorage
from dsqformat.writer.targets import NbytesPerSample, Psnr, Target, TotalNbytes

__all__ = [
    "DatasetWriter",
    "FieldSpec",
    "NbytesPerSample",
    "PatchStorage",
    "Psnr",
    "Target",
    "TotalNbytes",
    "WriteReport",
]
