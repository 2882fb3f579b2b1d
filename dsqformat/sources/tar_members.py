"""What the members of WebDataset tars become, by their extension.

There is one object per extension. It first sees all members of that extension, to learn what
they hold, and then decodes them one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column, ColumnType
from dsqformat.sources.npy import parse_npy, read_npy_header
from dsqformat.sources.pictures import (
    SUFFIXES,
    PictureOptions,
    common_mode,
    decode_picture,
    picture_shape,
    read_header,
)
from dsqformat.sources.sample_source import LABEL_COLUMN, PICTURE_FIELD, column_name

# Reading one of these may run code that its author chose.
PICKLE_EXTENSIONS: Final = frozenset({"pickle", "pkl", "pt", "pth", "pyd"})


class Members(Protocol):
    """The members of one extension.

    Attributes:
        usual_name: of the field or column they become.
        name: the same, once it has been chosen.
    """

    usual_name: str
    name: str

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn from one member.

        Args:
            file: its bytes, seekable.
            what: its name for error messages.

        Raises:
            SampleError: it is not what its extension says.
        """
        ...

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return the columns they become, after all have been seen.

        Args:
            taken: names that fields and other columns have.
        """
        ...

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the values of a member by field or column name, or raise SampleError."""
        ...


class PictureMembers:
    """jpg, png and others: a field."""

    def __init__(self, options: PictureOptions) -> None:
        self.usual_name = self.name = PICTURE_FIELD
        self.options = options
        self.modes: set[str] = set()
        self._sizes: set[tuple[int, int]] = set()

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn size and mode of a picture."""
        header = read_header(file, what, self.options)
        self.modes.add(header.mode)
        self._sizes.add((header.height, header.width))

    def choose_mode(self, modes: Iterable[str]) -> None:
        """Choose the mode that holds all pictures of the field, where it was left open."""
        if self.options.mode == "auto":
            self.options = replace(self.options, mode=common_mode(modes))

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return none."""
        return ()

    def kinds(self) -> set[tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of the arrays."""
        return {("uint8", picture_shape(*size, self.options.mode)) for size in self._sizes}

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the picture."""
        return {self.name: decode_picture(data, what, self.options)}


class ArrayMembers:
    """npy: a field, without pickles."""

    def __init__(self) -> None:
        self.usual_name = self.name = "array"
        self._kinds: set[tuple[str, tuple[int, ...]]] = set()

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn dtype and shape of an array."""
        header = read_npy_header(file, what)
        self._kinds.add((header.dtype.name, header.shape))

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return none."""
        return ()

    def kinds(self) -> set[tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of the arrays."""
        return self._kinds

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the array."""
        array = parse_npy(data, what)
        return {self.name: np.asarray(array, array.dtype.newbyteorder("="))}


class LabelMembers:
    """cls: an int64 column; texts that are no numbers get numbers in order of the texts."""

    def __init__(self) -> None:
        self.usual_name = self.name = LABEL_COLUMN
        self._texts: set[str] = set()
        self._numbers: dict[str, int] | None = None

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn a label."""
        self._texts.add(decode_text(file.read(), what).strip())

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return the column of the labels, with their names if they have some."""
        if all(_is_integer(text) for text in self._texts):
            return (Column(self.name, "int64"),)
        names = tuple(sorted(self._texts))
        self._numbers = {name: number for number, name in enumerate(names)}
        return (Column(self.name, "int64", names),)

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the number of a label."""
        text = decode_text(data, what).strip()
        if self._numbers is None and _is_integer(text):
            return {self.name: int(text)}
        if self._numbers is not None and text in self._numbers:
            return {self.name: self._numbers[text]}
        raise SampleError(f"{what}: label {text!r:.40}, expected a whole number")


class TextMembers:
    """txt: a utf8 column."""

    def __init__(self) -> None:
        self.usual_name = self.name = "text"

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn nothing."""

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return the column of the text."""
        return (Column(self.name, "utf8"),)

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the text."""
        return {self.name: decode_text(data, what)}


class OtherMembers:
    """Any other extension: a bytes column."""

    def __init__(self, extension: str) -> None:
        self.usual_name = self.name = column_name(extension)

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn nothing."""

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return the column of the bytes."""
        return (Column(self.name, "bytes"),)

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the bytes as they are."""
        return {self.name: data}


class JsonMembers:
    """json: a column per member where all are flat objects of the same scalars, else the text."""

    def __init__(self) -> None:
        self.usual_name = self.name = "json"
        self._types: dict[str, set[type]] | None = {}
        self._seen = False
        self._columns: dict[str, Column] = {}

    def see(self, file: BinaryIO, what: str) -> None:
        """Learn members and types of a document."""
        types = _scalar_types(_parse_json(file.read(), what))
        if not self._seen:
            self._types = types
        elif self._types is not None and types is not None and types.keys() == self._types.keys():
            for member, kinds in types.items():
                self._types[member] |= kinds
        else:
            self._types = None
        self._seen = True

    def columns(self, taken: Collection[str]) -> tuple[Column, ...]:
        """Return a column per member, or one for the text where documents are not flat."""
        for member, kinds in (self._types or {}).items():
            kind = _column_type(kinds)
            if kind is None:
                self._columns = {}
                break
            name = column_name(member)
            name = column_name(f"{self.name}_{member}") if name in taken else name
            self._columns[member] = Column(name, kind)
        columns = tuple(self._columns.values())
        if not columns or len({column.name for column in columns}) < len(columns):
            self._columns = {}
            return (Column(self.name, "utf8"),)
        return columns

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Return the scalars of a document, or its text."""
        if not self._columns:
            return {self.name: decode_text(data, what)}
        document = _parse_json(data, what)
        types = _scalar_types(document)
        if types is None or types.keys() != self._columns.keys():
            expected = sorted(self._columns)
            raise SampleError(f"{what}: expected a JSON object with the members {expected}")
        return {
            column.name: _scalar(document[member], column, what)
            for member, column in self._columns.items()
        }


def members_of(extension: str, options: PictureOptions) -> Members:
    """Return what the members of an extension, such as "jpg" or "seg.png", are."""
    prefix, _, last = extension.rpartition(".")
    members: Members
    if f".{last}" in SUFFIXES:
        members = PictureMembers(options)
    elif last == "npy":
        members = ArrayMembers()
    elif last == "cls":
        members = LabelMembers()
    elif last == "txt":
        members = TextMembers()
    elif last == "json":
        members = JsonMembers()
    else:
        return OtherMembers(extension)
    if prefix:
        members.usual_name = members.name = column_name(prefix)
    return members


def choose_names(members: dict[str, Members], groups: Iterable[frozenset[str]]) -> None:
    """Give each extension its name.

    That is the usual one, unless two extensions of one sample would share it (jpg and png):
    then each gets its whole extension as name.

    Args:
        members: by extension; changed.
        groups: the sets of extensions that samples have.
    """
    crowded = set()
    for group in set(groups):
        names = [members[extension].usual_name for extension in group if extension in members]
        crowded |= {name for name in names if names.count(name) > 1}
    for extension, found in members.items():
        if found.usual_name in crowded:
            found.name = column_name(extension)


def refuse_pickle(extension: str, what: str) -> None:
    """Raise SourceError for a member that would have to be unpickled.

    Args:
        extension: all of it, such as "jpg" or "features.pyd".
        what: tar and member.
    """
    if PICKLE_EXTENSIONS.intersection(extension.lower().split(".")):
        raise SourceError(
            f"{what}: a pickle, and reading one can run any program; "
            "store it as .npy, .json or .txt instead"
        )


def decode_text(data: bytes, what: str) -> str:
    """Return UTF-8 text, or raise SampleError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SampleError(f"{what}: not UTF-8: {error}") from error


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None


def _parse_json(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{what}: not JSON: {error}") from error


def _scalar_types(value: object) -> dict[str, set[type]] | None:
    """Return the type of each member of a flat object; None for anything else."""
    if not isinstance(value, dict):
        return None
    for scalar in value.values():
        if not isinstance(scalar, bool | int | float | str):
            return None
        if isinstance(scalar, int) and not -(1 << 63) <= scalar < 1 << 63:
            return None
    return {name: {type(scalar)} for name, scalar in value.items()}


def _column_type(kinds: set[type]) -> ColumnType | None:
    if kinds <= {bool, int}:
        return "int64"
    if kinds <= {int, float}:
        return "float64"
    return "utf8" if kinds == {str} else None


def _scalar(value: bool | float | str, column: Column, what: str) -> int | float | str:
    kind = _column_type({type(value)})
    if kind != column.type and not (kind == "int64" and column.type == "float64"):
        raise SampleError(f"{what}: {value!r:.40} is no {column.type} for column {column.name!r}")
    return int(value) if column.type == "int64" else value
