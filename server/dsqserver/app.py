"""The application: every route and what surrounds them. Who runs it is runner.py's affair."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from dsqserver import models
from dsqserver.catalog import Catalog
from dsqserver.file_routes import add_file_routes
from dsqserver.listing_routes import add_listing_routes
from dsqserver.middleware import ConcurrencyLimit, RequestLog, ResponseHeaders
from dsqserver.paging import PageTokens
from dsqserver.problems import add_problem_handlers
from dsqserver.query_routes import add_dataset_routes, add_service_routes

DEFAULT_LIMIT_CONCURRENCY: Final = 256
# Of the HTTP interface (spec/http-api.md), not of the library.
API_VERSION: Final = "1.0"

_DESCRIBED: Final[tuple[type[models.Model], ...]] = (
    models.DatasetDetail,
    models.DatasetList,
    models.Health,
    models.Problem,
    models.SamplePageModel,
    models.ServiceInfo,
    models.ShardPageModel,
)


def create_app(
    root: str | os.PathLike[str],
    *,
    allow_origins: Collection[str] = (),
    limit_concurrency: int = DEFAULT_LIMIT_CONCURRENCY,
    page_secret: bytes | None = None,
) -> FastAPI:
    """Make the application that serves the datasets in a folder, for any ASGI server.

    Args:
        root: a folder of dataset directories, or one dataset directory, which is then served
            under its own name.
        allow_origins: origins whose web pages may read the answers (CORS); "*" for all.
        limit_concurrency: requests in work at the same time; one more is answered 503.
        page_secret: at least 16 bytes, the key of page tokens. Processes that serve the same
            clients need the same; by default it is random and lasts as long as the application.

    Raises:
        DatasetError: root is not a folder.
        ValueError: limit_concurrency is below 1, or page_secret is too short.
    """
    if limit_concurrency < 1:
        raise ValueError(f"limit_concurrency: got {limit_concurrency}, expected at least 1")
    catalog = Catalog(Path(root))
    tokens = PageTokens(os.urandom(32) if page_secret is None else page_secret)
    # No pages that load scripts from elsewhere, and no redirects made from a Host header.
    app = _DescribedApp(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    add_problem_handlers(app)
    add_service_routes(app)
    add_dataset_routes(app, catalog)
    add_listing_routes(app, catalog, tokens)
    add_file_routes(app, catalog)
    # The last one added is the outermost.
    app.add_middleware(ConcurrencyLimit, limit=limit_concurrency)
    app.add_middleware(ResponseHeaders, allow_origins=allow_origins)
    app.add_middleware(RequestLog)
    return app


class _DescribedApp(FastAPI):
    """An application that describes its routes and the shapes of models.py."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description; spec/openapi.json holds it too."""
        if self.openapi_schema is None:
            description = get_openapi(
                title="DSQ datasets over HTTP",
                version=API_VERSION,
                summary="Files of datasets by range, and queries about them.",
                description="Described in words in spec/http-api.md.",
                routes=self.routes,
            )
            template = "#/components/schemas/{model}"
            _, schemas = models_json_schema(
                [(model, "serialization") for model in _DESCRIBED], ref_template=template
            )
            description["components"] = {"schemas": schemas["$defs"]}
            self.openapi_schema = description
        return self.openapi_schema


if __name__ == "__main__":  # python -m dsqserver.app > spec/openapi.json
    sys.stdout.write(json.dumps(create_app(".").openapi(), indent=1, sort_keys=True) + "\n")
