"""Folders of pictures: one class per sub-folder, or all in one folder without labels."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources.pictures import (
    SUFFIXES,
    PictureOptions,
    common_mode,
    decode_picture,
    picture_shape,
    read_header,
    require_pillow,
)
from dsqformat.sources.sample_source import (
    LABEL_COLUMN,
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
    reading_order,
    require_samples,
)

_IGNORED_NAMES: Final = 5


@dataclass
class _Listing:
    """Pictures of a folder in the order of torchvision's ImageFolder.

    Attributes:
        names: paths relative to the folder, with "/".
        labels: class number of each; empty for a folder without classes.
        classes: names of the classes in order.
        ignored: the first few names of files that are no pictures.
        ignored_count: how many there are.
    """

    names: list[str] = field(default_factory=list)
    labels: array[int] = field(default_factory=lambda: array("q"))
    classes: tuple[str, ...] = ()
    ignored: list[str] = field(default_factory=list)
    ignored_count: int = 0

    def ignore(self, name: str) -> None:
        """Count a file that is no picture."""
        self.ignored_count += 1
        if len(self.ignored) < _IGNORED_NAMES:
            self.ignored.append(name)


class FolderSource:
    """Pictures below a folder, in an order permuted by the seed.

    Sub-folders are the classes, in order of their names; pictures may lie deeper. A folder
    with pictures and no sub-folders has no labels. Keys are the relative paths.

    Args:
        root: the folder.
        options: how to read it.
        on_bad: called for each picture whose header cannot be read, which is then left out.

    Raises:
        SourceError: there are no pictures, or some beside the class folders.
    """

    def __init__(
        self,
        root: Path,
        options: SourceOptions,
        on_bad: BadSample = raise_bad,
        on_scan: OnScan = ignore_scan,
    ) -> None:
        require_pillow()
        self._root = root
        self._keyed = options.keyed
        self._listing = _list_pictures(root)
        require_samples(len(self._listing.names), str(root), "pictures, or folders of pictures")
        order = reading_order(len(self._listing.names), options)
        self._order = array("q")
        sizes, modes, nbytes = self._scan(order, options.pictures, on_bad, on_scan)
        require_samples(len(self._order), str(root), "pictures that can be read")
        mode = options.pictures.mode
        self._pictures = replace(
            options.pictures, mode=common_mode(modes) if mode == "auto" else mode
        )
        shapes = [picture_shape(*size, self._pictures.mode) for size in sizes]
        classes = self._listing.classes
        self.facts = SourceFacts(
            kind="folder",
            location=str(root),
            sample_count=len(self._order),
            fields={PICTURE_FIELD: FieldFacts("uint8", common_shape(shapes), picture=True)},
            columns=(Column(LABEL_COLUMN, "int64", classes),) if classes else (),
            keyed=options.keyed,
            source_nbytes=nbytes,
            shuffled=options.seed is not None,
            ignored=tuple(self._listing.ignored),
            ignored_count=self._listing.ignored_count,
        )

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the samples; see Source."""
        listing = self._listing
        for number in self._order:
            name = listing.names[number]
            what = str(self._root / name)
            try:
                data = _read_file(what)
                values: dict[str, Any] = {PICTURE_FIELD: decode_picture(data, what, self._pictures)}
            except SampleError as error:
                on_bad(error)
                continue
            if listing.classes:
                values[LABEL_COLUMN] = listing.labels[number]
            yield SourceSample(name if self._keyed else None, values)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _scan(
        self,
        order: NDArray[np.int64],
        options: PictureOptions,
        on_bad: BadSample,
        on_scan: OnScan,
    ) -> tuple[set[tuple[int, int]], set[str], int]:
        """Read all headers, fill self._order, and return sizes, modes and bytes of the files."""
        sizes, modes, nbytes = set(), set(), 0
        for done, number in enumerate(order.tolist()):
            what = str(self._root / self._listing.names[number])
            try:
                with open(what, "rb") as file:
                    header = read_header(file, what, options)
                    nbytes += os.fstat(file.fileno()).st_size
            except OSError as error:
                on_bad(SampleError(f"{what}: {error.strerror}"))
                continue
            except SampleError as error:
                on_bad(error)
                continue
            sizes.add((header.height, header.width))
            modes.add(header.mode)
            self._order.append(number)
            on_scan(done + 1, len(order))
        return sizes, modes, nbytes


def _list_pictures(root: Path) -> _Listing:
    """List the pictures of a folder.

    Raises:
        SourceError: pictures beside class folders, or a class without pictures.
    """
    listing = _Listing()
    with os.scandir(root) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    folders = [entry.name for entry in visible if entry.is_dir()]
    pictures = []
    for entry in visible:
        if not entry.is_dir():
            pictures.append(entry.name) if _is_picture(entry.name) else listing.ignore(entry.name)
    if not folders:
        listing.names = [_checked_name(root, name) for name in pictures]
        return listing
    if pictures:
        raise SourceError(
            f"{root}: holds pictures ({pictures[0]!r}) and folders ({folders[0]!r}); expected "
            "either a folder for each class or pictures alone"
        )
    listing.classes = tuple(_checked_name(root, folder) for folder in folders)
    for label, folder in enumerate(folders):
        found = _list_class(root, folder, listing)
        if not found:
            raise SourceError(
                f"{root / folder}: no pictures, so the class {folder!r} would be empty; "
                "remove the folder or name the right one"
            )
        listing.labels.extend([label] * found)
    return listing


def _list_class(root: Path, folder: str, listing: _Listing) -> int:
    """Append the pictures of a class in the order of torchvision, and return their number."""
    before = len(listing.names)
    # torchvision sorts the whole walk, so this does: by the path of the folder, then by name.
    for directory, files in sorted(_walk(root, folder, ())):
        for name in sorted(files):
            if _is_picture(name):
                listing.names.append(_checked_name(root, f"{directory}/{name}"))
            else:
                listing.ignore(f"{directory}/{name}")
    return len(listing.names) - before


def _walk(root: Path, folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below and its files; links are followed unless they lead back up."""
    path = os.path.realpath(root / folder)
    if path in above:
        return
    files = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _walk(root, f"{folder}/{entry.name}", (*above, path))
            elif not entry.is_dir():
                files.append(entry.name)
    yield folder, files


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _checked_name(root: Path, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(f"{root}: the file name {name!r} is not UTF-8; rename it") from error
    return name


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SampleError(f"{path}: {error.strerror}") from error
