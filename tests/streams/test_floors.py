from random import Random

import numpy as np
from msgspec.structs import replace

from schemas.user_state import Affinity, UserState, watched_ids
from streams.floors import Floors
from streams.policy import RetrievalSettings
from streams.retrieve import retrieve_all
from streams.retriever import Found, Lane
from tests.fakes.random_videos import ATTRIBUTES, Videos
from tests.fakes.videos import NOW_MS

LANES = [Lane(1, newest=True), Lane(2, "funny"), Lane(2)]
NUMBERS = [0, 3, 0]


def found(*scores: list[float]) -> Found:
    bounds = np.cumsum([0, *map(len, scores)])
    return Found(np.arange(bounds[-1], dtype=np.int32), np.concatenate(scores, dtype=np.float32), bounds, {})


def state(user: int, taste: np.ndarray) -> UserState:
    return UserState(
        schema_version=1, applied=0, user_id=f"u{user}", updated_at_ms=NOW_MS, session_id="s", watches_since_list=0,
        affinities={a: Affinity(30.0, 10.0 + i, 1.0, 0.5) for i, a in enumerate(ATTRIBUTES)},
        taste=taste.astype("<f2").tobytes(), taste_weight=1.0, watched=watched_ids((f"v{user}",)),
    )  # fmt: skip


def test_a_users_next_scores_are_guessed_a_little_lower_than_the_last():
    floors = Floors()
    assert floors.guess("u", LANES, NUMBERS) == ()
    floors.note("u", LANES, NUMBERS, found([0.1], [0.9, 0.8], [0.7, 0.6]))
    newest, funny, nearest = floors.guess("u", LANES, NUMBERS)
    assert newest == -np.inf
    assert 0.75 < funny < 0.8
    assert 0.55 < nearest < 0.6


def test_a_lane_that_was_not_filled_gives_no_guess():
    floors = Floors()
    floors.note("u", LANES, NUMBERS, found([0.1], [0.9], [0.7, 0.6]))
    _, funny, nearest = floors.guess("u", LANES, NUMBERS)
    assert funny == -np.inf < nearest


def test_users_least_recently_served_are_forgotten():
    floors = Floors(2)
    for user in ("a", "b", "a", "c"):
        floors.note(user, LANES, NUMBERS, found([0.1], [0.9, 0.8], [0.7, 0.6]))
    assert [bool(floors.guess(user, LANES, NUMBERS)) for user in "abc"] == [True, False, True]


def test_lists_are_the_same_with_guesses_however_far_a_taste_moves():
    videos, floors, settings = Videos(6_000, 64, seed=8), Floors(), RetrievalSettings()
    for turn in range(4):
        users = [
            (state(user, videos.direction(user) + turn**2 * videos.direction(100 + user + turn)), Random(turn))
            for user in range(6)
        ]
        plain = [(replace(of), Random(turn)) for of, _ in users]
        made = retrieve_all(videos.snapshot, users, settings, NOW_MS, floors=floors)
        assert made == retrieve_all(videos.snapshot, plain, settings, NOW_MS)
