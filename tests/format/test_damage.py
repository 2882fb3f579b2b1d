"""Damaged shards: every prefix, every flipped bit, and lengths that lie."""

import contextlib
import os
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import (
    CorruptShardError,
    DatasetWriter,
    DsqError,
    FieldSpec,
    TruncatedShardError,
    UnsupportedFeatureError,
    open_dataset,
)
from dsqformat.bytesource import LocalSource
from dsqformat.chunk import decode_chunk
from dsqformat.shard import ShardReader, parse_head
from dsqformat.wire import HEADER, MAGIC, crc32c
from strategies import made_datasets
from writing import shard_paths, write_made, write_pictures


def read_all(folder, name):
    """Everything a reader can see of a shard, or the error it gives."""
    reader = ShardReader(LocalSource(folder), name)
    chunks = []
    for number in range(len(reader.chunks)):
        chunk = reader.read_chunk(number)
        rows = {name: np.asarray(value).tobytes() for name, value in chunk.fields.items()}
        chunks.append((rows, repr(chunk.columns), reader.read_keys(number)))
    return reader.schema, chunks


@pytest.fixture(scope="module")
def small_shard(tmp_path_factory):
    """A shard of two fields, two chunks, keys, both codings."""
    path = tmp_path_factory.mktemp("small")
    fields = {"a": FieldSpec("affine", 6), "b": FieldSpec("raw")}
    rng = np.random.default_rng(3)
    with DatasetWriter(path / "d", fields=fields, chunk_nbytes=60, shuffle=False) as writer:
        for number in range(6):
            a = rng.integers(0, 256, (2, 2, 3), dtype="u1")
            b = np.zeros((40,), "i2")
            writer.write({"a": a, "b": b, "label": number}, key=f"k{number}")
    (shard,) = shard_paths(path / "d")
    return shard


def test_every_proper_prefix_is_truncated(small_shard, tmp_path):
    data = small_shard.read_bytes()
    for length in range(len(data)):
        (tmp_path / "s").write_bytes(data[:length])
        with pytest.raises(TruncatedShardError):
            ShardReader(LocalSource(tmp_path), "s")


def test_longer_than_stated_is_corrupt(small_shard, tmp_path):
    (tmp_path / "s").write_bytes(small_shard.read_bytes() + b"\0")
    with pytest.raises(CorruptShardError, match="bytes, expected"):
        ShardReader(LocalSource(tmp_path), "s")


def test_every_flipped_bit_is_an_error_or_changes_nothing(small_shard, tmp_path):
    data = bytearray(small_shard.read_bytes())
    expected = read_all(small_shard.parent, small_shard.name)
    kinds = set()
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            (tmp_path / "s").write_bytes(data)
            try:
                assert read_all(tmp_path, "s") == expected, f"byte {position} bit {bit}"
            except DsqError as error:
                kinds.add(type(error))
            data[position] ^= 1 << bit
    assert CorruptShardError in kinds


def resealed(data):
    """A header with a right checksum."""
    return data[:60] + crc32c(data[:60]).to_bytes(4, "little") + data[64:]


@given(position=st.integers(8, 59), value=st.integers(0, 255))
def test_a_header_with_a_right_checksum_may_still_lie(small_shard, position, value):
    data = bytearray(small_shard.read_bytes())
    data[position] = value
    original = small_shard.read_bytes()
    try:
        head = parse_head(resealed(bytes(data)), nbytes=len(data))
    except DsqError:
        return
    unchanged = resealed(bytes(data)) == original
    assert unchanged or head.header.version_minor or head.header.compatible_features


def test_versions_and_features_are_refused_by_name(small_shard):
    data = small_shard.read_bytes()
    newer = data[:8] + struct.pack("<H", 2) + data[10:]
    with pytest.raises(UnsupportedFeatureError, match=r"format version 2\.0"):
        parse_head(resealed(newer))
    featured = data[:16] + struct.pack("<Q", 1 << 47) + data[24:]
    with pytest.raises(UnsupportedFeatureError, match="bit 47"):
        parse_head(resealed(featured))


def test_text_mode_damage_is_seen_at_once(small_shard, tmp_path):
    (tmp_path / "s").write_bytes(small_shard.read_bytes().replace(b"\r\n", b"\n"))
    with pytest.raises(CorruptShardError, match="not a DSQ shard"):
        ShardReader(LocalSource(tmp_path), "s")


@given(made=made_datasets(max_samples=6))
def test_a_prefix_of_a_chunk_is_the_same_samples_with_fewer_layers(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("made") / "d"
    write_made(path, made, coding="rans")
    with open_dataset(path) as dataset:
        shard = dataset.shard(0)
        segments = shard.read_segments(0)
        for layers in range(1, dataset.schema.layer_count + 1):
            prefix = segments[: dataset.schema.prefix_segments(layers)]
            count = int(shard.chunks.sample_count[0])
            models = shard.head.models
            from_prefix = decode_chunk(dataset.schema, count, prefix, layers=layers, models=models)
            from_file = shard.read_chunk(0, layers=layers)
            for name, values in from_file.fields.items():
                for row in range(count):
                    a, b = np.asarray(values[row]), np.asarray(from_prefix.fields[name][row])
                    assert a.tobytes() == b.tobytes()


def test_the_range_of_fewer_layers_is_a_prefix_of_the_chunk(tmp_path):
    write_pictures(tmp_path / "d", 30)
    shard = open_dataset(tmp_path / "d").shard(0)
    ranges = [shard.chunk_range(0, layers) for layers in (1, 2, None)]
    assert len({start for start, _ in ranges}) == 1
    assert ranges[0][1] < ranges[1][1] < ranges[2][1]


def test_a_bad_block_names_shard_chunk_block_and_offset(tmp_path):
    write_pictures(tmp_path / "d", 3000, block_nbytes=4096)
    (path,) = shard_paths(tmp_path / "d")
    shard = open_dataset(tmp_path / "d").shard(0)
    segment = int(np.argmax(shard.chunks.segment_nbytes[1]))
    offset = shard.head.header.head_nbytes + shard.chunks.segment_offset(1, segment) + 5000
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptShardError, match=rf"chunk 1: segment {segment}: block 1") as caught:
        shard.read_chunk(1)
    assert caught.value.shard == shard.path
    assert (caught.value.chunk, caught.value.block) == (1, 1)
    shard.read_chunk(0)


def test_huge_counts_in_small_files_cost_no_memory(tmp_path):
    """Each file is below 1 kB and claims as much as its fields can hold."""
    files = {
        "head": (1 << 28, 1 << 39, 1 << 40),
        "file": (400, 1 << 40, 1 << 40),
        "samples": (400, 400, (1 << 64) - 1),
    }
    for name, (head, file, samples) in files.items():
        fields = (MAGIC, 1, 0, 2, 0, 0, head, file, samples, 0)
        header = HEADER.pack(*fields, 0)
        (tmp_path / name).write_bytes(resealed(header + bytes(400)))
    script = textwrap.dedent(
        """
        import pathlib, re, sys
        from dsqformat import DsqError
        from dsqformat.bytesource import LocalSource
        from dsqformat.shard import ShardReader
        def peak():
            # ru_maxrss would begin with that of the process that started this one.
            status = pathlib.Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
        before = peak()
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            try:
                ShardReader(LocalSource(path.parent), path.name)
            except DsqError:
                continue
            raise SystemExit(f"{path.name} was accepted")
        print((peak() - before) * 1024)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) < 10 << 20


@given(made=made_datasets(max_samples=5), coding=st.sampled_from(["auto", "rans"]), data=st.data())
def test_segments_with_right_checksums_may_hold_anything(tmp_path_factory, made, coding, data):
    """What a checksum cannot see: hostile bytes give a typed error, never another one."""
    path = tmp_path_factory.mktemp("made") / "d"
    write_made(path, made, coding=coding)
    shard = open_dataset(path).shard(0)
    models = shard.head.models
    segments = [bytes(segment) for segment in shard.read_segments(0)]
    count = int(shard.chunks.sample_count[0])
    for _ in range(20):
        changed = list(segments)
        number = data.draw(st.integers(0, len(segments) - 1))
        octets = bytearray(changed[number])
        if octets and data.draw(st.booleans()):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        else:
            cut = data.draw(st.integers(0, len(octets)))
            octets[cut:] = data.draw(st.binary(max_size=12))
        changed[number] = bytes(octets)
        # Any other exception fails the test.
        with contextlib.suppress(DsqError):
            assert decode_chunk(shard.schema, count, changed, models=models).sample_count == count
