"""HttpSource over real sockets: every server, every fault, every byte."""

from __future__ import annotations

import http.server
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from client_data import FAST, Written, free_port, read_in_child
from dsqclient import HttpOptions, HttpSource, open_dataset, open_source
from dsqclient.ratelimit import TokenBucket
from dsqclient.retry import TransferCancelled, parse_retry_after
from dsqformat.bytesource import LocalSource
from dsqformat.errors import DatasetError, FetchError, TruncatedShardError
from fault_proxy import FaultProxy

SERVERS = ["dsq_url", "nginx_url", "plain_url"]


@pytest.fixture(params=SERVERS)
def any_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def blob(written: Written) -> tuple[str, bytes]:
    path = written.shards[0]
    return f"blobs/{path.name}", path.read_bytes()


# Every server ----------------------------------------------------------------------------------


def test_ranges_of_every_server_are_the_bytes_of_the_file(any_url, written):
    source = HttpSource(any_url, options=FAST)
    path, data = blob(written)
    assert source.read("dataset.json") == (written.path / "dataset.json").read_bytes()
    assert source.size(path) == len(data)
    for start, stop in [(0, len(data)), (0, 1), (5, 5), (100, 70_000), (len(data) - 1, len(data))]:
        assert source.read(path, start, stop) == data[start:stop]
        assert b"".join(source.stream(path, start, stop)) == data[start:stop]
    source.close()
    assert source.read(path, 10, 20) == data[10:20]
    source.close()


def test_what_is_not_there_is_said_with_its_url(any_url, written):
    source = HttpSource(any_url, options=FAST)
    with pytest.raises(FileNotFoundError, match=f"{any_url}/blobs/none.dsq: HTTP 404"):
        source.read("blobs/none.dsq", 0, 10)
    path, data = blob(written)
    with pytest.raises(TruncatedShardError, match=f"has {len(data)} bytes, expected at least"):
        source.read(path, len(data) - 10, len(data) + 10)
    with pytest.raises(TruncatedShardError):
        source.read(path, len(data) + 10, len(data) + 20)
    source.close()


def test_a_server_that_ignores_range_is_asked_once_for_a_file(plain_url, written):
    path, data = blob(written)
    with FaultProxy(plain_url) as proxy:
        source = HttpSource(proxy.url, options=FAST)
        for start in range(0, len(data), 10_000):
            stop = min(start + 10_000, len(data))
            assert source.read(path, start, stop) == data[start:stop]
        assert source.read(path, 3, 9) == data[3:9]
        source.close()
        assert proxy.down_nbytes < len(data) + 1000
        assert len(proxy.requests) == 1


def test_an_open_dataset_reads_samples_over_every_server(any_url, written):
    with open_dataset(any_url + "/", options=FAST) as dataset:
        assert len(dataset) == len(written.images)
        sample = dataset.by_key("key-17")
        assert (sample["image"] == written.images[17]).all()
        assert sample["index"] == 17
    with open_dataset(f"{any_url}/dataset.json", options=FAST) as dataset:
        batch = dataset[5:25]
        assert (batch["image"] == written.images[batch["index"]]).all()


# Faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["dsq_url", "nginx_url"])
def test_a_transfer_goes_on_at_the_byte_after_a_cut(server, written, request):
    path, data = blob(written)
    with FaultProxy(request.getfixturevalue(server), cuts=[20_000, 0, 50, 30_000]) as proxy:
        source = HttpSource(proxy.url, options=FAST)
        assert source.read(path, 100, len(data)) == data[100:]
        source.close()
        # Heads of responses come on top, but nothing of the body came twice.
        assert proxy.down_nbytes < len(data) + 5 * 1000
        assert source.counts.failures == 4
        starts = [int(line) for line in _range_starts(proxy)]
        assert starts == sorted(starts)


def _range_starts(proxy: FaultProxy) -> list[str]:
    return [line.split("bytes=")[1].split("-")[0] for line in proxy.heads if "bytes=" in line]


def test_a_whole_file_is_skipped_to_where_it_was_cut(plain_url, written):
    path, data = blob(written)
    with FaultProxy(plain_url, cuts=[30_000, 60_000]) as proxy:
        source = HttpSource(proxy.url, options=FAST)
        assert source.read(path, 100, len(data)) == data[100:]
        assert source.read(path, 0, 5) == data[:5]
        source.close()
        assert proxy.connections == 3


def test_a_cut_metadata_file_is_read_anew(plain_url, written):
    with FaultProxy(plain_url, cuts=[230]) as proxy:
        source = HttpSource(proxy.url, options=FAST)
        assert source.read("dataset.json") == (written.path / "dataset.json").read_bytes()
        source.close()


def test_a_stalled_server_is_given_up_in_bounded_time(dsq_url, written):
    path, data = blob(written)
    impatient = HttpOptions(read_timeout_s=0.2, attempts=2, backoff_s=0.01)
    with FaultProxy(dsq_url, stall_at=50_000) as proxy:
        source = HttpSource(proxy.url, options=impatient)
        with pytest.raises(FetchError, match=r"gave up after \d failed attempts.*no byte arrived"):
            source.read(path, 0, len(data))
        source.close()


def test_a_trickling_server_is_given_up_in_bounded_time(dsq_url, written):
    path, data = blob(written)
    impatient = HttpOptions(deadline_s=0.3, slowest_bytes_per_s=10_000_000)
    with FaultProxy(dsq_url, rate=20_000) as proxy:
        source = HttpSource(proxy.url, options=impatient)
        with pytest.raises(FetchError, match="too slowly"):
            source.read(path, 0, len(data))
        source.close()


def test_a_dead_server_is_said_with_url_attempts_cause_and_remedy():
    url = f"http://127.0.0.1:{free_port()}/data"
    with pytest.raises(FetchError) as caught:
        open_dataset(url, options=FAST)
    text = str(caught.value)
    assert text.startswith(f"{url}/dataset.json: gave up after 3 failed attempts in ")
    assert "Connection refused" in text
    assert "is the server running there?" in text
    assert "\n" not in text


def test_wrong_urls_are_said(dsq_url, plain_url, tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset here: dataset\.json is missing"):
        open_dataset(dsq_url + "-not", options=FAST)
    with pytest.raises(DatasetError, match="no dataset here"):
        open_dataset(plain_url + "/blobs", options=FAST)
    with pytest.raises(DatasetError, match="no dataset here"):
        open_dataset(tmp_path)
    for wrong in ("ftp://host/x", "s3://bucket/x", "http:///x", "http://host/x?token=1"):
        with pytest.raises(ValueError, match=r"expected a URL beginning with http|neither query"):
            open_source(wrong)
    assert isinstance(open_source("file:///tmp/x/dataset.json"), LocalSource)
    assert open_source("file:///tmp/x/dataset.json").location == "/tmp/x"


def test_the_unknown_host_is_said():
    options = HttpOptions(first_attempts=1, connect_timeout_s=2)
    with pytest.raises(FetchError, match=r"the host name is unknown|no connection"):
        HttpSource("http://no-such-host.invalid", options=options).read("dataset.json")


# Servers that answer strangely -----------------------------------------------------------------


@contextmanager
def answering(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server whose answers the test writes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            answer(self)

        def do_HEAD(self) -> None:
            self.send_error(501)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def reply(handler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    headers.setdefault("Content_Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


DATA = bytes(range(256)) * 40


def test_a_range_from_elsewhere_is_never_spliced_in():
    answers = iter(["bytes 5-14/10240", "bytes 0-9/10240", "nonsense", "bytes 10-19/10240"])

    def answer(handler):
        reply(handler, 206, DATA[10:20], Content_Range=next(answers))

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        assert source.read("x", 10, 20) == DATA[10:20]
        assert source.counts.failures == 3
        source.close()


def test_parts_of_a_range_are_put_together():
    def answer(handler):
        start = int(handler.headers["Range"][6:].split("-")[0])
        part = DATA[start : start + 7]
        reply(handler, 206, part, Content_Range=f"bytes {start}-{start + 6}/{len(DATA)}")

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        assert source.read("x", 3, 40) == DATA[3:40]
        source.close()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_refusal_is_waited_out(status):
    seen = []

    def answer(handler):
        seen.append(time.monotonic())
        if len(seen) == 1:
            reply(handler, status, b"busy", Retry_After="1")
        else:
            reply(handler, 206, DATA[:9], Content_Range=f"bytes 0-8/{len(DATA)}")

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        assert source.read("x", 0, 9) == DATA[:9]
        source.close()
    assert seen[1] - seen[0] >= 1


@pytest.mark.parametrize(("status", "text"), [(401, "authorization"), (403, "headers="), (400, "")])
def test_a_lasting_refusal_is_not_repeated(status, text):
    seen = []

    def answer(handler):
        seen.append(1)
        reply(handler, status)

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        with pytest.raises(FetchError, match=rf"{url}/x: HTTP {status}.*{text}"):
            source.read("x", 0, 9)
        source.close()
    assert len(seen) == 1


def test_compressed_bodies_are_refused():
    def answer(handler):
        assert handler.headers["Accept-Encoding"] == "identity"
        reply(handler, 200, DATA, Content_Encoding="gzip")

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        with pytest.raises(FetchError, match="Content-Encoding gzip"):
            source.read("dataset.json")
        source.close()


def test_a_body_without_length_is_read_to_its_end_and_capped():
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(1 if handler.path == "/small.json" else 40):
            handler.wfile.write(b"x" * (1 << 20))

    with answering(answer) as url:
        source = HttpSource(url, options=FAST)
        assert len(source.read("small.json")) == 1 << 20
        with pytest.raises(DatasetError, match="the format's limit"):
            source.read("large.json")
        source.close()


def test_redirects_are_followed_and_keep_secrets_at_home():
    seen: list[tuple[str, str | None]] = []

    def far(handler):
        seen.append(("far", handler.headers["Authorization"]))
        reply(handler, 206, DATA[:9], Content_Range=f"bytes 0-8/{len(DATA)}")

    with answering(far) as far_url:

        def near(handler):
            seen.append(("near", handler.headers["Authorization"]))
            target = f"{far_url}/y" if handler.path == "/x2" else "/x2"
            target = {"/loop": "/loop", "/file": "file:///etc/passwd"}.get(handler.path, target)
            reply(handler, 307, Location=target)

        with answering(near) as url:
            options = HttpOptions(headers={"Authorization": "Bearer t"})
            source = HttpSource(url, options=options)
            assert source.read("x", 0, 9) == DATA[:9]
            with pytest.raises(FetchError, match="more than 5 redirects"):
                source.read("loop", 0, 9)
            with pytest.raises(FetchError, match="expected http or https"):
                source.read("file", 0, 9)
            source.close()
    assert seen[:3] == [("near", "Bearer t"), ("near", "Bearer t"), ("far", None)]


def test_credentials_in_a_url_are_sent_and_never_shown():
    def answer(handler):
        assert handler.headers["Authorization"] == "Basic bWU6c2VjcmV0"
        reply(handler, 404)

    with answering(answer) as url:
        source = HttpSource(url.replace("http://", "http://me:secret@"), options=FAST)
        with pytest.raises(FileNotFoundError) as caught:
            source.read("x", 0, 9)
        assert "secret" not in str(caught.value) + source.location
        source.close()


# Rate, processes, cancelling -------------------------------------------------------------------


def test_the_rate_limit_holds_over_a_time():
    bucket = TokenBucket(100_000)
    started_s = time.monotonic()
    threads = [threading.Thread(target=bucket.take, args=(10_000,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    # 60 kB at 100 kB/s, less the burst of 16 KiB: never faster.
    assert time.monotonic() - started_s >= 0.4
    assert pickle.loads(pickle.dumps(bucket)).bytes_per_s == 100_000
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(0)


def test_a_rate_limited_source_is_slowed_on_the_wire(dsq_url, written):
    path, data = blob(written)
    source = HttpSource(dsq_url, options=FAST, rate_limit=400_000)
    started_s = time.monotonic()
    assert source.read(path, 0, len(data)) == data
    assert time.monotonic() - started_s >= (len(data) - 45_000) / 400_000
    source.rate_limit = None
    assert source.read(path, 0, 10) == data[:10]
    source.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_source_works_in_a_child_process(method, dsq_url, written):
    path, data = blob(written)
    source = HttpSource(dsq_url, options=FAST)
    assert source.read(path, 0, 10) == data[:10]  # leaves a connection open
    context = multiprocessing.get_context(method)
    results, send_end = context.Pipe(duplex=False)
    child = context.Process(target=read_in_child, args=(source, path, send_end))
    child.start()
    assert results.poll(30)
    received, requests = results.recv()
    child.join(30)
    assert received == data[:50_000]
    assert requests == 1
    assert source.read(path, 10, 20) == data[10:20]
    source.close()


def test_a_cancelled_transfer_ends(dsq_url, written):
    path, data = blob(written)
    cancelled = threading.Event()
    source = HttpSource(dsq_url, options=FAST, rate_limit=50_000)
    pieces = source.stream(path, 0, len(data), cancelled=cancelled)
    next(pieces)
    cancelled.set()
    with pytest.raises(TransferCancelled):
        list(pieces)
    source.close()


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (None, 0, 0),
        ("", 0, 0),
        ("7", 7, 7),
        ("-3", 0, 0),
        ("soon", 0, 0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 1e10),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, low, high):
    assert low <= parse_retry_after(value) <= high


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="attempts"):
        HttpOptions(attempts=0)
    with pytest.raises(ValueError, match="timeouts"):
        HttpOptions(read_timeout_s=0)
