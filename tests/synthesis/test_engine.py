"""Only trajectories that were verified at every step and beat one shot become data; each of the others has its reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clvr_core.errors import BadInput, CannotWrite
from clvr_core.models.registry import Models
from clvr_core.stickers import CANVAS
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.judge import StickersVlm
from clvr_core.storage.lock import FolderHeld
from clvr_core.synthesis import engine
from clvr_core.synthesis.data import read_rows
from clvr_core.synthesis.engine import Settings, data_summary, random_prompts, read_prompts, synthesize
from clvr_core.world import world_named
from tests.fakes import FakeVlm
from tests.faults import DISK, failing_disk
from tests.stickers.eyes import perceive
from tests.stickers.oracle import OracleExecutor, load_vlm
from tests.storage.test_lock import Elsewhere
from tests.synthesis.crews import BadAtOnce

PROMPTS = random_prompts(world_named("stickers"), 10, 9)


def models(executor=None, vlm=None):
    return Models(vlm or load_vlm(), executor or BadAtOnce(), CANVAS, CANVAS)


def made(out, prompts=PROMPTS, second=None, **changes):
    return synthesize(
        out, prompts, models(**changes), second or load_vlm(seed=1), Settings(together=4), report=lambda line: None
    )


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    return out, made(out)


class TestWhatIsKept:
    def test_every_brief_is_kept_or_has_a_reason(self, data):
        out, counts = data
        kept, rejected = read_rows(out), lines(out / "rejected.jsonl")
        assert len(kept) + len(rejected) == len(PROMPTS) == sum(counts.values()) and kept
        assert all(line["reason"] for line in rejected)
        assert data_summary(counts)["yield"] == len(kept) / len(PROMPTS)

    def test_the_last_picture_of_a_row_meets_its_brief_and_all_pictures_are_files(self, data):
        out, _ = data
        for row in read_rows(out):
            last = np.array(Image.open(out / row.turns[-1].image))
            assert parse(row.prompt).holds(perceive(last).scene()) and len(row.turns) > 1
            assert all((out / turn.image).is_file() for turn in row.turns)

    def test_proxy_prompts_describe_the_canvas_after_each_step(self, data):
        out, _ = data
        for row in read_rows(out):
            for turn in row.turns:
                seen = perceive(np.array(Image.open(out / turn.image)))
                drawn_at_once = turn.kind == "GENERATE" and turn.score < 1  # its words are the whole brief
                assert drawn_at_once or parse(turn.scene_prompt).holds(seen.scene()), turn
                assert (turn.kind == "EDIT") == bool(turn.edit_prompt) == bool(turn.references)

    def test_a_one_shot_that_is_as_good_leaves_no_row(self, tmp_path):
        counts = made(tmp_path / "set", PROMPTS[:4], executor=OracleExecutor())
        assert set(counts) == {"comparison"}
        assert (
            "does not hold to the trajectory in both orders" in lines(tmp_path / "set" / "rejected.jsonl")[0]["reason"]
        )

    def test_both_judges_must_prefer_the_trajectory(self, tmp_path):
        never = FakeVlm(decisions=lambda images, questions: [0.2])
        counts = made(tmp_path / "set", PROMPTS[:5], second=never)
        assert set(counts) == {"comparison"} and never.decides
        assert any("judge 2" in line["reason"] for line in lines(tmp_path / "set" / "rejected.jsonl"))

    def test_each_judge_is_asked_in_both_orders(self, tmp_path):
        asked = []

        class Asked(StickersVlm):
            def decide(self, images, questions):
                asked.append(tuple(image.tobytes() for image in images))
                return super().decide(images, questions)

        made(tmp_path / "set", PROMPTS[:5], second=Asked(read=perceive))
        assert asked and len(asked) % 2 == 0 and all(one == other[::-1] for one, other in zip(asked[::2], asked[1::2]))

    def test_goals_that_are_not_met_are_named(self, tmp_path):
        counts = made(tmp_path / "set", PROMPTS[:4], executor=OracleExecutor(fault=1.0))
        assert counts["active verification"] and set(counts) <= {
            "active verification",
            "passive verification",
            "comparison",
            "kept",
        }
        assert any(
            "not met when the run ended" in line["reason"] for line in lines(tmp_path / "set" / "rejected.jsonl")
        )


class TestTheForms:
    def test_sharegpt_has_a_placeholder_for_each_picture(self, data):
        out, _ = data
        for line, row in zip(lines(out / "sharegpt.jsonl"), read_rows(out)):
            human, gpt = line["conversations"]
            assert human == {"from": "human", "value": row.prompt} and len(line["images"]) == len(row.turns)
            places = [gpt["value"].index(f"<IMG_GEN_{place}>") for place in range(1, len(row.turns) + 1)]
            assert places == sorted(places) and gpt["value"].endswith("DONE")

    def test_trl_has_one_assistant_turn_a_step_and_the_picture_in_the_tools(self, data):
        out, _ = data
        for line, row in zip(lines(out / "trl.jsonl"), read_rows(out)):
            roles = [message["role"] for message in line["messages"]]
            assert (
                roles == ["system", "user", *["assistant", "tool"] * len(row.turns), "assistant"]
                and line["images"] == []
            )
            pictures = [
                part["image"] for message in line["messages"] for part in message["content"] if part["type"] == "image"
            ]
            assert pictures == [turn.image for turn in row.turns]
            calls = [message["content"][0]["text"] for message in line["messages"] if message["role"] == "assistant"]
            assert "<think>" in calls[0] and '"name": "generate"' in calls[0] and '"ref_img_list": [1]' in calls[1]


class TestGoingOn:
    def test_a_stopped_call_goes_on_to_the_same_files(self, data, tmp_path, monkeypatch):
        whole, _ = data
        real, calls = engine._decide, []

        def killed(*inputs):
            calls.append(1)
            if len(calls) == 6:
                raise KeyboardInterrupt
            return real(*inputs)

        monkeypatch.setattr(engine, "_decide", killed)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "set")
        monkeypatch.undo()
        with (tmp_path / "set" / "decisions.jsonl").open("ab") as file:
            file.write(b'{"id": "0000')
        executor = BadAtOnce()
        made(tmp_path / "set", executor=executor)
        assert len(executor.requests) < 60
        for name in ("trajectories.jsonl", "sharegpt.jsonl", "trl.jsonl", "rejected.jsonl"):
            assert (tmp_path / "set" / name).read_text() == (whole / name).read_text()

    def test_other_prompts_in_the_same_folder_are_refused(self, data):
        out, _ = data
        with pytest.raises(BadInput, match="other prompts, models or settings"):
            made(out, PROMPTS[:3])

    def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(self, tmp_path):
        (tmp_path / "set").write_text("in the way")
        with pytest.raises(BadInput, match="cannot be written"):
            made(tmp_path / "set")

    @pytest.mark.parametrize("code", DISK)
    def test_a_fault_of_the_disk_ends_it_and_names_the_command_that_goes_on(self, tmp_path, code):
        with failing_disk(code, after=9), pytest.raises(CannotWrite) as told:
            made(tmp_path / "set", PROMPTS[:4])
        assert str(told.value).endswith("; mend that and go on with: the same command")
        assert sum(made(tmp_path / "set", PROMPTS[:4]).values()) == 4

    def test_a_set_that_another_process_makes_is_told(self, tmp_path):
        (tmp_path / "set").mkdir()
        other = Elsewhere(tmp_path / "set")
        with pytest.raises(FolderHeld, match="is in use by another process"):
            made(tmp_path / "set")
        other.ends()

    def test_settings_that_a_kill_left_empty_are_none(self, data):
        out, counts = data
        said = (out / "settings.json").read_bytes()
        (out / "settings.json").write_bytes(b"")
        assert made(out) == counts and (out / "settings.json").read_bytes() == said


def test_prompts_are_read_once_each_and_an_empty_file_is_refused(tmp_path):
    (tmp_path / "prompts").write_text("a red cat\n\n a red cat \ntwo blue cars\n")
    assert read_prompts(tmp_path / "prompts") == ["a red cat", "two blue cars"]
    (tmp_path / "none").write_text("\n")
    for name in ("none", "missing"):
        with pytest.raises(BadInput, match="prompts"):
            read_prompts(tmp_path / name)
