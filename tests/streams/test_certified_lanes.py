"""Only what is certified is served under an attribute's quota; all else comes by the fallback ladder, and says so."""

from dataclasses import replace
from random import Random

import msgspec
import numpy as np
import pytest

from schemas.annotation import Annotation, Status
from schemas.table import to_table
from schemas.user_state import Affinity, UserState, watched_ids
from streams.retrieve import RetrievalSettings, retrieve
from streams.retriever import Lane, Request
from streams.snapshot import Snapshot
from streams.table_schema import with_nulls
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction

SETTINGS = RetrievalSettings(k=20, near_duplicate=1.0, diversity=1.0, calibration=0.0)
NOT_RELIED_ON = [(False, None), (None, None), (True, False)]


def snapshot_of(*annotations: Annotation) -> Snapshot:
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply(annotations)
    return snapshot


def found(snapshot: Snapshot, attribute: str) -> list[str]:
    [(_, hits)] = snapshot.search([Request(None, [Lane(100, attribute)])], 0)
    return sorted(snapshot.video_ids(hits.lanes[0]))


def certified(snapshot: Snapshot, video_id: str) -> list[bool]:
    return snapshot.describe(snapshot.rows([video_id])).certified[0].tolist()


@pytest.mark.parametrize(("mark", "guarantee"), NOT_RELIED_ON)
def test_the_lane_of_an_attribute_takes_certified_videos_alone(mark: bool | None, guarantee: bool | None):
    good = annotation("good", {"funny": True, "calm": False}, guarantee=True)
    bad = annotation("bad", {"funny": True}, certified=mark, guarantee=guarantee)
    snapshot = snapshot_of(good, bad)
    assert found(snapshot, "funny") == ["good"]
    assert certified(snapshot, "good") == [False, False, True, False]
    assert not any(certified(snapshot, "bad"))
    assert snapshot.labels(1)[2] == 1, "it is present all the same"


def test_a_certificate_comes_and_goes_with_later_annotations():
    first = annotation("v", {"funny": True})
    snapshot = snapshot_of(first)
    for at, mark in enumerate((False, True, None, True), start=1):
        snapshot.apply([annotation("v", {"funny": True}, certified=mark, uploaded_at_ms=NOW_MS - 500 + at)])
        snapshot.apply([first])
        assert found(snapshot, "funny") == (["v"] if mark else [])


def test_a_guarantee_that_review_takes_back_takes_the_video_out_of_its_lanes_until_the_answer_comes():
    first = replace_status(annotation("v", {"funny": True}), "provisional")
    snapshot = snapshot_of(first)
    assert found(snapshot, "funny") == ["v"]
    withdrawn = msgspec.structs.replace(first, guarantee=False)
    snapshot.apply([withdrawn])
    snapshot.apply([first])
    assert found(snapshot, "funny") == []
    snapshot.apply([replace_status(first, "final")])
    snapshot.apply([withdrawn])
    assert found(snapshot, "funny") == ["v"]


def replace_status(one: Annotation, status: Status) -> Annotation:
    return msgspec.structs.replace(one, status=status)


def test_table_and_annotations_tell_the_same_and_a_table_without_certificates_tells_none():
    videos = [
        annotation(f"v{i}", {"funny": True, "calm": None}, certified=mark, guarantee=guarantee)
        for i, (mark, guarantee) in enumerate([(True, None), (True, True), *NOT_RELIED_ON])
    ]
    applied, loaded, old = snapshot_of(*videos), Snapshot(CATALOGUE, DIM), Snapshot(CATALOGUE, DIM)
    table = to_table(videos, CATALOGUE, DIM, NOW_MS)
    loaded.load(table.select(loaded.columns).to_batches())
    before = table.drop_columns([name for name in table.column_names if name.startswith("certified_")])
    old.load(with_nulls(before, table.schema).to_batches())
    assert found(applied, "funny") == found(loaded, "funny") == ["v0", "v1"]
    assert found(old, "funny") == []


def fan_of(attribute: str) -> UserState:
    return UserState(
        schema_version=1,
        applied=0,
        user_id="u",
        updated_at_ms=NOW_MS,
        session_id="s",
        watches_since_list=0,
        affinities={attribute: Affinity(30.0, 30.0, 0.0, 0.0)},
        taste=direction(0.0).astype("<f2").tobytes(),
        taste_weight=1.0,
        watched=watched_ids(()),
    )


@pytest.mark.parametrize(("mark", "guarantee"), NOT_RELIED_ON)
def test_uncertified_videos_fill_a_quota_only_by_the_fallback_ladder_and_flagged(
    mark: bool | None, guarantee: bool | None
):
    good = [annotation(f"good{i}", {"funny": True}, vector=direction(0.5 + i / 100)) for i in range(3)]
    bad = [
        annotation(f"bad{i}", {"funny": True}, vector=direction(i / 100), certified=mark, guarantee=guarantee)
        for i in range(40)
    ]
    # The policy attribute is decided in all of them, whatever is certified.
    made = retrieve(snapshot_of(*good, *bad), fan_of("funny"), replace(SETTINGS, explore_share=0.0), NOW_MS, Random(1))
    restricted = [one for one in made.candidates if one.lane == "restricted"]
    assert {one.video_id for one in restricted if not one.uncertain} <= {one.video_id for one in good}
    assert any(one.uncertain for one in restricted)
    assert all(one.uncertain for one in restricted if one.video_id.startswith("bad"))
    assert made.fallback != "none"


def test_where_enough_is_certified_nothing_else_comes_under_the_quota():
    rng = np.random.default_rng(1)
    marks = rng.random(200) < 0.5
    videos = [
        annotation(f"v{i}", {"funny": True}, vector=direction(i / 200), certified=bool(mark))
        for i, mark in enumerate(marks)
    ]
    made = retrieve(snapshot_of(*videos), fan_of("funny"), replace(SETTINGS, explore_share=0.0), NOW_MS, Random(1))
    quota = [one for one in made.candidates if one.lane == "restricted"]
    assert quota
    assert all(marks[int(one.video_id[1:])] and not one.uncertain for one in quota)
