"""Students: which serves, what each can do, and letting another one serve."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from jinja2 import Environment

from models.bundle import Manifest, load_manifest
from models.registry import Registry
from schemas.errors import BundleError
from topology.bundle import bundle_path
from topology.settings import Settings
from topology.students import check_loads, check_promotion


@dataclass(frozen=True)
class _Row:
    version: int
    role: str
    manifest: Manifest | None
    damage: str = ""


class StudentPages:
    """Views of the registry, or of the one bundle there is; promotes and rolls back."""

    def __init__(self, settings: Settings, templates: Environment, form_key: str) -> None:
        self._settings = settings
        self._page = templates.get_template("students.html")
        self._form_key = form_key

    async def index(self, request: web.Request) -> web.Response:
        """Show all versions, and the bands of the one that serves."""
        rows, serving = await asyncio.to_thread(self._rows)
        text = self._page.render(
            view="students",
            rows=rows,
            serving=serving,
            registry=self._settings.students,
            form_key=self._form_key,
            done=request.query.get("done", ""),
        )
        return web.Response(text=text, content_type="text/html")

    async def promote(self, request: web.Request) -> web.Response:
        """Let a version serve, if it may."""
        registry, version = self._registry(), str((await request.post()).get("version", ""))
        if not version.isdecimal():
            raise web.HTTPBadRequest(text=f"{version!r} is no version")
        await check_promotion(self._settings, registry, int(version))
        registry.promote(int(version))
        raise web.HTTPSeeOther(f"/students?done=version+{version}+serves+now")

    async def rollback(self, _: web.Request) -> web.Response:
        """Let the version before serve again."""
        registry = self._registry()
        version = registry.previous()
        await asyncio.to_thread(check_loads, self._settings, registry, version)
        registry.rollback()
        raise web.HTTPSeeOther(f"/students?done=version+{version}+serves+again")

    def _registry(self) -> Registry:
        if not self._settings.students:
            raise web.HTTPBadRequest(text="VIBESTREAM_STUDENTS names no registry, so there is nothing to swap")
        return Registry(Path(self._settings.students))

    def _rows(self) -> tuple[list[_Row], Manifest | None]:
        if not self._settings.students:
            manifest = load_manifest(bundle_path(self._settings))
            return [_Row(manifest.version, "serving", manifest)], manifest
        registry = self._registry()
        history, shadow = registry.history(), registry.shadow()
        rows = [_row(registry, version, history, shadow) for version in reversed(registry.versions())]
        return rows, next((row.manifest for row in rows if row.role == "serving"), None)


def _row(registry: Registry, version: int, history: tuple[int, ...], shadow: int | None) -> _Row:
    serves = history[:1] == (version,)
    role = "serving" if serves else "shadow" if version == shadow else "before" if version in history else ""
    try:
        return _Row(version, role, registry.manifest(version))
    except BundleError as error:
        return _Row(version, role, None, str(error))
