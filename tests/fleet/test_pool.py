"""Which worker gets what, by workers that do what a test says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.fleet.pool import TRIES, Dead, Pool
from clvr_core.fleet.worker import Place, Report
from tests.test_batch import command, written
from tests.waiting import Clock

Does = Callable[[int, object], Report | None]
"""What comes of a piece: a report, or None if the worker dies of it."""


class Link:
    def __init__(self, first: Report | None, does: Does) -> None:
        self.waiting = [] if first is None else [first]
        self.does, self.dead, self.begun = does, first is None, []

    def begin(self, number: int, piece: object) -> None:
        self.begun.append(piece)
        report = self.does(number, piece)
        self.dead = self.dead or report is None
        self.waiting += [] if report is None else [report]

    def reports(self) -> list[Report]:
        found, self.waiting = self.waiting, []
        if not found and self.dead:
            raise Dead("it fell over")
        return found

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        self.dead = True


class Links:
    """firsts: the first report of each worker in turn, None for one that dies at once; the last goes on for ever."""

    def __init__(
        self, firsts: Iterable[Report | None], does: Does = lambda number, piece: Report("done", number, piece)
    ) -> None:
        self.firsts, self.does, self.started = list(firsts), does, []

    def start(self) -> Link:
        first = self.firsts.pop(0) if len(self.firsts) > 1 else self.firsts[0]
        self.started.append(Link(first, self.does))
        return self.started[-1]

    def wait(self, links, seconds) -> None:
        pass


READY = Report("ready", value=Place.here())
ELSEWHERE = Report("ready", value=replace(Place.here(), host="node-7", clvr="0.0.1"))


def pool(links: Links, workers: int = 2, each: int = 1) -> tuple[Pool, list[str]]:
    said: list[str] = []
    return Pool(links, workers, each, said.append), said


def test_a_worker_of_another_version_is_sent_away_by_a_sentence_and_the_rest_goes_on():
    links = Links([ELSEWHERE, READY])
    made, said = pool(links)
    assert dict(made.run("abc")) == dict(enumerate("abc"))
    (words,) = said
    assert (
        words.startswith("one worker fewer: ")
        and "node-7 has clvr 0.0.1" in words
        and "install the same there" in words
    )
    assert links.started[0].begun == [] and len(links.started) == 2


def test_where_all_are_of_another_version_the_sentence_is_the_error():
    made, _ = pool(Links([ELSEWHERE]))
    with pytest.raises(BadInput, match=r"node-7 has clvr 0\.0\.1"):
        list(made.run("abc"))


def test_a_worker_that_cannot_load_its_models_is_done_without():
    links = Links([Report("refused", value=BadInput("no weights here")), READY])
    made, said = pool(links)
    assert dict(made.run("abc")) == dict(enumerate("abc")) and said == ["one worker fewer: no weights here"]


def test_workers_that_die_before_they_did_anything_are_not_begun_for_ever():
    links = Links([None])
    made, _ = pool(links)
    with pytest.raises(BadInput, match="workers died one after the other before they had done anything"):
        list(made.run("abc"))
    assert len(links.started) <= TRIES * 2 + 2


def test_when_no_worker_gets_ready_it_is_said_once(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("clvr_core.fleet.pool.time", clock)

    class Slow(Links):
        def wait(self, links, seconds) -> None:
            clock.now += 45
            if clock.now > 300 and not links[0].begun:
                links[0].waiting.append(READY)

    links = Slow([Report("told")])  # of no piece: it is heard and means nothing
    made, said = pool(links, workers=1)
    assert dict(made.run("a")) == {0: "a"} and len(links.started) == 1
    assert len(said) == 1 and "no worker is ready after 60 s" in said[0] and "--gpus" in said[0]


def test_what_may_kill_a_worker_is_tried_for_the_last_time_with_nothing_beside_it():
    alone = []

    def does(number: int, piece: object) -> Report | None:
        if piece == "poison":
            alone.append(number)
            return None
        return Report("done", number, piece)

    links = Links([READY], does)
    made, said = pool(links, workers=1, each=4)
    done = dict(made.run(["a", "b", "poison", "c", "d", "e"]))
    assert alone == [2] * TRIES and f"{TRIES} workers died at it, the last one alone with it" in done[2].why
    assert {done[number] for number in (0, 1, 3, 4, 5)} == set("abcde") and len(said) == TRIES
    last = [link for link in links.started if "poison" in link.begun][-1]
    assert last.begun[-1] == "poison"


def test_a_report_of_a_piece_that_another_has_now_is_not_heard():
    links = Links([READY])
    made, _ = pool(links, workers=1)
    results = made.run("ab")
    assert next(results) == (0, "a")
    links.started[0].waiting.insert(0, Report("done", 0, "again"))
    assert list(results) == [(1, "b")]


def test_without_ray_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "clvr_core.fleet.on_ray", raising=False)
    written(tmp_path, '"a"')
    assert cli.main(command(tmp_path, tmp_path / "out", "--engine", "ray")) == cli.BAD_INPUT
    assert (
        "this needs ray, which is not installed; pip install -c constraints.txt '.[scale]'" in capsys.readouterr().err
    )
