from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.duration_quantiles import (
    LEVELS,
    DurationGroup,
    DurationPercentile,
    DurationQuantiles,
    load_duration_percentile,
)
from models.duration_quantiles_fit import GROUPS, MIN_WATCHES, DurationQuantilesFit
from schemas.errors import ConfigurationError
from tests.fakes.videos import watch


def table(*groups: tuple[int, int]) -> DurationQuantiles:
    """Groups by where they begin and the longest play in them; plays are spread evenly."""
    return DurationQuantiles(
        schema_version=1,
        groups=tuple(
            DurationGroup(from_ms=start, watches=100, watch_ms=tuple(longest * i // 100 for i in range(LEVELS)))
            for start, longest in groups
        ),
    )


SHORT_AND_LONG = DurationPercentile(table((10_000, 10_000), (60_000, 100_000)))


@pytest.mark.parametrize(
    ("watch_ms", "duration_ms", "expected"),
    [
        (8_000, 12_000, 0.8),
        (8_000, 60_000, 0.08),
        (8_050, 59_999, 0.805),
        (50_000, 3_600_000, 0.5),
        (10_000, 12_000, 1.0),
        (500_000, 60_000, 1.0),
        (8_000, 9_000, 0.8),
        (8_000, 0, 0.8),
        (4_999, 60_000, 0.0),
    ],
)
def test_a_play_counts_by_its_rank_among_videos_as_long(watch_ms: int, duration_ms: int, expected: float):
    assert SHORT_AND_LONG(watch(watch_ms=watch_ms, duration_ms=duration_ms)) == pytest.approx(expected)


def test_what_the_user_said_goes_before_how_long_it_played():
    assert SHORT_AND_LONG(watch(watch_ms=100, duration_ms=60_000, liked=True)) == 1.0
    assert SHORT_AND_LONG(watch(watch_ms=99_000, duration_ms=60_000, disliked=True)) == 0.0


@given(st.integers(5_000, 200_000), st.integers(0, 200_000), st.integers(10_000, 100_000))
def test_playing_longer_never_counts_less(watch_ms: int, more_ms: int, duration_ms: int):
    short = SHORT_AND_LONG(watch(watch_ms=watch_ms, duration_ms=duration_ms))
    long = SHORT_AND_LONG(watch(watch_ms=watch_ms + more_ms, duration_ms=duration_ms))
    assert 0.0 <= short <= long <= 1.0


def test_a_table_that_was_written_is_the_same_labeler_and_another_is_not(tmp_path: Path):
    path = tmp_path / "table.json"
    path.write_bytes(msgspec.json.encode(table((10_000, 10_000), (60_000, 100_000))))
    assert load_duration_percentile(path).labeler == SHORT_AND_LONG.labeler
    assert DurationPercentile(table((10_000, 10_000))).labeler != SHORT_AND_LONG.labeler


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"schema_version":2,"groups":[]}',
        b'{"schema_version":1,"groups":[]}',
        b'{"schema_version":1,"groups":[{"from_ms":1,"watches":1,"watch_ms":[1]}]}',
        msgspec.json.encode(
            {"schema_version": 1, "groups": [{"from_ms": 1, "watches": 1, "watch_ms": [*range(LEVELS)][::-1]}]}
        ),
        msgspec.json.encode(
            {"schema_version": 1, "groups": 2 * [{"from_ms": 1, "watches": 1, "watch_ms": LEVELS * [1]}]}
        ),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"table\.json.*satisfaction fit"):
        load_duration_percentile(path)


def test_a_missing_table_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load_duration_percentile(tmp_path / "none.json")


def fitted(durations: list[int], watched: list[int]) -> DurationQuantiles:
    fit = DurationQuantilesFit()
    for duration_ms, watch_ms in zip(durations, watched, strict=True):
        fit.add(watch(watch_ms=watch_ms, duration_ms=duration_ms))
    return fit.table()


def test_groups_are_equally_frequent_and_their_quantiles_those_of_the_watches_in_them():
    rng = np.random.default_rng(0)
    durations = np.exp(rng.normal(10.3, 0.9, 20_000)).astype(int) + 1_000
    watched = (durations * rng.beta(0.6, 1.0, 20_000) * 1.2).astype(int)
    made = fitted(durations.tolist(), watched.tolist())
    assert len(made.groups) == GROUPS
    assert sum(group.watches for group in made.groups) == 20_000
    ends = [group.from_ms for group in made.groups[1:]] + [2**31]
    for group, end in zip(made.groups, ends, strict=True):
        inside = np.sort(watched[(durations >= group.from_ms) & (durations < end)])
        assert group.watches == len(inside)
        assert 0.5 < group.watches * GROUPS / 20_000 < 1.6
        ranks = np.searchsorted(inside, group.watch_ms, side="right") / len(inside)
        np.testing.assert_allclose(ranks, np.linspace(0, 1, LEVELS), atol=0.02)


def test_one_duration_that_all_videos_have_is_one_group():
    made = fitted(MIN_WATCHES * [15_000], [*range(MIN_WATCHES)])
    assert [group.from_ms for group in made.groups] == [15_000]


def test_watches_of_unknown_duration_are_not_counted_and_too_few_make_no_table():
    fit = DurationQuantilesFit()
    for number in range(2 * MIN_WATCHES):
        fit.add(watch(watch_ms=number, duration_ms=0 if number % 2 else 20_000))
    assert fit.watches == MIN_WATCHES
    with pytest.raises(ConfigurationError, match=str(MIN_WATCHES)):
        DurationQuantilesFit().table()
