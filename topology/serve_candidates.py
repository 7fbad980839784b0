"""The session role's HTTP endpoint: the last list of a session, and lists for whoever can't wait for a topic."""

import asyncio
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from aiohttp import web
from aiokafka.partitioner import murmur2

from monitoring import metrics
from monitoring.serve import MATCHED, Route, read_body
from schemas.errors import InvalidRecord, StoreUnavailable, Unavailable
from schemas.requests import CandidatesRequest, OwnedPartitions, Refusal
from schemas.wire import Decoder, encode
from streams.candidates import SessionStage

Partitioner = Literal["crc32", "murmur2"]

MAX_BODY_BYTES = 128 * 1024
_WAITING = 16
_SLOW_S = 10


def partition_of(key: bytes, partitions: int, partitioner: Partitioner) -> int:
    """Return where producers put a key: crc32 is librdkafka's default, murmur2 that of the Java client."""
    if partitioner == "crc32":
        return zlib.crc32(key) % partitions
    return (murmur2(key) & 0x7FFF_FFFF) % partitions


class CandidatesEndpoint:
    """Routes over a session stage, for the users of the partitions that this worker reads.

    A worker does not know the others' addresses: for a user of another partition it answers 421 with the number of that
    partition, and `GET /partitions` tells whoever routes which worker reads it.

    One request at a time is in the stage's queue, so a run of watches waits for one list at most; 16 requests wait
    here, and more are refused with 503.
    """

    def __init__(self, stage: SessionStage, partitions: int, partitioner: Partitioner) -> None:
        """`partitions` is how many watch-events has."""
        self._stage = stage
        self._partitions = partitions
        self._partitioner: Partitioner = partitioner
        self._owned: frozenset[int] = frozenset()
        self._requests = Decoder(CandidatesRequest)
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def routes(self) -> Mapping[str, Route]:
        """What to serve, by method and path."""
        return {
            "GET /sessions/{session_id}/candidates": self._session,
            "POST /candidates": self._candidates,
            "GET /partitions": self._read,
        }

    def forget(self, partitions: Iterable[int]) -> None:
        """Answer no longer for partitions that were taken from this worker, or are given to it anew."""
        gone = list(partitions)
        self._owned -= set(gone)
        self._stage.latest.forget(gone)

    def begin(self, partitions: Iterable[int]) -> None:
        """Answer for partitions that were given to this worker."""
        self._owned |= set(partitions)

    async def close(self) -> None:
        """Refuse from now on: the stage ends."""
        self._closed = True

    async def _read(self, _: web.BaseRequest) -> web.Response:
        return _json(200, OwnedPartitions(tuple(sorted(self._owned)), self._partitions, self._partitioner))

    async def _session(self, request: web.BaseRequest) -> web.Response:
        found = self._stage.latest.get(request[MATCHED]["session_id"])
        if found is None:
            return _refused(404, "no list of this session was made here, or it was forgotten; the topic has them all")
        return web.Response(body=found, content_type="application/json")

    async def _candidates(self, request: web.BaseRequest) -> web.Response:
        started = time.perf_counter()
        response = await self._answered(request)
        metrics.HTTP_LISTS.labels(str(response.status)).inc()
        if response.status == 200:
            metrics.HTTP_LIST_SECONDS.observe(time.perf_counter() - started)
        return response

    async def _answered(self, request: web.BaseRequest) -> web.Response:
        body = await read_body(request, MAX_BODY_BYTES)
        if body is None:
            return _refused(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        try:
            asked = self._requests.decode(body)
            partition = None if asked.user_id is None else self._partition(asked.user_id)
            if partition is not None and partition not in self._owned:
                return _refused(421, "another worker reads this user's partition; see GET /partitions", partition)
            return await self._made(asked, partition)
        except InvalidRecord as error:
            return _refused(400, str(error))

    async def _made(self, asked: CandidatesRequest, partition: int | None) -> web.Response:
        if self._waiting >= _WAITING:
            return _refused(503, f"{self._waiting} requests wait already", retry_s=1)
        self._waiting += 1
        try:
            async with self._turn:
                if self._closed:
                    return _refused(503, "this worker stops", retry_s=_SLOW_S)
                made = await asyncio.wrap_future(self._stage.answer(asked, partition))
        except StoreUnavailable:
            return _refused(503, "the attribute store does not answer", retry_s=1)
        except Unavailable:
            return _refused(503, "the states of this partition's users are being recovered", partition, retry_s=1)
        finally:
            self._waiting -= 1
        return _json(200, made)

    def _partition(self, user_id: str) -> int:
        return partition_of(user_id.encode(), self._partitions, self._partitioner)


def _refused(status: int, reason: str, partition: int | None = None, retry_s: int | None = None) -> web.Response:
    headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
    return _json(status, Refusal(reason, partition), headers)


def _json(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=encode(body), content_type="application/json", headers=headers)
