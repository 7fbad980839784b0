from collections.abc import Sequence

from schemas.user_state import UserState, watched_ids
from streams.crowd import Crowd
from streams.learning import CrowdLearner, Noted
from streams.policy import CrowdSettings
from streams.seen import SeenRows
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, NOW_MS, annotation, watch

USER = (0, "u")


def learner() -> tuple[Crowd, CrowdLearner]:
    videos = Snapshot(CATALOGUE, 8)
    videos.apply([annotation(f"v{i}") for i in range(5)])
    crowd = Crowd(CrowdSettings())
    return crowd, CrowdLearner(crowd, videos, SeenRows(videos), warm_watches=100)


def having_watched(*video_ids: str) -> UserState:
    return UserState(
        schema_version=1, applied=0, user_id="u", updated_at_ms=NOW_MS, session_id="s", watches_since_list=0,
        affinities={}, taste=b"", taste_weight=0.0, watched=watched_ids(video_ids),
    )  # fmt: skip


def noted(by: CrowdLearner, past: Sequence[str], *video_ids: str, users_before: set[tuple[int, str]]) -> Noted:
    made = Noted(users_before=users_before)
    for number, video_id in enumerate(video_ids):
        state = having_watched(*past, *video_ids[:number])
        by.note(made, USER, state, watch(video_id, watched_at_ms=NOW_MS), 1.0)
    return made


def test_what_a_user_watched_before_is_learned_once_though_two_runs_are_noted_before_either_is_learned():
    crowd, by = learner()
    first = noted(by, ["v0", "v1"], "v2", "v3", users_before=set())
    second = noted(by, ["v0", "v1", "v2", "v3"], "v4", users_before=first.users)
    for run in (first, second):
        by.confirm(run)
    by.learn()
    assert crowd.watches == 2 + 2 + 1
    by.confirm(noted(by, ["v0", "v1", "v2", "v3", "v4"], "v0", users_before=set()))
    by.learn()
    assert crowd.watches == 6


def test_a_run_whose_last_came_to_nothing_brings_the_past_itself():
    crowd, by = learner()
    noted(by, ["v0", "v1"], "v2", users_before=set())
    by.confirm(noted(by, ["v0", "v1"], "v3", users_before=set()))
    by.learn()
    assert crowd.watches == 2 + 1
