import json
from pathlib import Path

import pytest

from models.satisfaction import satisfaction
from schemas.candidates import SessionCandidates
from schemas.errors import ConfigurationError
from schemas.user_state import decode_state
from schemas.wire import Decoder, encode
from streams.candidates import SessionStage
from streams.record import Record
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, watch
from topology.cli import main
from topology.labelers import labeler, watches
from topology.producer import ConfirmedProducer
from topology.replay import message, send
from topology.settings import Settings, with_changes
from topology.topics import WATCH_EVENTS

WATCHES = [encode(watch(watch_ms=number * 10, duration_ms=10_000 + number * 7)) for number in range(4_000)]


def fit(folder: Path) -> Path:
    source, table = folder / "watches.jsonl", folder / "table.json"
    source.write_bytes(b"\n".join([*WATCHES, b"no JSON"]))
    with pytest.raises(SystemExit) as ended:
        main(["satisfaction", "fit", str(source), "--out", str(table)])
    assert ended.value.code == 0
    return table


def test_fit_says_what_it_made_and_the_setting_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = fit(tmp_path)
    said = json.loads(capsys.readouterr().out)
    assert (said["watches"], said["invalid"], said["groups"]) == (4_000, 1, 30)
    found = labeler(Settings(labeler=str(table)))
    assert found.labeler == said["labeler"]
    shorter, longer = (watch(watch_ms=9_000, duration_ms=ms) for ms in (11_000, 37_000))
    assert found(shorter) == 1.0
    assert found(longer) == 0.0


def test_without_a_table_it_is_the_share_of_the_video():
    assert labeler(Settings()) is satisfaction


def test_a_table_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="nowhere"):
        labeler(Settings(labeler="nowhere.json"))


def test_watches_come_from_the_topic_and_from_files(settings: Settings, tmp_path: Path):
    (tmp_path / "more.jsonl").write_bytes(WATCHES[10])
    producer = ConfirmedProducer(settings)
    send(producer, (message(settings, WATCH_EVENTS, event) for event in WATCHES[:10]))
    producer.close()
    found = [*watches(settings, ["watch-events", str(tmp_path / "more.jsonl")])]
    assert sorted(found) == sorted(WATCHES[:11])


async def test_lists_and_states_name_the_labeler(tmp_path: Path):
    async def recover(_: int) -> list[tuple[bytes, bytes | None]]:
        return []

    snapshot, chosen = Snapshot(CATALOGUE, DIM), labeler(with_changes(Settings(), labeler=str(fit(tmp_path))))
    snapshot.apply([annotation("v")])
    stage = SessionStage(
        snapshot, UserStates(recover), candidates="c", user_states="s", dead_letters="d", satisfaction=chosen
    )
    event = watch("v", duration_ms=30_000)
    effects = await stage.run([Record("watch-events", 0, 0, NOW_MS, event.user_id.encode(), encode(event))])
    await stage.close()
    assert Decoder(SessionCandidates).decode(effects.messages[0].value or b"").labeler == chosen.labeler
    assert decode_state(effects.changelog[0].value or b"").labeler == chosen.labeler
