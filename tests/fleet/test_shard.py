"""A list of work divided between processes that know nothing of each other."""

from __future__ import annotations

import pytest

from clvr_core.errors import BadInput
from clvr_core.fleet.shard import Shard


@pytest.mark.parametrize(("count", "pieces"), [(1, 5), (3, 10), (4, 4), (7, 3)])
def test_shards_hold_every_piece_once_and_differ_by_one_at_most(count, pieces):
    parts = [Shard(number, count).of(range(pieces)) for number in range(1, count + 1)]
    assert sorted(piece for part in parts for piece in part) == list(range(pieces))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_it_is_written_as_i_of_n():
    assert Shard.parse("2/8") == Shard(2, 8) and Shard(2, 8).suffix == "-2-of-8" and Shard.parse("1/1").suffix == ""


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "-1/4", "1/2/3", "one/two", "1/9999999", ""])
def test_anything_else_is_refused_with_what_was_found(text):
    with pytest.raises(BadInput, match=r"shard .* is none; write i/n"):
        Shard.parse(text)
