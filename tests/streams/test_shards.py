from collections import Counter

import pytest

from streams.shards import shard_of, shards_of_table, table_names


def test_a_video_stays_in_its_shard_for_good():
    # Rows are where an earlier release put them: another hash would store every video twice.
    assert [shard_of(video_id, 4) for video_id in ("v0", "v1", "v2", "ünïcode", "")] == [3, 1, 3, 2, 0]


def test_every_shard_gets_its_share():
    counts = Counter(shard_of(f"v{i}", 8) for i in range(8_000))

    assert set(counts) == set(range(8))
    assert max(counts.values()) < 1.2 * min(counts.values())


@pytest.mark.parametrize("shards", [1, 2, 12])
def test_a_table_s_name_tells_the_number_of_shards(shards):
    names = table_names(shards)

    assert len(set(names)) == shards
    assert {shards_of_table(name) for name in names} == {shards}


def test_one_shard_keeps_the_plain_name_and_other_tables_are_none_of_ours():
    assert table_names(1) == ("attributes",)
    assert [shards_of_table(name) for name in ("attributes-copy", "attributes-1-of-2-old", "users")] == [None] * 3
