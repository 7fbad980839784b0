"""`vibestream explain`, over lists that lie in a topic."""

import json
import subprocess
import sys

from schemas.candidates import Candidate, ScoreParts, SessionCandidates
from schemas.wire import encode
from streams.record import Message
from topology.producer import ConfirmedProducer
from topology.settings import Settings, environment
from topology.topics import SESSION_CANDIDATES


def made(event_id: str, emitted_at_ms: int, session_id: str = "s") -> SessionCandidates:
    return SessionCandidates(
        schema_version=1, session_id=session_id, user_id="u", event_id=event_id, emitted_at_ms=emitted_at_ms,
        candidates=(
            Candidate("v1", 0.9, "restricted", "calm", uncertain=True, parts=ScoreParts(cosine=1.0, probability=-0.1)),
            Candidate("v2", 0.4, "popular", parts=ScoreParts(popularity=0.4)),
        ),
        quotas={"calm": 60}, removed={"seen": 3, "near_duplicate": 7}, fallback="uncertain", labeler="fraction/1",
    )  # fmt: skip


def explain(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", "explain", *arguments],
        env=environment(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_latest_list_of_a_session_is_explained_and_another_on_request(settings: Settings) -> None:
    producer = ConfirmedProducer(settings)
    lists = [made("e1", 1_000), made("e2", 2_000), made("e3", 3_000, session_id="other")]
    producer.produce_now(
        [Message(settings.topic(SESSION_CANDIDATES), one.session_id.encode(), encode(one)) for one in lists]
    )
    producer.close()

    told = explain(settings, "s")
    assert told.returncode == 0
    for words in ("event e2", "calm 60", "near_duplicate 7, seen 3", "restricted: calm (uncertain)", "log p -0.1000"):
        assert words in told.stdout
    assert json.loads(explain(settings, "s", "--json", "--event", "e1").stdout)["event_id"] == "e1"

    missing = explain(settings, "nobody")
    assert missing.returncode == 1
    assert "nobody" in missing.stderr
