"""No test reads a clock or waits a fixed time: what does is found here, tests/waiting.py and the files named apart."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.waiting import counting_calls, ending, let_others_run, until

from .syntax import tree_of

TESTS = Path(__file__).parent
MAY = (
    "waiting.py",
    "comfy/stubs/",  # models by a script that stand for slow ones
    "comfy/tiny/",
    "comfy/shots.py",  # takes pictures, tests nothing
    "comfy/loading.py",  # prints a measurement
)
PAGES_MAY = (
    "web/e2e/frames.js",  # a benchmark's
    "web/e2e/pictures.js",  # takes pictures, tests nothing
)
NAMES = ("monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime")
CLOCKS = {f"{name}{unit}" for name in NAMES for unit in ("", "_ns")} | {"time_ns", "utcnow"}
IN_CODE = re.compile(rf"\bimport time\b|\bfrom time import\b|\btime\.(sleep|time|{'|'.join(CLOCKS)})\b")
"""Of programs that stand in a test as text."""
IN_PAGES = re.compile(
    r"\b(?:Date\.now|performance\.now|new Date\(\)|timers/promises|promisify\(setTimeout|setTimeout(?=\s*\())"
)
NO_DELAY = re.compile(r"\s*\(.*,\s*0,?\s*\)", re.DOTALL)


def waits(source: str) -> list[int]:
    """The lines of this Python that sleep or read a clock, or could."""
    found = []
    for node in ast.walk(tree_of(source)):
        match node:
            case ast.Import(names=names):
                bad = any(name.name == "time" for name in names)
            case ast.ImportFrom(module=module, names=names):
                bad = module == "time" or any(name.name in CLOCKS | {"sleep"} for name in names)
            case ast.Attribute(attr=name):
                bad = name in CLOCKS | {"sleep"}
            case ast.Call(func=ast.Attribute(attr="now" | "today")):
                bad = True
            case ast.Constant(value=str(text)):
                bad = bool(IN_CODE.search(text))
            case _:
                bad = False
        if bad:
            found.append(node.lineno)
    return sorted(set(found))


def waits_of_page(source: str) -> list[int]:
    """The same of JavaScript; to let the event loop turn, by a delay of 0, is no waiting."""
    bad = [each for each in IN_PAGES.finditer(source) if not NO_DELAY.fullmatch(bracketed(source[each.end() :]))]
    return [source.count("\n", 0, each.start()) + 1 for each in bad]


def bracketed(source: str) -> str:
    """What the brackets right at its beginning hold, with them; all of it where they do not close."""
    depth = 0
    for place, sign in enumerate(source):
        depth += (sign == "(") - (sign == ")")
        if sign == ")" and not depth:
            return source[: place + 1]
    return source


def found_in(pattern: str, may: tuple[str, ...], finder) -> list[str]:
    paths = [path for path in TESTS.glob(pattern) if "node_modules" not in path.parts]
    names = {path.relative_to(TESTS).as_posix(): path for path in paths}
    assert names
    read = {name: path for name, path in names.items() if not name.startswith(may) and path != Path(__file__)}
    return [f"tests/{name}:{line}" for name, path in sorted(read.items()) for line in finder(path.read_text("utf-8"))]


def test_no_test_reads_a_clock_or_sleeps():
    assert found_in("**/*.py", MAY, waits) == []


def test_nor_does_one_of_the_pages():
    assert found_in("web/**/*.js", PAGES_MAY, waits_of_page) == []


@pytest.mark.parametrize("name", MAY + PAGES_MAY)
def test_what_may_is_there(name):
    assert (TESTS / name).exists()


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os, time as clock",
        "from time import sleep",
        "from time import perf_counter as now",
        "from asyncio import sleep",
        "async def f(): await asyncio.sleep(1)",
        "session.time.perf_counter()",
        "datetime.now()",
        "datetime.datetime.utcnow",
        "subprocess.run([python, '-c', 'import sys, os; import time'])",
        "CODE = '''\nbegin()\ntime.sleep(60)\n'''",
    ],
)
def test_the_finder_finds(source):
    assert waits(source) == [1]


@pytest.mark.parametrize("source", ["from a import timeless", "cost.time", "event.wait(60)", "budget = {'time': 3}"])
def test_the_finder_leaves_the_rest(source):
    assert waits(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "await new Promise((done) => setTimeout(done, 20));",
        "setTimeout(() => { a(); }, wait)",
        "setTimeout(done, 0.5);",
        "setTimeout(\n  done,\n  400,\n);",
        "const wait = promisify(setTimeout);",
        "const t = performance.now();",
        "Date.now()",
        "new Date()",
        'import { setTimeout } from "node:timers/promises";',
        "done(() => setTimeout(done, 300), [1, 0]);",
    ],
)
def test_the_finder_of_pages_finds(source):
    assert waits_of_page(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "new Promise((done) => setTimeout(done, 0));",
        "setTimeout(() => { a(b); }, 0)",
        "page.setDefaultTimeout(180_000);",
        "{ timeout: 150_000 }",
    ],
)
def test_the_finder_of_pages_leaves_the_rest(source):
    assert waits_of_page(source) == []


class TestWaiting:
    def test_until_gives_what_came_and_names_what_did_not(self):
        answers = iter([None, 0, "here"])
        assert until(lambda: next(answers), "an answer", every=0) == "here"
        with pytest.raises(AssertionError, match="in vain: a miracle"):
            until(lambda: False, lambda: "a miracle", within=0, every=0)

    def test_what_hangs_is_broken_off(self):
        with pytest.raises(AssertionError, match="did not end within"), ending(within=0.01):
            until(lambda: False, "the end of time")
        with ending():
            let_others_run()

    def test_calls_are_counted(self):
        with counting_calls() as one:
            [len("x") for _ in range(10)]
        with counting_calls() as other:
            [len("x") for _ in range(1000)]
        assert other[0] - one[0] == 990
