from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from schemas.user_state import Affinity, UserState
from streams.retrieve import RetrievalSettings, Retrieved, quotas, retrieve
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, removal

SETTINGS = RetrievalSettings(k=20)


def user(
    affinities: dict[str, tuple[float, float]] | None = None, *, taste: bytes | None = None, seen: tuple[str, ...] = ()
) -> UserState:
    return UserState(
        schema_version=1,
        applied=0,
        user_id="u",
        updated_at_ms=NOW_MS,
        session_id="s",
        watches_since_list=0,
        affinities={a: Affinity(n, s, 0.0, 0.0) for a, (n, s) in (affinities or {}).items()},
        taste=direction(0.0).astype("<f2").tobytes() if taste is None else taste,
        taste_weight=1.0,
        seen=seen,
    )


def many(count: int = 300, creators: int = 100) -> Snapshot:
    """Every third video calm, the rest eerie; the angle to the taste grows with the number."""
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply(
        [
            annotation(
                f"v{i}",
                {"calm": i % 3 == 0, "eerie": i % 3 != 0},
                vector=direction(i / count),
                creator=f"c{i % creators}",
                uploaded_at_ms=NOW_MS - 1_000 + i,
            )
            for i in range(count)
        ]
    )
    return snapshot


def retrieved(snapshot: Snapshot, state: UserState | None, settings: RetrievalSettings = SETTINGS) -> Retrieved:
    return retrieve(snapshot, state, settings, NOW_MS, Random("seed"))


def ids(result: Retrieved) -> list[str]:
    return [candidate.video_id for candidate in result.candidates]


AFFINITIES = st.dictionaries(
    st.sampled_from([*CATALOGUE.ids, "retired"]),
    st.tuples(st.floats(0, 1e6), st.floats(0, 1)).map(lambda ns: (ns[0], ns[0] * ns[1])),
)


@given(AFFINITIES, st.integers(1, 200), st.integers(0, 100))
def test_quotas_fit_the_restricted_lane_and_leave_policy_and_retired_attributes_out(affinities, k: int, seed: int):
    settings = RetrievalSettings(k=k)
    places = quotas(user(affinities), CATALOGUE, settings, Random(seed))
    assert sum(places.values()) <= k * settings.restricted_share
    assert all(n > 0 for n in places.values())
    assert places.keys() <= {"calm", "eerie", "funny"}


def test_quotas_follow_shares_of_satisfaction_and_one_more_attribute_is_explored():
    places = quotas(user({"calm": (40.0, 30.0), "eerie": (20.0, 10.0)}), CATALOGUE, RetrievalSettings(), Random(1))
    # shares (30 + 10/3) / 50 and (10 + 10/3) / 50 of the 48 places that are not explored
    assert places == {"funny": 12, "calm": 32, "eerie": 13}


def test_an_attribute_of_few_watches_has_no_quota_but_may_be_explored():
    affinities = {"calm": (2.9, 2.9), "eerie": (5.0, 5.0)}
    drawn = [quotas(user(affinities), CATALOGUE, RetrievalSettings(), Random(seed)) for seed in range(50)]
    assert all("eerie" in places and len(places) == 2 for places in drawn)
    assert {frozenset(places) - {"eerie"} for places in drawn} == {frozenset({"calm"}), frozenset({"funny"})}


def test_the_session_copy_moves_shares():
    state = user({"calm": (10.0, 5.0)})
    state.affinities["eerie"] = Affinity(10.0, 5.0, 10.0, 10.0)
    places = quotas(state, CATALOGUE, RetrievalSettings(), Random(1))
    assert places["eerie"] > places["calm"]


def test_a_full_list_has_every_lane_at_its_share():
    result = retrieved(many(), user({"calm": (30.0, 30.0)}), RetrievalSettings(k=20, explore_share=0.0))
    assert result.fallback == "none"
    lanes = Counter(candidate.lane for candidate in result.candidates)
    by_attribute = Counter(c.attribute for c in result.candidates if c.lane == "restricted")
    assert len(result.candidates) == 20
    assert lanes["newest"] == 2
    assert by_attribute["calm"] == result.quotas["calm"]
    assert lanes["unrestricted"] >= 4


@given(AFFINITIES, st.integers(5, 60), st.integers(10, 60), st.integers(0, 100))
def test_lists_hold_a_fifth_unrestricted_no_video_twice_and_no_crowd_of_one_creator(
    affinities, k: int, creators: int, seen: int
):
    settings = RetrievalSettings(k=k)
    watched = tuple(f"v{i}" for i in range(seen))
    snapshot = many(creators=creators)
    result = retrieved(snapshot, user(affinities, seen=watched), settings)
    found = ids(result)
    assert len(set(found)) == len(found) == k
    assert not set(found) & set(watched)
    assert sum(c.lane == "unrestricted" for c in result.candidates) >= 0.2 * k
    rows = [int(video_id[1:]) % creators for video_id in found]
    windows = [Counter(rows[start : start + 10]) for start in range(len(rows))]
    assert all(max(window.values()) <= 2 for window in windows)


def test_creators_with_many_videos_are_capped_and_counted():
    result = retrieved(many(creators=3), user({"calm": (30.0, 30.0)}))
    assert len(result.candidates) == 6
    assert result.removed["creator_cap"] > 0


def test_one_creator_with_all_the_newest_videos_does_not_empty_a_new_users_list():
    snapshot = many()
    snapshot.apply([annotation(f"flood{i}", creator="flood", uploaded_at_ms=NOW_MS) for i in range(500)])
    result = retrieved(snapshot, None)
    assert len(result.candidates) == 20
    assert sum(video_id.startswith("flood") for video_id in ids(result)) <= 4


def test_the_restricted_lane_takes_decided_attributes_only():
    snapshot = many()
    snapshot.apply([annotation("maybe", {"calm": None}, p=0.99), annotation("sure", {"calm": True}, p=0.6)])
    result = retrieved(snapshot, user({"calm": (30.0, 30.0)}))
    restricted = {c.video_id for c in result.candidates if c.attribute == "calm"}
    assert "sure" in restricted
    assert "maybe" not in restricted


def test_among_equally_near_videos_the_more_probable_comes_first():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"p{p}", {"calm": True}, p=p / 10) for p in (3, 9, 0, 6)])
    result = retrieved(snapshot, user({"calm": (30.0, 30.0)}))
    scores = {c.video_id: c.score for c in result.candidates if c.lane == "restricted"}
    assert list(scores) == sorted(scores, key=lambda video_id: -int(video_id[1:]))


def test_unrestricted_candidates_are_the_nearest():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}", vector=direction(i / 100), uploaded_at_ms=NOW_MS - i) for i in range(100)])
    result = retrieved(snapshot, user())
    nearest = [c for c in result.candidates if c.lane == "unrestricted"]
    assert [c.score for c in nearest] == sorted((c.score for c in nearest), reverse=True)
    assert nearest[0].score == pytest.approx(1.0, abs=1e-2)
    assert {c.video_id for c in result.candidates} >= {f"v{i}" for i in range(10)}


def test_a_thin_attribute_is_filled_with_the_newest_and_says_so():
    snapshot = many()
    result = retrieved(snapshot, user({"funny": (30.0, 30.0)}))
    assert result.fallback == "newest"
    assert len(result.candidates) == 20
    assert sum(c.lane == "newest" for c in result.candidates) > 2


@pytest.mark.parametrize("state", [None, user(taste=b""), user(taste=np.ones(DIM + 1, "<f2").tobytes())])
def test_without_a_usable_taste_a_list_is_newest_and_explored(state: UserState | None):
    result = retrieved(many(), state)
    assert result.fallback == "newest"
    assert len(result.candidates) == 20
    assert {c.lane for c in result.candidates} <= {"newest", "restricted"}
    newest = [int(c.video_id[1:]) for c in result.candidates if c.lane == "newest"]
    assert newest == sorted(newest, reverse=True)


def test_an_empty_catalogue_makes_an_empty_list():
    assert retrieved(Snapshot(CATALOGUE, DIM), user({"calm": (30.0, 30.0)})).candidates == ()


@given(st.lists(st.sampled_from([False, True, None]), min_size=1, max_size=40), AFFINITIES)
def test_no_lane_serves_a_video_whose_policy_is_not_decided_absent(hostile: list[bool | None], affinities):
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}", {"calm": True, "hostile": label}) for i, label in enumerate(hostile)])
    for state in (None, user(affinities)):
        result = retrieved(snapshot, state, RetrievalSettings(k=50))
        assert set(ids(result)) == {f"v{i}" for i, label in enumerate(hostile) if label is False}
        assert result.removed.get("policy", 0) == sum(label is not False for label in hostile)


def test_taken_down_old_and_seen_videos_are_removed_with_reasons():
    snapshot = many(10)
    old = NOW_MS - SETTINGS.max_age_ms - 1
    snapshot.apply([removal("v0"), annotation("old", uploaded_at_ms=old), annotation("blind", has_vector=False)])
    result = retrieved(snapshot, user(seen=("v1", "v2")))
    assert set(ids(result)) == {f"v{i}" for i in range(3, 10)}
    assert result.removed == {"unavailable": 2, "too_old": 1, "seen": 2}


def test_the_same_seed_makes_the_same_list_and_another_explores_another_attribute():
    snapshot, state = many(), user({"calm": (5.0, 3.0)})
    lists = [retrieve(snapshot, state, SETTINGS, NOW_MS, Random(seed)) for seed in (*range(20), *range(20))]
    assert lists[:20] == lists[20:]
    assert {frozenset(made.quotas) for made in lists} == {frozenset({"calm", "eerie"}), frozenset({"calm", "funny"})}


def test_a_blend_that_leaves_too_little_unrestricted_is_refused():
    with pytest.raises(ConfigurationError, match="restricted_share"):
        RetrievalSettings(restricted_share=0.75, newest_share=0.1)
