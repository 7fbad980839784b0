"""A Gemini that answers over HTTP on this machine: it reads the fenced videos and decides by simple rules.

A request can be made to fail: by a marker in the text of a video (`[[safety]]`), or by `server.script`, whose modes are
used up one a request before any marker counts. A marker with a number (`[[bad_json:1]]`) fails that often only. Without
either, `server.faults` fails shares of the requests. It keeps a ledger of its own.

`python -m tests.fakes.gemini_server` serves from a process of its own: it prints its address, answers GET /ledger with
its accounts, and takes faults at POST /faults.
"""

import argparse
import asyncio
import html
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.gemini_files import GeminiFiles, add_files
from tests.fakes.gemini_ledger import Faults, Ledger
from tests.fakes.in_thread import in_thread

_VIDEO = re.compile(
    r'<video-(?P<code>\w+) id="(?P<id>[^"]+)" asked="(?P<asked>[^"]*)">\n(?P<text>.*?)\n</video-(?P=code)>', re.S
)
_MARKER = re.compile(r"\[\[(\w+)(?::(\d+))?\]\]")

Json = dict[str, Any]


@dataclass
class GeminiServer:
    """What the server was asked, and how it shall fail next."""

    url: str = ""
    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)
    script: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    failed: dict[str, int] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    faults: Faults = field(default_factory=Faults)
    delay_s: float = 0.0
    stall_s: float = 5.0
    remembers: bool = True
    files: GeminiFiles = field(default_factory=GeminiFiles)
    sees: tuple[str, ...] = ()
    caches: bool = False

    def messages(self) -> list[str]:
        """The user message of every request."""
        return [request["contents"][0]["parts"][0]["text"] for request in self.requests]

    def mode(self, message: str) -> str:
        if self.script:
            return self.script.pop(0)
        for name, times in _MARKER.findall(message):
            self.failed[name] = self.failed.get(name, 0) + 1
            if not times or self.failed[name] <= int(times):
                return name
        return self.faults.next()


@asynccontextmanager
async def gemini_server(server: GeminiServer | None = None) -> AsyncIterator[GeminiServer]:
    """Serve on a free port of 127.0.0.1."""
    server = server or GeminiServer()

    async def generate(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if server.remembers:
            server.requests.append(body)
            server.headers.append(dict(request.headers))
        if request.transport is not None:
            server.peers.add(request.transport.get_extra_info("peername")[1])
        server.running += 1
        server.most_running = max(server.most_running, server.running)
        try:
            return await _respond(server, request, body)
        finally:
            server.running -= 1

    app = web.Application(client_max_size=2**26)

    async def ledger(_: web.Request) -> web.Response:
        accounts = {name: value for name, value in vars(server.ledger).items() if not name.startswith("_")}
        return web.json_response(accounts)

    async def faults(request: web.Request) -> web.Response:
        server.faults = Faults(await request.json())
        return web.Response()

    add_files(app, server.files, lambda: server.url)
    app.router.add_post("/v1beta/models/{call:.+}", generate)
    app.router.add_post("/v1beta1/projects/{call:.+}", generate)
    app.router.add_get("/ledger", ledger)
    app.router.add_post("/faults", faults)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        server.released.set()
        await runner.cleanup()


def gemini_in_thread() -> AbstractContextManager[GeminiServer]:
    """Serve in a thread of its own, for callers that block."""
    return in_thread(gemini_server)


async def _respond(server: GeminiServer, request: web.Request, body: Json) -> web.StreamResponse:
    message = body["contents"][0]["parts"][0]["text"]
    prompt = (len(message) + len(json.dumps(body.get("systemInstruction", "")))) // 4
    mode = server.mode(message)
    if not server.ledger.arrived(prompt):
        mode = "rate_limit"
    server.ledger.outcomes[mode] += 1
    if server.delay_s:
        await asyncio.sleep(server.delay_s)
    if mode == "slow":
        await server.released.wait()
        mode = "ok"
    if mode in _ERRORS:
        return _ERRORS[mode]()
    lost = mode in ("drop", "stall")
    seen = server.sees if len(body["contents"][0]["parts"]) > 1 else ()
    reply = _reply(message, "ok" if lost else mode, prompt, seen)
    usage = reply["usageMetadata"]
    if server.caches:  # the beginning that all requests share
        usage["cachedContentTokenCount"] = len(json.dumps(body["systemInstruction"])) // 4
    thoughts, cached = usage["thoughtsTokenCount"], usage.get("cachedContentTokenCount", 0)
    server.ledger.bill(usage["promptTokenCount"], usage["candidatesTokenCount"] + thoughts, cached)
    if mode == "stall":
        await asyncio.sleep(server.stall_s)
    if lost:
        if request.transport is not None:  # else the client has given up already
            request.transport.close()
        return web.Response()
    if mode == "ok":
        server.ledger.answered.update(match["text"] for match in _VIDEO.finditer(message))
    return web.json_response(reply)


def _error(code: int, status: str, message: str, *details: Json) -> web.Response:
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return web.json_response({"error": error}, status=code)


def _quota(quota: str, delay: str) -> web.Response:
    return _error(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    )


_ERRORS: dict[str, Callable[[], web.Response]] = {
    "busy": lambda: _quota("GenerateRequestsPerMinutePerProjectPerModel", "0.1s"),
    "rate_limit": lambda: _quota("GenerateRequestsPerMinutePerProjectPerModel", "2.5s"),
    "daily_quota": lambda: _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "35640s"),
    "daily_quota_ends": lambda: _quota("GenerateRequestsPerDayPerProjectPerModel", "0.5s"),
    "bad_request": lambda: _error(400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
    "bad_key": lambda: _error(400, "INVALID_ARGUMENT", "API key not valid", {"reason": "API_KEY_INVALID"}),
    "no_billing": lambda: _error(400, "FAILED_PRECONDITION", "User location is not supported"),
    "unauthenticated": lambda: _error(401, "UNAUTHENTICATED", "Request had invalid credentials"),
    "forbidden": lambda: _error(403, "PERMISSION_DENIED", "The API has not been used in this project"),
    "not_found": lambda: _error(404, "NOT_FOUND", "models/x is not found"),
    "overloaded": lambda: _error(503, "UNAVAILABLE", "The model is overloaded"),
    "gateway": lambda: web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html"),
    "html": lambda: web.Response(text="<html>Sign in to the network</html>", content_type="text/html"),
    "broken_body": lambda: web.Response(text='{"candidates": [', content_type="application/json"),
    "list_body": lambda: web.json_response([1]),
    "number_body": lambda: web.json_response(5),
    "other_json": lambda: web.json_response({"service": "coffee"}),
    "wrong_types": lambda: web.json_response({"candidates": 7}),
}


def _reply(message: str, mode: str, prompt: int, seen: tuple[str, ...] = ()) -> Json:
    videos = [match.groupdict() for match in _VIDEO.finditer(message)]
    text = json.dumps({"answers": [_answer(video, seen) for video in videos]})
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": len(text) // 4, "thoughtsTokenCount": 3}
    reply: Json = {"usageMetadata": usage, "modelVersion": "fake", "responseId": "r"}
    if mode == "blocked":
        return reply | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    if mode == "empty":
        return reply | {"candidates": []}
    if mode in ("safety", "recitation", "other"):
        return reply | {"candidates": [{"finishReason": mode.upper(), "index": 0}]}
    finish = "STOP"
    if mode == "cut_off":
        text, finish = text[: len(text) // 2], "MAX_TOKENS"
    elif mode != "ok":
        text = _spoil(mode, videos)
    return reply | {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}]}


def _spoil(mode: str, videos: list[dict[str, str]]) -> str:
    """An answer of the right shape or none, that nobody should believe."""
    answers = [_answer(video) for video in videos]
    spoilt = [answer for answer, video in zip(answers, videos, strict=True) if f"[[{mode}" in video["text"]] or answers
    match mode:
        case "bad_json":
            return '```json\n{"answers": [tru'
        case "off_enum":
            spoilt[0]["verdicts"][0]["verdict"] = "definitely"
        case "no_id":
            answers = [answer for answer in answers if answer not in spoilt]
        case "wrong_id":
            spoilt[0]["video_id"] = "somebody-else"
        case "twice":
            answers.append(spoilt[0])
        case "no_attribute":
            spoilt[0]["verdicts"].pop()
        case "extra":
            answers.append({"video_id": "uninvited", "verdicts": []})
            spoilt[0]["verdicts"].append({"attribute": "uninvited", "evidence": "", "verdict": "yes"})
        case "invented_evidence":
            spoilt[0]["verdicts"][0]["evidence"] = "words that nobody said"
        case _:
            raise AssertionError(f"the fake has no mode {mode!r}")
    return json.dumps({"answers": answers})


def _answer(video: dict[str, str], seen: tuple[str, ...] = ()) -> Json:
    """Yes where the attribute's id stands in the text, unclear where it stands with a question mark, else no.

    What is `seen` in the video that is attached is a yes, too.
    """
    text = html.unescape(video["text"])
    verdicts: list[Json] = []
    for attribute in video["asked"].split():
        found = attribute in text
        verdict = "unclear" if f"{attribute}?" in text else "yes" if found else "no"
        evidence = attribute if found else ""
        if attribute in seen:
            verdict, evidence = "yes", "[0:01] it can be seen"
        verdicts.append({"attribute": attribute, "evidence": evidence, "verdict": verdict})
    speaks = "O great machine" in text
    return {"video_id": video["id"], "speaks_to_rater": speaks, "verdicts": verdicts}


def main() -> None:
    """Serve until this process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", default="{}", help="shares by mode, JSON")
    parser.add_argument("--requests-per-minute", type=float, default=float("inf"))
    parser.add_argument("--tokens-per-minute", type=float, default=float("inf"))
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--stall", type=float, default=5.0)
    options = parser.parse_args()
    ledger = Ledger(requests_per_minute=options.requests_per_minute, tokens_per_minute=options.tokens_per_minute)
    server = GeminiServer(
        ledger=ledger, faults=Faults(json.loads(options.faults)), delay_s=options.delay, stall_s=options.stall,
        remembers=False,
    )  # fmt: skip

    async def serve() -> None:
        async with gemini_server(server):
            print(server.url, flush=True)
            await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
