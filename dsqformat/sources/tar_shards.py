"""WebDataset tars, read with the webdataset package: nothing is extracted or unpickled."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources.pictures import PictureOptions, require_pillow
from dsqformat.sources.sample_source import (
    PICTURE_FIELD,
    BadSample,
    FieldFacts,
    OnScan,
    SourceFacts,
    SourceOptions,
    SourceSample,
    common_shape,
    ignore_scan,
    raise_bad,
    require_samples,
)
from dsqformat.sources.tar_members import (
    ArrayMembers,
    Members,
    PictureMembers,
    choose_names,
    members_of,
    refuse_pickle,
)

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
MAX_MEMBER_NBYTES: Final = 1 << 30
_MAX_PATTERN_FILES: Final = 100_000
_TAR_ERRORS: Final = (tarfile.TarError, OSError, EOFError, zlib.error)
_TAR_BLOCK_NBYTES: Final = 512
_IGNORED_NAMES: Final = 5
# webdataset takes these for metadata, not for samples.
_META: Final = re.compile(r"__[^/]*__($|/)")


def find_tars(location: str) -> list[Path]:
    """Return the tars of a file, a folder, or a pattern such as "train-{000..009}.tar".

    Raises:
        SourceError: there are none.
    """
    path = Path(location)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.lower().endswith(SUFFIXES))
        require_samples(len(found), location, "files *.tar, *.tar.gz or *.tgz")
        return found
    if "{" in location and not path.exists():
        return _expand_pattern(location)
    return [path]


def _expand_pattern(pattern: str) -> list[Path]:
    from braceexpand import braceexpand

    paths: list[Path] = []
    try:
        for name in braceexpand(pattern):
            paths.append(Path(name))
            if len(paths) > _MAX_PATTERN_FILES:
                raise SourceError(f"{pattern}: stands for more than {_MAX_PATTERN_FILES} files")
    except ValueError as error:
        raise SourceError(f"{pattern}: {error}") from error
    return paths


def _require_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ImportError("reading tars needs webdataset: pip install 'dsqformat[pack]'") from error


class TarSource:
    """Samples of WebDataset tars, in their order.

    Members become fields and columns by their extension (see tar_members); every sample must
    have the same ones. Keys are those of WebDataset.

    Args:
        location: a tar, a folder of tars, or a pattern with braces.
        options: how to read it.
        on_bad: not called before the samples are read.
        on_scan: called as members are looked through.

    Raises:
        SourceError: no tar, no samples, or a pickled member.
        SampleError: no member of some extension can be read.
    """

    def __init__(
        self,
        location: str,
        options: SourceOptions,
        on_bad: BadSample = raise_bad,
        on_scan: OnScan = ignore_scan,
    ) -> None:
        require_pillow()
        _require_webdataset()
        self._paths = find_tars(location)
        self._limit = options.limit
        self._keyed = options.keyed
        scan = _Scan(options.pictures, frozenset(options.drop))
        for path in self._paths:
            if not scan.tar(path, options.limit, on_scan):
                break
        require_samples(scan.sample_count, location, "members such as 0001.jpg and 0001.cls")
        choose_names(scan.members, scan.groups)
        self._members = {
            e: members for e, members in scan.members.items() if members.name not in options.drop
        }
        fields = self._field_facts(scan.first_error)
        require_samples(len(fields), location, "pictures or .npy arrays in the tar")
        self.facts = SourceFacts(
            kind="webdataset",
            location=location,
            sample_count=scan.sample_count,
            fields=fields,
            columns=self._columns(fields, location),
            keyed=options.keyed,
            source_nbytes=scan.nbytes,
            shuffled=False,
            ignored=tuple(scan.ignored),
            ignored_count=scan.ignored_count,
        )

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the samples; see Source."""
        names = {*self.facts.fields, *(column.name for column in self.facts.columns)}
        for number, raw in enumerate(self._raw_samples()):
            if self._limit is not None and number >= self._limit:
                return
            what = f"{raw['__url__']}: {raw['__key__']}"
            try:
                values = self._decode(raw, what)
                if values.keys() != names:
                    missing = sorted(names - values.keys())
                    raise SampleError(
                        f"{what}: has no {missing[0]!r}, which other samples have; "
                        f"leave it out everywhere (--drop {missing[0]}) or skip such samples"
                    )
            except SampleError as error:
                on_bad(error)
                continue
            yield SourceSample(str(raw["__key__"]) if self._keyed else None, values)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _decode(self, raw: dict[str, Any], what: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for extension, data in raw.items():
            if extension.startswith("__"):
                continue
            refuse_pickle(extension, f"{what}.{extension}")
            if extension in self._members:
                values |= self._members[extension].decode(data, f"{what}.{extension}")
        return values

    def _raw_samples(self) -> Iterator[dict[str, Any]]:
        """Group the members of the tars to samples, by webdataset, undecoded."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        path = self._paths[0]

        def streams() -> Iterator[dict[str, Any]]:
            nonlocal path
            for path in self._paths:
                with path.open("rb") as file:
                    yield {"url": str(path), "stream": file}

        samples = iter(group_by_keys(tar_file_expander(streams(), eof_value={})))
        while True:
            try:
                raw = next(samples)
            except StopIteration:
                return
            except (*_TAR_ERRORS, ValueError) as error:
                # webdataset appends its streams to the arguments of errors.
                reason = error.args[0] if error.args else type(error).__name__
                raise SourceError(f"{path}: {reason}") from error
            yield cast(dict[str, Any], raw)

    def _field_facts(self, first_error: SampleError | None) -> dict[str, FieldFacts]:
        kinds: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
        pictures: dict[str, list[PictureMembers]] = {}
        for members in self._members.values():
            if isinstance(members, PictureMembers):
                pictures.setdefault(members.name, []).append(members)
            elif isinstance(members, ArrayMembers):
                kinds.setdefault(members.name, set()).update(members.kinds())
        for same_name in pictures.values():
            modes = {mode for members in same_name for mode in members.modes}
            for members in same_name:
                members.choose_mode(modes)
                kinds.setdefault(members.name, set()).update(members.kinds())
        facts = {}
        for name in sorted(kinds, key=lambda n: (n not in pictures, n != PICTURE_FIELD, n)):
            dtypes, shapes = {k[0] for k in kinds[name]}, {k[1] for k in kinds[name]}
            if not shapes and first_error is not None:
                raise first_error
            if len(dtypes) != 1 or len({len(shape) for shape in shapes}) != 1:
                raise SourceError(
                    f"field {name!r}: arrays of several types or dimensions: "
                    f"{sorted(kinds[name])[:3]}; expected one, or leave it out (--drop {name})"
                )
            facts[name] = FieldFacts(dtypes.pop(), common_shape(shapes), picture=name in pictures)
        return facts

    def _columns(self, fields: Collection[str], location: str) -> tuple[Column, ...]:
        columns: dict[str, Column] = {}
        # JSON last: its members give way to columns of the same name.
        for extension in sorted(self._members, key=lambda e: (e.endswith("json"), e)):
            for column in self._members[extension].columns({*fields, *columns}):
                if column.name in columns and columns[column.name] != column:
                    raise SourceError(
                        f"{location}: members .{extension} and others would both become "
                        f"the column {column.name!r}; leave one out (--drop {extension})"
                    )
                columns[column.name] = column
        return tuple(columns.values())


@dataclass
class _Scan:
    """What a look at all members has found.

    Attributes:
        options: how pictures will be decoded.
        drop: extensions to leave out.
        members: by extension.
        groups: the sets of extensions that samples have.
        sample_count: samples.
        nbytes: bytes of the members, with their tar headers and padding.
        ignored: names of the first few files that belong to no sample.
        ignored_count: how many there are.
        first_error: of a member that cannot be read.
    """

    options: PictureOptions
    drop: frozenset[str]
    members: dict[str, Members] = field(default_factory=dict)
    groups: set[frozenset[str]] = field(default_factory=set)
    sample_count: int = 0
    nbytes: int = 0
    ignored: list[str] = field(default_factory=list)
    ignored_count: int = 0
    first_error: SampleError | None = None

    def tar(self, path: Path, limit: int | None, on_scan: OnScan) -> bool:
        """Look at the members of a tar; tell whether `limit` leaves room for more.

        Raises:
            SourceError: it is no tar, ends early, or has a member that is refused.
        """
        from webdataset.tariterators import base_plus_ext

        key, group = None, frozenset[str]()
        try:
            with tarfile.open(path, "r:*") as tar:
                while (info := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    found_key, extension = base_plus_ext(info.name)
                    if not info.isreg() or _META.match(info.name) or found_key is None:
                        self._ignore(info)
                        continue
                    if found_key != key:
                        if limit is not None and self.sample_count >= limit:
                            return False
                        self._end_group(group)
                        key, group = found_key, frozenset()
                        self.sample_count += 1
                        on_scan(self.sample_count, None)
                    group |= {extension.lower()}
                    self._see(tar, info, extension.lower(), f"{path}: member {info.name!r}")
        except _TAR_ERRORS as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise SourceError(f"{path}: not a readable tar: {error}") from error
        finally:
            self._end_group(group)
        return True

    def _see(self, tar: tarfile.TarFile, info: tarfile.TarInfo, extension: str, what: str) -> None:
        refuse_pickle(extension, what)
        if info.issparse() or info.size > MAX_MEMBER_NBYTES:
            raise SourceError(
                f"{what}: {info.size} bytes, or sparse; expected at most {MAX_MEMBER_NBYTES}"
            )
        blocks = -(-info.size // _TAR_BLOCK_NBYTES)
        self.nbytes += (1 + blocks) * _TAR_BLOCK_NBYTES
        if extension in self.drop:
            return
        if extension not in self.members:
            self.members[extension] = members_of(extension, self.options)
        try:
            file = tar.extractfile(info)
            self.members[extension].see(cast(BinaryIO, file), what)
        except SampleError as error:
            # Reported when the sample is read; here it only matters if there is no better one.
            self.first_error = self.first_error or error

    def _end_group(self, group: frozenset[str]) -> None:
        if group:
            self.groups.add(group)

    def _ignore(self, info: tarfile.TarInfo) -> None:
        if info.isreg():
            self.ignored_count += 1
            if len(self.ignored) < _IGNORED_NAMES:
                self.ignored.append(info.name)
