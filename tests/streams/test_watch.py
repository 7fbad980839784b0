import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.satisfaction import satisfaction
from schemas.errors import InvalidRecord
from schemas.user_state import UserState, decode_state, encode_state
from streams import watch as module
from streams.videos import VideoView
from streams.watch import apply
from tests.fakes.videos import DIM, NOW_MS, direction, watch

CALM = VideoView({"calm": 1.0}, direction(0.0).astype(np.float32))
EERIE = VideoView({"eerie": 0.5}, direction(1.5).astype(np.float32))


def after(*watches, state: UserState | None = None, first_offset: int = 0) -> UserState:
    for offset, (event, video) in enumerate(watches, first_offset):
        state = apply(state, event, offset, video, satisfaction)
    assert state is not None
    return state


def test_a_watch_adds_probability_and_satisfaction():
    state = after((watch(watch_ms=10_000), CALM), (watch(), EERIE))
    calm, eerie = state.affinities["calm"], state.affinities["eerie"]
    assert (calm.n, calm.s, calm.session_n, calm.session_s) == (1.0, 0.5, 1.0, 0.5)
    assert (eerie.n, eerie.s) == (0.5, 0.5)


def test_a_week_fades_the_long_copy_to_1_over_e_and_half_an_hour_the_session_copy():
    week = after((watch(), CALM), (watch(watched_at_ms=NOW_MS + module.TAU_MS), None)).affinities["calm"]
    assert week.n == pytest.approx(math.exp(-1))
    half_hour = after((watch(), CALM), (watch(watched_at_ms=NOW_MS + module.SESSION_TAU_MS), None)).affinities["calm"]
    assert half_hour.session_s == pytest.approx(math.exp(-1))
    assert half_hour.s > 0.99


@given(st.integers(0, NOW_MS))
def test_a_late_event_amplifies_nothing_and_time_stays(late_ms: int):
    state = after((watch(), CALM), (watch(watched_at_ms=NOW_MS - late_ms), None))
    assert state.updated_at_ms == NOW_MS
    assert state.affinities["calm"].n == 1.0


@given(st.integers(0, 9))
def test_an_offset_that_was_applied_changes_nothing(offset: int):
    state = after((watch(), CALM), first_offset=9)
    assert apply(state, watch("other", watched_at_ms=NOW_MS + 1), offset, EERIE, satisfaction) is state


def test_a_video_that_is_not_in_the_snapshot_only_counts_as_seen():
    state = after((watch("a"), CALM), (watch("b", liked=True), None))
    assert state.seen == ("a", "b")
    assert state.affinities == after((watch("a"), CALM)).affinities
    assert state.taste_weight == 1.0


def test_taste_leans_to_what_satisfied():
    state = after((watch(), CALM), (watch(watch_ms=10_000), EERIE), (watch(disliked=True), EERIE))
    taste = np.frombuffer(state.taste, "<f2")
    np.testing.assert_allclose(taste, (direction(0.0) + 0.5 * direction(1.5)) / 1.5, atol=1e-3)
    assert state.taste_weight == 1.5


def test_a_taste_of_another_dimension_starts_anew():
    longer = VideoView({}, np.ones(DIM + 1, np.float32))
    state = after((watch(), CALM), (watch(), longer))
    assert len(state.taste) == 2 * (DIM + 1)
    assert state.taste_weight == 1.0


@given(st.lists(st.text(min_size=1, max_size=200, alphabet=st.characters(exclude_categories=["Cs"])), max_size=40))
def test_seen_are_the_ids_as_they_were_oldest_first(video_ids: list[str]):
    latest = list(dict.fromkeys(reversed(video_ids)))[::-1]
    state = after((watch("first"), None), *((watch(video_id), None) for video_id in video_ids))
    assert [video_id for video_id in dict.fromkeys(reversed(state.seen)) if video_id != "first"][::-1] == [
        video_id for video_id in latest if video_id != "first"
    ]


def test_seen_keeps_the_latest():
    state = after(*((watch(f"v{i}"), None) for i in range(module.SEEN_VIDEOS + 2)))
    assert state.seen == tuple(f"v{i}" for i in range(2, module.SEEN_VIDEOS + 2))


def test_a_video_in_a_loop_is_seen_once():
    state = after((watch("a"), None), *((watch("loop"), None) for _ in range(20)), (watch("p"), None))
    assert state.seen == ("a", "loop", "p")


def test_a_state_names_the_labeler_that_changed_it():
    assert after((watch(), CALM)).labeler == satisfaction.labeler


def test_a_state_from_before_labelers_were_named_goes_on():
    fields = msgspec.msgpack.decode(encode_state(after((watch("a"), CALM))))
    old = decode_state(msgspec.msgpack.encode(fields[:-1]))
    assert old.labeler == ""
    assert after((watch("b"), CALM), state=old, first_offset=1) == after((watch("a"), CALM), (watch("b"), CALM))


def test_an_attribute_that_faded_away_is_dropped():
    assert after((watch(), CALM), (watch(watched_at_ms=NOW_MS + 8 * module.TAU_MS), EERIE)).affinities.keys() == {
        "eerie"
    }


def test_a_state_survives_the_wire():
    state = after((watch("a"), CALM), (watch("b"), EERIE))
    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda fields: [2, *fields[1:]], "unsupported_version"),
        (lambda fields: fields[:5], "invalid"),
        (lambda fields: [*fields[:7], b"odd", *fields[8:]], "invalid"),
        (lambda fields: [*fields[:9], "no list", *fields[10:]], "invalid"),
    ],
)
def test_a_malformed_state_says_how(change, kind: str):
    fields = msgspec.msgpack.decode(encode_state(after((watch(), CALM))))
    with pytest.raises(InvalidRecord) as error:
        decode_state(msgspec.msgpack.encode(change(fields)))
    assert error.value.kind == kind


def test_watched_that_are_no_ids_show_when_they_are_asked_for():
    fields = msgspec.msgpack.decode(encode_state(after((watch(), CALM))))
    state = decode_state(msgspec.msgpack.encode([*fields[:9], [1, 2], *fields[10:]]))
    with pytest.raises(InvalidRecord, match="watched"):
        _ = state.seen


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x9a\x01"])
def test_bytes_that_are_no_msgpack_are_undecodable(value: bytes):
    with pytest.raises(InvalidRecord) as error:
        decode_state(value)
    assert error.value.kind == "undecodable"
