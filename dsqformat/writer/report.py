"""What a writer reports when it has published: every byte, by what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsqformat.chunk.models import PatchModel
from dsqformat.dataset.snapshot import ROLE_KEYS, ROLE_SAMPLES, totals
from dsqformat.select.distortion import psnr_of
from dsqformat.writer.publication import Prepared, SnapshotBuilder
from dsqformat.writer.tally import PatchStorage


@dataclass(frozen=True)
class WriteReport:
    """Bytes of a published snapshot.

    Attributes:
        snapshot_id: 64 hex digits.
        sample_count: samples with a payload.
        dropped_count: samples of bit width 0, rows of the sample table only.
        chunk_count: chunks over all shards.
        shard_count: shards.
        shard_nbytes: whole shards: heads, chunks and tails.
        index_nbytes: of these, index segments.
        layer_nbytes: of these, the segments of each layer number, over all fields.
        table_nbytes: the sample table.
        key_nbytes: the key table.
        other_blob_nbytes: auxiliary files that were added.
        snapshot_nbytes: the snapshot, its pages and dataset.json.
        source_nbytes: the values as they were given, at their own dtype.
        packed_nbytes: all codes at their bit widths, before entropy coding.
        settings: how many samples have which qp or bit width, by NAME.qp or NAME.bit_width.
        psnr: in dB over all values of the fields that were measured; None: none were.
        rounds: how often samples were encoded to meet a target.
        patches: storage by the formula, by name of the fields of quantizer patch.
    """

    snapshot_id: str
    sample_count: int
    dropped_count: int
    chunk_count: int
    shard_count: int
    shard_nbytes: int
    index_nbytes: int
    layer_nbytes: tuple[int, ...]
    table_nbytes: int
    key_nbytes: int
    other_blob_nbytes: int
    snapshot_nbytes: int
    source_nbytes: int
    packed_nbytes: int
    settings: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    psnr: float | None = None
    rounds: int = 1
    patches: Mapping[str, PatchStorage] = field(default_factory=dict)

    @property
    def total_nbytes(self) -> int:
        """Every byte that was written: the whole snapshot on disk, unless it was appended to."""
        tables = self.table_nbytes + self.key_nbytes
        return self.shard_nbytes + tables + self.other_blob_nbytes + self.snapshot_nbytes

    @property
    def head_and_tail_nbytes(self) -> int:
        """Bytes of shards outside chunks: headers, schemas, chunk tables, keys."""
        return self.shard_nbytes - self.index_nbytes - sum(self.layer_nbytes)


def report_of(
    builder: SnapshotBuilder,
    prepared: Prepared,
    *,
    snapshot_id: str,
    sample_count: int,
    source_nbytes: int,
    rounds: int,
) -> WriteReport:
    """Return what to report of a snapshot that has just been published.

    Args:
        builder: what encoded it.
        prepared: the snapshot.
        snapshot_id: its id.
        sample_count: samples given, with a payload or without.
        source_nbytes: as the report has it.
        rounds: likewise.
    """
    schema, tally = builder.schema, builder.tally
    samples, chunks, nbytes, segments = totals(builder.shards, schema.segment_count)
    layers = [0] * schema.layer_count
    for (_, layer), segment in schema.segment_of.items():
        layers[layer] += segments[segment]
    sizes = {blob.role: blob.nbytes for blob in prepared.entries}
    refs_nbytes = (builder.store.root / "dataset.json").stat().st_size
    return WriteReport(
        snapshot_id=snapshot_id,
        sample_count=samples,
        dropped_count=sample_count - samples,
        chunk_count=chunks,
        shard_count=len(builder.shards),
        shard_nbytes=nbytes,
        index_nbytes=segments[0],
        layer_nbytes=tuple(layers),
        table_nbytes=sizes.get(ROLE_SAMPLES, 0),
        key_nbytes=sizes.get(ROLE_KEYS, 0),
        other_blob_nbytes=prepared.other_blob_nbytes,
        snapshot_nbytes=len(prepared.snapshot) + prepared.pages_nbytes + refs_nbytes,
        source_nbytes=source_nbytes,
        packed_nbytes=tally.packed_nbytes,
        settings={name: dict(sorted(c.items())) for name, c in tally.settings.items()},
        psnr=psnr_of(tally.squared_error, tally.value_count) if tally.value_count else None,
        rounds=rounds,
        patches=_patch_storage(builder),
    )


def _patch_storage(builder: SnapshotBuilder) -> dict[str, PatchStorage]:
    storage = {}
    for name, (values, patches) in builder.tally.patches.items():
        model = (builder.encoder.models or {}).get(name)
        widths: Mapping[int, int] = builder.tally.settings.get(f"{name}.bit_width", {})
        if isinstance(model, PatchModel):
            bit_width = max(widths, default=0)
            storage[name] = PatchStorage(values, patches, bit_width, len(model.scale))
    return storage
