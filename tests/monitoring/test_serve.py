import gzip
import http.client
import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from monitoring.metrics import RETRIES
from monitoring.serve import MATCHED, HttpServer, metrics_page, read_body

TOKEN = "scrape-4c1d90-token"


async def hello(_: web.BaseRequest) -> web.Response:
    return web.Response(text="hello")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    made = HttpServer("127.0.0.1", 0, {"GET /metrics": metrics_page, "GET /hello": hello})
    yield made
    made.close()


def ask(
    server: HttpServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def ends(client: socket.socket) -> bool:
    """Whether the server ends the connection before it has answered."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_metrics_come_in_the_format_that_is_asked_for(server: HttpServer) -> None:
    RETRIES.labels("serve", "Test").inc(3)
    status, text, headers = ask(server, "/metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert 'vibestream_run_retries_total{error="Test",stage="serve"} 3.0' in text
    _, text, headers = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_only_the_routes_are_there_and_only_for_get(server: HttpServer) -> None:
    assert ask(server, "/hello?a=1")[:2] == (200, "hello")
    assert ask(server, "/")[0] == 404
    assert ask(server, "/metrics/../hello")[0] == 404
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert ask(server, "/hello", method)[0] == 405


def test_with_a_token_nothing_is_answered_without_it() -> None:
    server = HttpServer("127.0.0.1", 0, {"GET /hello": hello}, token=TOKEN)
    try:
        assert ask(server, "/hello", Authorization=f"Bearer {TOKEN}")[:2] == (200, "hello")
        for given in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}x"},
                      {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \xfc"}):  # fmt: skip
            status, text, _ = ask(server, "/hello", **given)
            assert status == 401
            assert TOKEN not in text
        assert ask(server, "/nowhere")[0] == 401  # nor which paths there are
    finally:
        server.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00 this is no HTTP\r\n\r\n",
    ],
    ids=["long line", "long header", "many headers", "no HTTP"],
)
def test_a_request_that_is_too_large_or_none_is_refused_without_noise(
    server: HttpServer, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), connect(server) as client:
        client.sendall(request_bytes)
        assert client.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert ask(server, "/hello")[0] == 200
    assert caplog.records == []  # whoever reaches the port could fill the log


def test_a_body_is_not_read(server: HttpServer) -> None:
    with connect(server) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        while client.recv(4_096):
            pass  # up to the end of the connection, which does not wait for the body


def test_clients_that_never_finish_a_request_do_not_keep_a_scrape_out(server: HttpServer) -> None:
    slow = [connect(server) for _ in range(300)]
    try:
        for client in slow[-40:]:
            client.sendall(b"GET /hello HTTP/1.1\r\nX: ")
        assert ask(server, "/hello")[:2] == (200, "hello")
        assert ends(slow[0]), "the oldest gives way"
    finally:
        for client in slow:
            client.close()


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nX: "], ids=["nothing", "a part"])
def test_a_connection_ends_however_far_its_request_came(sent: bytes) -> None:
    server = HttpServer("127.0.0.1", 0, {"GET /hello": hello}, life_s=0.2)
    try:
        with connect(server) as client:
            client.sendall(sent)
            assert ends(client)
    finally:
        server.close()


def test_a_route_that_fails_is_logged_and_answers_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_: web.BaseRequest) -> web.Response:
        raise ValueError("inside")

    server = HttpServer("127.0.0.1", 0, {"GET /fails": fails})
    try:
        status, text, _ = ask(server, "/fails")
    finally:
        server.close()
    assert status == 500
    assert "inside" not in text
    assert "inside" in caplog.text


async def echo(request: web.BaseRequest) -> web.Response:
    body = await read_body(request, 1_000)
    return web.Response(status=413) if body is None else web.Response(body=request[MATCHED]["name"].encode() + body)


@pytest.fixture
def echoing() -> Iterator[HttpServer]:
    made = HttpServer("127.0.0.1", 0, {"POST /echo/{name}": echo, "GET /echo/{name}": echo})
    yield made
    made.close()


def test_a_route_gets_its_part_of_the_path_and_the_body(echoing: HttpServer) -> None:
    assert ask(echoing, "/echo/a%2Fb%20", "POST", b" body")[:2] == (200, "a/b  body")
    assert ask(echoing, "/echo/x")[:2] == (200, "x")
    for path in ("/echo/", "/echo", "/echo/a/b", "/echo/a/"):
        assert ask(echoing, path, "POST")[0] == 404
    status, _, headers = ask(echoing, "/echo/x", "DELETE")
    assert (status, headers["Allow"]) == (405, "POST, GET")


def test_routes_can_come_later(server: HttpServer) -> None:
    assert ask(server, "/echo/x")[0] == 404
    server.add({"GET /echo/{name}": echo})
    assert ask(server, "/echo/x")[:2] == (200, "x")
    assert ask(server, "/hello")[0] == 200


def test_a_body_is_bounded_whether_it_tells_its_length_or_not(echoing: HttpServer) -> None:
    assert ask(echoing, "/echo/x", "POST", b"a" * 1_000)[0] == 200
    assert ask(echoing, "/echo/x", "POST", b"a" * 1_001)[0] == 413
    with connect(echoing) as client:
        client.sendall(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"3e8\r\n" + b"a" * 1_000 + b"\r\n" + b"1\r\na\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_compressed_body_does_not_grow(echoing: HttpServer) -> None:
    small = gzip.compress(b"a" * 10_000_000)[:900]
    connection = http.client.HTTPConnection("127.0.0.1", echoing.port, timeout=10)
    connection.request("POST", "/echo/x", small, {"Content-Encoding": "gzip"})
    assert connection.getresponse().read() == b"x" + small
    connection.close()


def test_a_body_that_breaks_off_is_no_noise(echoing: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            with connect(echoing) as client:
                client.sendall(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
        with connect(echoing) as client:
            client.sendall(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            assert not client.recv(100).startswith(b"HTTP/1.1 2")
        assert ask(echoing, "/echo/x")[0] == 200
    assert caplog.records == []


async def test_a_busy_event_loop_does_not_silence_it(server: HttpServer) -> None:
    answered = threading.Event()

    def scrape() -> None:
        if ask(server, "/metrics")[0] == 200:
            answered.set()

    thread = threading.Thread(target=scrape)
    thread.start()
    assert answered.wait(10)  # this blocks the loop of the test
    thread.join()


def test_an_address_that_is_taken_or_not_ours_is_an_os_error(server: HttpServer) -> None:
    with pytest.raises(OSError, match="in use"):
        HttpServer("127.0.0.1", server.port, {})
    with pytest.raises(OSError):
        HttpServer("192.0.2.1", 0, {})


def test_closing_frees_the_port_and_ends_connections() -> None:
    server = HttpServer("127.0.0.1", 0, {"GET /hello": hello})
    waiting = connect(server)
    waiting.sendall(b"GET /hello HTTP/1.1\r\n")
    assert ask(server, "/hello")[0] == 200
    server.close()
    assert ends(waiting)
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
