"""Results on golden sets: what `vibestream evaluate --json` wrote, and the report beside it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from jinja2 import Environment

from topology.settings import Settings
from topology.ui.access import foreign

_MOST_BYTES = 32 * 2**20


class GoldenPages:
    """Views of the evaluations in the folder of the settings."""

    def __init__(self, settings: Settings, templates: Environment) -> None:
        self._folder = Path(settings.reports)
        self._page = templates.get_template("golden.html")

    async def index(self, request: web.Request) -> web.Response:
        """Show every evaluation in a line, and one of them whole."""
        found = await asyncio.to_thread(self._read)
        chosen = request.query.get("name") or next(iter(found), "")
        if found and chosen not in found:
            raise web.HTTPNotFound(text=f"no evaluation {chosen!r} in {self._folder}")
        text = self._page.render(
            view="golden",
            folder=self._folder,
            found=found,
            name=chosen,
            chosen=found.get(chosen),
            report=self._report(chosen).is_file() if chosen else False,
        )
        return web.Response(text=text, content_type="text/html")

    async def report(self, request: web.Request) -> web.Response:
        """Return the HTML report of an evaluation."""
        name = request.query.get("name", "")
        if name not in await asyncio.to_thread(self._read) or not self._report(name).is_file():
            raise web.HTTPNotFound(text=f"no report {name!r} in {self._folder}")
        return foreign(await asyncio.to_thread(self._report(name).read_bytes))

    def _report(self, name: str) -> Path:
        return self._folder / f"{name}.html"

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the evaluations by name, the newest first; other files are left out."""
        if not self._folder.is_dir():
            return {}
        files = sorted(self._folder.glob("*.json"), key=lambda path: -path.stat().st_mtime)
        found: dict[str, dict[str, Any]] = {}
        for path in files:
            try:
                content: Any = msgspec.json.decode(path.read_bytes()) if path.stat().st_size < _MOST_BYTES else None
            except (OSError, msgspec.DecodeError):
                continue
            if isinstance(content, dict) and "macro_f1" in content and "attributes" in content:
                found[path.stem] = content
        return found
