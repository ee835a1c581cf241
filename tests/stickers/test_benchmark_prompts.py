"""The world's own prompts in the forms of GenEval and LGBench, and its reader as their judge, on pictures that carry their scene."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.evaluation.benchmarks import BENCHMARKS, SHIPPED, recognise
from clvr_core.evaluation.detector import verdict
from clvr_core.evaluation.judging import questions
from clvr_core.evaluation.names import EMBEDDED_GENEVAL, EMBEDDED_LGBENCH
from clvr_core.evaluation.score import BoxJudge, Scoring
from clvr_core.evaluation.sticker_judge import ReaderDetector, ReaderJudge
from clvr_core.evaluation.sticker_prompts import (
    GOALS,
    LONGEST,
    TASKS,
    compose,
    geneval_records,
    goals_of,
    knows,
    lgbench_records,
    long_brief,
)
from clvr_core.evaluation.store import Arm
from clvr_core.stickers.grammar import parse, read, tokens_of
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.phrases import NOTHING_BUT
from clvr_core.stickers.planner import layout
from clvr_core.stickers.scene import NOUNS, Scene, Thing
from clvr_core.stickers.spec import AtLeast, Relation
from tests.stickers.eyes import picture_of


def scene_of(prompt: str) -> Scene:
    scene = layout(parse(prompt), Scene(), random.Random(0))
    assert scene is not None
    return scene


class TestGenEvalsForm:
    def test_the_shipped_list_is_what_the_command_writes_today(self, tmp_path, capsys):
        assert main(["eval", "compose", "geneval", "--out", str(tmp_path)]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / EMBEDDED_GENEVAL)
        assert (tmp_path / EMBEDDED_GENEVAL).read_bytes() == (SHIPPED / EMBEDDED_GENEVAL).read_bytes()

    def test_every_task_has_as_many_prompts_as_genevals_and_none_comes_twice(self):
        items = BENCHMARKS["embedded-geneval"].read(SHIPPED)
        assert Counter(item.tag for item in items) == TASKS and sum(TASKS.values()) == 553
        assert len({item.prompt for item in items}) == len(items)
        assert {item.record["include"][0]["class"] for item in items if item.tag == "single_object"} == set(NOUNS)

    def test_another_seed_draws_others(self):
        assert geneval_records(1) != geneval_records(0) == geneval_records(0)

    @pytest.mark.parametrize(
        "record",
        [
            {"prompt": "a photo of a bench", "include": [{"class": "bench"}]},
            {"prompt": "a photo of a cat", "include": [{"class": "dog"}]},
            {"prompt": "a photo of a red cat", "include": [{"class": "cat", "color": "blue"}]},
            {"prompt": "a photo of two cats", "include": [{"class": "cat", "count": 3}]},
            {
                "prompt": "a photo of a cat above a dog",
                "include": [{"class": "dog"}, {"class": "cat", "position": ["below", 0]}],
            },
        ],
    )
    def test_a_record_in_other_words_or_that_says_another_thing_is_not_known(self, record):
        assert not knows(record)

    def test_of_the_users_file_those_are_kept_that_the_world_knows_with_their_numbers(self, tmp_path):
        records = [
            {"tag": "single_object", "include": [{"class": name, "count": 1}], "prompt": f"a photo of a {name}"}
            for name in ("bench", "cow", "fork", "cat")
        ]
        path = tmp_path / "evaluation_metadata.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        bench = recognise(tmp_path, "embedded-geneval")
        assert [(item.id, item.prompt) for item in bench.read(tmp_path)] == [
            ("00001", "a photo of a cow"),
            ("00003", "a photo of a cat"),
        ]
        assert recognise(tmp_path).name == "geneval"
        path.write_text(json.dumps(records[0]) + "\n")
        with pytest.raises(BadInput, match="no prompt whose words the sticker world knows"):
            bench.read(tmp_path)


class TestLongBriefs:
    @pytest.mark.parametrize("goals", range(GOALS[0], GOALS[1] + 1))
    def test_has_so_many_goals_of_all_kinds_can_be_met_and_is_read_back(self, goals):
        spec, prompt = long_brief(random.Random(goals), goals)
        assert len(goals_of(spec)) == goals and len(tokens_of(prompt)) <= LONGEST
        back = parse(prompt)
        assert set(back.items) == set(spec.items) and set(back.relations) == set(spec.relations)
        assert back.backdrop == spec.backdrop is not None and any(item.word for item in spec.items)
        assert spec.relations and len(spec.items) > 2
        scene = scene_of(prompt)
        assert spec.holds(scene) and all(statement.holds(scene) for statement in spec.statements)

    @pytest.mark.parametrize("goals", [GOALS[0] - 1, GOALS[1] + 1])
    def test_fewer_or_more_goals_are_refused(self, goals):
        with pytest.raises(ValueError, match="10 to 22"):
            long_brief(random.Random(0), goals)

    def test_are_read_as_lgbenchs_and_every_goal_is_in_words_that_the_judge_reads(self, tmp_path, capsys):
        folder = tmp_path / "data"
        assert main(["eval", "compose", "lgbench", "--out", str(folder), "--tasks", "13", "--seed", "5"]) == 0
        bench = recognise(folder)
        items = bench.read(folder)
        assert bench.name == "embedded-lgbench" and [len(item.atoms) for item in items] == list(range(10, 23))
        for item in items:
            spec = parse(item.prompt)
            assert len(spec.relations) == sum(
                bool(read(atom.text).relations) for atom in item.atoms if NOTHING_BUT not in atom.text
            )
            assert len(item.atoms) == sum(not isinstance(one, AtLeast) for one in spec.statements)

    def test_the_same_seed_gives_the_same_file(self, tmp_path):
        one, two = compose("lgbench", tmp_path / "a", 4, 1), compose("lgbench", tmp_path / "b", 4, 1)
        assert one.name == EMBEDDED_LGBENCH and one.read_bytes() == two.read_bytes()
        assert lgbench_records(4, 2) != lgbench_records(4, 1)

    def test_no_task_and_no_such_form_are_refused(self, tmp_path):
        with pytest.raises(BadInput, match="at least 1"):
            compose("lgbench", tmp_path, 0)
        with pytest.raises(BadInput, match="geneval and lgbench"):
            compose("wise", tmp_path)


def beside(scene: Scene, row: bool) -> Scene:
    """The two things of a scene in one row, or in one column, in the order in which they stand along it."""
    things = sorted(scene.things, key=lambda thing: thing.center[0 if row else 1])
    return Scene(tuple(replace(thing, cell=place if row else 3 * place) for place, thing in enumerate(things)))


def scored(tmp_path, name: str, judge, pictures, data=None):
    """The result of one picture for each item. pictures: item -> scene, or a picture."""
    bench = BENCHMARKS[name]
    items = bench.read(data)
    arm = Arm(tmp_path / "images", "drawn")
    for item in items:
        arm.save(bench, item, 0, pictures(item))
    return Scoring(bench, data, arm, judge, items, 1).run().result


def written(folder, *prompts: str):
    records = [record for record in geneval_records() if record["prompt"] in prompts or record["tag"] in prompts]
    folder.mkdir()
    (folder / EMBEDDED_GENEVAL).write_text("".join(json.dumps(record) + "\n" for record in records[:12]))
    return folder


@pytest.mark.usefixtures("reading_eyes")
class TestTheReaderAsJudge:
    def test_a_picture_of_the_brief_holds_by_both_readings(self, tmp_path):
        data = written(tmp_path / "data", "position")
        for judge in (ReaderJudge(), BoxJudge(ReaderDetector())):
            straight = lambda item: picture_of(beside(scene_of(item.prompt), " of " in item.prompt[12:]))  # noqa: E731
            found = scored(tmp_path, "embedded-geneval", judge, straight, data)
            assert found["measures"]["overall"]["value"] == 1.0

    def test_the_clauses_of_every_task_say_what_the_prompt_says(self):
        detector = ReaderDetector()
        by_tag: dict[str, list] = {}
        for record in geneval_records(seed=3):
            by_tag.setdefault(record["tag"], []).append(record)
        for record in (record for records in by_tag.values() for record in records[:12]):
            scene = scene_of(record["prompt"])
            if record["tag"] == "position":
                row = record["include"][1]["position"][0] in ("left of", "right of")
                scene = beside(scene, row)
            picture = picture_of(scene)
            found = verdict(record, detector.found(picture), detector.color_of(picture), exact=True)
            assert parse(record["prompt"]).holds(scene) and found == (True, []), record

    def test_genevals_rule_wants_a_relation_within_sixty_degrees_and_the_world_does_not(self):
        record = {
            "tag": "position",
            "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["above", 0]}],
        }
        scene = Scene((Thing("cat", "natural", "small", 0), Thing("dog", "natural", "small", 5)))
        picture, detector = picture_of(scene), ReaderDetector()
        assert parse("a photo of a cat above a dog").holds(scene)
        assert not verdict(record, detector.found(picture), detector.color_of(picture))[0]

    def test_one_thing_too_many_passes_by_genevals_rules_and_not_by_the_brief(self, tmp_path):
        data = written(tmp_path / "data", "two_object")

        def crowded(item):
            scene = scene_of(item.prompt)
            return picture_of(scene.with_thing(replace(scene.things[0], cell=scene.free()[0])))

        by_boxes = scored(tmp_path, "embedded-geneval", BoxJudge(ReaderDetector()), crowded, data)["measures"]
        assert by_boxes["overall"]["value"] == 1.0 and by_boxes["overall, no more than asked for"]["value"] == 0.0
        assert scored(tmp_path, "embedded-geneval", ReaderJudge(), crowded, data)["measures"]["overall"]["value"] == 0.0

    def test_a_wrong_colour_fails_by_both_and_what_was_read_is_told(self, tmp_path):
        data = written(tmp_path / "data", "color_attr")

        def swapped(item):
            return picture_of(Scene((Thing("cross", "green", "small", 4),)))

        for judge in (ReaderJudge(), BoxJudge(ReaderDetector())):
            assert scored(tmp_path, "embedded-geneval", judge, swapped, data)["measures"]["overall"]["value"] == 0.0
        item = BENCHMARKS["embedded-geneval"].read(data)[0]
        told = ReaderJudge().look(item, [swapped(item)]).reasons
        assert list(told.values()) == ["a small green cross at the middle center; scene: plain"]

    def test_what_is_unclear_makes_no_whole_brief(self, tmp_path):
        data = written(tmp_path / "data", "single_object")
        unclear = lambda item: picture_of(scene_of(item.prompt), unclear=scene_of(item.prompt).free()[:1])  # noqa: E731
        assert scored(tmp_path, "embedded-geneval", ReaderJudge(), unclear, data)["measures"]["overall"]["value"] == 0.0

    def test_each_goal_of_a_long_brief_is_answered_by_itself_as_the_exact_judge_does(self, tmp_path):
        compose("lgbench", tmp_path / "data", 6, 2)

        def poorer(item):
            """The scene without its sign."""
            scene = scene_of(item.prompt)
            return picture_of(scene.without(thing.cell for thing in scene.things if thing.word))

        whole = scored(
            tmp_path,
            "embedded-lgbench",
            ReaderJudge(),
            lambda item: picture_of(scene_of(item.prompt)),
            tmp_path / "data",
        )
        assert whole["measures"]["goal success"]["value"] == 1.0
        assert whole["measures"]["tasks with 80 % of their goals"]["value"] == 1.0
        less = scored(tmp_path, "embedded-lgbench", ReaderJudge(), poorer, tmp_path / "data")
        assert 0.3 < less["measures"]["goal success"]["value"] < 1.0
        for item in BENCHMARKS["embedded-lgbench"].read(tmp_path / "data"):
            picture = poorer(item)
            asked = StickersVlm().decide([picture], questions(item))
            answers = ReaderJudge().look(item, [picture]).answers
            assert [one.yes > 0.5 for one in asked] == [value == 1.0 for value in answers.values()]
            assert all(
                answers[atom.id] == 0.0 for atom in item.atoms if "sign that" in atom.text and ":" not in atom.text
            )

    def test_a_picture_of_another_size_is_refused_with_its_size(self):
        item = BENCHMARKS["embedded-geneval"].read(SHIPPED)[0]
        with pytest.raises(BadInput, match="96 x 64"):
            ReaderJudge().look(item, [picture_of(Scene())[:64, :96]])

    def test_the_command_scores_the_shipped_list_without_data(self, tmp_path, capsys):
        bench = BENCHMARKS["embedded-geneval"]
        items = bench.read(SHIPPED)
        for item in (items[0], items[100]):
            Arm(tmp_path, "drawn").save(bench, item, 0, picture_of(scene_of(item.prompt)))
        for reading in ("brief", "boxes"):
            order = ["eval", "score", "--bench", bench.name, "--images", str(tmp_path), "--reader", reading]
            assert main([*order, "--pictures", "1", "--json"]) == 0
            (result,) = json.loads(capsys.readouterr().out)["results"]
            assert result["measures"]["overall"]["value"] == 1.0 and result["pictures"]["judged"] == 2

    def test_the_reader_judges_only_benchmarks_of_its_world(self, tmp_path, capsys):
        compose("lgbench", tmp_path / "data", 1)
        order = ["eval", "score", "--data", str(tmp_path / "data"), "--images", str(tmp_path), "--reader", "boxes"]
        (tmp_path / "drawn").mkdir()
        assert main(order) == 2 and "this is embedded-lgbench" in capsys.readouterr().err
        assert main(["eval", "score", "--images", str(tmp_path), "--reader", "brief"]) == 2
        assert "--data is missing" in capsys.readouterr().err


def test_relations_between_the_same_two_things_are_told_once():
    spec, _ = long_brief(random.Random(1), 22)
    pairs = [frozenset((relation.a, relation.b)) for relation in spec.relations]
    assert len(set(pairs)) == len(pairs) and all(isinstance(relation, Relation) for relation in spec.relations)
