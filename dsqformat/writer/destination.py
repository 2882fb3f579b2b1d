"""Where a writer publishes: a ref of a dataset directory, locked while it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from dsqformat.dataset.refs import REF_NAME, encode_refs
from dsqformat.dataset.store import LocalStore
from dsqformat.errors import DatasetError
from dsqformat.writer.parent import ParentSnapshot


class Destination:
    """A ref, what it pointed to when writing began, and the store below it.

    Args:
        path: the dataset directory; made if need be.
        ref: name of the ref.
        mode: "create" refuses a ref that exists; "replace" and "append" make a new snapshot.

    Attributes:
        store: of the directory.
        expected: id of the snapshot that is replaced, or None.
        parent: the snapshot that is appended to, or None.

    Raises:
        DatasetError: the ref exists (mode "create"), or does not (mode "append").
        OSError: the directory cannot be written.
        ValueError: no such mode, or a ref cannot have this name.
    """

    def __init__(self, path: Path, ref: str, mode: str) -> None:
        if mode not in ("create", "replace", "append"):
            raise ValueError(f"mode {mode!r}: expected create, replace or append")
        if not REF_NAME.fullmatch(ref):
            raise ValueError(f"ref {ref!r}: expected letters, digits, '.', '_', '-'")
        self._ref = ref
        self.store = LocalStore(path)
        self.expected = self.store.refs().get(ref) if path.is_dir() else None
        if mode == "create" and self.expected is not None:
            raise DatasetError(
                f"{path}: ref {ref!r} exists; choose another folder or ref, "
                "or mode 'replace' or 'append'"
            )
        if mode == "append" and self.expected is None:
            raise DatasetError(f"{path}: no ref {ref!r} to append to; use mode 'create'")
        self._is_new = not path.exists()
        self.store.prepare()
        self._locks = contextlib.ExitStack()
        self._locks.enter_context(self.store.writing())
        self.parent = ParentSnapshot(path, ref) if mode == "append" else None

    def publish(self, snapshot: bytes) -> str:
        """Make the ref point to a snapshot; return its id.

        Raises:
            PublishConflictError: somebody else published under this ref meanwhile.
        """
        return self.store.publish(snapshot, self._ref, self.expected)

    def refs_nbytes(self) -> int:
        """Return what the file of refs takes with this one in it."""
        return len(encode_refs(self.store.refs() | {self._ref: "0" * 64}))

    def close(self) -> None:
        """Let others write."""
        self._locks.close()

    def discard(self, written: Sequence[Path]) -> None:
        """Let others write, and drop files; the directory too, if it is new."""
        self._locks.close()
        self.store.discard(written, remove_folder=self._is_new)
