"""`dsq serve`: the server on the command line."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from dsqformat import wire
from dsqformat.errors import DatasetError, DsqError
from dsqserver.app import DEFAULT_LIMIT_CONCURRENCY, create_app
from dsqserver.catalog import Catalog, is_servable_name
from dsqserver.query_routes import files_path
from dsqserver.runner import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    STALL_TIMEOUT_S,
    listen,
    make_server,
    url_of,
)

logger = logging.getLogger(__name__)

MIN_SECRET_NBYTES = 16


def serve(
    root: Annotated[
        Path, typer.Argument(help="Folder of dataset directories, or one dataset directory.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)
    ] = DEFAULT_PORT,
    limit_concurrency: Annotated[
        int, typer.Option(help="Most requests in work at the same time.", min=1)
    ] = DEFAULT_LIMIT_CONCURRENCY,
    stall_timeout: Annotated[
        float,
        typer.Option(help="Seconds until a client that takes no data is cut off; 0: never.", min=0),
    ] = STALL_TIMEOUT_S,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Let web pages of this origin read (CORS); repeatable, * for all."),
    ] = None,
    page_secret: Annotated[
        str,
        typer.Option(
            envvar="DSQ_PAGE_SECRET",
            help="Key of page tokens, the same in all replicas; random by default.",
        ),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log no requests.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print address and datasets as one line of JSON.")
    ] = False,
) -> None:
    """Serve the datasets below a folder over HTTP.

    Meant for a loopback or local network. Towards the internet put nginx or caddy in front:
    they end TLS, and close connections that send their requests too slowly.
    """
    if page_secret and len(page_secret.encode()) < MIN_SECRET_NBYTES:
        raise DsqError(f"--page-secret: expected at least {MIN_SECRET_NBYTES} bytes")
    _set_up_logging(quiet=quiet)
    names = _dataset_names(root)
    app = create_app(
        root,
        allow_origins=allow_origin or (),
        limit_concurrency=limit_concurrency,
        page_secret=page_secret.encode() or None,
    )
    sock = listen(host, port, stall_timeout_s=stall_timeout)
    _announce(root, url_of(sock), names, as_json=as_json)
    try:
        make_server(app, limit_concurrency=limit_concurrency).run([sock])
    except KeyboardInterrupt:  # uvicorn has ended what was in work, and raises the signal again
        return


def _dataset_names(root: Path) -> list[str]:
    """Return the names of the datasets in a folder.

    Raises:
        DatasetError: there is none.
    """
    names = Catalog(root).names()
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        is_dataset = os.path.isfile(Path(entry.path) / wire.DATASET_FILE)
        if is_dataset and not is_servable_name(entry.name) and not entry.name.startswith("."):
            logger.warning("%r is not served: rename it to plain printable text", entry.name)
    if not names:
        raise DatasetError(
            f"{root}: no dataset here: neither it nor a folder in it holds {wire.DATASET_FILE}; "
            "`dsq pack SOURCE DEST` makes one"
        )
    return names


def _announce(root: Path, url: str, names: list[str], *, as_json: bool) -> None:
    """Say where the server is, at once, also into a pipe."""
    datasets = {name: url + files_path(name) for name in names}
    if as_json:
        print(json.dumps({"url": url, "datasets": datasets}), flush=True)
        return
    count = f"{len(names)} dataset{'s' if len(names) > 1 else ''}"
    print(f"Serving {count} of {root} at {url}/ (Ctrl-C stops)")
    for dataset_url in datasets.values():
        print(f"  {dataset_url}")
    first = next(iter(datasets.values())).replace("/datasets/", "/v1/datasets/", 1).rstrip("/")
    print(f"Try: curl '{first}/samples?limit=3'", flush=True)


def _set_up_logging(*, quiet: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if quiet:
        logging.getLogger("dsqserver.access").setLevel(logging.WARNING)
