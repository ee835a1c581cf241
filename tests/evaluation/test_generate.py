"""Drawing by arms: what each spends, where its pictures go, and that a kill at any point costs nothing."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from clvr_core.errors import BadInput, CannotWrite, JudgeFailure
from clvr_core.evaluation import prompt_parse, store
from clvr_core.evaluation.arms import ARMS, CONTROLS, LOOPS, PLAN
from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.benchmarks.base import Item
from clvr_core.evaluation.generate import Generation, Order, sample
from clvr_core.evaluation.store import Arm, read_picture, seed_of
from clvr_core.models.registry import Models
from clvr_core.protocols import Decision, SomeDrawn
from clvr_core.stickers import CANVAS
from clvr_core.stickers.grammar import parse
from clvr_core.storage.lock import FolderHeld
from clvr_core.trajectory import seed_for
from tests.evaluation.folders import MAKERS, write_lines
from tests.fakes import FakeExecutor, FakeVlm
from tests.faults import failing_disk
from tests.stickers.eyes import perceive
from tests.stickers.oracle import WORLD, OracleExecutor, load_vlm
from tests.storage.test_lock import Elsewhere

BRIEFS = ["a red cat at the top left and two blue cars", "three green birds"]


VLM = load_vlm()
"""One for all: what it has looked at once it need not look at again."""


def drawing_models(fault=0.3, judge=None):
    vlm = VLM
    return Models(vlm, OracleExecutor(fault), CANVAS, CANVAS, vlm.require_readable, judge=judge)


class World:
    def __init__(self, tmp_path, briefs=BRIEFS):
        self.data, self.images, self.bench = tmp_path / "data", tmp_path / "images", BENCHMARKS["prompts"]
        write_lines(
            self.data / "prompts.jsonl", [{"id": f"b{number}", "prompt": brief} for number, brief in enumerate(briefs)]
        )
        self.items = self.bench.read(self.data)

    def generation(self, arm, models=None, name=None, **order):
        return Generation(
            self.bench, self.data, Arm(self.images, name or arm), Order(arm, **order), models or drawing_models()
        )

    def lines(self, name):
        return Arm(self.images, name).pictures().lines

    def bytes(self, name):
        return {path.name: path.read_bytes() for path in sorted((self.images / name).rglob("*.png"))}


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setattr(prompt_parse, "world_named", lambda: WORLD)
    return World(tmp_path)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_draws_every_picture_and_tells_what_it_spent(world, arm):
    models = drawing_models()
    report = world.generation(arm, models, evaluations=96).run()
    assert (report.made, report.failed) == (2, []) and len(world.bytes(arm)) == 2
    lines = world.lines(arm)
    assert {line["item"] for line in lines} == {"b0", "b1"}
    spent = [line["evaluations"] for line in lines]
    expected = {"oneshot": [24, 24], "rewrite": [24, 24], "best-of-n": [96, 96], PLAN: [96, 96]}
    assert spent == expected[arm] if arm in expected else max(spent) <= 96
    assert sum(spent) == sum(models.executor.nfe(request) for request in models.executor.requests)
    assert all((line["vlm_calls"] > 0) is (arm != "oneshot") for line in lines)
    assert [line["sha256"] for line in lines] == [store.file_hash(world.images / line["file"]) for line in lines]


def test_a_loop_with_a_steady_hand_meets_what_it_draws(world):
    world.generation("clvr", drawing_models(fault=0.0)).run()
    for item in world.items:
        assert parse(item.prompt).holds(perceive(read_picture(world.images / "clvr" / f"{item.id}.png")).scene())


def test_a_rewrite_says_where_everything_stands_and_the_line_keeps_its_words(world):
    models = drawing_models(0.0)
    world.generation("rewrite", models).run()
    told = [line["prompt"] for line in world.lines("rewrite")]
    assert told == [request.prompt for request in models.executor.requests]
    bits = [parse(words).bits - item.parse.bits for words, item in zip(told, world.items)]
    assert min(bits) >= 0 and max(bits) > 2


def test_a_plan_is_drawn_as_often_as_the_limit_pays_and_judged_by_the_goals_of_the_brief(world):
    class Half(OracleExecutor):
        """Draws the first two of four pictures wrongly."""

        def draw(self, requests):
            wrong = [replace(request, prompt="a black bus") for request in requests]
            return [super(Half, self).draw([(wrong if k % 4 < 2 else requests)[k]])[0] for k in range(len(requests))]

    executor = Half()
    world.generation(PLAN, Models(VLM, executor, CANVAS, CANVAS), evaluations=100).run()
    world.generation("rewrite").run()
    told = {name: [line["prompt"] for line in world.lines(name)] for name in (PLAN, "rewrite")}
    assert told[PLAN] == told["rewrite"] and not {*told[PLAN]} & {*BRIEFS}
    right = [request.prompt for k, request in enumerate(executor.requests) if k % 4 > 1]
    assert right == [told[PLAN][0]] * 2 + [told[PLAN][1]] * 2
    for line, item in zip(world.lines(PLAN), world.items):
        assert (line["picked"], line["images"], line["vlm_calls"]) == (2, 4, 1 + 1 + 4)
        assert parse(item.prompt).holds(perceive(read_picture(world.images / line["file"])).scene())


def test_the_plans_of_all_pictures_side_by_side_are_drawn_at_once(world):
    calls = []

    class Counting(OracleExecutor):
        def draw(self, requests):
            calls.append(len(requests))
            return super().draw(requests)

    world.generation(PLAN, Models(VLM, Counting(), CANVAS, CANVAS), evaluations=72, parallel=2).run()
    world.generation(PLAN, Models(VLM, Counting(), CANVAS, CANVAS), "one", evaluations=72, parallel=1).run()
    assert calls == [6, 3, 3] and list(world.bytes(PLAN).values()) == list(world.bytes("one").values())


def test_limits_of_a_loop_are_no_setting_of_a_plan(world):
    world.generation(PLAN, evaluations=24).run()
    assert world.generation(PLAN, evaluations=24, rounds=2, patience=1).run().there == 2


def test_all_arms_begin_with_the_same_luck(world):
    seeds = {}
    for arm in ("oneshot", "rewrite", *CONTROLS):
        models = drawing_models()
        world.generation(arm, models).run()
        seeds[arm] = [request.seed for request in models.executor.requests]
    first = [seed_for(seed_of("0", item.id, 0), 0, 0) for item in world.items]
    assert seeds["oneshot"] == seeds["rewrite"] == first
    assert seeds["best-of-n"] == seeds[PLAN] and {*first} < {*seeds[PLAN]} and len({*seeds[PLAN]}) == 8


@pytest.mark.parametrize("arm", CONTROLS)
def test_a_control_can_be_given_what_the_loop_spent_on_the_very_same_picture(world, arm):
    world.generation("clvr").run()
    world.generation(arm, match=Arm(world.images, "clvr")).run()
    loop, best = ({line["item"]: line["evaluations"] for line in world.lines(name)} for name in ("clvr", arm))
    assert best == {item: max(1, spent // 24) * 24 for item, spent in loop.items()}
    with pytest.raises(BadInput, match="nothing-yet has no picture 0 of item b0"):
        world.generation(arm, name="x", match=Arm(world.images, "nothing-yet")).run()


def test_the_estimate_is_an_upper_bound_and_knows_what_is_there(world):
    generation = world.generation("best-of-n", evaluations=96)
    before = generation.estimate()
    assert (before.left, before.evaluations, before.seconds) == (2, 192, None)
    generation.run()
    assert world.generation("best-of-n", evaluations=96).estimate().left == 0


def test_more_pictures_can_be_drawn_later_and_none_is_drawn_twice(world):
    world.generation("oneshot", limit=1).run()
    models = drawing_models()
    report = world.generation("oneshot", models).run()
    assert (report.there, report.made, len(models.executor.requests)) == (1, 1, 1)


@pytest.mark.parametrize("change", [{"seed": 1}, {"evaluations": 24}, {"rounds": 2}])
def test_a_name_stands_for_one_way_of_making(world, change):
    world.generation("clvr").run()
    with pytest.raises(BadInput, match=f"holds pictures made otherwise: {next(iter(change))}"):
        world.generation("clvr", **change)


@pytest.mark.parametrize("arm", ["oneshot", "clvr"])
def test_a_disk_that_takes_nothing_ends_it_at_once_and_the_same_command_goes_on(tmp_path, arm):
    briefs = [f"{many} red cats" for many in ("two", "three", "four", "five", "six", "seven")]
    whole, world = World(tmp_path / "whole", briefs), World(tmp_path / "world", briefs)
    whole.generation(arm, parallel=2).run()
    models = drawing_models()
    with (
        failing_disk(after=12),
        pytest.raises(CannotWrite, match=r"No space left.*; mend that and go on with: the same"),
    ):
        world.generation(arm, models, parallel=2).run()
    drawn = len(models.executor.requests)
    assert 0 < drawn < len(pictures_drawn(whole, arm)), "what cannot be kept is not drawn"
    world.generation(arm, parallel=2).run()
    assert world.bytes(arm) == whole.bytes(arm)


def pictures_drawn(world, arm):
    return [k for line in world.lines(arm) for k in range(line["images"])]


def test_what_was_drawn_beside_a_picture_that_was_refused_is_kept(tmp_path):
    class Refusing(OracleExecutor):
        def draw(self, requests):
            raise SomeDrawn("refused", [None, *super().draw(requests)[1:]])

    world = World(tmp_path, [*BRIEFS, "two red cats"])
    for arm, drawn in (("oneshot", 3), (PLAN, 6)):
        models = Models(VLM, executor := Refusing(0.3), CANVAS, CANVAS)
        report = world.generation(arm, models, parallel=3, evaluations=48).run()
        assert (report.made, report.failed) == (2, [("b0-0", "refused")]) and len(executor.requests) == drawn


def test_what_another_process_draws_is_not_drawn_a_second_time(world):
    generation = world.generation("oneshot")
    generation.arm.kept.mkdir(parents=True)
    other = Elsewhere(generation.arm.kept)
    with pytest.raises(FolderHeld):
        generation.run()
    other.ends()
    assert generation.run().made == 2 and world.generation("oneshot").run().there == 2


def test_settings_that_a_kill_left_empty_are_none(world):
    world.generation("oneshot").run()
    note = Arm(world.images, "oneshot").kept / "settings.json"
    said = note.read_bytes()
    note.write_bytes(b"")
    assert world.generation("oneshot").run().there == 2 and note.read_bytes() == said


def test_pictures_that_were_begun_before_loops_were_guided_are_gone_on_with_as_they_were(world):
    assert world.generation("clvr").way.guided
    world.generation("clvr").run()
    note = Arm(world.images, "clvr").kept / "settings.json"
    held = json.loads(note.read_text())
    assert held.pop("guided") is True
    note.write_text(json.dumps(held))
    again = world.generation("clvr")
    assert not again.way.guided and again.run().made == 0 and json.loads(note.read_text()) == held


def test_pictures_of_someone_else_are_not_drawn_over(world):
    (world.images / "clvr").mkdir(parents=True)
    (world.images / "clvr" / "b0.png").write_bytes(b"mine")
    with pytest.raises(BadInput, match="holds pictures that were not made here"):
        world.generation("clvr")
    assert (world.images / "clvr" / "b0.png").read_bytes() == b"mine"


class Killed(BaseException):
    pass


class TestAKill:
    """Every write ends in an fsync or os.replace; the run dies before one of them."""

    @pytest.fixture
    def whole(self, tmp_path):
        made = World(tmp_path / "whole")
        made.generation("clvr", evaluations=120, parallel=2).run()
        return made

    @pytest.mark.parametrize("arm", ["oneshot", PLAN, "clvr"])
    def test_at_any_write_costs_nothing_and_changes_nothing(self, tmp_path, monkeypatch, arm):
        settings = {"evaluations": 40, "parallel": 2}
        whole = World(tmp_path / "whole")
        whole.generation(arm, **settings).run()
        count, at = [0], [None]

        def dying(write):
            def watched(*inputs):
                count[0] += 1
                if count[0] == at[0]:
                    raise Killed
                return write(*inputs)

            return watched

        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", dying(lambda file: None))
        monkeypatch.setattr(os, "replace", dying(replace))
        World(tmp_path / "count").generation(arm, **settings).run()
        writes = count[0]
        assert writes > 8
        for point in range(1, writes + 1, max(1, writes // 12)):
            broken = World(tmp_path / "broken")
            count[0], at[0] = 0, point
            with pytest.raises(Killed):
                broken.generation(arm, **settings).run()
            at[0] = None
            report = broken.generation(arm, **settings).run()
            assert not report.failed and broken.bytes(arm) == whole.bytes(arm), point
            held = [{**line, "seconds": 0} for line in sorted(broken.lines(arm), key=lambda line: line["item"])]
            assert held == [
                {**line, "seconds": 0} for line in sorted(whole.lines(arm), key=lambda line: line["item"])
            ], point
            shutil.rmtree(tmp_path / "broken")
        assert fsync is not os.fsync

    def test_that_lost_a_picture_draws_it_again(self, whole):
        before = whole.bytes("clvr")
        (whole.images / "clvr" / "b1.png").unlink()
        models = drawing_models()
        whole.generation("clvr", models, evaluations=120).run()
        assert whole.bytes("clvr") == before and not models.executor.requests, (
            "the run is on record: nothing is drawn anew"
        )


class TestWhatCannotBeDrawn:
    def test_a_prompt_out_of_the_models_words_is_told_and_the_rest_is_drawn(self, tmp_path):
        world = World(tmp_path, [BRIEFS[0], "a photo of a llama", BRIEFS[1]])
        report = world.generation("clvr").run()
        assert report.made == 2 and [name for name, _ in report.failed] == ["b1-0"]
        assert [line["item"] for line in world.lines("clvr") if "failed" in line] == ["b1"]

    @pytest.mark.parametrize("arm", ["rewrite", "clvr", *CONTROLS])
    def test_a_vision_model_that_is_down_ends_it_in_words_and_leaves_no_picture_of_chance(self, tmp_path, arm):
        world = World(tmp_path, [f"{BRIEFS[0]}", BRIEFS[1], BRIEFS[1] + ".", BRIEFS[0] + "."])
        down = FakeVlm(
            replies=lambda messages: JudgeFailure("no route"),
            decisions=lambda images, questions: JudgeFailure("no route"),
        )
        with pytest.raises(BadInput, match=r"the vision model is down: .*no route.*; 0 of 4 pictures are there"):
            world.generation(arm, Models(down, OracleExecutor(), CANVAS, CANVAS), parallel=2).run()
        assert not world.bytes(arm) and not list((world.images / "clvr-eval" / arm / "runs").glob("*"))
        up = FakeVlm()
        healthy = VLM
        up.chat, up.decide = healthy.chat, healthy.decide
        report = world.generation(arm, Models(up, OracleExecutor(), CANVAS, CANVAS), parallel=2).run()
        assert report.made == 4 and len(world.bytes(arm)) == 4

    def test_one_bad_prompt_does_not_take_those_beside_it_along(self, tmp_path):
        class Picky(OracleExecutor):
            def draw(self, requests):
                if any("bird" in request.prompt for request in requests):
                    raise BadInput("this prompt is too long")
                return super().draw(requests)

        for arm in ("oneshot", PLAN, "clvr"):
            world = World(tmp_path / arm, [BRIEFS[0], BRIEFS[1], BRIEFS[0] + "."])
            report = world.generation(arm, Models(VLM, Picky(), CANVAS, CANVAS)).run()
            assert report.made == 2 and report.failed == [("b1-0", "this prompt is too long")]

    def test_unknown_arms_and_senseless_limits(self, tmp_path):
        for order, said in (({"arm": "two-shot"}, "unknown arm"), ({"arm": "clvr", "parallel": 0}, "parallel is 0")):
            with pytest.raises(BadInput, match=said):
                Order(**order)
        with pytest.raises(BadInput, match="give one of them"):
            Order("clvr", evaluations=5, match=Arm(tmp_path, "x"))

    @pytest.mark.parametrize("name", ["../x", "a/b", "", "clvr-eval", ".hidden", "x" * 65])
    def test_names_that_are_paths(self, tmp_path, name):
        with pytest.raises(BadInput, match="name is"):
            Arm(tmp_path, name)


class TestEdits:
    def test_start_from_their_source(self, tmp_path):
        bench, data = BENCHMARKS["imgedit"], MAKERS["imgedit"](tmp_path / "data")
        executor = FakeExecutor()
        models = Models(FakeVlm(), executor, 8, 8)
        Generation(bench, data, Arm(tmp_path / "images", "oneshot"), Order("oneshot"), models).run()
        assert [(request.prompt, int(request.references[0][0, 0, 0])) for request in executor.requests] == [
            ("make the cat red", 110),
            ("remove the car", 111),
        ]

    def test_the_best_of_several_is_the_one_that_the_judge_prefers(self, tmp_path):
        bench, data = BENCHMARKS["imgedit"], MAKERS["imgedit"](tmp_path / "data")
        goals = json.dumps({"goals": [{"text": "red"}]})
        # Grey 10, 20, ...: the third of each four is good.
        judge = FakeVlm(
            replies=lambda messages: goals,
            decisions=lambda images, questions: [Decision(float(images[-1][0, 0, 0] in (30, 70)))] * len(questions),
        )
        arm = Arm(tmp_path / "images", "best-of-n")
        Generation(bench, data, arm, Order("best-of-n"), Models(judge, FakeExecutor(), 8, 8)).run()
        assert [int(read_picture(arm.folder / f"{key}.png")[0, 0, 0]) for key in (10, 11)] == [30, 70]
        assert [line["picked"] for line in arm.pictures().lines] == [2, 2]

    @pytest.mark.parametrize("arm", LOOPS)
    def test_a_loop_begins_from_its_source_and_edits_that(self, tmp_path, arm):
        bench, data = BENCHMARKS["imgedit"], MAKERS["imgedit"](tmp_path / "data")
        goals = json.dumps({"goals": [{"text": "red"}]})
        edit = {"kind": "EDIT", "goals": ["g1"], "references": [0], "edit_prompt": "make it red", "scene_prompt": ""}
        # Grey 10, 20, ... are drawn; the first of each run is good, and the sources, 110 and 111, are not.
        judge = FakeVlm(
            replies=lambda messages: goals if messages[-1].data.get("task") == "goals" else json.dumps(edit),
            decisions=lambda images, questions: (
                [Decision(float(bool(images) and images[-1][0, 0, 0] < 100))] * len(questions)
            ),
        )
        executor, made = FakeExecutor(), Arm(tmp_path / "images", arm)
        report = Generation(bench, data, made, Order(arm, parallel=1), Models(judge, executor, 8, 8)).run()
        assert report.made == 2 and int(executor.requests[0].references[0][0, 0, 0]) == 110
        assert all(int(read_picture(made.folder / f"{key}.png")[0, 0, 0]) < 100 for key in (10, 11))

    def test_a_source_that_is_gone_fails_for_its_item_alone(self, tmp_path):
        bench, data = BENCHMARKS["imgedit"], MAKERS["imgedit"](tmp_path / "data")
        (data / "animal" / "10.png").unlink()
        report = Generation(
            bench, data, Arm(tmp_path / "images", "oneshot"), Order("oneshot"), Models(FakeVlm(), FakeExecutor(), 8, 8)
        ).run()
        assert report.made == 1 and report.failed[0][0] == "10-0" and "cannot be read" in report.failed[0][1]


class TestTheOfficialLayout:
    def test_geneval_has_four_pictures_and_the_metadata_of_each_prompt(self, tmp_path):
        bench, data = BENCHMARKS["geneval"], MAKERS["geneval"](tmp_path / "data")
        arm = Arm(tmp_path / "images", "oneshot")
        Generation(bench, data, arm, Order("oneshot"), Models(FakeVlm(), FakeExecutor(), 8, 8)).run()
        found = sorted(path.relative_to(arm.folder).as_posix() for path in arm.folder.rglob("*") if path.is_file())
        assert found == sorted(
            [f"{n:05d}/metadata.jsonl" for n in range(4)]
            + [f"{n:05d}/samples/{k:04d}.png" for n in range(4) for k in range(4)]
        )
        assert json.loads((arm.folder / "00002" / "metadata.jsonl").read_text())["tag"] == "colors"

    def test_geneval_plus_has_real_jpegs(self, tmp_path):
        bench, data = BENCHMARKS["geneval++"], MAKERS["geneval++"](tmp_path / "data")
        arm = Arm(tmp_path / "images", "oneshot")
        Generation(bench, data, arm, Order("oneshot"), Models(FakeVlm(), FakeExecutor(), 8, 8)).run()
        assert (arm.folder / "3.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
        assert np.abs(read_picture(arm.folder / "1.jpg").astype(int) - 10).max() <= 1


def test_a_limit_takes_from_every_part_and_a_larger_one_has_all_of_a_smaller_one():
    items = [Item(f"{tag}{n}", "p", tag) for tag in "abc" for n in range(20)]
    for small in range(1, 60):
        less, more = ({item.id for item in sample(items, limit)} for limit in (small, small + 1))
        assert len(less) == small and less < more
        counts = [sum(name.startswith(tag) for name in less) for tag in "abc"]
        assert max(counts) - min(counts) <= 1
    assert sample(items, None) == items and [item.id for item in sample(items, 60)] == [item.id for item in items]
