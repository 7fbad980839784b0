"""The Files API of the fake Gemini: resumable uploads, processing that takes a while, deletion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass
class GeminiFiles:
    """What was uploaded and deleted; a file is processed for `polls` polls and then is what `ends` says."""

    content: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    polls: int = 2
    ends: str = "ACTIVE"
    asked: dict[str, int] = field(default_factory=dict)

    def now(self, name: str, url: str) -> Json:
        self.asked[name] = self.asked.get(name, -1) + 1
        state = "PROCESSING" if self.asked[name] < self.polls else self.ends
        return {"name": f"files/{name}", "uri": f"{url}/v1beta/files/{name}", "state": state, "mimeType": "video/mp4"}


def add_files(app: web.Application, files: GeminiFiles, url: Callable[[], str]) -> None:
    async def begin(request: web.Request) -> web.Response:
        assert request.headers["X-Goog-Upload-Command"] == "start", dict(request.headers)
        name = f"f{len(files.content)}"
        files.content[name] = b""
        return web.json_response({}, headers={"X-Goog-Upload-URL": f"{url()}/upload/{name}"})

    async def upload(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        files.content[name] += await request.read()
        if "finalize" not in request.headers["X-Goog-Upload-Command"]:
            return web.Response(headers={"X-Goog-Upload-Status": "active"})
        return web.json_response({"file": files.now(name, url())}, headers={"X-Goog-Upload-Status": "final"})

    async def get(request: web.Request) -> web.Response:
        return web.json_response(files.now(request.match_info["name"], url()))

    async def delete(request: web.Request) -> web.Response:
        files.deleted.append(request.match_info["name"])
        return web.json_response({})

    app.router.add_post("/upload/v1beta/files", begin)
    app.router.add_post("/upload/{name}", upload)
    app.router.add_get("/v1beta/files/{name}", get)
    app.router.add_delete("/v1beta/files/{name}", delete)
