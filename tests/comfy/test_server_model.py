"""Eyes behind a server that only the machine's own config names."""

from __future__ import annotations

import json
import os

import pytest

from clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from tests.comfy.graphs import runs
from tests.comfy.server import Refused, error_of
from tests.comfy.test_vision import loop
from tests.vlm.servers import Asked, Said, completion, pictures_in, said_in, serving

KEY = "sk-very-secret-8812"


def eyes(server: str) -> dict:
    return {"3": {"class_type": "CLVR_ServerModel", "inputs": {"server": server}}}


@pytest.fixture
def file(comfy):
    path = comfy.base / "user" / "__clvr" / "servers.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def listed(comfy) -> list[str]:
    kind, options = comfy.get("/object_info/CLVR_ServerModel")["CLVR_ServerModel"]["input"]["required"]["server"]
    return options["options"] if kind == "COMBO" else kind


def sees(asked: Asked) -> Said:
    """Goals, actions, and that a picture that is light is as it should be."""
    body = asked.body
    if body.get("logprobs"):
        picture = pictures_in(body)[0] if pictures_in(body) else None
        red = picture is not None and int(picture[0, 0, 0]) > int(picture[0, 0, 2])
        grey = picture is not None and len({*picture[0, 0].tolist()}) == 1
        yes = 0.9 if red or grey else 0.1
        return completion("Yes", logprobs=[("Yes", yes), ("No", 1 - yes)])
    if "Take the brief below apart" in said_in(body):
        return completion(json.dumps({"goals": [{"text": "a red circle", "check": "Is there a red circle?"}]}))
    return completion(json.dumps({"kind": "GENERATE", "scene_prompt": "a red circle", "summary": f"I paint. {KEY}"}))


def written(path, url: str, more: str = "") -> None:
    path.write_text(f'[mine]\nurl = "{url}"\nmodel = "eye"\nretries = 0\nimage_side = 64\n{more}')


def test_the_whole_loop_runs_with_it_and_no_address_or_key_is_in_what_it_leaves(comfy, file):
    with serving(sees) as server:
        written(file, server.url)
        assert listed(comfy) == ["mine"]
        before = runs(comfy)
        entry = comfy.run(eyes("mine") | loop(seed=21))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    (folder,) = [path for path in runs(comfy) if path not in before]
    run = trajectory_from(RunFolder.open(folder).lines)
    assert run.outcome.met and run.models["controller"] == "eye (mine)" and (folder / BEST).exists()
    told = b"".join(path.read_bytes() for path in folder.iterdir()) + json.dumps(entry).encode()
    assert b"127.0.0.1" not in told and b"v1" not in json.dumps(run.models).encode()


CHECKS = 4
"""Requests by which its sight is checked."""
BROKEN = {"prose": completion("prose"), "flood": Said(b"x" * 9_000_000)}
AWAY = {"500": Said(status=500), "hang": Said(hang=30)}


@pytest.mark.parametrize("how", BROKEN)
def test_a_server_that_breaks_midway_ends_the_loop_with_a_picture_and_a_warning(comfy, file, how):
    """The check of its sight is answered, then nothing is."""
    count = [0]

    def answer(asked: Asked) -> Said:
        count[0] += 1
        return sees(asked) if count[0] <= CHECKS else BROKEN[how]

    with serving(answer) as server:
        written(file, server.url, "timeout = 2\n")
        before = runs(comfy)
        entry = comfy.run(eyes("mine") | loop(seed=100 + list(BROKEN).index(how), patience=1))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    (folder,) = [path for path in runs(comfy) if path not in before]
    run = trajectory_from(RunFolder.open(folder).lines)
    assert not run.outcome.met and (folder / BEST).exists() and "warning: " in "".join(entry["outputs"]["10"]["text"])
    assert all(verdict.state == "error" for step in run.steps for verdict in step.verdicts)


@pytest.mark.parametrize("how", AWAY)
def test_a_server_that_is_away_midway_stops_the_run_which_goes_on_when_it_is_queued_again(comfy, file, how):
    away = [False]

    def answer(asked: Asked) -> Said:
        count[0] += 1
        return AWAY[how] if away[0] and count[0] > CHECKS else sees(asked)

    with serving(answer) as server:
        written(file, server.url, "timeout = 2\n")
        before, count, away[0] = runs(comfy), [0], True
        seed = 200 + list(AWAY).index(how)
        assert "eye (mine) is away: the server" in error_of(comfy.run(eyes("mine") | loop(seed=seed)))
        (folder,) = [path for path in runs(comfy) if path not in before]
        assert trajectory_from(RunFolder.open(folder).lines).outcome is None
        away[0] = False
        entry = comfy.run(eyes("mine") | loop(seed=seed))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    assert [path for path in runs(comfy) if path not in before] == [folder]
    assert trajectory_from(RunFolder.open(folder).lines).outcome.met


def test_a_server_that_does_not_answer_is_named_before_anything_is_drawn(comfy, file):
    written(file, "http://127.0.0.1:9/v1")
    before = runs(comfy)
    said = error_of(comfy.run(eyes("mine") | loop()))
    assert "eye (mine)" in said and "servers.toml" in said and runs(comfy) == before


def test_a_blind_model_is_refused_by_name(comfy, file):
    with serving(lambda _: completion("Yes", logprobs=[("Yes", 0.6), ("No", 0.4)])) as server:
        written(file, server.url)
        assert "eye (mine) does not see" in error_of(comfy.run(eyes("mine") | loop()))


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/v1", "../../mine", "mine\n", ""])
def test_a_workflow_cannot_name_a_server_that_is_not_on_file(comfy, file, name):
    written(file, "http://127.0.0.1:9/v1")
    with pytest.raises(Refused):
        comfy.run(eyes(name) | loop())


def test_without_a_file_the_node_says_what_to_write_and_where(comfy, file):
    assert listed(comfy) == ["none configured"]
    said = error_of(comfy.run(eyes("none configured") | loop()))
    assert "servers.toml" in said and "[ollama]" in said and os.sep + "__clvr" + os.sep in said


def test_a_file_with_a_mistake_is_named_with_the_mistake(comfy, file):
    file.write_text('[mine]\nurl = "http://127.0.0.1:9/v1"\ntimeuot = 3\n')
    said = error_of(comfy.run(eyes("none configured") | loop()))
    assert "mine.timeuot is not a setting" in said and "servers.toml" in said


def test_the_web_interface_does_not_hand_the_file_out(comfy, file):
    written(file, "http://127.0.0.1:9/v1")
    for path in (
        "/userdata/servers.toml",
        "/userdata/..%2F__clvr%2Fservers.toml",
        "/view?filename=servers.toml&type=output&subfolder=../user/__clvr",
    ):
        with pytest.raises(OSError):
            comfy.get(path)
