"""Servers that are away for a while cost time and nothing else. The clock is a fake one, and so are the servers."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clvr_core import cli
from clvr_core.http_json import wire
from tests.executor.images import Asked as ImageAsked
from tests.executor.images import picture_answer
from tests.vlm.servers import Asked as ChatAsked
from tests.vlm.servers import Said, completion, pictures_in, said_in
from tests.waiting import Clock

# One run at a time: several that wait at once would each move the one clock on.
MODELS = """
[controller]
url = "http://127.0.0.1:9/v1"
parallel = 1
[executor]
url = "http://127.0.0.1:9/images"
width = 64
height = 64
"""
BRIEFS = ("a red circle", "two blue squares", "a green cross")
COMMANDS = {
    "generate": ["generate", BRIEFS[0], "--rounds", "4"],
    "batch": ["batch", "briefs.jsonl", "--rounds", "4", "--concurrency", "2"],
    "synthesize": ["synthesize", "--prompts", "briefs.txt", "--second", "clvr.toml", "--rounds", "4"],
    "eval": ["eval", "generate", "--data", "data", "--arm", "clvr", "--rounds", "4"],
}


def value(picture: np.ndarray) -> int:
    return int(picture[0, 0, 0])


def eye(asked: ChatAsked) -> Said:
    """A vision-language model by script: a third of all pictures is right, and the lighter of two is the better one."""
    if asked.body is None:
        return Said({"data": [{"id": "eye"}]})
    text, pictures = said_in(asked.body), pictures_in(asked.body)
    if asked.body.get("logprobs"):
        if "plain red" in text:
            yes = value(pictures[0]) > 128
        elif len(pictures) == 2:
            yes = value(pictures[0]) >= value(pictures[1]) if "better" in text else True
        else:
            yes = value(pictures[0]) % 3 == 0
        return completion("", logprobs=[("Yes", 0.9 if yes else 0.1), ("No", 0.1 if yes else 0.9)])
    properties = asked.body["response_format"]["json_schema"]["schema"]["properties"]
    if "goals" in properties and "kind" not in properties:
        goal = {"text": "it is there", "kind": "local", "check": "Is it there?", "feasibility": 1, "conflicts_with": []}
        return completion(json.dumps({"goals": [goal]}))
    prompts = {"scene_prompt": "a disc", "edit_prompt": "redder"}
    if "kind" not in properties:
        return completion(json.dumps({"references": [1] if pictures else [], **prompts}))
    canvases = properties["references"]["items"].get("enum", [])
    action = {"kind": "EDIT" if canvases else "GENERATE", "references": canvases[-1:], "goals": ["g1"]}
    return completion(json.dumps({"summary": "it is not red", **action, **prompts}))


def hand(asked: ImageAsked) -> Said:
    """One colour by all that was said, the pictures too."""
    told = [asked.fields["prompt"], asked.fields["seed"], *map(value, asked.pictures)]
    return picture_answer(np.full((64, 64, 3), zlib.crc32(repr(list(map(str, told))).encode()) % 256, np.uint8))


class World:
    """Both servers behind one wire.

    outages: after so many answers there are none for so many seconds.
    until: when there are answers again.
    heard: what was answered, how often. refused: how often nothing was.
    """

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch, outages: dict[int, float]) -> None:
        self.clock, self.outages, self.until, self.random = clock, outages, 0.0, random.Random(0)
        self.heard: Counter[tuple[str, int]] = Counter()
        self.refused, self._lock = 0, threading.Lock()
        monkeypatch.setattr(wire, "exchange", self.exchange)

    def exchange(self, url, data, headers, timeout, max_bytes, check) -> wire.Heard:
        with self._lock:
            if self.clock.now < self.until:
                self.refused += 1
                return self.away()
            if url.startswith("http://127.0.0.1:9/images"):
                words = data.replace(headers["Content-Type"].rpartition("=")[2].encode(), b"")
                said = hand(ImageAsked.read(url, headers, data))
            else:
                words, said = data or b"", eye(ChatAsked.read(url, headers, data))
            self.heard[url, zlib.crc32(words)] += 1
            self.until = self.clock.now + self.outages.get(self.heard.total(), 0)
            return wire.Heard(200, said.data)

    def away(self) -> wire.Heard:
        how = self.random.choice(["refused", "cut", "loading", "busy", "date"])
        if how in ("refused", "cut"):
            raise wire.Broken("refuses the connection" if how == "refused" else "cut its answer short")
        if how == "loading":
            return wire.Heard(503, b'{"error": "Loading model"}')
        now = 1e9 + self.clock.now
        left = min(self.until - self.clock.now, 20)
        until = str(round(left)) if how == "busy" else email.utils.formatdate(now + left, usegmt=True)
        return wire.Heard(429, b"", {"retry-after": until, "date": email.utils.formatdate(now, usegmt=True)})


def written(folder: Path) -> Path:
    folder.mkdir()
    (folder / "clvr.toml").write_text(MODELS)
    (folder / "briefs.txt").write_text("\n".join(BRIEFS))
    lines = [json.dumps({"id": f"b{place}", "prompt": each}) for place, each in enumerate(BRIEFS)]
    (folder / "briefs.jsonl").write_text("\n".join(lines))
    (folder / "data").mkdir()
    (folder / "data" / "prompts.jsonl").write_text("\n".join(lines))
    return folder


def called(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(folder)
    again = command == "generate" and (folder / "out").exists()
    arguments = (
        ["resume", "out"] if again else [*COMMANDS[command], "--images" if command == "eval" else "--out", "out"]
    )
    return cli.main([*arguments, "--models", "clvr.toml"])


def left_by(folder: Path) -> dict[str, object]:
    """The pictures, and of the records of what was made the lines without their times."""
    out: dict[str, object] = {}
    for path in sorted((folder / "out").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".png":
            out[name] = path.read_bytes()
        elif path.name in ("decisions.jsonl", "pictures.jsonl"):
            lines = map(json.loads, path.read_text().splitlines())
            out[name] = [{key: each for key, each in line.items() if key != "seconds"} for line in lines]
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_outages_cost_time_and_nothing_else(command, tmp_path, monkeypatch, clock, capsys):
    """Five of 1 s to 10 min at random moments, then one that lasts longer than a server is waited for."""
    whole = World(clock, monkeypatch, {})
    code = called(command, written(tmp_path / "whole"), monkeypatch)
    answers, left = whole.heard.total(), left_by(tmp_path / "whole")
    assert code in (cli.DONE, cli.NOT_MET) and len(left) > 3 and answers > 20

    draw = random.Random(command)
    moments = draw.sample(range(1, answers), 5)
    outages = {moment: seconds * draw.uniform(0.7, 1) for moment, seconds in zip(moments, (1.5, 10, 60, 300, 600))}
    world = World(clock, monkeypatch, outages)
    assert called(command, written(tmp_path / "cut"), monkeypatch) == code
    assert left_by(tmp_path / "cut") == left
    assert world.heard == whole.heard and world.refused >= 5, "nothing was asked twice that was answered"
    assert clock.now > sum(outages.values())

    world, before = World(clock, monkeypatch, {draw.randrange(14, answers): 1500}), clock.now
    capsys.readouterr()
    assert called(command, written(tmp_path / "long"), monkeypatch) == cli.BAD_INPUT
    shown = capsys.readouterr()
    assert "stopped" in shown.out if command == "batch" else "; go on with: " in shown.err
    assert 600 <= round(clock.now - before, 3) < 720
    clock.now = world.until
    assert called(command, tmp_path / "long", monkeypatch) == code
    assert left_by(tmp_path / "long") == left
