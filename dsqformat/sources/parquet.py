"""Parquet files in the layout of Hugging Face: pictures as structs of bytes and path, labels."""

from __future__ import annotations

import io
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column, ColumnType
from dsqformat.sources.pictures import (
    PictureHeader,
    PictureOptions,
    common_mode,
    decode_picture,
    picture_shape,
    read_header,
    require_pillow,
)
from dsqformat.sources.sample_source import (
    LABEL_COLUMN,
    BadSample,
    FieldFacts,
    OnScan,
    SourceFacts,
    SourceOptions,
    SourceSample,
    column_name,
    common_shape,
    ignore_scan,
    raise_bad,
    require_samples,
)

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES: Final = (".parquet", ".pq")
_BATCH_ROWS: Final = 128
_KEY_COLUMNS: Final = ("key", "__key__")
_SPLIT = re.compile(r"(.+?)-\d+-of-\d+")
_PICTURE_MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|BM|II\*\0|MM\0\*", re.DOTALL)


@dataclass(frozen=True)
class _Plan:
    """What the columns of the files become.

    Attributes:
        pictures: name of the field, by the name of the Parquet column.
        columns: column, by the name of the Parquet column.
        label_numbers: number of each label, where labels are texts.
        key_column: Parquet column of the keys; "NAME.path" for the paths of a picture column.
    """

    pictures: dict[str, str]
    columns: dict[str, Column]
    label_numbers: dict[str, int] | None = None
    key_column: str | None = None


def find_parquet(location: Path, split: str | None) -> list[Path]:
    """Return the Parquet files of a file or folder.

    Args:
        location: a file, or a folder with files at any depth.
        split: which of them, where names such as train-00000-of-00002 show several.

    Raises:
        SourceError: there are none, or of several splits.
    """
    if not location.is_dir():
        return [location]
    found = sorted(p for p in location.rglob("*") if p.suffix.lower() in SUFFIXES)
    require_samples(len(found), str(location), "files *.parquet")
    splits = {path: match[1] for path in found if (match := _SPLIT.fullmatch(path.stem))}
    if split is not None:
        chosen = [path for path in found if split in (splits.get(path), path.stem)]
        names = sorted({*splits.values()}) or [path.stem for path in found[:5]]
        require_samples(len(chosen), str(location), f"split {split!r} among {names}")
        return chosen
    if len(set(splits.values())) > 1:
        raise SourceError(
            f"{location}: holds the splits {sorted(set(splits.values()))}; choose one (--split)"
        )
    return found


class ParquetSource:
    """Rows of Parquet files, in their order.

    Columns of struct<bytes, path> and of binary pictures become fields, all others columns.
    Names of labels come from the metadata of Hugging Face, if there are some. Keys are the
    paths of the pictures where all differ, or a column named `key`.

    Args:
        location: a file or folder.
        options: how to read it.
        on_bad: not called before the samples are read.
        on_scan: called as rows are looked through.

    Raises:
        SourceError: no files, no pictures, or a column of a type that no column can have.
        SampleError: no picture can be read.
    """

    def __init__(
        self,
        location: Path,
        options: SourceOptions,
        on_bad: BadSample = raise_bad,
        on_scan: OnScan = ignore_scan,
    ) -> None:
        require_pillow()
        _require_pyarrow()
        self._paths = find_parquet(location, options.split)
        self._options = options
        schema, rows = _read_footers(self._paths)
        self._rows = min(rows, options.limit or rows)
        require_samples(self._rows, str(location), "rows")
        self._plan = self._make_plan(schema, str(location))
        scan = _Scan(self._plan, options.pictures)
        for done, row in enumerate(self._rows_of(scan.wanted)):
            scan.see(row, f"{location}: row {done}")
            on_scan(done + 1, self._rows)
        self._plan = scan.completed(keyed=options.keyed)
        self._pictures = scan.picture_options()
        nbytes = sum(path.stat().st_size for path in self._paths)
        self.facts = SourceFacts(
            kind="parquet",
            location=str(location),
            sample_count=self._rows,
            fields=scan.field_facts(),
            columns=tuple(self._plan.columns.values()),
            keyed=self._plan.key_column is not None,
            source_nbytes=nbytes * self._rows // rows,
            shuffled=False,
        )

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the samples; see Source."""
        plan = self._plan
        wanted = [*plan.pictures, *plan.columns]
        if plan.key_column is not None:
            wanted.append(plan.key_column.removesuffix(".path"))
        for number, row in enumerate(self._rows_of(wanted)):
            what = f"{self.facts.location}: row {number}"
            try:
                yield SourceSample(_key(row, plan), self._decode(row, what))
            except SampleError as error:
                on_bad(error)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _decode(self, row: dict[str, Any], what: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self._plan.pictures.items():
            data = _picture_bytes(row[name], f"{what}: {name}")
            values[field] = decode_picture(data, f"{what}: {name}", self._pictures[name])
        for name, column in self._plan.columns.items():
            value = row[name]
            if value is None:
                raise SampleError(f"{what}: column {name!r} is null, expected {column.type}")
            if column.name == LABEL_COLUMN and self._plan.label_numbers is not None:
                value = self._plan.label_numbers[value]
            values[column.name] = value
        return values

    def _rows_of(self, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield rows with some columns, at most self._rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        left = self._rows
        for path in self._paths:
            try:
                with pq.ParquetFile(path) as file:
                    names = sorted(set(wanted))
                    for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                        yield from batch.slice(0, left).to_pylist()
                        left -= batch.num_rows
                        if left <= 0:
                            return
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{path}: not a readable Parquet file: {error}") from error

    def _make_plan(self, schema: pa.Schema, location: str) -> _Plan:
        features = _features(schema)
        plan = _Plan({}, {})
        key_column = None
        for field in schema:
            if field.name in self._options.drop:
                continue
            if _is_picture(field, features.get(field.name), self._first_value):
                plan.pictures[field.name] = column_name(field.name)
            elif field.name in _KEY_COLUMNS and _column_type(field.type) == "utf8":
                key_column = field.name if self._options.keyed else None
            else:
                plan.columns[field.name] = self._column(field, features.get(field.name), location)
        names = [*plan.pictures.values(), *(column.name for column in plan.columns.values())]
        clash = next((name for name in names if names.count(name) > 1), None)
        if clash is not None:
            raise SourceError(f"{location}: two columns would both be named {clash!r} (--drop one)")
        require_samples(len(plan.pictures), location, "a column of pictures")
        return replace(plan, key_column=key_column)

    def _column(self, field: pa.Field, feature: Any, location: str) -> Column:
        kind = _column_type(field.type)
        if kind is None:
            raise SourceError(
                f"{location}: column {field.name!r} is {field.type}, expected numbers, text or "
                f"bytes; leave it out (--drop {field.name})"
            )
        name = LABEL_COLUMN if field.name == self._options.label else column_name(field.name)
        names = feature.get("names") if isinstance(feature, dict) else None
        if kind != "int64" or not _are_names(names):
            return Column(name, kind)
        return Column(name, kind, tuple(names or ()))

    def _first_value(self, name: str) -> bytes | None:
        return next((row[name] for row in self._rows_of([name]) if row[name] is not None), None)


class _Scan:
    """Looks at all rows, to learn sizes, modes, the texts of labels and whether paths differ."""

    def __init__(self, plan: _Plan, options: PictureOptions) -> None:
        self._plan = plan
        self._options = options
        self._headers: dict[str, set[PictureHeader]] = {name: set() for name in plan.pictures}
        self._first_error: SampleError | None = None
        texts = [c for c, column in plan.columns.items() if column.name == LABEL_COLUMN]
        self._label = next((c for c in texts if plan.columns[c].type == "utf8"), None)
        self._texts: set[str] = set()
        self._paths = next(iter(plan.pictures))
        self._path_hashes: array[int] | None = array("q")
        self.wanted = [*plan.pictures, *([self._label] if self._label else [])]

    def see(self, row: dict[str, Any], what: str) -> None:
        """Learn from one row."""
        for name in self._plan.pictures:
            try:
                data = _picture_bytes(row[name], what)
                self._headers[name].add(read_header(io.BytesIO(data), what, self._options))
            except SampleError as error:
                self._first_error = self._first_error or error
        if self._label is not None and row[self._label] is not None:
            self._texts.add(row[self._label])
        path = row[self._paths].get("path") if isinstance(row[self._paths], dict) else None
        if not path:
            self._path_hashes = None
        elif self._path_hashes is not None:
            self._path_hashes.append(hash(path))

    def completed(self, *, keyed: bool) -> _Plan:
        """Return the plan with what only the rows could tell."""
        plan = self._plan
        if self._label is not None:
            names = tuple(sorted(self._texts))
            numbers = {name: number for number, name in enumerate(names)}
            columns = plan.columns | {self._label: Column(LABEL_COLUMN, "int64", names)}
            plan = replace(plan, columns=columns, label_numbers=numbers)
        if keyed and plan.key_column is None and self._path_hashes is not None:
            hashes = np.frombuffer(self._path_hashes, "i8")
            if len(np.unique(hashes)) == len(hashes):
                plan = replace(plan, key_column=f"{self._paths}.path")
        return plan

    def picture_options(self) -> dict[str, PictureOptions]:
        """Return how the pictures of each column are decoded."""
        if self._options.mode != "auto":
            return dict.fromkeys(self._headers, self._options)
        return {
            name: replace(self._options, mode=common_mode(header.mode for header in headers))
            for name, headers in self._headers.items()
        }

    def field_facts(self) -> dict[str, FieldFacts]:
        """Return what is known of the fields, or raise the error of the first bad picture."""
        facts = {}
        for name, options in self.picture_options().items():
            if not self._headers[name] and self._first_error is not None:
                raise self._first_error
            shapes = {picture_shape(h.height, h.width, options.mode) for h in self._headers[name]}
            field = self._plan.pictures[name]
            facts[field] = FieldFacts("uint8", common_shape(shapes), picture=True)
        return facts


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'dsqformat[pack]'") from error


def _read_footers(paths: Sequence[Path]) -> tuple[pa.Schema, int]:
    """Return the schema all files share and the number of their rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: pa.Schema | None = None
    rows = 0
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                schema, count = file.schema_arrow, file.metadata.num_rows
        except pa.ArrowException as error:
            raise SourceError(f"{path}: not a readable Parquet file: {error}") from error
        if first is not None and not schema.equals(first):
            raise SourceError(f"{path}: its columns differ from those of {paths[0]}")
        first, rows = first or schema, rows + count
    return first, rows


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the features Hugging Face keeps in the metadata of a Parquet file."""
    try:
        document = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return {}
    info = document.get("info") if isinstance(document, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _is_picture(field: pa.Field, feature: Any, first_value: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(field.type):
        names = [field.type.field(i).name for i in range(field.type.num_fields)]
        return "bytes" in names and "path" in names
    if not (kinds.is_binary(field.type) or kinds.is_large_binary(field.type)):
        return False
    if isinstance(feature, dict) and feature.get("_type") == "Image":
        return True
    value = first_value(field.name)
    return value is not None and _PICTURE_MAGIC.match(value) is not None


def _column_type(kind: pa.DataType) -> ColumnType | None:
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        return _column_type(kind.value_type)
    if kinds.is_boolean(kind) or (kinds.is_integer(kind) and not kinds.is_uint64(kind)):
        return "int64"
    if kinds.is_floating(kind):
        return "float64" if kinds.is_float64(kind) else "float32"
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return "utf8"
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return "bytes"
    return None


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _picture_bytes(value: Any, what: str) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes):
        return data
    path = value.get("path") if isinstance(value, dict) else None
    hint = f"; it only names the file {path!r:.80}" if path else ""
    raise SampleError(f"{what}: no bytes of a picture{hint}")


def _key(row: dict[str, Any], plan: _Plan) -> str | None:
    if plan.key_column is None:
        return None
    if plan.key_column in row:
        return str(row[plan.key_column])
    return str(row[plan.key_column.removesuffix(".path")]["path"])
