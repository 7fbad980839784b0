"""Where media may come from: every refusal is a reason, and nothing gets around the rules."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import boto3
import pytest
from aiohttp import web

from models.media.fetch import FetchLimits, MediaFetcher
from models.media.objects import ObjectStores
from models.media.rules import MediaRules
from schemas.errors import ConfigurationError, MediaProblem
from tests.fakes.object_store import BUCKET, object_store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
VIDEO = b"moving pictures " * 1000


class Site:
    """An HTTP server with a few videos and a few traps."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failures = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path.rpartition("/")[2]:
            case "v.mp4":
                return web.Response(body=VIDEO)
            case "missing.mp4":
                return web.Response(status=404)
            case "busy.mp4":
                self.failures -= 1
                return web.Response(status=503) if self.failures >= 0 else web.Response(body=VIDEO)
            case "endless.mp4":
                endless = web.StreamResponse()
                await endless.prepare(request)
                while True:
                    await endless.write(b"x" * 65_536)
            case "silent.mp4":
                await asyncio.sleep(60)
                return web.Response()
            case "announced.mp4":
                return web.Response(body=b"x" * 3_000_000)
            case "bomb.mp4":
                return web.Response(body=b"\x1f\x8b" + b"z" * 100, headers={"Content-Encoding": "gzip"})
            case "loop.mp4":
                return web.Response(status=302, headers={"Location": "loop.mp4"})
            case _:
                return web.Response(status=302, headers={"Location": request.query["to"]})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def fetch(rules: MediaRules, uri: str, **limits: float) -> bytes:
    fetcher = MediaFetcher(rules, FetchLimits(**{"max_bytes": 2**20, "seconds": 30, **limits}))
    try:
        async with fetcher.fetch(uri) as path:
            assert path.resolve() == path
            return path.read_bytes()
    finally:
        await fetcher.close()


async def refused(rules: MediaRules, uri: str, **limits: float) -> tuple[str, str]:
    with pytest.raises(MediaProblem) as problem:
        await fetch(rules, uri, **limits)
    return problem.value.status, str(problem.value)


async def test_a_file_in_an_allowed_folder_is_used_where_it_lies_and_one_over_the_web_is_copied_and_gone(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "a b.mp4").write_bytes(VIDEO)
    rules = MediaRules([f"file://{tmp_path}/", f"{site.url}/videos/"])
    fetcher = MediaFetcher(rules, scratch=tmp_path)
    async with fetcher.fetch(f"file://{tmp_path}/a%20b.mp4") as path:
        assert path == tmp_path / "a b.mp4"
    async with fetcher.fetch(f"{site.url}/videos/v.mp4") as path:
        assert (path.read_bytes(), path != tmp_path / "a b.mp4") == (VIDEO, True)
    assert not path.exists()
    await fetcher.close()
    assert [one.name for one in tmp_path.iterdir()] == ["a b.mp4"]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ftp://127.0.0.1/v.mp4", "scheme 'ftp'"),
        ("videos/v.mp4", "scheme ''"),
        ("javascript:alert(1)", "scheme 'javascript'"),
        ("http:///v.mp4", "names no host"),
        ("http://user:pw@HOST/videos/v.mp4", "user or password"),
        ("http://HOST\\@evil.example/videos/v.mp4", "characters"),
        ("http://HOST/videos/ v.mp4", "characters"),
        ("http://HOST/videos/\nv.mp4", "characters"),
        ("http://HOST/other/v.mp4", "not among the addresses"),
        ("http://HOST/videosX/v.mp4", "not among the addresses"),
        ("http://HOST/videos/../other/v.mp4", "dots"),
        ("http://HOST/videos/%2e%2e/other/v.mp4", "dots"),
        ("http://HOST/videos%00/v.mp4", "unprintable"),
        ("https://HOST/videos/v.mp4", "not among the addresses"),
        ("http://127.0.0.1:1/videos/v.mp4", "not among the addresses"),
        ("http://2130706433/videos/v.mp4", "not among the addresses"),
        ("http://evil.example/videos/v.mp4", "not among the addresses"),
        ("http://[::ffff:127.0.0.1]/videos/v.mp4", "not among the addresses"),
        ("http://HOST:99999/videos/v.mp4", "malformed"),
        ("file:///etc/passwd", "files are not among"),
        ("s3://bucket/v.mp4", "not among the addresses"),
    ],
)
async def test_what_no_rule_allows_is_refused_and_nobody_is_asked(site: Site, uri: str, says: str) -> None:
    rules = MediaRules([f"{site.url}/videos"])
    status, reason = await refused(rules, uri.replace("HOST:9", "127.0.0.1:9").replace("HOST", site.url[7:]))
    assert (status, says in reason) == ("refused", True), reason
    assert site.asked == []


async def test_redirects_are_followed_within_the_rules_only(site: Site) -> None:
    rules = MediaRules([f"{site.url}/videos/", f"{site.url}/more/"])
    assert await fetch(rules, f"{site.url}/videos/r?to=/more/v.mp4") == VIDEO
    for onward, says in (
        ("/secret/v.mp4", "redirects: http://127.0.0.1 is not among"),
        ("http://169.254.169.254/latest/meta-data/", "not among the addresses"),
        ("file:///etc/passwd", "files are not among"),
        ("//evil.example/videos/v.mp4", "not among the addresses"),
        ("http://user@x/", "user or password"),
    ):
        status, reason = await refused(rules, f"{site.url}/videos/r?to={onward}")
        assert (status, says in reason) == ("refused", True), reason
    assert (await refused(rules, f"{site.url}/videos/loop.mp4"))[1].endswith("redirects more than 3 times")
    assert not any("secret" in path for path in site.asked)


async def test_a_name_that_leads_to_a_private_address_is_refused_unless_the_operator_says_otherwise(site: Site) -> None:
    local = site.url.replace("127.0.0.1", "localhost")
    status, reason = await refused(MediaRules([f"{local}/videos"]), f"{local}/videos/v.mp4")
    assert (status, "leads to a private address" in reason) == ("refused", True)
    assert site.asked == []
    assert await fetch(MediaRules([f"{local}/videos"], private=True), f"{local}/videos/v.mp4") == VIDEO


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False),
        ("::", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::", False), ("64:ff9b::a00:1", False), ("2001:0:a00:1::1", False),
    ],
)  # fmt: skip
def test_private_addresses_are_known_in_every_disguise(address: str, permitted: bool) -> None:
    assert MediaRules([]).permits(address) is permitted


async def test_a_wildcard_covers_all_below_a_domain_and_not_the_address_in_digits() -> None:
    rules = MediaRules(["https://*.example.com/v/"])
    assert rules.check("https://a.b.example.com/v/1.mp4").host == "a.b.example.com"
    for uri in ("https://example.com/v/1.mp4", "https://badexample.com/v/1.mp4", "https://a.example.com.evil.org/v/1"):
        with pytest.raises(MediaProblem, match="not among"):
            rules.check(uri)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("missing.mp4", "unavailable", "answers 404"),
        ("endless.mp4", "too_large", "at most 1 MB"),
        ("announced.mp4", "too_large", "it has 3 MB"),
    ],
)
async def test_what_can_not_be_had_says_why(site: Site, path: str, status: str, says: str) -> None:
    got, reason = await refused(MediaRules([f"{site.url}/"]), f"{site.url}/{path}?signature=s3cret")
    assert (got, says in reason, "s3cret" in reason) == (status, True, False), reason


async def test_a_silent_host_is_given_up_and_a_busy_one_asked_again(site: Site) -> None:
    rules = MediaRules([f"{site.url}/"])
    assert await refused(rules, f"{site.url}/silent.mp4", seconds=0.3) == ("unavailable", "not here within 0.3 s")
    site.failures = 2
    assert await fetch(rules, f"{site.url}/busy.mp4") == VIDEO
    site.failures = 9
    status, reason = await refused(rules, f"{site.url}/busy.mp4")
    assert (status, reason.endswith("answers 503, 3 times")) == ("unavailable", True)


async def test_nothing_is_unpacked_on_the_way(site: Site) -> None:
    assert await fetch(MediaRules([f"{site.url}/"]), f"{site.url}/bomb.mp4") == b"\x1f\x8b" + b"z" * 100


async def test_links_and_what_is_no_file_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (allowed / "link.mp4").symlink_to(outside / "secret")
    (allowed / "folder").symlink_to(outside)
    (allowed / "inner.mp4").write_bytes(VIDEO)
    (allowed / "good.mp4").symlink_to(allowed / "inner.mp4")
    rules = MediaRules([f"file://{allowed}"])
    assert await fetch(rules, f"file://{allowed}/good.mp4") == VIDEO
    for name in ("link.mp4", "folder/secret"):
        assert "outside of the folders" in (await refused(rules, f"file://{allowed}/{name}"))[1]
    assert "outside of the folders" in (await refused(rules, f"file://{outside}/secret"))[1]
    assert "not a file" in (await refused(rules, f"file://{allowed}/"))[1]
    assert (await refused(rules, f"file://{allowed}/nothing"))[0] == "unavailable"
    assert "another host" in (await refused(rules, f"file://elsewhere{allowed}/inner.mp4"))[1]
    assert (await refused(rules, f"file://{allowed}/inner.mp4", max_bytes=100))[0] == "too_large"


async def test_objects_come_from_the_buckets_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch) as store:
        client = boto3.client("s3", endpoint_url=store.endpoint, region_name="us-east-1")
        client.put_object(Bucket=BUCKET, Key="day/a b.mp4", Body=VIDEO)
        client.close()
        fetcher = MediaFetcher(
            MediaRules([f"s3://{BUCKET}/day/"]),
            FetchLimits(max_bytes=20_000),
            ObjectStores(store.endpoint, "us-east-1"),
        )
        try:
            async with fetcher.fetch(f"s3://{BUCKET}/day/a%20b.mp4") as path:
                assert await asyncio.to_thread(path.read_bytes) == VIDEO
            for uri, status in ((f"s3://{BUCKET}/night/a.mp4", "refused"), (f"s3://{BUCKET}/day/none", "unavailable")):
                with pytest.raises(MediaProblem) as problem:
                    async with fetcher.fetch(uri):
                        pass
                assert problem.value.status == status
        finally:
            await fetcher.close()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("cdn.example.com", "scheme"), ("https://a*b.example.com/", "only a host may begin"),
        ("https://a.example.com/*.mp4", "only a host may begin"), ("file://relative", "another host"),
        ("file:///no/such/folder", "no folder"), ("https://u:p@a.example.com/", "user or password"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named_with_what_is_wrong(rule: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        MediaRules([rule])
    assert (rule in str(error.value), says in str(error.value)) == (True, True), str(error.value)
