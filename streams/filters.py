"""What keeps a video from a place as a list is filled; what keeps it out of all lanes is in the retriever."""

from typing import Any

import numpy as np

from streams.blend import CREATOR_CAP, NEAR_DUPLICATE

REASONS = {CREATOR_CAP: "creator_cap", NEAR_DUPLICATE: "near_duplicate"}
"""creator_cap: too many of one creator in a window of places; near_duplicate: much like a video that is placed."""


def refusals(refused: Any) -> dict[str, int]:
    """Return how many videos each reason kept out; `refused` has a reason's number, or 0, for each."""
    counts = np.bincount(refused, minlength=max(REASONS) + 1)
    return {reason: int(counts[number]) for number, reason in REASONS.items() if counts[number]}
