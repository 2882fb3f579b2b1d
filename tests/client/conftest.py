"""One small dataset, and the servers that real users put in front of one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from client_data import (
    TIMEOUT_S,
    Written,
    free_port,
    plain_server,
    wait_for_port,
    write_dataset,
)
from dsqserver.app import create_app
from dsqserver.runner import BackgroundServer


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_dataset(tmp_path_factory.mktemp("data") / "noise")


@pytest.fixture(scope="session")
def dsq_url(written: Written) -> Iterator[str]:
    """The project's own server."""
    with BackgroundServer(create_app(written.path.parent)) as server:
        yield f"{server.url}/datasets/{written.path.name}"


@pytest.fixture(scope="session")
def plain_url(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that ignores Range."""
    log = tmp_path_factory.mktemp("plain") / "log"
    with plain_server(written.path.parent, log) as url:
        yield f"{url}/{written.path.name}"


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

_NGINX_CONF = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {root};
    }}
}}
"""


@pytest.fixture(scope="session")
def nginx_url(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """nginx as a static host."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    conf = folder / "nginx.conf"
    text = _NGINX_CONF.format(folder=folder, port=port, root=written.path.parent)
    # Else its workers are a user who cannot look into the folders of pytest.
    conf.write_text(text if os.getuid() else f"user root;\n{text}")
    process = subprocess.Popen([NGINX, "-c", str(conf), "-p", str(folder)])
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/{written.path.name}"
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
