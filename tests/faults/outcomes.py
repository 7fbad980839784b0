"""What the faults did, as a table at the end of the run."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """One fault: how often it struck, what was lost and doubled of everything sent until then, and for how long.

    `recovery_s` is from the end of the fault until all that was sent had gone all the way.
    """

    fault: str
    times: int
    records: int
    lost: int
    doubled: int
    recovery_s: float


OUTCOMES = pytest.StashKey[list[Outcome]]()


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines."""
    rows = [("fault", "times", "records", "lost", "doubled", "recovery s")]
    rows += [
        (o.fault, str(o.times), str(o.records), str(o.lost), str(o.doubled), f"{o.recovery_s:.1f}") for o in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
