"""The gate of CI lets our worker through, and not one that does more work for every upload."""

from tests.benchmarks.gate import judge
from tests.benchmarks.uploads import sentences

UPLOADS = 20_000


def test_the_gate_refuses_a_stage_that_was_made_slower():
    slowed = judge("slowed", sentences(None)[1], UPLOADS, turns=1)
    assert not slowed.good, slowed
    assert slowed.ours_us > 100, "at least what was added was measured"
