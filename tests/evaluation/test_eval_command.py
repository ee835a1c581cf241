"""`clvr eval` from end to end in an embedded world, the report that comes of it, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

from clvr_core import cli
from clvr_core.evaluation import prompt_parse
from clvr_core.evaluation.arms import PLAN
from clvr_core.evaluation.report import write_report
from clvr_core.evaluation.score import Scoring, VlmJudge
from clvr_core.evaluation.store import Arm
from clvr_core.models import registry as models
from clvr_core.models.registry import Models
from clvr_core.stickers import CANVAS
from clvr_core.world import EMBEDDED
from tests.evaluation.folders import MAKERS, always, write_lines
from tests.evaluation.test_score import Bench
from tests.stickers.oracle import WORLD, OracleExecutor, load_vlm

VLM = load_vlm()
BRIEFS = [
    f"a {color} {thing}, two blue buses"
    for color in ("red", "green", "yellow", "purple", "orange")
    for thing in ("cat", "cup")
]
BRIEFS += [f"{brief} and three black dogs. the {brief.split(',')[0][2:]} is above the black dog" for brief in BRIEFS]
BRIEFS = [brief.split(". ")[0] for brief in BRIEFS]


@pytest.fixture
def world(monkeypatch, exact_eyes, tmp_path):
    drawing = Models(VLM, OracleExecutor(0.35), CANVAS, CANVAS, VLM.require_readable)
    monkeypatch.setitem(models.MODELS, EMBEDDED, lambda: drawing)
    monkeypatch.setattr(prompt_parse, "world_named", lambda: WORLD)
    write_lines(
        tmp_path / "data" / "prompts.jsonl", [{"id": f"b{n:02d}", "prompt": brief} for n, brief in enumerate(BRIEFS)]
    )
    return tmp_path


def run(capsys, world, *arguments):
    code = cli.main(["eval", *map(str, arguments), "--images", str(world / "images"), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_from_prompts_to_a_page(world, capsys):
    data = ("--data", world / "data")
    code, said, _ = run(capsys, world, "score", *data, "--judge", "embedded")
    assert code == 2 and "is not there" in said["error"]
    code, said, _ = run(capsys, world, "prepare", *data)
    assert code == 0 and said["bench"] == "prompts" and "20 prompts have no list of statements" in said["warnings"][0]
    for arm in ("oneshot", "clvr"):
        code, said, err = run(capsys, world, "generate", *data, "--arm", arm, "--limit", 20)
        assert code == 0 and said["made"] == 20 and "20 of 20 pictures to draw, at most" in err
    code, said, _ = run(capsys, world, "score", *data, "--judge", "embedded")
    assert code == 2 and "run clvr eval prepare with --judge" in said["error"]
    code, said, _ = run(capsys, world, "prepare", *data, "--judge", "embedded")
    assert code == 0 and not said["warnings"] and said["with_complexity"] == 20
    code, said, _ = run(capsys, world, "score", *data, "--judge", "embedded")
    assert code == 0
    found = {result["name"]: result for result in said["results"]}
    rates = {name: result["measures"]["pass"]["value"] for name, result in found.items()}
    assert rates["clvr"] > rates["oneshot"] + 0.2
    assert (
        any("also steered these pictures" in warning for warning in found["clvr"]["warnings"])
        and not found["oneshot"]["warnings"]
    )
    code, said, _ = run(capsys, world, "report", *data)
    assert code == 0 and said["results"] == 2
    page = (world / "images" / "report.html").read_text()
    assert "item b" in page and "won" in page and page.count("<img") > 2 and "<script" not in page
    lines = list(csv.DictReader((world / "images" / "report.csv").open()))
    gap = next(float(line["gap_to_baseline"]) for line in lines if line["name"] == "clvr" and line["gap_to_baseline"])
    assert gap == pytest.approx(rates["clvr"] - rates["oneshot"])
    assert (world / "images" / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_a_dry_run_draws_nothing(world, capsys):
    code, said, _ = run(
        capsys, world, "generate", "--data", world / "data", "--arm", "best-of-n", "--evaluations", 100, "--dry-run"
    )
    assert code == 0 and said["evaluations_at_most"] == 20 * 96 and not (world / "images").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["prepare", "--bench", "genval"], "unknown benchmark 'genval'"),
        (["generate", "--arm", "two-shot"], "unknown arm 'two-shot'"),
        (["generate", "--arm", "clvr", "--name", "../up"], "name is '../up'"),
        (["generate", "--arm", "clvr", "--models", "other"], "unknown models 'other'"),
        (["generate", "--arm", "clvr", "--evaluations", "9", "--match", "x"], "give one of them"),
        (["score", "--judge", "other", "--name", "x"], "unknown judge 'other'"),
        (["score", "--judge", "embedded", "--detector", "x"], "not allowed with"),
        (["score", "--detector", "x", "--name", "x"], "a detector judges by GenEval's rules, and this is prompts"),
        (["score", "--official", "x"], "subfolder of pictures"),
        (["score", "--official", "x", "--name", "x"], "result files of prompts cannot be read"),
    ],
)
def test_what_is_refused_is_refused_in_one_sentence(world, capsys, arguments, said):
    (world / "data" / "prompts.jsonl").write_text('{"prompt": "a red cat", "statements": ["a red cat"]}\n')
    (world / "images").mkdir()
    code, told, err = run(capsys, world, *arguments, "--data", world / "data")
    assert code == 2 and said in told["error"] and err.count("\n") == 1


def test_an_official_file_stands_in_the_same_table(world, capsys):
    data = MAKERS["geneval2"](world / "g2")
    (world / "scores.json").write_text(json.dumps([[1.0, 1.0, 1.0], [0.5]]))
    official = ("--data", data, "--official", world / "scores.json", "--name", "theirs")
    code, said, _ = run(capsys, world, "score", *official)
    assert code == 0 and said["results"][0]["measures"]["Soft-TIFA AM"]["value"] == 0.75
    code, said, _ = run(capsys, world, "report", "--data", data)
    lines = list(csv.DictReader((world / "images" / "report.csv").open()))
    assert lines[0]["title"] == "GenEval-2" and lines[0]["comparable"] == "with the benchmark's own numbers"


class TestTheReport:
    @pytest.fixture
    def bench(self, tmp_path):
        bench = Bench("wise", tmp_path)
        for name, yes in (("oneshot", 0.5), ("merged", 1.0)):
            arm = Arm(bench.images, name)
            arm.settle({"arm": "oneshot", "models": {"executor": f"{name} weights"}})
            bench.fill(arm=arm)
            Scoring(bench.bench, bench.data, arm, VlmJudge(always(yes), bench.items), bench.items).run()
        return bench

    def test_marks_the_published_rows_and_calls_none_of_them_comparable(self, bench):
        written = write_report(bench.images, bench.images / "out")
        page = written.html.read_text()
        assert "CLVR 9B" in page and page.count("not comparable") >= page.count("published, not measured here") > 5
        lines = list(csv.DictReader(written.csv.open()))
        printed = [line for line in lines if line["published"] == "yes"]
        assert printed and all(line["comparable"].startswith("no") and line["source"] for line in printed)
        assert {line["name"] for line in lines if line["published"] == "no"} == {"oneshot", "merged"}

    def test_marks_controls_and_the_loop_that_each_stands_beside(self, bench):
        made = {"clvr": {"arm": "clvr"}, "plan": {"arm": PLAN, "match": "clvr"}, PLAN: {"arm": PLAN, "evaluations": 9}}
        for name, settings in made.items():
            arm = Arm(bench.images, name)
            arm.settle(settings)
            bench.fill(arm=arm)
            Scoring(bench.bench, bench.data, arm, VlmJudge(always(1.0), bench.items), bench.items).run()
        written = write_report(bench.images, bench.images / "out")
        page = written.html.read_text()
        assert f"{PLAN}, the control beside clvr<" in page and f"{PLAN}, the control beside loops<" in page
        marked = {line["name"]: line["control_of"] for line in csv.DictReader(written.csv.open()) if line["arm"]}
        assert marked == {"oneshot": "", "merged": "", "clvr": "", "plan": "clvr", PLAN: "loops"}

    def test_holds_base_against_merged_in_pairs(self, bench):
        written = write_report(bench.images, bench.images / "out", bench.data, baseline="oneshot")
        line = next(line for line in csv.DictReader(written.csv.open()) if line["name"] == "merged")
        assert (
            float(line["gap_to_baseline"])
            == pytest.approx(0.5)
            == float(line["gap_low95"])
            == float(line["gap_high95"])
        )
        assert "merged weights" in written.html.read_text()

    def test_without_the_data_has_no_examples_and_says_what_to_give(self, bench):
        assert "Give --data" in write_report(bench.images, bench.images / "out").html.read_text()

    def test_keeps_results_of_other_judges_apart(self, bench):
        arm = Arm(bench.images, "oneshot")
        Scoring(
            bench.bench, bench.data, arm, VlmJudge(always(1.0, name="another judge"), bench.items), bench.items
        ).run()
        page = write_report(bench.images, bench.images / "out").html.read_text()
        assert page.count("<h2>WISE-legacy-compatible</h2>") == 2 and "another judge" in page

    def test_shows_words_of_strangers_as_text(self, tmp_path):
        write_lines(
            tmp_path / "data" / "prompts.jsonl",
            [{"prompt": "<script>alert(1)</script>", "statements": ["</style><b>"]}] * 1,
        )
        bench = Bench.__new__(Bench)
        from clvr_core.evaluation.benchmarks import BENCHMARKS

        bench.bench, bench.data, bench.images = BENCHMARKS["prompts"], tmp_path / "data", tmp_path / "images"
        bench.items = bench.bench.read(bench.data)
        for name, yes in (("a", 1.0), ("b", 0.0)):
            arm = Arm(bench.images, name)
            bench.fill(arm=arm)
            Scoring(
                bench.bench, bench.data, arm, VlmJudge(always(yes, name="<i>judge</i>"), bench.items), bench.items
            ).run()
        page = write_report(bench.images, tmp_path, bench.data).html.read_text()
        assert (
            "<script>" not in page
            and "<i>" not in page
            and "&lt;script&gt;" in page
            and "lost: all, item 00001" in page
        )

    def test_nothing_scored_and_no_such_baseline_are_said(self, bench, tmp_path):
        from clvr_core.errors import BadInput

        (tmp_path / "empty").mkdir()
        for images, baseline, said in (
            (tmp_path / "none", None, "is not there"),
            (tmp_path / "empty", None, "has no result yet"),
        ):
            with pytest.raises(BadInput, match=said):
                write_report(images, tmp_path, baseline=baseline)
        with pytest.raises(BadInput, match="no result of the baseline 'x'; there are those of merged, oneshot"):
            write_report(bench.images, tmp_path, baseline="x")
