"""One session: the user's state, the list, the lanes that filled it, and what was removed."""

import asyncio
from collections import Counter
from itertools import groupby

from aiohttp import web
from jinja2 import Environment

from schemas.candidates import SessionCandidates
from schemas.user_state import UserState
from topology.explain import FALLBACKS, find_list
from topology.settings import Settings
from topology.ui.recent import Recent

_SHOWN = 50


class SessionPages:
    """Views of the latest lists, and of any session's last one."""

    def __init__(self, settings: Settings, templates: Environment, recent: Recent) -> None:
        self._settings = settings
        self._list = templates.get_template("sessions.html")
        self._one = templates.get_template("session.html")
        self._recent = recent

    async def index(self, request: web.Request) -> web.Response:
        """Show the latest, or those of a session or user."""
        words = request.query.get("q", "")
        found = await asyncio.to_thread(self._recent.sessions, _SHOWN, words)
        shown = [(made, Counter(one.lane for one in made.candidates).most_common()) for made in found]
        text = self._list.render(view="sessions", words=words, found=shown, most=_SHOWN)
        return web.Response(text=text, content_type="text/html")

    async def one(self, request: web.Request) -> web.Response:
        """Show a session's last list; one that is not among the latest is looked for in its topic."""
        session_id = request.query.get("id", "")
        made = self._recent.session(session_id) or await asyncio.to_thread(find_list, self._settings, session_id)
        if made is None:
            raise web.HTTPNotFound(text=f"session {session_id!r} has no list in session-candidates")
        state = self._recent.state(made.user_id)
        text = self._one.render(
            view="sessions",
            made=made,
            state=state,
            affinities=_affinities(state),
            lanes=_lanes(made),
            fallback=FALLBACKS[made.fallback],
            titles={one.video_id: self._title(one.video_id) for one in made.candidates},
        )
        return web.Response(text=text, content_type="text/html")

    def _title(self, video_id: str) -> str:
        upload = self._recent.upload(video_id)
        return "" if upload is None else upload.title


def _affinities(state: UserState | None) -> list[tuple[str, float, float]]:
    """Return (attribute, share of satisfaction in it, that of this session), the largest first."""
    if state is None:
        return []
    total = sum(one.s for one in state.affinities.values()) or 1.0
    now = sum(one.session_s for one in state.affinities.values()) or 1.0
    found = [(name, one.s / total, one.session_s / now) for name, one in state.affinities.items()]
    return sorted(found, key=lambda item: -item[1])


def _lanes(made: SessionCandidates) -> list[tuple[str, int]]:
    """Return (lane, and attribute where it has one; places), in the order in which they first come in the list."""
    names = [one.lane if one.attribute is None else f"{one.lane}: {one.attribute}" for one in made.candidates]
    return [(name, len(list(same))) for name, same in groupby(sorted(names, key=names.index))]
