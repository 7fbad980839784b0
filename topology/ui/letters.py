"""Dead letters: which, why, what is in them; to be replayed or dropped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

from aiohttp import web
from jinja2 import Environment

from schemas.dead_letter import DeadLetter
from schemas.errors import ErrorKind
from topology.dead_letters import (
    MAX_REPLAYS,
    Filter,
    describe,
    drop,
    find,
    parse_time,
    read_letters,
    replay,
    replays,
    select,
)
from topology.producer import ConfirmedProducer
from topology.settings import ALL_ROLES, Settings

_SHOWN = 200
_Act = Callable[[Settings, ConfirmedProducer, Sequence[DeadLetter]], None]


class LetterPages:
    """Views of the dead letters, and the two things that can be done about them."""

    def __init__(self, settings: Settings, templates: Environment, form_key: str) -> None:
        self._settings = settings
        self._list = templates.get_template("letters.html")
        self._one = templates.get_template("letter.html")
        self._form_key = form_key

    async def index(self, request: web.Request) -> web.Response:
        """Show those that a filter takes, the newest failure first."""
        asked = request.query
        wanted = Filter(
            kind=asked.get("kind") or None,
            stage=asked.get("stage") or None,
            since_ms=parse_time(asked["since"]) if asked.get("since") else None,
            handled="all" in asked,
        )
        found = select((await asyncio.to_thread(read_letters, self._settings, 0.0)).values(), wanted)[::-1]
        text = self._list.render(
            view="letters",
            found=found[:_SHOWN],
            count=len(found),
            kinds=Counter(letter.kind for letter in found).most_common(),
            asked=asked,
            all_kinds=get_args(ErrorKind),
            all_stages=ALL_ROLES,
            form_key=self._form_key,
            done=asked.get("done", ""),
        )
        return web.Response(text=text, content_type="text/html")

    async def one(self, request: web.Request) -> web.Response:
        """Show everything about a letter."""
        letters = await asyncio.to_thread(read_letters, self._settings, 0.0)
        letter = find(letters, [request.query.get("origin", "")])[0]
        text = self._one.render(view="letters", letter=letter, described=describe(letter), form_key=self._form_key)
        return web.Response(text=text, content_type="text/html")

    async def replay(self, request: web.Request) -> web.Response:
        """Send the chosen records to their topics again, except those that came back too often."""

        def act(settings: Settings, producer: ConfirmedProducer, letters: Sequence[DeadLetter]) -> None:
            replay(settings, producer, [letter for letter in letters if replays(letter) < MAX_REPLAYS])

        return await self._act(request, act, "sent again")

    async def drop(self, request: web.Request) -> web.Response:
        """Mark the chosen letters as handled."""
        return await self._act(request, drop, "dropped")

    async def _act(self, request: web.Request, act: _Act, done: str) -> web.Response:
        origins = [str(origin) for origin in (await request.post()).getall("origin", [])]

        def run() -> int:
            letters = find(read_letters(self._settings, 0.0), origins)
            producer = ConfirmedProducer(self._settings)
            try:
                act(self._settings, producer, letters)
            finally:
                producer.close()
            return len(letters)

        count = await asyncio.to_thread(run) if origins else 0
        raise web.HTTPSeeOther(f"/letters?done={count}+{done.replace(' ', '+')}")
