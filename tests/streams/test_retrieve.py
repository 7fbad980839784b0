from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from schemas.errors import ConfigurationError
from schemas.user_state import Affinity, UserState, watched_ids
from streams.crowd import Crowd, Watched
from streams.policy import CrowdSettings
from streams.quotas import prior, quotas
from streams.retrieve import RetrievalSettings, Retrieved, retrieve
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, removal

# These videos lie on an arc: to the filters that look at vectors they are much the same.
PLAIN = RetrievalSettings(near_duplicate=1.0, diversity=1.0, calibration=0.0)
SETTINGS = replace(PLAIN, k=20)


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
        watched=watched_ids(seen),
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


@settings(deadline=None)  # the first call in a process may compile
@given(AFFINITIES, st.integers(1, 200), st.integers(0, 100))
def test_quotas_fit_the_restricted_lane_and_leave_policy_and_retired_attributes_out(affinities, k: int, seed: int):
    settings = RetrievalSettings(k=k)
    places = quotas(user(affinities), CATALOGUE, settings, Random(seed))
    assert sum(places.values()) <= k * settings.restricted_share
    assert all(n > 0 for n in places.values())
    assert places.keys() <= {"calm", "eerie", "funny"}


def test_quotas_follow_shares_of_satisfaction_and_one_more_attribute_is_explored():
    places = quotas(
        user({"calm": (40.0, 30.0), "eerie": (20.0, 10.0)}), CATALOGUE, RetrievalSettings(explore_share=0.2), Random(1)
    )
    # shares (30 + 10/3) / 50 and (10 + 10/3) / 50 of the 48 places that are not explored
    assert places == {"funny": 12, "calm": 32, "eerie": 13}


def test_an_attribute_of_few_watches_has_no_quota_but_may_be_explored():
    affinities = {"calm": (0.4, 0.4), "eerie": (5.0, 5.0)}
    drawn = [quotas(user(affinities), CATALOGUE, RetrievalSettings(), Random(seed)) for seed in range(50)]
    assert all("eerie" in places and len(places) == 2 for places in drawn)
    assert {frozenset(places) - {"eerie"} for places in drawn} == {frozenset({"calm"}), frozenset({"funny"})}


def test_the_session_copy_moves_shares():
    state = user({"calm": (10.0, 5.0)})
    state.affinities["eerie"] = Affinity(10.0, 5.0, 10.0, 10.0)
    places = quotas(state, CATALOGUE, RetrievalSettings(), Random(1))
    assert places["eerie"] > places["calm"]


def test_a_full_list_has_every_lane_at_its_share():
    result = retrieved(many(), user({"calm": (30.0, 30.0)}), replace(SETTINGS, explore_share=0.0))
    assert result.fallback == "none"
    lanes = Counter(candidate.lane for candidate in result.candidates)
    by_attribute = Counter(c.attribute for c in result.candidates if c.lane == "restricted")
    assert len(result.candidates) == 20
    assert lanes["newest"] == 2
    assert by_attribute["calm"] == result.quotas["calm"]
    assert lanes["unrestricted"] >= 4


@settings(deadline=None)  # the first call in a process may compile
@given(AFFINITIES, st.integers(5, 60), st.integers(10, 60), st.integers(0, 100))
def test_lists_hold_a_fifth_unrestricted_no_video_twice_and_no_crowd_of_one_creator(
    affinities, k: int, creators: int, seen: int
):
    settings = replace(PLAIN, k=k)
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


def test_a_thin_attribute_is_filled_with_the_lists_other_attributes_and_says_so():
    result = retrieved(many(), user({"funny": (30.0, 30.0)}))
    assert result.fallback == "any_attribute"
    assert len(result.candidates) == 20
    restricted = [c for c in result.candidates if c.lane == "restricted"]
    assert len(restricted) == sum(result.quotas.values())
    assert {c.attribute for c in restricted} == result.quotas.keys() - {"funny"}
    assert not any(c.uncertain for c in restricted)


def test_a_thin_attribute_is_then_filled_with_what_is_only_probable_and_says_so():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}", {"funny": None}, p=0.6 if i < 30 else 0.4) for i in range(60)])
    result = retrieved(snapshot, user({"funny": (30.0, 30.0)}), replace(SETTINGS, explore_share=0.0))
    assert result.fallback == "uncertain"
    probable = {c.video_id for c in result.candidates if c.uncertain}
    assert len(probable) == result.quotas["funny"]
    assert probable <= {f"v{i}" for i in range(30)}
    assert all(c.attribute == "funny" for c in result.candidates if c.uncertain)


def test_with_nothing_of_the_kind_the_newest_fill_the_list_and_it_says_so():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}") for i in range(60)])
    result = retrieved(snapshot, user({"funny": (30.0, 30.0)}))
    assert result.fallback == "newest"
    assert len(result.candidates) == 20
    assert sum(c.lane == "newest" for c in result.candidates) > 2


def test_of_near_duplicates_one_is_served_while_there_is_anything_else():
    snapshot, rng = Snapshot(CATALOGUE, DIM), np.random.default_rng(0)
    taste = direction(0.0)
    snapshot.apply([annotation(f"copy{i}", vector=taste) for i in range(20)])
    others = rng.normal(size=(200, DIM))
    snapshot.apply([annotation(f"v{i}", vector=v / np.linalg.norm(v)) for i, v in enumerate(others)])
    result = retrieved(snapshot, user(), replace(SETTINGS, near_duplicate=0.95))
    assert sum(video_id.startswith("copy") for video_id in ids(result)) == 1
    assert len(result.candidates) == 20
    assert result.removed["near_duplicate"] >= 19


def test_near_duplicates_come_before_a_short_list():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}") for i in range(10)])
    result = retrieved(snapshot, user(), replace(SETTINGS, near_duplicate=0.95))
    assert len(result.candidates) == 10
    assert "near_duplicate" not in result.removed


def test_diversity_brings_other_directions_forward():
    def spread(settings: RetrievalSettings) -> float:
        snapshot, rng = Snapshot(CATALOGUE, DIM), np.random.default_rng(1)
        vectors = rng.normal(size=(400, DIM)) + 2 * direction(0.0)
        snapshot.apply([annotation(f"v{i}", vector=v / np.linalg.norm(v)) for i, v in enumerate(vectors)])
        made = [int(video_id[1:]) for video_id in ids(retrieved(snapshot, user(), settings))]
        unit = vectors[made] / np.linalg.norm(vectors[made], axis=1, keepdims=True)
        return float((unit @ unit.T).mean())

    assert spread(replace(SETTINGS, diversity=0.3)) < spread(SETTINGS)


def test_parts_add_up_to_the_score():
    snapshot = many()
    state = user({"calm": (30.0, 30.0)}, seen=("v0",))
    result = retrieve(snapshot, state, SETTINGS, NOW_MS, Random(1), crowd_of(snapshot))
    assert {c.lane for c in result.candidates} >= {"restricted", "unrestricted", "popular", "co_watched", "new"}
    for candidate in result.candidates:
        assert candidate.parts is not None
        assert sum(astuple(candidate.parts)) == pytest.approx(candidate.score, abs=1e-3)


def crowd_of(snapshot: Snapshot) -> Crowd:
    """Everybody watched v50 to v59; those who watched v0 also v60 to v69."""
    crowd, none = Crowd(CrowdSettings(shrink=1.0)), np.zeros(0, np.int32)
    row = {f"v{i}": snapshot.rows([f"v{i}"]) for i in (0, *range(50, 70))}

    def watch(video: str, before: np.ndarray) -> Watched:
        at = row[video]
        return Watched(int(at[0]), snapshot.describe(at).present[0], 1.0, NOW_MS, before)

    for _ in range(60):
        crowd.learn([watch(f"v{i}", none) for i in range(50, 60)])
    for _ in range(20):
        crowd.learn([watch("v0", none), *(watch(f"v{i}", row["v0"]) for i in range(60, 70))])
    return crowd


def test_what_all_watch_is_popular_and_what_users_alike_watch_is_co_watched():
    snapshot = many()
    crowd = crowd_of(snapshot)
    seen = retrieve(snapshot, user(seen=("v0",)), SETTINGS, NOW_MS, Random(1), crowd)
    by_lane = {lane: [c for c in seen.candidates if c.lane == lane] for lane in ("co_watched", "popular")}
    assert {c.video_id for c in by_lane["co_watched"]} <= {f"v{i}" for i in range(60, 70)}
    assert by_lane["co_watched"][0].parts.co_watched > 0
    assert {c.video_id for c in by_lane["popular"]} <= {f"v{i}" for i in range(50, 70)}
    assert all(by_lane.values())
    alone = retrieve(snapshot, user(), SETTINGS, NOW_MS, Random(1), crowd)
    assert "co_watched" not in {c.lane for c in alone.candidates}


def test_the_lane_of_new_videos_holds_none_that_is_old_or_that_many_have_seen():
    snapshot = many()
    snapshot.apply([annotation(f"old{i}", uploaded_at_ms=NOW_MS - 49 * 3_600_000) for i in range(50)])
    result = retrieve(snapshot, user(), SETTINGS, NOW_MS, Random(1), crowd_of(snapshot))
    new = {c.video_id for c in result.candidates if c.lane == "new"}
    assert len(new) == 2
    assert not any(video_id.startswith("old") for video_id in new)
    assert not new & {f"v{i}" for i in range(50, 60)}  # sixty have


def test_a_list_without_any_history_is_filled_with_what_is_popular_first():
    snapshot = many()
    result = retrieve(snapshot, None, SETTINGS, NOW_MS, Random(1), crowd_of(snapshot))
    assert {f"v{i}" for i in range(50, 60)} <= set(ids(result))
    assert len(result.candidates) == 20


def test_only_the_asked_languages_are_served_and_the_others_counted():
    snapshot = many(30)
    result = retrieved(snapshot, user(), replace(SETTINGS, languages=("pt",)))
    assert result.candidates == ()
    assert result.removed["language"] == 30


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


@settings(deadline=None)  # the first call in a process may compile
@given(st.lists(st.sampled_from([False, True, None]), min_size=1, max_size=40), AFFINITIES)
def test_no_lane_serves_a_video_whose_policy_is_not_decided_absent(hostile: list[bool | None], affinities):
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply([annotation(f"v{i}", {"calm": True, "hostile": label}) for i, label in enumerate(hostile)])
    for state in (None, user(affinities)):
        result = retrieved(snapshot, state, replace(PLAIN, k=50))
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


def test_an_attribute_that_hardly_anybody_tried_is_not_explored_before_one_that_is_liked():
    """Of a hundred watches of funny videos most were liked, of the hundred others few; calm was never watched."""
    crowd = Crowd(CrowdSettings())
    for name, satisfied in (("funny", 0.8), ("eerie", 0.1)):
        has = np.array([attribute == name for attribute in CATALOGUE.ids])
        crowd.learn([Watched(0, has, satisfied, NOW_MS, np.zeros(0, np.int32))] * 100)
    expected = prior(CATALOGUE, SETTINGS, crowd)
    drawn = Counter(next(iter(quotas(None, CATALOGUE, SETTINGS, Random(seed), expected))) for seed in range(100))
    assert drawn["funny"] > drawn["calm"] > drawn["eerie"]
