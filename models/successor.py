"""Whether one student may follow another while everything runs: it is warm, and its vectors mean the same."""

import asyncio

import numpy as np

from models.bundle import Manifest
from models.student import Student
from schemas.errors import BundleError

SAME_SPACE = 0.98
"""Lowest cosine between two students' vectors of a text that counts as the same space; int8 of one model keeps .993."""

_WARM_UP = tuple("warm up " * length for length in (1, 4, 16, 64) for _ in range(8))


async def warm_up(student: Student) -> None:
    """Score short and long texts, so that the first real ones don't pay for what is slow only once."""
    await student.score(_WARM_UP)


async def check_space(candidate: Student, serving: Student, manifest: Manifest) -> None:
    """Check that both students put the golden texts of `manifest` at the same places, so that vectors can be mixed.

    Vectors in the table, in viewers' tastes and in new annotations are compared with each other, and nothing tells them
    apart. What the models do is compared and not what they are called: any retraining of the layers below the vector
    moves it, and a band or calibration does not.

    Raises:
        BundleError: they don't.

    """
    names = [f"{one.version.name} {one.version.version}" for one in (candidate, serving)]
    remedy = (
        "Run it beside this one: its own VIBESTREAM_TOPIC_PREFIX and VIBESTREAM_STORE_URI, the uploads replayed, then"
        " move the readers over"
    )
    if candidate.dim != serving.dim:
        raise BundleError(
            f"{names[0]} gives vectors of {candidate.dim} dimensions, {names[1]}, which serves, {serving.dim}. {remedy}"
        )
    texts = [text for text in manifest.golden.texts if text]
    ours, theirs = await asyncio.gather(candidate.score(texts), serving.score(texts))
    cosines = (ours.embedding.astype(np.float32) * theirs.embedding.astype(np.float32)).sum(axis=1)
    lowest = float(cosines.min(initial=1.0))
    if not lowest >= SAME_SPACE:
        raise BundleError(
            f"{names[0]} puts its golden texts elsewhere than {names[1]}, which serves: lowest cosine {lowest:.2f},"
            f" expected at least {SAME_SPACE}. {remedy}"
        )
