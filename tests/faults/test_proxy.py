"""The bad network itself: each of its faults as a client sees it."""

import socket
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.faults.proxy import Proxy, proxy_in_thread
from tests.processes import wait_until
from topology.broker import free_port


def _echo(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client:
        try:
            while data := client.recv(4096):
                client.sendall(data)
        except OSError:
            return


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=_echo, args=(server,))
        thread.start()
        with proxy_in_thread({port: server.getsockname()[1]}) as made:
            yield made
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def connect(port: int, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout_s)


def asked(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        piece = client.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def test_a_good_network_passes_everything_both_ways(proxy: Proxy, port: int) -> None:
    with connect(port) as client:
        data = bytes(range(256)) * 2_000
        assert asked(client, data) == data


def test_a_delay_holds_each_way_and_keeps_the_order(proxy: Proxy, port: int) -> None:
    with connect(port) as client:
        assert asked(client, b"warm") == b"warm"
        proxy.delay(0.1, 0.2)
        started = time.monotonic()
        for number in range(10):
            client.sendall(b"%d" % number)
        answer = b""
        while len(answer) < 10:
            answer += client.recv(100)
        assert answer == b"0123456789"
        assert time.monotonic() - started >= 0.2


def test_what_is_held_back_arrives_when_the_network_heals(proxy: Proxy, port: int) -> None:
    with connect(port) as client:
        assert asked(client, b"before") == b"before"
        proxy.hold()
        client.sendall(b"held")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        with connect(port) as other, pytest.raises(TimeoutError):
            other.settimeout(0.3)
            other.sendall(b"accepted and held")
            other.recv(10)
        proxy.heal()
        client.settimeout(5)
        assert client.recv(10) == b"held"


def test_a_refusing_network_ends_connections_and_takes_none_until_it_heals(proxy: Proxy, port: int) -> None:
    with connect(port) as client:
        assert asked(client, b"before") == b"before"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        proxy.heal()
    with connect(port) as client:
        assert asked(client, b"after") == b"after"


def test_a_reset_ends_what_there_is_and_new_connections_pass(proxy: Proxy, port: int) -> None:
    with connect(port) as client:
        assert asked(client, b"before") == b"before"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with connect(port) as client:
        assert asked(client, b"after") == b"after"
    wait_until(lambda: proxy.connections == 0, 5, "ended connections are forgotten")


def test_a_cut_resets_in_the_midst_of_the_data(proxy: Proxy, port: int) -> None:
    proxy.cut(1.0)
    with connect(port) as client:
        client.sendall(b"x" * 1_000)
        received = b""
        with pytest.raises(ConnectionResetError):
            while piece := client.recv(4096):
                received += piece
        assert len(received) < 1_000


def test_a_target_that_is_not_there_ends_the_connection() -> None:
    port = free_port()
    # The reset may be here before `connect` returns.
    with proxy_in_thread({port: free_port()}), pytest.raises(ConnectionResetError), connect(port) as client:
        if client.recv(10) == b"":
            raise AssertionError("an orderly end")
