"""What both engines of retrieval do alike: the snapshot in memory, and LanceDB."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.user_state import Affinity, UserState, watched_ids
from streams.crowd import Crowd, Watched
from streams.policy import CrowdSettings, RetrievalSettings
from streams.retrieve import Retrieved, retrieve
from streams.retriever import Found, Lane, Request
from streams.videos import Videos
from tests.fakes.engines import ENGINES, Engine
from tests.fakes.videos import DIM, NOW_MS, annotation, direction, removal

SETTINGS = RetrievalSettings(k=20, near_duplicate=1.0, diversity=1.0, calibration=0.0)
TASTE = direction(0.0).astype(np.float32)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return Engine(request.param, tmp_path)


def many(engine: Engine, count: int = 300) -> Videos:
    """Every third video calm, the rest eerie; the angle to the taste grows with the number, and so does the time."""
    return engine.add(
        *(
            annotation(
                f"v{i}",
                {"calm": i % 3 == 0, "eerie": i % 3 != 0},
                vector=direction(i / count),
                creator=f"c{i % 100}",
                uploaded_at_ms=NOW_MS - 1_000 + i,
            )
            for i in range(count)
        )
    )


def user(affinities: dict[str, tuple[float, float]] | None = None, *, seen: Sequence[str] = ()) -> UserState:
    return UserState(
        schema_version=1,
        applied=0,
        user_id="u",
        updated_at_ms=NOW_MS,
        session_id="s",
        watches_since_list=0,
        affinities={a: Affinity(n, s, 0.0, 0.0) for a, (n, s) in (affinities or {}).items()},
        taste=TASTE.astype("<f2").tobytes(),
        taste_weight=1.0,
        watched=watched_ids(seen),
    )


def made(videos: Videos, state: UserState | None, settings: RetrievalSettings = SETTINGS) -> Retrieved:
    return retrieve(videos, state, settings, NOW_MS, Random("seed"))


def ids(result: Retrieved) -> set[str]:
    return {candidate.video_id for candidate in result.candidates}


def searched(videos: Videos, *lanes: Lane, oldest_ms: int = 0, seen: Sequence[str] = (), **asked) -> Found:
    [(_, found)] = videos.search([Request(asked.pop("vector", TASTE), lanes, videos.find(seen), **asked)], oldest_ms)
    return found


def names(videos: Videos, found: Found) -> list[list[str]]:
    return [videos.video_ids(lane) for lane in found.lanes]


def test_a_lane_holds_the_nearest_of_what_it_asks_for(engine: Engine) -> None:
    videos = many(engine)
    found = searched(videos, Lane(5, "calm"), Lane(4), Lane(3, newest=True), Lane(2, "funny"))
    assert names(videos, found) == [
        ["v0", "v3", "v6", "v9", "v12"],
        ["v0", "v1", "v2", "v3"],
        ["v299", "v298", "v297"],
        [],
    ]


def test_every_lane_is_full_whatever_few_videos_a_filter_leaves(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1_500, DIM))
    videos = engine.add(
        *(
            annotation(f"v{i}", {"funny": i % 150 == 0}, vector=vector / np.linalg.norm(vector))
            for i, vector in enumerate(vectors)
        )
    )
    seen = [f"v{i}" for i in range(500)]
    [funny, nearest] = names(videos, searched(videos, Lane(6, "funny"), Lane(900), seen=seen))
    cosines = vectors @ TASTE / np.linalg.norm(vectors, axis=1)
    assert funny == [f"v{i}" for i in sorted(range(600, 1_500, 150), key=lambda i: -cosines[i])]
    assert len(nearest) == 900
    assert not set(nearest) & set(seen)


def test_among_equally_near_videos_the_more_probable_comes_first(engine: Engine) -> None:
    videos = engine.add(*(annotation(f"p{p}", {"calm": True}, p=p / 10) for p in (3, 9, 1, 6)))
    found = searched(videos, Lane(3, "calm"), probability_weight=0.1)
    assert names(videos, found) == [["p9", "p6", "p3"]]


def test_without_a_taste_the_most_probable_have_the_lane(engine: Engine) -> None:
    videos = engine.add(*(annotation(f"p{p}", {"calm": True}, p=p / 10) for p in (3, 9, 1, 6)))
    assert names(videos, searched(videos, Lane(2, "calm"), vector=None, probability_weight=0.1)) == [["p9", "p6"]]


def test_only_certified_labels_that_are_decided_open_a_lane(engine: Engine) -> None:
    videos = engine.add(
        annotation("sure", {"calm": True}),
        annotation("open", {"calm": None}, p=0.99),
        annotation("absent", {"calm": False}),
        annotation("uncertified", {"calm": True}, certified=False),
        annotation("withdrawn", {"calm": True}, guarantee=False),
    )
    assert names(videos, searched(videos, Lane(5, "calm"))) == [["sure"]]


def test_taken_down_old_foreign_and_seen_videos_are_out_of_every_lane_with_reasons(engine: Engine) -> None:
    videos = many(engine, 10)
    old = NOW_MS - 10_000
    engine.add(
        removal("v0"),
        annotation("old", {"calm": True}, uploaded_at_ms=old),
        annotation("blind", {"calm": True}, has_vector=False),
        annotation("hostile", {"calm": True, "hostile": True}),
        annotation("undecided", {"calm": True, "hostile": None}),
    )
    lanes = (Lane(20, "calm"), Lane(20), Lane(20, newest=True), Lane(20, among=videos.find(["v0", "hostile", "v9"])))
    found = searched(videos, *lanes, oldest_ms=old + 1, seen=["v3"])
    assert [set(lane) for lane in names(videos, found)] == [
        {"v6", "v9"},
        {f"v{i}" for i in (1, 2, 4, 5, 6, 7, 8, 9)},
        {f"v{i}" for i in (1, 2, 4, 5, 6, 7, 8, 9)},
        {"v9"},
    ]
    assert found.removed == {"unavailable": 2, "policy": 2, "too_old": 1, "seen": 1}
    assert searched(videos, Lane(20), languages=["pt"], oldest_ms=old + 1).removed["language"] == 9
    assert names(videos, searched(videos, Lane(20), Lane(9, newest=True), languages=["pt"])) == [[], []]


def test_quotes_in_languages_and_names_are_no_commands(engine: Engine) -> None:
    videos = engine.add(annotation("it's", {"calm": True}))
    assert names(videos, searched(videos, Lane(5), languages=["en' OR 'a' = 'a"])) == [[]]
    assert videos.views(["it's"])[0] is not None
    assert videos.views(["' OR ''='"])[0] is None


@pytest.mark.parametrize("change", [removal("v2"), annotation("v2", {"hostile": True}, uploaded_at_ms=NOW_MS)])
@pytest.mark.parametrize("met", [False, True])
def test_what_must_not_be_served_is_gone_before_the_store_knows(engine: Engine, change, met: bool) -> None:
    videos = many(engine, 5)
    if met:
        assert "v2" in ids(made(videos, user()))
    engine.apply([change])
    assert ids(made(videos, user())) == {"v0", "v1", "v3", "v4"}
    row = videos.find(["v2"])
    assert searched(videos, Lane(1, among=row)).lanes[0] == []


def test_a_late_annotation_of_a_removed_video_does_not_bring_it_back(engine: Engine) -> None:
    videos = many(engine, 3)
    engine.add(removal("v1"))
    engine.add(annotation("v1", {"calm": True}))
    assert ids(made(videos, user())) == {"v0", "v2"}
    assert videos.views(["v1"])[0] is None


def test_a_newer_annotation_changes_the_lanes_of_its_video(engine: Engine) -> None:
    videos = many(engine, 6)
    assert names(videos, searched(videos, Lane(9, "calm"), Lane(9, "funny"))) == [["v0", "v3"], []]
    engine.add(annotation("v3", {"funny": True}, uploaded_at_ms=NOW_MS, received_at_ms=NOW_MS + 5, student=2))
    assert names(videos, searched(videos, Lane(9, "calm"), Lane(9, "funny"))) == [["v0"], ["v3"]]
    view = videos.views(["v3"])[0]
    assert view is not None
    assert view.probabilities == {"funny": 1.0}


def test_rows_are_kept_and_described(engine: Engine) -> None:
    videos = many(engine, 6)
    found = searched(videos, Lane(6))
    rows = videos.find(["v1", "v0"])
    assert {"v1", "v0"} == set(videos.video_ids(rows.tolist()))
    known = videos.describe(rows)
    np.testing.assert_allclose(known.vectors, [direction(1 / 6), direction(0.0)], atol=2e-3)
    assert known.present.tolist() == [[False, True, False, False], [True, False, False, False]]
    assert known.creators[0] != known.creators[1]
    assert set(rows.tolist()) <= set(found.lanes[0])
    assert sorted(videos.video_ids(videos.uploaded_since(NOW_MS - 997).tolist())) == ["v3", "v4", "v5"]


def test_an_attribute_that_is_not_there_or_a_wrong_vector_is_refused(engine: Engine) -> None:
    videos = many(engine, 3)
    with pytest.raises(ConfigurationError, match="sad"):
        searched(videos, Lane(1, "sad"))
    with pytest.raises(ConfigurationError, match="vector"):
        searched(videos, Lane(1), vector=np.ones(DIM + 1, np.float32))


def test_an_empty_catalogue_makes_an_empty_list(engine: Engine) -> None:
    assert made(engine.videos, user({"calm": (30.0, 30.0)})).candidates == ()
    assert made(engine.videos, None).candidates == ()


def test_whole_lists_are_the_same_whoever_holds_the_videos(tmp_path: Path) -> None:
    """Vectors at random, and users with a taste: no two videos are worth the same."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(800, DIM))
    videos = [
        annotation(
            f"v{i}",
            {a: bool(rng.random() < rate) for a, rate in (("calm", 0.5), ("eerie", 0.05), ("funny", 0.01))},
            p=0.5 + 0.5 * float(rng.random()),
            vector=vector / np.linalg.norm(vector),
            creator=f"c{i % 200}",
            uploaded_at_ms=NOW_MS - 10_000 - 7 * i,
        )
        for i, vector in enumerate(vectors)
    ]
    lists = []
    for name in ENGINES:
        engine = Engine(name, tmp_path)
        held = engine.add(*videos)
        crowd = crowd_of(held)
        states = (
            user(),
            user({"calm": (30.0, 20.0), "eerie": (10.0, 9.0)}, seen=[f"v{i}" for i in range(60)]),
            user({"funny": (20.0, 20.0)}, seen=["v5", "v3"]),
        )
        settings = replace(SETTINGS, k=50, new_age_ms=1)
        lists.append([retrieve(held, state, settings, NOW_MS, Random(3), crowd) for state in states])
    for one, other in zip(*lists, strict=True):
        assert [c.video_id for c in one.candidates] == [c.video_id for c in other.candidates]
        assert one.removed == other.removed
        assert len(one.candidates) == 50


def crowd_of(videos: Videos) -> Crowd:
    """Everybody watched v100 to v119; those who watched v3 also v130 to v139."""
    crowd = Crowd(CrowdSettings(shrink=1.0))

    def watch(name: str, before: Sequence[str] = ()) -> Watched:
        videos.views([name])[0]  # as the session stage looks at what is watched
        row = videos.find([name])
        return Watched(int(row[0]), videos.describe(row).present[0], 1.0, NOW_MS, videos.find(before))

    for i in range(100, 120):
        crowd.learn([watch(f"v{i}")] * (i - 90))
    for i in range(130, 140):
        crowd.learn([watch(f"v{i}", ["v3"])] * (i - 120))
    return crowd
