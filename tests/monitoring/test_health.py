import urllib.error
import urllib.request

from monitoring.health import Health, Stall
from monitoring.metrics import ALIVE, READY
from monitoring.serve import HttpServer


def ask(server: HttpServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def value(gauge) -> float:
    return gauge.collect()[0].samples[0].value


def test_it_is_ready_when_all_that_it_waits_for_is_there_and_anybody_may_ask() -> None:
    health = Health(["models", "store"])
    server = HttpServer("127.0.0.1", 0, {}, token="secret", public=health.routes)
    try:
        assert ask(server, "/readyz") == (503, "not: models, store\n")
        health.set_ready("models")
        assert ask(server, "/readyz") == (503, "not: store\n")
        health.set_ready("store")
        assert ask(server, "/readyz") == (200, "ok\n")
        assert value(READY) == 1
        health.set_ready("store", False)
        assert ask(server, "/readyz") == (503, "not: store\n")
        assert value(READY) == 0
        assert ask(server, "/livez") == (200, "ok\n")
        health.alive = False
        assert ask(server, "/livez")[0] == 503
        assert value(ALIVE) == 0
        assert ask(server, "/metrics")[0] == 401
    finally:
        server.close()


def test_it_stalls_when_work_waits_and_nothing_moves_for_as_long() -> None:
    stall = Stall(10)
    assert not stall.seen(waiting=True, marks=(1,), now_s=0)
    assert not stall.seen(waiting=True, marks=(1,), now_s=9)
    assert stall.seen(waiting=True, marks=(1,), now_s=10)
    assert not stall.seen(waiting=True, marks=(2,), now_s=11), "it moved"
    assert stall.seen(waiting=True, marks=(2,), now_s=21)
    assert not stall.seen(waiting=False, marks=(2,), now_s=22), "nothing waits"
    assert not stall.seen(waiting=True, marks=(2,), now_s=31)
    assert stall.seen(waiting=True, marks=(2,), now_s=32)
