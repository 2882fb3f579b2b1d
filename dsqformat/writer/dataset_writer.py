"""DatasetWriter: the one way in. Collects samples, then encodes and publishes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat._version import __version__
from dsqformat.chunk.inputs import DEFAULT_ZSTD_LEVEL, Coding
from dsqformat.dataset.snapshot import ROLE_KEYS, ROLE_SAMPLES, BlobEntry
from dsqformat.errors import SampleError
from dsqformat.schema import Column, ColumnType, Schema
from dsqformat.wire import DEFAULT_BLOCK_NBYTES
from dsqformat.writer.collector import Masks, SampleCollector, Settings
from dsqformat.writer.destination import Destination
from dsqformat.writer.encoding import ChunkEncoder
from dsqformat.writer.field_spec import FieldSpec, declared_columns, is_array
from dsqformat.writer.ladder import Ladder, ladder_of
from dsqformat.writer.publication import Prepared, SnapshotBuilder
from dsqformat.writer.report import WriteReport, report_of
from dsqformat.writer.spill import SampleSpill
from dsqformat.writer.storage_options import StorageOptions
from dsqformat.writer.target_search import TargetRun
from dsqformat.writer.targets import Psnr, Target

Progress = Callable[[str, int, int | None], None]
# Without shuffling, samples are encoded whenever this many times a chunk has come together.
_DIRECT_CHUNKS: Final = 64


class DatasetWriter:
    """Writes a dataset directory.

    Samples are mappings: arrays become fields, numbers and strings become columns. They are
    kept in unnamed files until `close`, which permutes them (so that each shard is a uniform
    sample of the dataset), encodes and publishes them. Leaving the context after an exception
    publishes nothing and leaves nothing behind.

    Memory does not grow with the pixels: some 60 bytes of each sample stay in memory (100 more with
    a key, 10 more with a target), besides one chunk per core and the bounded sample that models are
    fitted to (`ChunkEncoder`).

    With a `target` the writer chooses the qp of quantizer block, the bit width of lsq or affine, or
    the number of groups of quantizer patch: of all fields with the quantizer of the first lossy
    field; other fields are stored as their spec says. All samples are kept until `close` then, even
    without shuffling; it looks for the level on a bounded sample, encodes everything, and encodes
    the last shards again until the target is met. Where it lies between two settings, samples are
    mixed. A size counts what the report counts as `total_nbytes`; in mode "append" these are the
    new shards and files and the tables, keys and snapshot that are written anew, parent rows
    included.

    Args:
        path: the dataset directory; made if need be.
        fields: how to store the fields: one FieldSpec for all, or by name.
        columns: types of the columns, by name; None: as in the first sample.
        names: human names of the values of int64 columns, e.g. {"label": ["cat", "dog"]}.
        coding: "auto" keeps the smallest of packed, zstd and rans, per segment.
        zstd_level: 1 to 22.
        chunk_nbytes: what a chunk should have at full fidelity.
        shard_nbytes: what a shard should have, chunk_nbytes to 1 GiB.
        block_nbytes: unit of the link check, a power of two from 4096 to 65536.
        shuffle: write a seeded permutation of the samples; False keeps their order.
        seed: of the permutation.
        mode: "create" refuses a ref that exists; "replace" and "append" make a new snapshot.
        ref: name of the ref to publish under.
        provenance: canonical JSON about how the dataset was made.
        table: write the sample table (needs pyarrow).
        target: TotalNbytes, NbytesPerSample or Psnr instead of a setting; see above.
        measure_psnr: decode every chunk again, so that the report has the PSNR of the quantized
            uint8 fields; a PSNR target does so anyway.
        on_progress: called with (stage, done, total or None).

    Raises:
        DatasetError: the ref exists (mode "create"), or does not (mode "append").
        OSError: the directory cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: FieldSpec | Mapping[str, FieldSpec] | None = None,
        columns: Mapping[str, ColumnType] | Sequence[Column] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        coding: Coding = "auto",
        zstd_level: int = DEFAULT_ZSTD_LEVEL,
        chunk_nbytes: int = 256 << 10,
        shard_nbytes: int = 32 << 20,
        block_nbytes: int = DEFAULT_BLOCK_NBYTES,
        shuffle: bool = True,
        seed: int = 0,
        mode: Literal["create", "replace", "append"] = "create",
        ref: str = "main",
        provenance: Mapping[str, Any] | None = None,
        table: bool = True,
        target: Target | None = None,
        measure_psnr: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        self._options = StorageOptions(coding, zstd_level, chunk_nbytes, shard_nbytes, block_nbytes)
        self._specs = dict(fields) if isinstance(fields, Mapping) else {}
        default = fields if isinstance(fields, FieldSpec) else FieldSpec()
        self._shuffle, self._seed, self._table = shuffle, seed, table
        self._provenance = dict(provenance or {})
        self._progress: Progress = on_progress or (lambda stage, done, total: None)
        self._builder: SnapshotBuilder | None = None
        self._blobs: list[BlobEntry] = []
        self._report: WriteReport | None = None
        self._closed = False
        self._stage, self._encoded, self._rounds = "encode", 0, 1
        self._target, self._measure_psnr = target, measure_psnr or isinstance(target, Psnr)
        declared = declared_columns(columns, names or {})
        self._destination = Destination(Path(path), ref, mode)
        self._store, self._parent = self._destination.store, self._destination.parent
        self._samples = SampleCollector(
            self._store.blobs, self._specs, default, declared, names or {}
        )

    # Results -----------------------------------------------------------------------------------

    @property
    def report(self) -> WriteReport:
        """What was published, byte by byte; after close."""
        if self._report is None:
            raise ValueError("the report is there once the writer has been closed")
        return self._report

    @property
    def snapshot_id(self) -> str:
        """Id of the published snapshot; after close."""
        return self.report.snapshot_id

    def __len__(self) -> int:
        return self._samples.count

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # Writing -----------------------------------------------------------------------------------

    def write(
        self,
        sample: Mapping[str, Any],
        *,
        key: str | None = None,
        bit_width: int | Mapping[str, int] | None = None,
        qp: int | Mapping[str, int] | None = None,
        masks: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> None:
        """Add one sample.

        Args:
            sample: arrays are fields; int, float, str and bytes are columns.
            key: unique name; for all samples or for none.
            bit_width: instead of the one of the FieldSpec, for all fields or by name; 0 drops
                the sample: it stays a row of the sample table and has no payload.
            qp: likewise for fields of quantizer block, 0 to 175.
            masks: boolean patch grids (True: kept) of fields with a patch.

        Raises:
            SampleError: naming the sample and what is wrong with it.
        """
        rows = {
            name: np.asarray(value)[np.newaxis] if is_array(value) else [value]
            for name, value in sample.items()
        }
        grids = {name: [mask] for name, mask in (masks or {}).items()}
        self._add(rows, None if key is None else [key], bit_width, qp, grids, 1)

    def write_batch(
        self,
        samples: Mapping[str, Any],
        *,
        keys: Sequence[str] | None = None,
        bit_width: Settings = None,
        qp: Settings = None,
        masks: Masks | None = None,
    ) -> None:
        """Add n samples of equal shape.

        Args:
            samples: arrays (n, *shape) with at least two dimensions, and those declared in
                `fields`, are fields; arrays (n,) and lists of n are columns.
            keys: n unique names, or None.
            bit_width: one for all samples or one for each, for all fields or by name.
            qp: likewise, for fields of quantizer block.
            masks: n boolean patch grids (True: kept) of fields with a patch, by name.

        Raises:
            SampleError: naming the first sample of the batch and what is wrong with it.
        """
        counts = {name: len(values) for name, values in samples.items()}
        if keys is not None:
            counts["keys"] = len(keys)
        counts |= {f"masks of {name}": len(grids) for name, grids in (masks or {}).items()}
        if len(set(counts.values())) != 1:
            raise SampleError(f"batch: lengths differ or there are none: {counts}")
        rows: dict[str, Any] = {}
        for name, values in samples.items():
            array = np.asarray(values) if is_array(values) else None
            is_field = array is not None and (array.ndim > 1 or name in self._specs)
            if array is None:
                rows[name] = values
            else:
                rows[name] = array if is_field else array.tolist()
        count = next(iter(counts.values()))
        if count:
            self._add(rows, keys, bit_width, qp, masks or {}, count)

    def add_blob(self, role: str, content: bytes | Path, media_type: str, suffix: str) -> None:
        """Add an auxiliary file to the snapshot.

        Args:
            role: what it is for, unique in the snapshot.
            content: its bytes, or the path of a file to copy.
            media_type: of the content.
            suffix: of the file name, lower-case letters and digits.
        """
        if role in (ROLE_KEYS, ROLE_SAMPLES, *(blob.role for blob in self._blobs)):
            raise ValueError(f"role {role!r} is taken")
        if isinstance(content, Path):
            entry = self._store.put_file(content, role, media_type, suffix)
        else:
            entry = self._store.put_entry(role, content, media_type, suffix)
        self._blobs.append(entry)

    def _add(
        self,
        rows: Mapping[str, Any],
        keys: Sequence[str] | None,
        bit_width: Settings,
        qp: Settings,
        masks: Masks,
        count: int,
    ) -> None:
        if self._closed:
            raise ValueError("the writer is closed")
        if self._target is not None and (qp is not None or not _only_drops(bit_width)):
            raise SampleError(
                f"sample {self._samples.count}: has a setting of its own, and the writer is to "
                f"choose it for {self._target}; give one or the other"
            )
        self._samples.add(rows, keys, bit_width, qp, masks, count)
        if self._parent is not None and keys is not None:
            self._parent.check_keys(keys)
        self._progress("read", self._samples.count, None)
        spill = self._samples.spill
        if (
            not self._shuffle
            and self._target is None
            and spill is not None
            and spill.nbytes >= _DIRECT_CHUNKS * self._options.chunk_nbytes
        ):
            done = self._ready_builder().encode(spill, np.arange(len(spill)), last=False)
            self._samples.restart(done)

    # Closing -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Encode what is left and publish the snapshot; nothing is visible before.

        Raises:
            SampleError: no sample was written and nothing was declared.
            PublishConflictError: somebody else published under this ref meanwhile.
            OSError: the disk is full or not writable; nothing was published.
        """
        if self._closed:
            return
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self._closed = True
        self._samples.close()
        self._destination.close()

    def abort(self) -> None:
        """Drop everything; what was published before stays as it was."""
        if self._closed:
            return
        self._closed = True
        written = [self._store.root / blob.path for blob in self._blobs]
        if self._builder is not None:
            written += self._builder.committed
            self._builder.close()
        self._samples.close()
        self._destination.discard(written)

    def _finish(self) -> None:
        if self._samples.spill is None:
            self._samples.begin_empty()
        builder = self._ready_builder()
        spill, dropped = self._samples.spill, self._samples.dropped
        if spill is None or dropped is None:
            raise SampleError("no samples were written")
        order = np.arange(len(spill))
        if self._shuffle:
            order = shuffled_order(len(spill), self._seed)
        if self._target is None or not len(order):
            builder.encode(spill, order)
        else:
            self._meet_target(builder, spill, dropped, order)
        prepared = self._prepare(builder, spill, dropped)
        builder.store_all(prepared)
        sid = self._destination.publish(prepared.snapshot)
        self._report = report_of(
            builder,
            prepared,
            snapshot_id=sid,
            sample_count=self._samples.count,
            source_nbytes=self._samples.source_nbytes,
            rounds=self._rounds,
        )

    def _meet_target(
        self,
        builder: SnapshotBuilder,
        spill: SampleSpill,
        dropped: SampleSpill,
        order: NDArray[np.int64],
    ) -> None:
        if self._target is None:
            return
        ladder = ladder_of(builder.schema, self._specs_of(builder.schema))
        run = TargetRun(
            builder=builder,
            sampler=self._new_encoder(builder.schema, ladder),
            spill=spill,
            order=order,
            target=self._target,
            ladder=ladder,
            seed=self._seed,
            total_nbytes=lambda: self._total_nbytes(self._prepare(builder, spill, dropped)),
            on_round=self._on_round,
        )
        run.run()
        self._rounds = run.rounds

    def _prepare(
        self, builder: SnapshotBuilder, spill: SampleSpill, dropped: SampleSpill
    ) -> Prepared:
        parent = self._parent
        return builder.prepare(
            spill,
            dropped,
            blobs=self._blobs,
            kept=parent.other_blobs(self._blobs) if parent else (),
            provenance=self._provenance | {"writer": f"dsqformat {__version__}"},
            expected=self._destination.expected,
        )

    def _total_nbytes(self, prepared: Prepared) -> int:
        """Return what the report will count as `total_nbytes`."""
        return prepared.nbytes + self._destination.refs_nbytes()

    def _ready_builder(self) -> SnapshotBuilder:
        """Return the builder; when it is new, the samples so far fix the schema."""
        if self._builder is None:
            schema = self._samples.schema()
            if self._parent is not None:
                keyed = self._samples.keyed
                schema = self._parent.check(schema, keyed=keyed, table=self._table)
            self._builder = SnapshotBuilder(
                self._store,
                self._new_encoder(schema),
                keyed=self._samples.keyed,
                table=self._table,
                parent=self._parent,
                rewindable=self._target is not None,
                on_chunk=self._on_chunk,
            )
        self._samples.check_shapes(self._builder.schema)
        return self._builder

    def _new_encoder(self, schema: Schema, ladder: Ladder | None = None) -> ChunkEncoder:
        """Return an encoder; one for a sample measures what a target needs, no more."""
        measured = [
            field.name
            for field in schema.fields
            if field.dtype == "uint8" and field.quantizer != "raw" and self._measure_psnr
        ]
        if ladder is not None or isinstance(self._target, Psnr):
            names = ladder_of(schema, self._specs_of(schema)).measured
            measured = list(names) if isinstance(self._target, Psnr) else []
        return ChunkEncoder(
            schema,
            self._options,
            {field.name: self._samples.spec(field.name).tuning for field in schema.fields},
            measured,
        )

    def _on_round(self, number: int, done: int) -> None:
        if number < 0:
            self._progress("measure", -number, None)
            return
        self._stage = "encode" if number == 1 else f"encode again ({number})"
        self._encoded = done

    def _specs_of(self, schema: Schema) -> dict[str, FieldSpec]:
        return {field.name: self._samples.spec(field.name) for field in schema.fields}

    def _on_chunk(self, count: int) -> None:
        self._encoded += count
        streaming = not self._shuffle and self._target is None
        total = None if streaming else len(self._samples.spill or ())
        self._progress(self._stage, self._encoded, total)


def shuffled_order(count: int, seed: int) -> NDArray[np.int64]:
    """Return the order in which a writer with `shuffle` stores its samples.

    Args:
        count: samples with a payload; dropped ones do not count.
        seed: of the writer.

    Returns:
        int64, shape (count,): entry p is the number, in writing order, of the sample at position p.
    """
    return np.random.Generator(np.random.PCG64(seed)).permutation(count).astype("i8")


def _only_drops(bit_width: Settings) -> bool:
    """Tell whether bit widths say nothing but which samples are dropped."""
    given = list(bit_width.values()) if isinstance(bit_width, Mapping) else [bit_width]
    return all(value is None or not np.any(np.asarray(value)) for value in given)
