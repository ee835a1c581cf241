"""The numbers that papers print: each in its place, and told apart from what is measured here."""

from __future__ import annotations

from collections import Counter

from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.published import ANY, DIRECTOR, ROWS, beside, rows_for
from clvr_core.evaluation.report import write_report
from clvr_core.evaluation.score import Scoring, VlmJudge
from clvr_core.evaluation.store import Arm
from tests.evaluation.folders import MAKERS, always, fill
from tests.fakes import grey


def value(bench: str, measure: str, name: str, tag: str = "") -> float:
    (row,) = [row for row in rows_for(bench) if (row.measure, row.name, row.tag) == (measure, name, tag)]
    return row.value


def test_no_number_is_told_twice_and_each_belongs_to_a_benchmark():
    assert set(Counter((row.bench, row.measure, row.name, row.tag) for row in ROWS).values()) == {1}
    assert {row.bench for row in ROWS} <= {*BENCHMARKS, ANY}
    for row in ROWS:
        # A part's number needs the measure that has parts.
        if row.tag:
            assert row.measure == BENCHMARKS[row.bench].measures[0].name


def test_every_headline_number_is_of_a_measure_that_the_benchmark_has():
    for bench in ("geneval", "geneval++", "wise", "prism", "imagine", "lgbench", "imgedit"):
        names = [measure.name for measure in BENCHMARKS[bench].measures]
        assert sum(row.measure in names and not row.tag for row in rows_for(bench)) >= 3


def test_the_tables_of_the_papers_are_all_there():
    assert value("geneval", "overall", "FLUX.2 klein 4B base, CLVR, PPRL and DSWM", "position") == 0.85
    assert value("geneval", "overall", "FLUX.2 klein 4B base, CLVR with PPRL") == 0.83
    assert value("geneval", "overall", "VisionDirector", "counting") == 0.96
    assert value("wise", "WiScore", "FLUX.2 klein 4B distilled, CLVR, diffusion SFT and simple RL") == 0.64
    assert value("imagine", "overall, as the official script computes it", "Uni-CoT") == 7.747
    assert value("prompts", "I_eff", "CogView4, 6.0B") == 1411.05
    assert value("lgbench", "tasks with 80 % of their goals", "FLUX.1 Krea, all three") == 0.352
    assert value("imgedit", "overall", "Qwen-Image-Edit", "hybrid") == 3.82
    assert value("prism", "seconds end to end, 4 iterations", "ratio") == 13.5
    assert sum(row.value for row in rows_for("geneval") if row.measure.startswith("runs of")) == 2 * 553
    assert {row.bound for row in rows_for("lgbench") if row.measure == "met in one shot"} == {"more than", "less than"}


def test_the_embedded_benchmarks_stand_beside_those_whose_form_they_have():
    assert rows_for("embedded-geneval") == rows_for("geneval") != rows_for("lgbench") == rows_for("embedded-lgbench")


def test_what_is_not_measured_here_is_kept_apart():
    rows = rows_for("lgbench")
    found = beside(rows, [measure.name for measure in BENCHMARKS["lgbench"].measures])
    assert "goal success" not in found and found["goal coverage"][0].source == DIRECTOR


def test_the_report_tells_them_all_as_published(tmp_path):
    bench = BENCHMARKS["lgbench"]
    MAKERS["lgbench"](tmp_path / "data")
    items = bench.read(tmp_path / "data")
    arm = Arm(tmp_path / "images", "oneshot")
    fill(arm, bench, items)
    Scoring(bench, tmp_path / "data", arm, VlmJudge(always(1.0), items), items).run()
    written = write_report(tmp_path / "images", tmp_path / "out")
    page, lines = written.html.read_text(), written.csv.read_text().splitlines()
    for row in rows_for("lgbench"):
        assert row.name in page.replace("&#39;", "'").replace("&#x27;", "'")
        assert any(row.name in line and row.measure in line and ",yes,no: another judge" in line for line in lines)
    assert "more than 0.85" in page and "less than 0.1" in page
    # Two measures of one name stand in one line.
    assert page.count("FLUX.1 Krea, all three") == 1


def test_the_report_counts_the_runs_of_a_loop_by_their_rounds(tmp_path):
    from clvr_core.evaluation.report.gather import gather
    from clvr_core.evaluation.score import spent

    costs = dict.fromkeys(("evaluations", "images", "vlm_tokens", "vlm_calls", "seconds"), 1.0)
    lines = [{**costs, "seed": 1, "rounds": rounds} for rounds in (2, 2, 3, 11)]
    assert spent(lines)["rounds"] == {"2": 2, "3": 1, "11": 1} and "rounds" not in spent([{**costs, "seed": 1}])
    bench = BENCHMARKS["lgbench"]
    MAKERS["lgbench"](tmp_path / "data")
    items = bench.read(tmp_path / "data")
    for name, rounds in (("base", (2, 3)), ("merged", (2, 2))):
        arm = Arm(tmp_path / "images", name)
        for item, number in zip(items, rounds):
            arm.save(bench, item, 0, grey(number))
            made = {**costs, "item": item.id, "k": 0, "seed": 1, "rounds": number, "file": bench.path(item, 0)}
            arm.pictures().append(made | {"sha256": ""})
        Scoring(bench, tmp_path / "data", arm, VlmJudge(always(1.0), items), items).run()
    (group,) = gather(tmp_path / "images", None, "base")
    assert [entry.result["spent"]["rounds"] for entry in group.entries] == [{"2": 1, "3": 1}, {"2": 2}]
    page = write_report(tmp_path / "images", tmp_path / "out").html.read_text()
    assert "runs by rounds" in page
