"""Adapters: what is read of each format, where its pictures go, what is asked, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation import names, scoring
from clvr_core.evaluation.benchmarks import BENCHMARKS, data_hash, recognise
from clvr_core.evaluation.benchmarks.base import all_hold, settled
from clvr_core.evaluation.benchmarks.geneval import checklist, counted
from clvr_core.evaluation.benchmarks.geneval2 import question_for
from clvr_core.evaluation.benchmarks.r3bench import rectified
from clvr_core.evaluation.benchmarks.wise import Wise, tag_of
from clvr_core.evaluation.judging import PROTOCOLS, questions
from tests.evaluation.folders import GENEVAL, MAKERS, r3_records, write_lines, write_list


def items_of(name: str, folder: Path):
    MAKERS[name](folder)
    return BENCHMARKS[name], BENCHMARKS[name].read(folder)


@pytest.mark.parametrize("name", MAKERS)
def test_each_is_known_by_its_files_and_asks_something_of_every_item(name, tmp_path):
    bench, items = items_of(name, tmp_path / "data")
    assert recognise(tmp_path / "data") is bench and recognise(tmp_path / "data", name) is bench
    assert len({item.id for item in items}) == len(items) > 1
    assert name == "prompts" or all(questions(item) for item in items)
    paths = [bench.path(item, k) for item in items for k in range(item.pictures)]
    assert len(set(paths)) == len(paths) and not any(
        Path(path).is_absolute() or ".." in Path(path).parts for path in paths
    )


def test_all_benchmarks_have_a_maker():
    assert MAKERS.keys() == BENCHMARKS.keys()


FIRST = {
    "geneval": ["00000/samples/0000.png", "00000/samples/0003.png"],
    "embedded-geneval": ["00000/samples/0000.png", "00000/samples/0003.png"],
    "geneval++": ["1.jpg"],
    "geneval2": ["00001.png"],
    "wise": ["1.png"],
    "wise-verified": ["1.png"],
    "prism": ["text_rendering/0.png"],
    "imagine": ["1.png"],
    "embedded-lgbench": ["draw-0001.png"],
    "lgbench": ["draw-0001.png"],
    "imgedit": ["10.png"],
    "r3bench": ["r3b_000000_edited.png"],
    "prompts": ["00001.png"],
}


@pytest.mark.parametrize("name", MAKERS)
def test_pictures_go_where_the_official_script_looks(name, tmp_path):
    bench, items = items_of(name, tmp_path)
    assert [bench.path(items[0], k) for k in sorted({0, items[0].pictures - 1})] == FIRST[name]


class TestR3Bench:
    @pytest.fixture
    def items(self, tmp_path):
        return items_of("r3bench", tmp_path)[1]

    def test_each_question_is_asked_of_the_picture_before_and_after(self, items):
        assert [atom.id for atom in items[0].atoms] == ["before-1", "before-2", "after-1", "after-2"]
        assert items[0].atoms[0].question == "Look at the first image alone. Is there a cat?"
        assert items[0].atoms[3].question.endswith("Is there a dog? Say yes if the answer to this is no.")
        assert items[0].source == "images/color/false/r3b_000000.png" and items[0].tag == "color"

    @pytest.mark.parametrize(
        ("before", "after", "mended"),
        [
            ((1, 0), (1, 1), 1.0),
            ((0, 0), (1, 0), 0.5),
            ((1, 0), (0, 0), -1.0),
            ((1, 1), (0, 0), 0.0),
            ((1, 0), (1, None), None),
        ],
    )
    def test_what_was_wrong_is_rectified_by_its_share(self, items, before, after, mended):
        answers = dict(zip((atom.id for atom in items[0].atoms), (*before, *after)))
        assert rectified(items[0], answers) == mended
        passed = BENCHMARKS["r3bench"].passed(items[0], answers)
        assert passed == (None if None in after else float(after == (1, 1)))

    def test_the_measures_count_the_wrong_and_the_right_pictures_apart(self, items):
        answers = {("r3b_000000", 0): dict.fromkeys(("before-1", "after-1", "after-2"), 1.0) | {"before-2": 0.0}}
        answers[("r3b_000001", 0)] = dict.fromkeys(("before-1", "before-2", "after-1"), 1.0) | {"after-2": 0.0}
        found = [scoring.number(measure, items, answers, 1).value for measure in BENCHMARKS["r3bench"].measures]
        assert found == [1.0, 0.5]

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"answer": "false"}, "line 1: answer is 'false'; true or false is expected"),
            ({"original_prompt": ""}, "line 1: original_prompt is ''; a str is expected"),
            ({"bad_image": "../x.png"}, "line 1: '../x.png' is no path inside the data folder"),
            (
                {"generated_qa": {"yn_question_list": ["a?"], "yn_answer_list": []}},
                "there are 1 questions and 0 answers",
            ),
            (
                {"generated_qa": {"yn_question_list": ["a?"], "yn_answer_list": ["2"]}},
                "question 1 is 'a\\?' with the answer '2'",
            ),
            ({"generated_qa": None}, "line 1: generated_qa is None; a dict is expected"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_its_line(self, tmp_path, change, says):
        write_lines(tmp_path / "r3bench.jsonl", [r3_records()[0] | change])
        with pytest.raises(BadInput, match=says):
            BENCHMARKS["r3bench"].read(tmp_path)


class TestGenEval:
    def test_every_prompt_has_its_metadata_beside_its_four_pictures(self, tmp_path):
        bench, items = items_of("geneval", tmp_path)
        told = bench.sidecars(items, "arm")
        assert [json.loads(told[f"{number:05d}/metadata.jsonl"]) for number in range(4)] == GENEVAL
        assert {item.pictures for item in items} == {4}

    def test_a_clause_is_at_least_its_count_unless_one_more_is_excluded(self):
        loose = checklist({"include": [{"class": "dog", "count": 2}]}, "here")
        exact = checklist(
            {"include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]}, "here"
        )
        assert "at least two dogs" in loose[0].question and "exactly two dogs" in exact[0].question
        assert [atom.extra for atom in loose] == [False, True] and len(exact) == 1

    def test_an_exclude_of_another_class_is_a_question_of_its_own(self):
        atoms = checklist(
            {"include": [{"class": "dog", "count": 1}], "exclude": [{"class": "cat", "count": 1}]}, "here"
        )
        assert atoms[-1].question == "Is it so that the picture shows no cat?"

    def test_more_than_asked_for_passes_by_the_official_rule_only(self, tmp_path):
        _, items = items_of("geneval", tmp_path)
        answers = {atom.id: 0.0 if atom.extra else 1.0 for atom in items[0].atoms}
        assert (all_hold(items[0], answers), all_hold(items[0], answers, extra=True)) == (1.0, 0.0)

    def test_what_is_not_there_has_no_colour_and_no_place(self, tmp_path):
        _, items = items_of("geneval", tmp_path)
        position = items[3]
        known = settled(position, {"0": 0.1, "1": 0.9, "1-position": 0.9})
        assert known["1-position"] == 0.0 and known["1"] == 0.9

    def test_an_unanswered_question_leaves_open_what_no_other_decides(self, tmp_path):
        _, items = items_of("geneval", tmp_path)
        color = items[2]
        assert all_hold(color, {"0": 0.9, "0-color": None}) is None
        assert all_hold(color, {"0": 0.1, "0-color": None}) == 0.0

    @pytest.mark.parametrize(
        "clause, said",
        [
            ({"count": 1}, "class is None"),
            ({"class": "dog", "count": 0}, "count is 0"),
            ({"class": "dog", "count": "two"}, "count is 'two'"),
            ({"class": "dog", "position": ["left of", 0]}, "an earlier clause"),
            ({"class": "dog", "position": ["beside", 0]}, "'beside'"),
        ],
    )
    def test_a_clause_that_says_nothing_is_refused_with_its_line(self, tmp_path, clause, said):
        write_lines(
            tmp_path / "evaluation_metadata.jsonl",
            [GENEVAL[0], {"tag": "position", "include": [clause], "prompt": "x"}],
        )
        with pytest.raises(BadInput, match="line 2") as error:
            BENCHMARKS["geneval"].read(tmp_path)
        assert said in str(error.value)

    def test_counts_in_words(self):
        assert [
            counted(1, "apple"),
            counted(3, "bus", "red"),
            counted(2, "knife"),
            counted(4, "sheep"),
            counted(12, "dog"),
        ] == [
            "an apple",
            "three red buses",
            "two knives",
            "four sheep",
            "12 dogs",
        ]


def test_geneval_plus_wants_exact_counts_regions_sizes_and_a_photograph(tmp_path):
    bench, items = items_of("geneval++", tmp_path)
    asked = " ".join(question.text for question in questions(items[1]))
    assert "upper part" in asked and "larger than the spoon" in asked and "photograph" in asked
    drawn = {atom.id: 0.0 if atom.id == "photo" else 1.0 for atom in items[0].atoms}
    assert [measure.value(items[0], drawn) for measure in bench.measures[:2]] == [0.0, 1.0]


def test_geneval2_turns_each_answer_into_a_yes_and_has_its_own_complexity(tmp_path):
    bench, items = items_of("geneval2", tmp_path)
    assert (
        question_for("Is it red?", "Yes") == "Is it red?"
        and 'Is the answer "two", exactly?' in items[0].atoms[0].question
    )
    assert [item.complexity for item in items] == [3.0, 4.0]
    answers = {"0": 0.5, "1": 1.0, "2": 0.5}
    assert [measure.value(items[0], answers) for measure in bench.measures] == [
        pytest.approx(2 / 3),
        pytest.approx(0.25 ** (1 / 3)),
    ]
    assert bench.measures[1].value(items[0], {"0": 0.0, "1": 1.0, "2": 1.0}) == 0.0
    assert json.loads(bench.sidecars(items, "arm")["image_paths.json"])["two red hats"] == "arm/00001.png"


def test_the_parts_of_wise_are_the_official_ranges_of_each_protocol(tmp_path):
    _, legacy = items_of("wise", tmp_path / "legacy")
    _, verified = items_of("wise-verified", tmp_path / "verified")
    assert [item.tag for item in legacy] == ["culture", "culture", "time", "space", "biology", "physics", "chemistry"]
    assert [item.tag for item in verified] == ["culture", "time", "space", "biology", "physics", "chemistry"]
    assert tag_of(601, Wise.starts) == "space" and tag_of(601, BENCHMARKS["wise-verified"].starts) == "space"
    for bench in (BENCHMARKS["wise"], BENCHMARKS["wise-verified"]):
        assert sum(bench.measures[0].weights.values()) == pytest.approx(1.0)


def test_prism_numbers_each_track_and_reads_the_table_of_another_distributor_too(tmp_path):
    _, items = items_of("prism", tmp_path / "jsonl")
    assert [item.id for item in items][:3] == ["text_rendering/0", "text_rendering/1", "style/0"]
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv" / "all.tsv").write_text(
        "Prompt\tCategory\tChallenge\tNote\none\tText rendering\t\t\ntwo\tStyle\t\t\n"
    )
    assert [item.id for item in BENCHMARKS["prism"].read(tmp_path / "tsv")] == ["text_rendering/0", "style/0"]
    (tmp_path / "tsv" / "all.tsv").write_text("Prompt\tCategory\none\tmusic\n")
    with pytest.raises(BadInput, match=r"line 2: Category is 'music'"):
        BENCHMARKS["prism"].read(tmp_path / "tsv")


def test_lgbench_reads_goals_in_the_order_of_their_numbers(tmp_path):
    record = {"Prompt": "x", **{f"Goal_{number}": f"goal {number}" for number in (10, 2, 1)}}
    write_list(tmp_path / "lgbench.json", [record, {**record, "source": "a/b.png"}])
    items = BENCHMARKS["lgbench"].read(tmp_path)
    assert [atom.text for atom in items[0].atoms] == ["goal 1", "goal 2", "goal 10"]
    assert items[1].source == "a/b.png" and items[1].tag == "edit" and "second image" in items[1].atoms[0].question


@pytest.mark.parametrize("met, silent, enough", [(4, 0, 1.0), (3, 0, 0.0), (3, 1, None), (4, 1, 1.0), (2, 1, 0.0)])
def test_four_of_five_goals_are_eighty_percent(tmp_path, met, silent, enough):
    bench, items = items_of("lgbench", tmp_path)
    values = [1.0] * met + [None] * silent + [0.0] * (5 - met - silent)
    assert bench.measures[1].value(items[0], dict(zip("12345", values))) == enough


class TestWhatIsRefused:
    def test_a_name_that_is_not_known(self, tmp_path):
        with pytest.raises(BadInput, match="unknown benchmark 'genval'; choose one of geneval, "):
            recognise(tmp_path, "genval")

    def test_a_folder_that_is_not_there_or_holds_something_else(self, tmp_path):
        with pytest.raises(BadInput, match="is not there"):
            recognise(tmp_path / "gone")
        with pytest.raises(BadInput, match=r"does not hold any of geneval2_data\.jsonl"):
            recognise(MAKERS["wise"](tmp_path / "wise"), "geneval2")

    @pytest.mark.parametrize("name", ["imagine", "wise", "geneval2", "lgbench", "prompts"])
    def test_two_items_of_one_name(self, tmp_path, name):
        records = {
            "imagine": [{"id": 1, "instruction": word, "note": "n", "type": "COLOR"} for word in ("one", "two")],
            "wise": [{"Prompt": word, "Explanation": "e", "prompt_id": 3} for word in ("one", "two")],
            "geneval2": [{"prompt": "one", "atom_count": 3, "vqa_list": [["Q?", "Yes"]]}] * 2,
            "lgbench": [{"id": "a", "Prompt": word, "Goal_1": "g"} for word in ("one", "two")],
            "prompts": [{"id": "a", "prompt": word} for word in ("one", "two")],
        }[name]
        file = {"imagine": "Imagine.jsonl", "wise": "natural_science.json", "geneval2": "geneval2_data.jsonl"}
        write = write_list if name in ("wise", "lgbench") else write_lines
        write(tmp_path / {**file, "lgbench": "lgbench.json", "prompts": "prompts.jsonl"}[name], records)
        with pytest.raises(BadInput, match="two items have the"):
            BENCHMARKS[name].read(tmp_path)

    @pytest.mark.parametrize(
        "text", ["{", "[1]\n", '{"prompt": 3}\n', "", '{"prompt": "x"', '{"prompt": "x", "id": "../up"}\n']
    )
    def test_a_file_that_is_broken(self, tmp_path, text):
        (tmp_path / "prompts.jsonl").write_text(text)
        with pytest.raises(BadInput, match=r"prompts\.jsonl"):
            BENCHMARKS["prompts"].read(tmp_path)

    @pytest.mark.parametrize("source", ["../secret.png", "/etc/x.png", "a/../../x.png", "C:x.png", "a\\b.png"])
    def test_a_source_outside_the_data(self, tmp_path, source):
        write_list(tmp_path / "basic_edit.json", {"1": {"id": source, "prompt": "p", "edit_type": "add"}})
        with pytest.raises(BadInput, match="no path inside the data folder"):
            BENCHMARKS["imgedit"].read(tmp_path)


def test_the_hash_is_of_the_files_that_are_read(tmp_path):
    bench, _ = items_of("geneval2", tmp_path)
    before = data_hash(bench, tmp_path)
    (tmp_path / "other.txt").write_text("x")
    assert data_hash(bench, tmp_path) == before
    path = tmp_path / "geneval2_data.jsonl"
    path.write_text(path.read_text().replace("red", "new"))
    assert data_hash(bench, tmp_path) != before


def test_the_names_that_forms_list_are_those_there_are():
    assert tuple(BENCHMARKS) == names.BENCHMARK_NAMES and tuple(PROTOCOLS) == names.PROTOCOL_NAMES


def test_no_folder_of_a_benchmark_is_passed_over_for_where_its_files_lie(tmp_path):
    for number, bench in enumerate(BENCHMARKS.values()):
        for place, inner in enumerate(bench.folders if isinstance(bench, Wise) else ("",)):
            for name in bench.files:
                folder = tmp_path / f"{number}-{place}-{bench.files.index(name)}"
                path = folder / inner / name.replace("*", "x")
                path.parent.mkdir(parents=True)
                path.write_text("")
                assert names.may_hold_benchmark(folder), path
    (tmp_path / "models" / "3d").mkdir(parents=True)
    (tmp_path / "models" / "cat.glb").write_text("")
    assert not names.may_hold_benchmark(tmp_path / "models")
