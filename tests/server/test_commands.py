"""`dsq serve` as a process: what it prints, how it fails, how it stops."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve_process import DSQ, TIMEOUT_S, serving
from served import publish, put_blob, request


def run_serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `dsq serve` that ends by itself."""
    return subprocess.run(
        [*DSQ, "serve", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def check_error(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr.startswith("dsq: error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_prints_where_the_datasets_are(tmp_path: Path) -> None:
    publish(tmp_path / "one", [])
    publish(tmp_path / "two words", [])
    publish(tmp_path / "bad\nname", [])
    path = put_blob(tmp_path / "one", b"abc")
    with serving(tmp_path, tmp_path / "log") as server:
        assert server.datasets == {
            "one": f"{server.url}/datasets/one/",
            "two words": f"{server.url}/datasets/two%20words/",
        }
        for url in server.datasets.values():
            path_of_url = url.removeprefix(server.url)
            assert request(server.url, f"{path_of_url}dataset.json").status == 200
        request(server.url, f"/datasets/one/{path}?x=1")
        request(server.url, "/v1/datasets/none")
    assert server.process.returncode == 0
    log = (tmp_path / "log").read_text()
    assert "'bad\\nname' is not served" in log
    lines = log.splitlines()
    end = r" 127\.0\.0\.1 GET %s %d %d bytes \d+\.\d{3} s$"
    assert (
        sum(bool(re.search(end % (f"/datasets/one/{path}\\?x=1", 200, 3), s)) for s in lines) == 1
    )
    assert sum("GET /v1/datasets/none 404 " in line for line in lines) == 1
    assert "Traceback" not in log


def test_a_person_gets_a_line_to_paste(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    command = [*DSQ, "serve", str(tmp_path / "d"), "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        url = re.fullmatch(r"Serving 1 dataset of .* at (http://\S+)/ \(Ctrl-C stops\)\n", lines[0])
        assert url is not None
        assert lines[1] == f"  {url[1]}/datasets/d/\n"
        assert lines[2] == f"Try: curl '{url[1]}/v1/datasets/d/samples?limit=3'\n"
        assert request(url[1], "/v1/datasets/d").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0


def test_a_busy_port(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        check_error(run_serve(str(tmp_path), "--port", port), 1, port, "choose another port")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    check_error(run_serve(str(tmp_path), "--host", "192.0.2.1"), 1, "192.0.2.1", "no such address")


def test_a_missing_folder(tmp_path: Path) -> None:
    check_error(run_serve(str(tmp_path / "none")), 1, "none", "expected a folder")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_error(run_serve(str(tmp_path / "file")), 1, "a file", "expected a folder")


def test_a_folder_without_datasets(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    check_error(run_serve(str(tmp_path)), 1, str(tmp_path), "dataset.json", "dsq pack")


def test_a_short_secret(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    check_error(run_serve(str(tmp_path), "--page-secret", "short"), 1, "--page-secret", "16")


@pytest.mark.parametrize("option", [("--port", "70000"), ("--limit-concurrency", "0")])
def test_wrong_usage(tmp_path: Path, option: tuple[str, str]) -> None:
    assert run_serve(str(tmp_path), *option).returncode == 2


def test_replicas_with_one_secret_share_tokens(tmp_path: Path) -> None:
    import pyarrow as pa

    publish(tmp_path / "d", [], table=pa.table({"position": range(10)}))
    options = ("--page-secret", "a secret of some length")
    path = "/v1/datasets/d/samples?limit=4"
    with serving(tmp_path, tmp_path / "log1", *options) as first:
        token = request(first.url, path).json()["next_page_token"]
    with serving(tmp_path, tmp_path / "log2", *options) as second:
        page = request(second.url, f"{path}&page_token={token}").json()
    assert [row["position"] for row in page["samples"]] == [4, 5, 6, 7]


def test_stops_while_a_client_is_stalled(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    path = put_blob(tmp_path / "d", bytes(20_000_000))
    with socket.socket() as client, serving(tmp_path, tmp_path / "log") as server:
        host, port = server.url.removeprefix("http://").split(":")
        client.settimeout(TIMEOUT_S)
        client.connect((host, int(port)))
        client.sendall(f"GET /datasets/d/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1)
    assert server.process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_help_says_what_to_put_in_front() -> None:
    result = run_serve("--help")
    assert result.returncode == 0
    assert "nginx or caddy" in " ".join(result.stdout.split())


def test_importing_the_server_brings_no_torch() -> None:
    code = (
        "import sys, json, dsqserver.commands\n"
        "print(json.dumps([m for m in ('torch', 'dsqclient', 'urllib3') if m in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert json.loads(result.stdout) == []
