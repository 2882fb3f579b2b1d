"""Routes of the files of datasets, as any static server has them, but strict (http-api.md 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from dsqserver.catalog import Catalog
from dsqserver.documented import PROBLEM_RESPONSES, add_get
from dsqserver.files import open_blob, open_snapshot, read_dataset_file, represent_dataset_file
from dsqserver.ranges import Representation, combine_fields
from dsqserver.responses import respond

Opened = tuple[Representation, bytes | FileIO]

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


def add_file_routes(app: FastAPI, catalog: Catalog) -> None:
    """Add /datasets/NAME/ and the relative paths of spec 13 below it."""

    async def answer(request: Request, name: str, open_file: Callable[[Path], Opened]) -> Response:
        # Opening may wait for a disk, so it is done in a thread; reading is the response's.
        def opened() -> Opened:
            return open_file(catalog.directory(name))

        representation, source = await asyncio.to_thread(opened)
        fields = combine_fields(request.scope["headers"])
        return respond(request.scope, fields, representation, source)

    async def get_dataset_file(request: Request, name: str) -> Response:
        """Refs of a dataset: the only file that changes. Ask for it with If-None-Match."""
        return await answer(request, name, _open_dataset_file)

    async def get_snapshot_file(request: Request, name: str, file: str) -> Response:
        """One snapshot, SID.json: immutable."""
        return await answer(request, name, lambda directory: open_snapshot(directory, file))

    async def get_blob(request: Request, name: str, file: str) -> Response:
        """A shard or another blob, DIGEST.SUFFIX: immutable. Ranges and preconditions."""
        return await answer(request, name, lambda directory: open_blob(directory, file))

    json_file, blob = _file_responses("application/json"), _file_responses("*/*")
    add_get(app, "/datasets/{name}/dataset.json", get_dataset_file, "files", json_file)
    add_get(app, "/datasets/{name}/snapshots/{file}", get_snapshot_file, "files", json_file)
    add_get(app, "/datasets/{name}/blobs/{file}", get_blob, "files", blob)


def _open_dataset_file(directory: Path) -> Opened:
    content = read_dataset_file(directory)
    return represent_dataset_file(content), content


def _file_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: _BINARY}
    multipart = {media_type: _BINARY, "multipart/byteranges": _BINARY}
    return {
        200: {"description": "The whole file", "content": content},
        206: {"description": "One range, or several as multipart/byteranges", "content": multipart},
        304: {"description": "If-None-Match names the file"},
        **PROBLEM_RESPONSES,
    }
