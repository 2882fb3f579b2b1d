"""The decoders of hostile bytes, each as a function of the parts that may be changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import zstandard

from dsqformat import kernels, wire
from dsqformat.canonical import canonical_json, parse_canonical_json
from dsqformat.chunk import FieldModel, decode_chunk, parse_index
from dsqformat.chunk.index import ChunkIndex
from dsqformat.chunk.models import PatchModel
from dsqformat.coding.block import BlockModel, decode_coefficients, decode_ranges
from dsqformat.coding.rans import PixelModel, decode_layer
from dsqformat.coding.streams import pack_lengths
from dsqformat.coding.zstd import compress_frame
from dsqformat.dataset.key_table import KeyTable
from dsqformat.dataset.refs import parse_refs
from dsqformat.dataset.snapshot import encode_page, parse_page, parse_snapshot
from dsqformat.errors import DsqError, TruncatedShardError
from dsqformat.schema import Schema
from dsqformat.schema_json import schema_from_json, schema_to_json
from dsqformat.shard import ShardReader
from dsqformat.shard.models import encode_groups, encode_models, parse_models
from reseal import reseal

MAX_PART_NBYTES: Final = 16 << 10  # larger ones cost time and teach nothing new
# Pictures of blocks and zeros of masks cost no bytes (spec 15): beyond this many values only
# what comes before the decoder is run. `tests/fuzz/test_bounds.py` goes up to the limits.
MAX_FREE_VALUES: Final = 1 << 15 if kernels.COMPILED else 1 << 12
# Bytes that other decoders may turn into values, 32768 each, are a matter of time alone. NumPy
# takes a millisecond for a few values of a stream.
MAX_PAID_VALUES: Final = 1 << 18 if kernels.COMPILED else 1 << 12


class TooLargeError(Exception):
    """A payload that the format allows and that only time forbids here."""


@dataclass(frozen=True)
class Seed:
    """Where fuzzing starts.

    Attributes:
        target: what is run, such as "block".
        name: of the seed.
        kinds: of the parts, as `fuzz_mutations.MUTATORS` has them.
        parts: sound bytes.
        run: decodes parts; raises DsqError, or TooLargeError, or there is a bug.
    """

    target: str
    name: str
    kinds: tuple[str, ...]
    parts: tuple[bytes, ...]
    run: Callable[[Sequence[bytes]], None]


class MemorySource:
    """A ByteSource of one file."""

    location = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        stop = len(self.data) if stop is None else stop
        if not 0 <= start <= stop:
            raise ValueError(f"{path}: range [{start}, {stop}) is not a range")
        if stop > len(self.data):
            raise TruncatedShardError(f"{path}: {len(self.data)} bytes, expected {stop}")
        return self.data[start:stop]

    def stream(self, path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        yield self.read(path, start, stop)

    def size(self, path: str) -> int:
        return len(self.data)

    def close(self) -> None:
        return


def load_seeds(corpus: Path) -> list[Seed]:
    """Return all seeds of a corpus that `fuzz_corpus.write_corpus` has written."""
    seeds: list[Seed] = []
    for path in sorted(corpus.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".dsq":
            reader = ShardReader(MemorySource(data), path.name)
            if len(data) <= MAX_PART_NBYTES:
                seeds.append(Seed("shard", path.stem, ("shard",), (data,), run_shard))
            seeds += _chunk_seeds(path.stem, reader)
            seeds += _model_seeds(path.stem, reader)
        elif path.suffix == ".json":
            if b'"dsq-dataset"' in data:
                seeds.append(Seed("dataset", path.stem, ("json",), (data,), run_refs))
                continue
            seeds.append(Seed("dataset", path.stem, ("json",), (data,), run_snapshot))
            snapshot = parse_snapshot(data, hashlib.sha256(data).hexdigest())
            page = encode_page(snapshot.shards)
            text = zstandard.decompress(page)
            schema = canonical_json(schema_to_json(snapshot.schema))
            name = f"{path.stem}-page"
            seeds.append(Seed("dataset", name, ("schema", "json"), (schema, text), run_page_text))
            seeds.append(Seed("dataset", name, ("schema", "bytes"), (schema, page), run_page))
        elif path.suffix == ".keys":
            seeds.append(Seed("dataset", path.stem, ("bytes",), (data,), run_key_table))
    return [seed for seed in seeds if max(map(len, seed.parts)) <= MAX_PART_NBYTES]


# Chunks ----------------------------------------------------------------------------------------


def _chunk_seeds(name: str, reader: ShardReader) -> Iterator[Seed]:
    schema, models = reader.schema, reader.head.models
    quantizers = {field.quantizer for field in schema.fields}
    target = next((q for q in ("block", "patch") if q in quantizers), "pixels")
    shared = (
        canonical_json(schema_to_json(schema)),
        encode_models(models, schema),
        encode_groups(models, schema),
    )
    for chunk in range(min(len(reader.chunks), 2)):
        segments = [bytes(segment) for segment in reader.read_segments(chunk)]
        count = int(reader.chunks.sample_count[chunk])
        options = bytes([0, 0]) + (count - 1).to_bytes(2, "little")
        kinds = ("options", "schema", "models", "groups", "index")
        kinds += ("layer",) * (len(segments) - 1)
        yield Seed(target, f"{name}-{chunk}", kinds, (options, *shared, *segments), run_chunk)


def run_chunk(parts: Sequence[bytes], *, any_size: bool = False) -> None:
    """Decode a chunk as a reader would: options, schema, models, groups, index, layers."""
    output, used, count = _options(parts[0])
    schema = _schema(parts[1])
    models = _models(parts[2], parts[3], parts[1])
    index = parse_index(schema, parts[4], count, "index")
    segments = parts[4 : 4 + schema.segment_count]
    if not any_size:
        refuse_large(index, models)
    names = [f.name for f in schema.fields if schema.segment_of[f.name, 0] < len(segments)]
    decode_chunk(schema, count, segments, layers=used, fields=names, output=output, models=models)


def _schema(data: bytes) -> Schema:
    return schema_from_json(parse_canonical_json(data, limit=wire.MAX_SCHEMA_NBYTES, what="schema"))


@lru_cache(maxsize=256)
def _models(models: bytes, groups: bytes, schema: bytes) -> dict[str, FieldModel]:
    """Parse models; those of the seeds, which most payloads leave alone, only once."""
    return parse_models(models, groups, _schema(schema))


def _options(data: bytes) -> tuple[Any, int | None, int]:
    octets = (data + bytes(4))[:4]
    output = "source" if octets[0] & 1 else "float32"
    used = octets[1] % 5 or None
    return output, used, 1 + int.from_bytes(octets[2:], "little") % wire.MAX_CHUNK_SAMPLES


def refuse_large(index: ChunkIndex, models: Mapping[str, FieldModel]) -> None:
    """Raise TooLargeError where decoding would take longer than fuzzing has time for."""
    for field in index.fields.values():
        values = int(np.prod(field.shape, axis=1).sum())
        if isinstance(models.get(field.field.name), BlockModel):
            # Each row of superblocks is cleared and written, however low.
            values += 32 * int(field.shape[:, 1].sum())
            free = True
        else:
            free = bool(field.mask)
        if values > (MAX_FREE_VALUES if free else MAX_PAID_VALUES):
            raise TooLargeError(f"{values} values")


# Models ----------------------------------------------------------------------------------------


def _model_seeds(name: str, reader: ShardReader) -> Iterator[Seed]:
    rng = np.random.default_rng(len(name))
    for field, model in reader.head.models.items():
        if isinstance(model, BlockModel):
            streams = rng.integers(0, 256, 24 * len(model.layers), "u1").tobytes()
            shape = rng.integers(1, 34, 6, "u1").tobytes()
            parts = (model.to_bytes(), streams, shape)
            kinds = ("bits", "stream", "bytes")
            yield Seed("block model", f"{name}-{field}", kinds, parts, run_block_model)
        found = (model.ids, model.codes) if isinstance(model, PatchModel) else (model,)
        for number, part in enumerate(found):
            if isinstance(part, PixelModel):
                parts = (part.to_bytes(), rng.bytes(40), rng.bytes(4))
                yield Seed(
                    "pixel model", f"{name}-{field}-{number}", ("bits", "stream", "bytes"), parts,
                    run_pixel_model,
                )  # fmt: skip


def run_block_model(parts: Sequence[bytes]) -> None:
    """Parse a model; decode any bytes with it to pictures and to coefficients."""
    model = BlockModel.from_bytes(parts[0])
    octets = (parts[2] + bytes(6))[:6]
    shapes = np.array([[1 + octets[0] % 40, 1 + octets[1] % 40], [1 + octets[2] % 9, 33]])
    qps = np.array([octets[3] % 176, octets[4] % 176])
    layers = 1 + octets[5] % len(model.layers)
    data = np.frombuffer(parts[1] or b"\0", "u1")
    cut = np.linspace(0, len(parts[1]), 2 * layers + 1).astype("i8")
    starts, ends = cut[:-1].reshape(layers, 2), cut[1:].reshape(layers, 2)
    if octets[0] & 1:
        output: Any = "uint8" if octets[1] & 1 else "float32"
        decode_ranges(model, data, starts, ends, shapes, qps, samples_per_stream=1, output=output)
    else:
        decode_coefficients(model, data, starts, ends, shapes, qps, samples_per_stream=1)


def run_pixel_model(parts: Sequence[bytes]) -> None:
    """Parse a model; decode any bytes with one of its layers, over any codes of those before."""
    model = PixelModel.from_bytes(parts[0])
    octets = (parts[2] + bytes(4))[:4]
    shape = np.array([[1 + octets[0] % 9, 1 + octets[1] % 20, model.channels]] * 2)
    layer = model.layers[octets[2] % len(model.layers)]
    widths = np.array([[layer.above, layer.bits] if layer.above else [layer.bits]] * 2, "u1")
    coarse = None
    if layer.above:
        values = np.random.default_rng(octets[3]).integers(0, 1 << layer.above, shape.prod(1).sum())
        coarse = values.astype("u2")
    lengths = pack_lengths(2, np.array([len(parts[1])]))
    decode_layer(model, lengths + parts[1], coarse, shape, widths, widths.shape[1] - 1)


# Files -----------------------------------------------------------------------------------------


def run_shard(parts: Sequence[bytes]) -> None:
    """Put the checksums of a shard right and read all of it."""
    data = parts[0]
    # What is too short for a header has no checksums.
    sealed = reseal(data) if len(data) >= 64 else data
    reader = ShardReader(MemorySource(sealed), "shard")
    for chunk in range(len(reader.chunks)):
        count = int(reader.chunks.sample_count[chunk])
        segments = reader.read_segments(chunk)
        index = parse_index(reader.schema, segments[0], count, "index")
        refuse_large(index, reader.head.models)
        reader.decode(chunk, segments, output="source" if len(sealed) % 2 else "float32")
        reader.read_keys(chunk)


def run_refs(parts: Sequence[bytes]) -> None:
    """Parse dataset.json."""
    parse_refs(parts[0])


def run_snapshot(parts: Sequence[bytes]) -> None:
    """Parse a snapshot."""
    parse_snapshot(parts[0], hashlib.sha256(parts[0]).hexdigest())


def run_page(parts: Sequence[bytes]) -> None:
    """Parse a page of shard entries."""
    parse_page(parts[1], _schema(parts[0]), "page")


def run_page_text(parts: Sequence[bytes]) -> None:
    """As `run_page`, from the text that is compressed."""
    run_page([parts[0], compress_frame(parts[1] or b" ", 1)])


def run_key_table(parts: Sequence[bytes]) -> None:
    """Read a key table with its checksums put right."""
    octets = bytearray(parts[0])
    if len(octets) >= 64:
        octets[60:64] = wire.crc32c(bytes(octets[:60])).to_bytes(4, "little")
    for start in range(64, len(octets) - wire.KEY_PAGE_NBYTES + 1, wire.KEY_PAGE_NBYTES):
        stop = start + wire.KEY_PAGE_NBYTES
        octets[stop - 4 : stop] = wire.crc32c(bytes(octets[start : stop - 4])).to_bytes(4, "little")
    table = KeyTable(MemorySource(bytes(octets)), "keys")
    table.positions("key-1")
    table.entries()


def outcome(seed: Seed, parts: Sequence[bytes]) -> str:
    """Run a payload; return "accepted", "too large" or the name of a typed error."""
    try:
        seed.run(parts)
    except DsqError as error:
        return type(error).__name__
    except TooLargeError:
        return "too large"
    return "accepted"
