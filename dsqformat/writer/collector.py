"""Takes samples in, checks them against the first one, and spills them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.dataset.key_table import key_hash
from dsqformat.errors import SampleError
from dsqformat.quantize.mask import pack_mask
from dsqformat.schema import Column, Schema
from dsqformat.wire import MAX_KEY_NBYTES, MAX_QP
from dsqformat.writer.field_spec import (
    FieldSpec,
    checked_array,
    checked_column_value,
    infer_column,
)
from dsqformat.writer.spill import SampleSpill

Numbers = int | Sequence[int] | NDArray[Any]
# One number for all samples or one for each, for all fields or by name.
Settings = Numbers | Mapping[str, Numbers] | None
Masks = Mapping[str, Sequence[NDArray[np.bool_]]]


class SampleCollector:
    """The samples of a writer that have not been encoded yet.

    Keeps some 60 bytes of each sample in memory, and about 100 more of each that has a key.

    Args:
        folder: where temporary files are made.
        specs: how to store fields, by name.
        default: how to store the others.
        columns: declared columns, or None to take them from the first sample.
        names: human names of the values of int64 columns.
    """

    def __init__(
        self,
        folder: Path,
        specs: Mapping[str, FieldSpec],
        default: FieldSpec,
        columns: tuple[Column, ...] | None,
        names: Mapping[str, Sequence[str]],
    ) -> None:
        self._folder, self._specs, self._default = folder, specs, default
        self._declared, self._names = columns, names
        self._dtypes: dict[str, str] = {}
        self._dimensions: dict[str, int] = {}
        self._key_hashes: set[int] = set()
        self.columns: tuple[Column, ...] = columns or ()
        self.keyed = False
        self.count = 0
        self.source_nbytes = 0
        self.spill: SampleSpill | None = None
        self.dropped: SampleSpill | None = None

    def spec(self, name: str) -> FieldSpec:
        """Return how to store a field."""
        return self._specs.get(name, self._default)

    def add(
        self,
        rows: Mapping[str, Any],
        keys: Sequence[str] | None,
        bit_width: Settings,
        qp: Settings,
        masks: Masks,
        count: int,
    ) -> None:
        """Add n samples of equal shape.

        Args:
            rows: arrays (n, *shape) for fields, sequences of n for columns.
            keys: n names, or None.
            bit_width: one or n, for all fields or by name; 0 drops a sample.
            qp: likewise, for fields of quantizer block.
            masks: n patch grids by field name.
            count: n.

        Raises:
            SampleError: naming the first of the samples and what is wrong.
        """
        where = f"sample {self.count}" + (f" ({keys[0]!r})" if keys else "")
        try:
            if self.spill is None:
                self._begin(rows, keyed=keys is not None)
            self._add(rows, keys, bit_width, qp, masks, count)
        except ValueError as error:
            raise SampleError(f"{where}: {error}") from error
        self.count += count

    def schema(self) -> Schema:
        """Return the schema that the samples so far ask for."""
        spills = self.spill.fields if self.spill is not None else {}
        fields = [
            self.spec(name).field(name, self._dtypes[name], spill.common_shape())
            for name, spill in spills.items()
        ]
        return Schema(tuple(fields), self.columns)

    def check_shapes(self, schema: Schema) -> None:
        """Refuse samples that do not fit a schema fixed before them.

        Raises:
            SampleError: naming field, shape and remedy.
        """
        for name, spill in self.spill.fields.items() if self.spill is not None else ():
            shape, found = schema.field(name).shape, spill.common_shape()
            fits = len(shape) == len(found) and all(
                s in (None, f) for s, f in zip(shape, found, strict=True)
            )
            if len(spill.values) and not fits:
                raise SampleError(
                    f"field {name!r}: shape {found} does not fit {shape}; "
                    "declare FieldSpec(shape=...) with None where it varies"
                )

    def restart(self, done: int) -> None:
        """Forget the first `done` samples of the spill, which have been encoded."""
        old = self.spill
        if old is None:
            return
        self.spill = self._new_spill()
        old.copy_to(self.spill, np.arange(done, len(old)))
        old.close()

    def begin_empty(self) -> None:
        """Prepare for a dataset without samples: everything about it has to be declared.

        Raises:
            SampleError: it is not.
        """
        if not self._specs or any(s.dtype is None or s.shape is None for s in self._specs.values()):
            raise SampleError(
                "no samples were written; for an empty dataset declare "
                "fields={name: FieldSpec(dtype=..., shape=...)}"
            )
        self._dtypes = {name: str(spec.dtype) for name, spec in self._specs.items()}
        self._dimensions = {name: len(spec.shape or ()) for name, spec in self._specs.items()}
        self.spill = self._new_spill()
        self.dropped = SampleSpill(self._folder, self.columns, keyed=False)

    def close(self) -> None:
        """Drop the temporary files."""
        for spill in (self.spill, self.dropped):
            if spill is not None:
                spill.close()

    # The first sample --------------------------------------------------------------------------

    def _begin(self, rows: Mapping[str, Any], *, keyed: bool) -> None:
        fields = {name: v for name, v in rows.items() if isinstance(v, np.ndarray)}
        missing = sorted(set(self._specs) - set(fields))
        if missing or not fields:
            raise ValueError(
                f"arrays are {sorted(fields)}, expected {missing or 'at least one'} among them"
            )
        if self._declared is None:
            self.columns = tuple(
                infer_column(name, values[0], self._names.get(name))
                for name, values in rows.items()
                if name not in fields
            )
        dtypes = {n: self.spec(n).dtype or v.dtype.name for n, v in fields.items()}
        for name, values in fields.items():
            # Refuses what no schema can hold before anything is taken in.
            self.spec(name).field(name, dtypes[name], tuple(values.shape[1:]))
        self.keyed, self._dtypes = keyed, dtypes
        self._dimensions = {name: values.ndim - 1 for name, values in fields.items()}
        self.spill = self._new_spill()
        self.dropped = SampleSpill(self._folder, self.columns, keyed=keyed)

    def _new_spill(self) -> SampleSpill:
        spill = SampleSpill(self._folder, self.columns, keyed=self.keyed)
        for name, dimensions in self._dimensions.items():
            masked = self.spec(name).patch_side is not None
            spill.add_field(name, self._dtypes[name], dimensions, masked=masked)
        return spill

    # Every sample ------------------------------------------------------------------------------

    def _add(
        self,
        rows: Mapping[str, Any],
        keys: Sequence[str] | None,
        bit_width: Settings,
        qp: Settings,
        masks: Masks,
        count: int,
    ) -> None:
        expected = set(self._dtypes) | {column.name for column in self.columns}
        if set(rows) != expected:
            raise ValueError(f"has {sorted(rows)}, expected {sorted(expected)} as before")
        arrays = {
            name: self._checked(name, dtype, rows[name]) for name, dtype in self._dtypes.items()
        }
        columns = {
            column.name: [checked_column_value(column, value) for value in rows[column.name]]
            for column in self.columns
        }
        widths = {name: self._widths(name, bit_width, count) for name in arrays}
        settings = {name: self._settings(name, widths[name], qp, count) for name in arrays}
        packed_masks = {name: self._packed_masks(name, grids) for name, grids in masks.items()}
        kept = _kept(widths, count)
        self._check_keys(keys)
        if kept.all():
            self._spill_rows(arrays, settings, packed_masks)
            self._spilled.append_columns(columns, keys, count)
            return
        self._append_some(self.dropped, columns, keys, np.flatnonzero(~kept))
        rest = np.flatnonzero(kept)
        self._spill_rows(
            {name: values[rest] for name, values in arrays.items()},
            {name: values[rest] for name, values in settings.items()},
            {name: [values[i] for i in rest] for name, values in packed_masks.items()},
        )
        self._append_some(self.spill, columns, keys, rest)

    @property
    def _spilled(self) -> SampleSpill:
        if self.spill is None:
            raise ValueError("no sample has been taken in yet")
        return self.spill

    def _checked(self, name: str, dtype: str, value: Any) -> NDArray[Any]:
        array = checked_array(self.spec(name), name, dtype, value)
        if array.ndim - 1 != self._dimensions[name]:
            raise ValueError(
                f"field {name!r}: {array.ndim - 1} dimensions, expected {self._dimensions[name]}"
            )
        return array

    def _spill_rows(
        self,
        arrays: Mapping[str, NDArray[Any]],
        settings: Mapping[str, NDArray[np.uint8]],
        masks: Mapping[str, Sequence[bytes]],
    ) -> None:
        for name, values in arrays.items():
            count = int(np.prod(values.shape[1:], dtype="i8"))
            bits = np.full(len(values), 8 * values.itemsize, "i8")
            if self.spec(name).setting == "bit_width":
                bits = settings[name].astype("i8")
            self._spilled.append_values(
                name,
                values,
                settings[name].tolist(),
                ((count * bits + 7) // 8).tolist(),
                masks.get(name),
            )
            self.source_nbytes += values.nbytes

    @staticmethod
    def _append_some(
        spill: SampleSpill | None,
        columns: Mapping[str, Sequence[Any]],
        keys: Sequence[str] | None,
        rows: NDArray[np.intp],
    ) -> None:
        if spill is None:
            raise ValueError("no sample has been taken in yet")
        some = {name: [values[i] for i in rows] for name, values in columns.items()}
        spill.append_columns(some, None if keys is None else [keys[i] for i in rows], len(rows))

    def _packed_masks(self, name: str, grids: Sequence[NDArray[np.bool_]]) -> list[bytes]:
        if name not in self._dtypes or self.spec(name).patch_side is None:
            raise ValueError(f"a mask for {name!r}, which is no field with a patch in its spec")
        return [b"" if np.all(grid) else pack_mask(np.asarray(grid, "?")) for grid in grids]

    def _check_keys(self, keys: Sequence[str] | None) -> None:
        if (keys is not None) != self.keyed:
            raise ValueError("either every sample has a key or none")
        for key in keys or ():
            if not 1 <= len(key.encode("utf-8")) <= MAX_KEY_NBYTES:
                raise ValueError(f"key {key!r:.60}: expected 1 to {MAX_KEY_NBYTES} bytes of text")
            # 64 bits of SHA-256 stand for the key: a false alarm needs billions of samples.
            hashed = key_hash(key)
            if hashed in self._key_hashes:
                raise ValueError(f"key {key!r}: another sample has it; keys must be unique")
            self._key_hashes.add(hashed)

    def _widths(self, name: str, bit_width: Settings, count: int) -> NDArray[np.uint8]:
        """Return the bit width of each sample; 0 where it is dropped, 8 without bit widths."""
        spec = self.spec(name)
        values = _numbers(name, bit_width, spec.bit_width, count, "bit width")
        if spec.setting != "bit_width":
            return np.where(values > 0, 8, 0).astype("u1")
        least, most = spec.bit_widths
        wrong = (values != 0) & ((values < least) | (values > most))
        if wrong.any():
            raise ValueError(
                f"field {name!r}: bit width {values[wrong].tolist()[0]}: "
                f"{spec.quantizer} takes 0 (dropped) or {least} to {most}"
            )
        if spec.quantizer == "patch" and ((values != 0) & (values != spec.bit_width)).any():
            raise ValueError(
                f"field {name!r}: quantizer patch takes one bit width for all samples, "
                f"{spec.bit_width}, since they share their groups"
            )
        return values.astype("u1")

    def _settings(
        self, name: str, widths: NDArray[np.uint8], qp: Settings, count: int
    ) -> NDArray[np.uint8]:
        """Return what the encoder is asked for: bit widths, or qps."""
        spec = self.spec(name)
        if spec.setting != "qp":
            if isinstance(qp, Mapping) and name in qp:
                raise ValueError(f"field {name!r}: qp is for quantizer block, not {spec.quantizer}")
            return widths
        values = _numbers(name, qp, spec.qp, count, "qp")
        wrong = (values < 0) | (values > MAX_QP)
        if wrong.any():
            raise ValueError(
                f"field {name!r}: qp {values[wrong].tolist()[0]}, expected 0 to {MAX_QP}"
            )
        return values.astype("u1")


def _numbers(name: str, given: Settings, default: int, count: int, what: str) -> NDArray[Any]:
    """Return one integer for each of the samples."""
    own = given.get(name) if isinstance(given, Mapping) else given
    values = np.broadcast_to(np.asarray(default if own is None else own), (count,))
    if values.dtype.kind not in "iu":
        raise ValueError(f"field {name!r}: {what}: expected integers, got {values.dtype}")
    return values


def _kept(widths: Mapping[str, NDArray[np.uint8]], count: int) -> NDArray[np.bool_]:
    present = np.array(list(widths.values())).reshape(-1, count) > 0
    kept: NDArray[np.bool_] = np.all(present, axis=0)
    if (present.any(axis=0) != kept).any():
        raise ValueError("bit width 0 drops a whole sample: give it to all fields or to none")
    return kept
