"""A worker whose stage copies uploads to annotations as they are: the consuming piece alone.

With the argument "stuck" it never gets done with its first run; with "runs" it copies how many records a run has.
"""

import asyncio
import logging
import os
import sys

from streams.delivery import Delivery
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage
from topology.agents import stage_app
from topology.producer import ConfirmedProducer
from topology.settings import Settings, read_settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, VIDEO_UPLOADS
from topology.worker import RoleApp, run_worker


class CopyStage(Stage[bytes]):
    name = "copy"
    needs_of_last = "nothing"  # as annotate, which delivers ahead

    def __init__(self, target: str, dead_letters: str) -> None:
        super().__init__(dead_letters)
        self._target = target

    def decode(self, record: Record) -> bytes:
        return record.value or b""

    async def process(self, items: list[Item[bytes]]) -> Effects:
        if "stuck" in sys.argv:
            logging.warning("in hand for ever")
            await asyncio.Event().wait()
        if "runs" in sys.argv:
            key = items[0].event
            return Effects(messages=[Message(self._target, key, b"%s and %d more" % (key, len(items) - 1))])
        return Effects(messages=[Message(self._target, item.event, item.event) for item in items])


def build(settings: Settings) -> RoleApp:
    producer = ConfirmedProducer(settings)
    stage = CopyStage(settings.topic(ANNOTATIONS), settings.topic(DEAD_LETTERS))
    app = stage_app(settings, "annotate", settings.topic(VIDEO_UPLOADS), stage, Delivery(stage, producer.produce))

    async def close() -> None:
        producer.close()

    return RoleApp(app, close)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    settings = read_settings(os.environ)
    run_worker(settings, lambda: build(settings))
