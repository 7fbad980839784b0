"""Retrieval offline, on a watch log with tags as attributes: recall@100, distinct videos and calibration of lists.

The earlier part of the log (80 % by time) is what the session stage would have seen: it makes the users' states and the
crowd, watch by watch. Lists are made at its end, for all who watch in the later part too, by the product's own
retrieval. A list should hold the videos that its user then watches for long (`long_view`) and had not watched before.
Calibration is the divergence of a list's tags from the user's shares: 0 is perfect, popularity knows no user. Nothing
is fitted to the later part; `--inner` leaves it out and splits the earlier one again, several times with the origin
moved on, for trying settings out.

Videos have no text here, and so no vectors of a student. Each gets a random one, which nobody's taste is asked about:
the parts of retrieval that look at vectors (nearest, near-duplicates, diversity) are off.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec.structs import replace as changed

from models.satisfaction import told
from schemas.annotation import Annotation, AttributeScore, StudentVersion
from schemas.attributes import Attribute, Catalogue
from schemas.events import WatchEvent
from schemas.user_state import Affinity, UserState
from streams.crowd import Crowd
from streams.learning import CrowdLearner, Noted
from streams.policy import RetrievalSettings
from streams.quotas import prior, shares
from streams.retrieve import retrieve_all
from streams.seen import SeenRows
from streams.snapshot import Snapshot
from streams.watch import apply

K = 100
DIM = 64
TRAIN = 0.8
BATCH = 64
COLUMNS = (
    "user_id", "video_id", "time_ms", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view",
    "play_time_ms", "duration_ms", "tag", "author_id", "upload_dt",
)  # fmt: skip

PLAIN = RetrievalSettings(
    restricted_share=0.0, popular_share=0.0, co_watched_share=0.0, newest_share=0.0, explore_share=0.0, lift_weight=0.0,
    creator_limit=K, near_duplicate=1.0, diversity=1.0, calibration=0.0, max_age_ms=10**13,
)  # fmt: skip
"""Lists of one lane, whose order is popularity alone."""
METHODS = {
    "popularity": PLAIN,
    "hard_restriction": replace(PLAIN, restricted_share=1.0, unrestricted_share=0.0, min_watches=0.0),
    "quota_restriction": replace(PLAIN, restricted_share=0.8, max_attributes=47, min_watches=0.0),
    "blend": RetrievalSettings(near_duplicate=1.0, diversity=1.0, max_age_ms=10**13),
}


HARD = 3  # attributes of a user, and nothing else
INNER = ((0.0, 0.4, 0.6), (0.0, 0.6, 0.8), (0.0, 0.8, 1.0), (0.3, 0.86, 1.0))
"""Where an inner split's watches begin, where those held out begin and end, as shares of the log's earlier part."""


class LongView:
    """KuaiRand's own rule, long_view: played to the end, or for 18 s. What recall asks for, so what all learn from."""

    labeler = "long-view/1"

    def __call__(self, event: WatchEvent, /) -> float:
        known = told(event)
        return float(event.watch_ms >= min(event.duration_ms, 18_000)) if known is None else known


@dataclass(frozen=True)
class Log:
    """A log's watches in order of time, the first `train` of them to learn from; and videos with tags and creators."""

    rows: list[dict[str, Any]]
    train: int
    tags: dict[str, frozenset[str]]
    videos: dict[str, dict[str, Any]]

    @property
    def now_ms(self) -> int:
        return self.rows[self.train]["time_ms"]


def read_logs(path: Path, inner: bool) -> list[Log]:
    """Read a log without its exact duplicate rows, split once; `inner`: the splits INNER of its earlier part."""
    table = pq.read_table(path)
    table = table.group_by(table.column_names).aggregate([]).select(COLUMNS)
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in ("time_ms", "user_id", "video_id")])
    rows = table.take(order).to_pylist()
    for row in rows:
        row["user_id"], row["video_id"] = f"u{row['user_id']}", f"v{row['video_id']}"
    if not inner:
        return [_split(rows, int(TRAIN * len(rows)))]
    n = int(TRAIN * len(rows))
    return [_split(rows[int(a * n) : int(c * n)], int(b * n) - int(a * n)) for a, b, c in INNER]


def _split(rows: list[dict[str, Any]], train: int) -> Log:
    while train and rows[train - 1]["time_ms"] == rows[train]["time_ms"]:
        train -= 1
    videos = {row["video_id"]: row for row in rows}
    tags = {v: frozenset(f"tag{tag}" for tag in (row["tag"] or "").split(",") if tag) for v, row in videos.items()}
    return Log(rows, train, tags, videos)


def catalogue_of(log: Log) -> Catalogue:
    ids = sorted({tag for tags in log.tags.values() for tag in tags})
    return Catalogue(
        tuple(
            Attribute(
                id=i,
                name=i,
                version=1,
                definition=i,
                includes=(i,),
                positive_examples=(i,),
                target_precision=0.9,
                target_recall=0.9,
            )
            for i in ids
        )  # fmt: skip
    )


def snapshot_of(log: Log, catalogue: Catalogue) -> Snapshot:
    rng = np.random.default_rng(0)
    snapshot = Snapshot(catalogue, DIM)
    annotations: list[Annotation] = []
    for video_id, row in sorted(log.videos.items()):
        uploaded_at_ms = int(np.datetime64(row["upload_dt"], "ms").astype(np.int64))
        vector = rng.normal(size=DIM)
        annotations.append(
            Annotation(
                schema_version=1,
                video_id=video_id,
                status="final",
                received_at_ms=uploaded_at_ms,
                annotated_at_ms=uploaded_at_ms,
                creator_id=f"c{row['author_id']}",
                uploaded_at_ms=uploaded_at_ms,
                attributes={
                    tag: AttributeScore(
                        p=1.0, band="accept", label=tag in log.tags[video_id], source="student", certified=True
                    )
                    for tag in catalogue.ids
                },
                embedding=(vector / np.linalg.norm(vector)).astype("<f2").tobytes(),
                student=StudentVersion("tags", 1),
            )
        )
    for start in range(0, len(annotations), 1_000):
        snapshot.apply(annotations[start : start + 1_000])
    return snapshot


def event_of(row: dict[str, Any], number: int) -> WatchEvent:
    return WatchEvent(
        schema_version=1, event_id=f"e{number}", user_id=row["user_id"], session_id=row["user_id"],
        video_id=row["video_id"], watched_at_ms=row["time_ms"], watch_ms=min(row["play_time_ms"], 86_400_000),
        duration_ms=int(row["duration_ms"]), liked=bool(row["is_like"]), shared=bool(row["is_forward"]),
        followed=bool(row["is_follow"]), commented=bool(row["is_comment"]), disliked=bool(row["is_hate"]),
    )  # fmt: skip


def learned(log: Log, snapshot: Snapshot, settings: RetrievalSettings) -> tuple[dict[str, UserState], Crowd]:
    """Return the states and the crowd after the earlier part, made as the session stage makes them."""
    states: dict[str, UserState] = {}
    crowd = Crowd(settings.crowd)
    learner = CrowdLearner(crowd, snapshot, SeenRows(snapshot), 0)
    satisfaction = LongView()
    for number, row in enumerate(log.rows[: log.train]):
        event = event_of(row, number)
        before = states.get(event.user_id)
        noted = Noted()
        learner.note(noted, (0, event.user_id), before, event, satisfaction(event))
        learner.confirm(noted)
        learner.learn()
        states[event.user_id] = apply(before, event, number, snapshot.views([event.video_id])[0], satisfaction)
    return {user: changed(state, taste=b"") for user, state in states.items()}, crowd


def wanted_by(log: Log) -> dict[str, set[str]]:
    """Return what each user of both parts watches for long in the later one, and did not watch in the earlier."""
    watched: defaultdict[str, set[str]] = defaultdict(set)
    for row in log.rows[: log.train]:
        watched[row["user_id"]].add(row["video_id"])
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for row in log.rows[log.train :]:
        user, video = row["user_id"], row["video_id"]
        if row["long_view"] and user in watched and video not in watched[user]:
            wanted[user].add(video)
    return dict(wanted)


def popularity(log: Log, users: Sequence[str]) -> list[list[str]]:
    """Return the videos most watched for long in the earlier part, but those that a user has watched."""
    counts: defaultdict[str, int] = defaultdict(int)
    watched: defaultdict[str, set[str]] = defaultdict(set)
    for row in log.rows[: log.train]:
        counts[row["video_id"]] += row["long_view"]
        watched[row["user_id"]].add(row["video_id"])
    best = sorted(counts, key=lambda video: (-counts[video], video))
    return [[video for video in best[: K + len(watched[user])] if video not in watched[user]][:K] for user in users]


def hard(state: UserState, share: dict[str, float]) -> UserState:
    """Return a user who wants the attributes of the highest shares, and no others."""
    best = sorted(share, key=share.__getitem__, reverse=True)[:HARD]
    return changed(state, affinities={a: Affinity(1e6 * share[a], 1e6 * share[a], 0.0, 0.0) for a in best})


def lists_of(
    settings: RetrievalSettings,
    log: Log,
    snapshot: Snapshot,
    states: dict[str, UserState],
    crowd: Crowd,
    users: Sequence[str],
    only: bool = False,
) -> list[list[str]]:
    """Return lists, without what fills them where attributes can't if there are to be `only` these."""
    lists: list[list[str]] = []
    for start in range(0, len(users), BATCH):
        asked = [(states[user], Random(user)) for user in users[start : start + BATCH]]
        made = dict(retrieve_all(snapshot, asked, settings, log.now_ms, crowd))
        lists += [[c.video_id for c in made[i].candidates if not only or c.lane == "restricted"] for i in sorted(made)]
    return lists


def divergence(log: Log, share: dict[str, float], videos: Sequence[str]) -> float:
    """Return the calibration of Steck (RecSys 2018): sum of g log(g / (.99 list + .01 g)) over tags."""
    held: defaultdict[str, float] = defaultdict(float)
    for video in videos:
        for tag in log.tags[video]:
            held[tag] += 1 / len(log.tags[video]) / len(videos)
    return float(sum(g * np.log(g / (0.99 * held[tag] + 0.01 * g)) for tag, g in share.items()))


def measure(log: Log, blend: RetrievalSettings) -> dict[str, dict[str, float]]:
    """Return the measures of every method, and print a table of them."""
    wanted = wanted_by(log)
    users = sorted(wanted)
    catalogue = catalogue_of(log)
    snapshot = snapshot_of(log, catalogue)
    states, crowd = learned(log, snapshot, blend)
    print(f"{log.train} watches learned, {len(log.rows) - log.train} held out, {len(users)} users", file=sys.stderr)
    print(f"{'':20}{'recall@100':>12}{'distinct':>10}{'calibration':>13}")
    expected = prior(catalogue, blend, crowd)
    share = {user: shares(states[user], expected, blend) for user in users}
    measured: dict[str, dict[str, float]] = {}
    for method, settings in (METHODS | {"blend": blend}).items():
        if method == "popularity":
            lists = popularity(log, users)
        elif method == "hard_restriction":
            narrow = {user: hard(states[user], share[user]) for user in users}
            lists = lists_of(settings, log, snapshot, narrow, crowd, users, only=True)
        else:
            lists = lists_of(settings, log, snapshot, states, crowd, users)
        recall = np.mean([len(wanted[u] & set(made)) / len(wanted[u]) for u, made in zip(users, lists, strict=True)])
        apart = [divergence(log, share[user], made) for user, made in zip(users, lists, strict=True)]
        measured[method] = {
            "recall_at_100": round(float(recall), 4),
            "distinct": len({video for made in lists for video in made}),
            "calibration": round(float(np.mean(apart)), 4),
        }
        print(f"{method:20}{recall:12.4f}{measured[method]['distinct']:10}{np.mean(apart):13.4f}", flush=True)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and the line, of each split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="Parquet, columns as in KuaiRand's logs, with tags")
    parser.add_argument("--inner", action="store_true", help="split the earlier part again, and leave the later alone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="of the blend's settings")
    args = parser.parse_args(argv)
    if not args.log.is_file():
        parser.exit(2, f"no log at {args.log}; name one: make eval-retrieval LOG=FILE\n")
    blend = METHODS["blend"]
    for name, _, number in (given.partition("=") for given in args.set):
        if name.startswith("crowd."):
            crowd = replace(blend.crowd, **{name[6:]: type(getattr(blend.crowd, name[6:]))(number)})
            blend = replace(blend, crowd=crowd)
        else:
            blend = replace(blend, **{name: type(getattr(blend, name))(number)})
    for log in read_logs(args.log, args.inner):
        print(json.dumps(measure(log, blend)), flush=True)


if __name__ == "__main__":
    main()
