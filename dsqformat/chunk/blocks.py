"""Fields of quantizer `block`: pictures as streams of transform blocks (spec 9.5 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex
from dsqformat.chunk.inputs import FieldInput, FieldTuning
from dsqformat.chunk.quantizing import asked_setting, check_dtype
from dsqformat.coding.block import BlockModel, Options, decode_ranges, encode, fit
from dsqformat.coding.streams import pack_lengths, parse_lengths
from dsqformat.errors import CorruptShardError, SampleError
from dsqformat.schema import Field
from dsqformat.wire import LAYER_RANS, MAX_CHUNK_SAMPLES, MAX_QP

# A stream of this many pixels has a few kilobytes: its length and its end cost 0.1 %.
STREAM_PIXELS: Final = 32 << 10


def fit_field(field: Field, source: FieldInput, tuning: FieldTuning) -> BlockModel:
    """Fit the model of a field to some samples.

    Raises:
        SampleError: a picture cannot be coded.
    """
    options = Options(layers=field.layer_count, effort=tuning.effort)
    return fit(_pictures(field, source), _qps(field, source).tolist(), options)


def encode_field(
    field: Field, source: FieldInput, model: BlockModel
) -> tuple[FieldIndex, list[bytes]]:
    """Return the index of a field and its layer segments.

    Raises:
        SampleError: a picture cannot be coded.
    """
    pictures, qps = _pictures(field, source), _qps(field, source)
    shape = source.shapes(len(field.shape))
    index = FieldIndex(field, shape, [], np.prod(shape, axis=1, dtype="i8"), qp=qps)
    per_stream = _samples_per_stream(shape)
    encoded = encode(model, pictures, qps.tolist(), samples_per_stream=per_stream)
    segments = []
    for streams in encoded.layers:
        lengths = np.array([len(stream) for stream in streams], "i8")
        parts = [bytes([LAYER_RANS]), pack_lengths(per_stream, lengths), *streams]
        segments.append(b"".join(parts))
    return index, segments


def decode_field(
    index: FieldIndex,
    segments: Sequence[bytes | memoryview],
    model: BlockModel | None,
    *,
    whole_bytes: bool,
) -> NDArray[Any]:
    """Decode the first layers of a field.

    Args:
        index: of the field.
        segments: the verified bytes of its first layers.
        model: of the field.
        whole_bytes: return uint8; otherwise float32 in [0, 1].

    Returns:
        All samples after one another.

    Raises:
        CorruptShardError: the bytes contradict the spec.
    """
    if not len(index.shape):
        return np.empty(0, "u1" if whole_bytes else "f4")
    if model is None or index.qp is None:
        raise CorruptShardError("no model of its blocks")
    data, starts, ends, position = [], [], [], 0
    per_streams = set()
    for number, segment in enumerate(segments):
        what, view = f"layer {number}", memoryview(segment)
        if not len(view) or view[0] != LAYER_RANS:
            found = f"coding {view[0]}" if len(view) else "no bytes"
            raise CorruptShardError(f"{what}: {found}, expected coding 2")
        per_stream, stops, body = parse_lengths(view[1:], len(index.shape), what)
        per_streams.add(per_stream)
        starts.append(position + np.concatenate([[0], stops[:-1]]))
        ends.append(position + stops)
        data.append(body)
        position += len(body)
    if len(per_streams) > 1:
        raise CorruptShardError(f"samples per stream differ between layers: {sorted(per_streams)}")
    return decode_ranges(
        model,
        np.concatenate(data) if position else np.zeros(1, "u1"),
        np.array(starts),
        np.array(ends),
        index.shape[:, :2],
        index.qp.astype("i8"),
        samples_per_stream=per_streams.pop(),
        output="uint8" if whole_bytes else "float32",
    )


def _qps(field: Field, source: FieldInput) -> NDArray[np.uint8]:
    qps = asked_setting(field, source)
    if (qps > MAX_QP).any():
        raise SampleError(f"field {field.name!r}: qp {int(qps.max())}, expected 0 to {MAX_QP}")
    return qps


def _pictures(field: Field, source: FieldInput) -> list[NDArray[np.uint8]]:
    """Return the samples with an axis of channels."""
    pictures = []
    for row, array in enumerate(source.values):
        check_dtype(field, array, row)
        pictures.append(array if array.ndim == 3 else array[:, :, np.newaxis])
    return pictures


def _samples_per_stream(shape: NDArray[np.int64]) -> int:
    mean = int(np.prod(shape[:, :2], axis=1).mean())
    return min(MAX_CHUNK_SAMPLES, max(1, STREAM_PIXELS // max(1, mean)))
