"""Routes that answer questions about datasets in JSON (http-api.md 5 and 6)."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.responses import Response

from dsqformat import wire
from dsqformat._version import __version__
from dsqformat.dataset.snapshot import Snapshot
from dsqformat.schema_json import schema_to_json
from dsqserver.catalog import Catalog
from dsqserver.documented import add_get, allow_parameters, json_responses, respond_json
from dsqserver.filters import available_filters
from dsqserver.listing_routes import DEFAULT_REF, MAX_LIMIT, Ref
from dsqserver.models import (
    DatasetDetail,
    DatasetList,
    Health,
    ServiceInfo,
)
from dsqserver.problems import ProblemError
from dsqserver.ranges import MAX_RANGES

logger = logging.getLogger(__name__)


def add_service_routes(app: FastAPI) -> None:
    """Add what describes the server itself."""

    def get_service(request: Request) -> Response:
        """Version, paths and limits."""
        allow_parameters(request)
        return respond_json(request, _service_info())

    def get_health(request: Request) -> Response:
        """Answer as long as the process lives."""
        return respond_json(request, {"status": "ok"})

    def get_openapi(request: Request) -> Response:
        return respond_json(request, app.openapi())

    add_get(app, "/", get_service, "service", json_responses(ServiceInfo))
    add_get(app, "/healthz", get_health, "service", json_responses(Health))
    app.add_api_route(
        "/openapi.json",
        get_openapi,
        methods=["GET", "HEAD"],
        include_in_schema=False,
        response_model=None,
    )


def add_dataset_routes(app: FastAPI, catalog: Catalog) -> None:
    """Add the list of datasets and the description of each."""

    def list_datasets(request: Request) -> Response:
        """All datasets, sorted by name."""
        allow_parameters(request)
        datasets = [_summary(catalog, name) for name in catalog.names()]
        return respond_json(request, {"datasets": datasets})

    def get_dataset(request: Request, name: str, ref: Ref = DEFAULT_REF) -> Response:
        """Counts, schema, blobs and filters of a dataset at one snapshot."""
        allow_parameters(request, "ref")
        refs = catalog.refs(name)
        return respond_json(request, _detail(name, refs, catalog.snapshot(name, ref)))

    add_get(app, "/v1/datasets", list_datasets, "datasets", json_responses(DatasetList))
    add_get(app, "/v1/datasets/{name}", get_dataset, "datasets", json_responses(DatasetDetail))


def _service_info() -> dict[str, Any]:
    return {
        "name": "dsqserver",
        "version": __version__,
        "format_version": f"{wire.VERSION_MAJOR}.{wire.VERSION_MINOR}",
        "docs": "/openapi.json",
        "endpoints": {
            "health": "/healthz",
            "datasets": "/v1/datasets",
            "dataset": "/v1/datasets/{name}",
            "samples": "/v1/datasets/{name}/samples",
            "shards": "/v1/datasets/{name}/shards",
            "files": "/datasets/{name}/",
        },
        "limits": {"max_ranges": MAX_RANGES, "max_page_rows": MAX_LIMIT},
    }


def _summary(catalog: Catalog, name: str) -> dict[str, Any]:
    """Describe a dataset in a line; one that cannot be read does not hide the others."""
    try:
        snapshot, reason = catalog.snapshot(name, DEFAULT_REF), None
    except ProblemError as error:
        snapshot, reason = None, error.detail
    return {
        "name": name,
        "path": files_path(name),
        "snapshot": snapshot and snapshot.id,
        "sample_count": snapshot and snapshot.sample_count,
        "shard_count": snapshot and snapshot.shard_count,
        "nbytes": snapshot and snapshot.nbytes,
        "error": reason,
    }


def _detail(name: str, refs: dict[str, str], snapshot: Snapshot) -> dict[str, Any]:
    path = files_path(name)
    return {
        "name": name,
        "path": path,
        "refs": refs,
        "snapshot": snapshot.id,
        "snapshot_path": path + snapshot.path,
        "parent": snapshot.parent,
        "sample_count": snapshot.sample_count,
        "chunk_count": snapshot.chunk_count,
        "shard_count": snapshot.shard_count,
        "nbytes": snapshot.nbytes,
        "segment_nbytes": snapshot.segment_nbytes,
        "schema": schema_to_json(snapshot.schema),
        "blobs": [
            {
                "role": blob.role,
                "digest": blob.digest,
                "nbytes": blob.nbytes,
                "media_type": blob.media_type,
                "path": path + blob.path,
            }
            for blob in snapshot.blobs
        ],
        "filters": available_filters(snapshot.schema),
    }


def files_path(name: str) -> str:
    """Return the path below which the files of a dataset are served."""
    return f"/datasets/{quote(name, safe='')}/"
