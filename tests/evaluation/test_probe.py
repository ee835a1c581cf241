"""The probe: briefs of known complexity, arms with one budget, results that survive a stop."""

from __future__ import annotations

import json
import random
import threading
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation import probe
from clvr_core.evaluation.arms import Job, Way
from clvr_core.evaluation.probe import (
    ARMS,
    LOOPS,
    PLANNED,
    TIERS,
    Conditions,
    UnitResult,
    run_probe,
    run_unit,
    summarise,
    table,
    tier_briefs,
)
from clvr_core.executor.klein import Sampling, SamplingRecipe, chat_text
from clvr_core.fleet.output import Disk
from clvr_core.models.registry import Models
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.model import TEXT_BUCKETS, build_tokenizer
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.planner import layout
from clvr_core.stickers.scene import Scene
from clvr_core.storage.lock import FolderHeld
from clvr_core.world import World
from tests.stickers.oracle import WORLD, OracleExecutor
from tests.storage.test_lock import Elsewhere

BITS = WORLD.bits
WIDTH = (BITS[1] - BITS[0]) / TIERS


class Renderer(OracleExecutor):
    """With a recipe, as the real executor has, and the evaluations that it says."""

    distilled = False

    def __init__(self, fault: float = 0.1) -> None:
        super().__init__(fault)
        self.recipe = SamplingRecipe(Sampling(12, 2.5), Sampling(8, 1.0))

    def nfe(self, request: DrawRequest) -> int:
        return (self.recipe.edit if request.references else self.recipe.generate).nfe


@pytest.fixture
def renderer(monkeypatch) -> Renderer:
    executor = Renderer()
    monkeypatch.setattr(probe, "world_named", lambda: WORLD)
    monkeypatch.setattr(World, "load_executor", lambda world, folder: executor)
    return executor


def test_a_probe_that_another_process_makes_is_told(tmp_path):
    other = Elsewhere(tmp_path)
    with pytest.raises(FolderHeld, match="in use by another process"):
        run_probe(tmp_path)
    other.ends()


class TestBriefs:
    @pytest.mark.parametrize("tier", range(TIERS))
    def test_lie_in_their_tier_and_can_be_met(self, tier):
        for brief in tier_briefs(WORLD, tier, 30, seed=0):
            spec = parse(brief.prompt)
            assert brief.tier == tier and BITS[0] + tier * WIDTH <= brief.bits < BITS[0] + (tier + 1) * WIDTH
            assert spec.bits == pytest.approx(brief.bits) and layout(spec, Scene(), random.Random(0)) is not None

    def test_are_the_same_for_the_same_seed_and_others_for_another(self):
        assert tier_briefs(WORLD, 4, 20, 1) == tier_briefs(WORLD, 4, 20, 1)
        assert not {brief.prompt for brief in tier_briefs(WORLD, 4, 20, 1)} & {
            brief.prompt for brief in tier_briefs(WORLD, 4, 20, 2)
        }

    def test_of_a_longer_list_begin_with_the_shorter_one(self):
        assert tier_briefs(WORLD, 7, 20, 0)[:5] == tier_briefs(WORLD, 7, 5, 0)

    def test_fit_the_text_that_the_model_reads_in_its_own_words(self):
        tokenizer = build_tokenizer()
        for brief in (brief for tier in range(TIERS) for brief in tier_briefs(WORLD, tier, 30, seed=0)):
            text = chat_text(tokenizer, brief.prompt)
            ids = tokenizer(text)["input_ids"]
            assert len(ids) <= TEXT_BUCKETS[-1] and tokenizer.unk_token_id not in ids


class TestAUnit:
    @pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in PLANNED])
    @pytest.mark.parametrize("evaluations", [50, 240])
    def test_no_arm_spends_more_than_the_budget(self, renderer, arm, evaluations):
        result = run_unit(arm, 6, 4, 0, evaluations)
        assert max(result.evaluations) <= evaluations and (min(result.evaluations) > 0 or evaluations < 96)
        assert len(result.bits) == len(result.passed) == len(result.calls) == 4 and set(result.passed) <= {0, 1}

    def test_one_shot_spends_it_all_on_one_picture(self, renderer):
        result = run_unit("oneshot", 3, 3, 0, 240)
        assert (
            result.evaluations == (240,) * 3
            and len(renderer.requests) == 3
            and renderer.recipe.generate == Sampling(120, 2.5)
        )

    def test_best_of_n_spends_it_on_pictures_of_the_usual_steps(self, renderer):
        result = run_unit("best-of-n", 3, 3, 0, 240)
        assert (
            result.evaluations == (240,) * 3
            and len(renderer.requests) == 30
            and renderer.recipe.generate == Sampling(12, 2.5)
        )

    def test_weights_of_few_steps_draw_one_shot_in_these(self, renderer):
        renderer.distilled, renderer.recipe = True, SamplingRecipe(Sampling(4), Sampling(4))
        assert run_unit("oneshot", 3, 3, 0, 240).evaluations == (4,) * 3
        assert run_unit("best-of-n", 3, 1, 0, 240).evaluations == (240,)

    def test_the_rewrite_names_the_place_of_every_single_thing_and_is_scored_by_the_brief(self, renderer):
        renderer.fault = 0.0
        result = run_unit("rewrite", 8, 3, 0, 240)
        briefs = [parse(brief.prompt) for brief in tier_briefs(WORLD, 8, 3, 0)]
        drawn = [parse(request.prompt) for request in renderer.requests]
        singles = [item for spec in drawn for item in spec.items if item.count == 1]
        assert singles and all(len(item.place.cells) == 1 for item in singles) and result.passed == (1,) * 3
        assert [spec.total for spec in drawn] == [spec.total for spec in briefs] and drawn != briefs

    def test_controls_draw_the_brief_in_its_own_words(self, renderer):
        run_unit("oneshot", 3, 3, 0, 240)
        assert [request.prompt for request in renderer.requests] == [
            brief.prompt for brief in tier_briefs(WORLD, 3, 3, 0)
        ]

    def test_the_plan_is_drawn_as_often_as_the_evaluations_pay_and_judged_by_the_goals_of_the_brief(self, renderer):
        renderer.fault, renderer.recipe = 0.0, SamplingRecipe(Sampling(4), Sampling(4))
        result = run_unit("plan-best-of-n", 8, 3, 0, 17)
        assert result.evaluations == (20,) * 3 and result.calls == (1 + 1 + 5,) * 3 and result.passed == (1,) * 3
        prompts = [request.prompt for request in renderer.requests]
        assert len(set(prompts)) == 3 and len({request.seed for request in renderer.requests}) == 15
        assert not set(prompts) & {brief.prompt for brief in tier_briefs(WORLD, 8, 3, 0)}

    def test_the_plan_is_that_of_the_arm_of_an_evaluation(self, renderer, tmp_path):
        renderer.recipe = SamplingRecipe(Sampling(4), Sampling(4))
        unit = run_unit("plan-best-of-n", 8, 2, 0, 17, conditions=Conditions("exact"))
        drawn, renderer.requests = renderer.requests, []
        jobs = [Job("any", brief.prompt, brief.seed, None, 20) for brief in tier_briefs(WORLD, 8, 2, 0)]
        models = Models(WORLD.load_vlm(), renderer, WORLD.canvas, WORLD.canvas)
        made = list(Way("plan-best-of-n", models, Disk(tmp_path)).make(jobs))
        assert renderer.requests == drawn
        assert [(one.evaluations, one.calls) for one in made] == list(zip(unit.evaluations, unit.calls))

    def test_each_picture_may_have_a_plan_of_its_own(self, renderer):
        renderer.recipe = SamplingRecipe(Sampling(4), Sampling(4))
        result = run_unit("replan-best-of-n", 8, 3, 0, 17)
        assert result.evaluations == (20,) * 3 and result.calls == (1 + 5 + 5,) * 3
        assert len({request.prompt for request in renderer.requests}) > 3

    def test_every_plan_of_a_planner_that_always_errs_is_wrong(self, renderer):
        renderer.fault = 0.0
        for arm in ("rewrite", *PLANNED):
            assert sum(run_unit(arm, 5, 6, 0, 96, conditions=Conditions("exact", planner_errors=1.0)).passed) <= 1

    @pytest.mark.parametrize("arm", LOOPS)
    def test_a_loop_with_a_steady_hand_and_a_sure_judge_passes(self, renderer, arm):
        renderer.fault = 0.0
        assert run_unit(arm, 8, 4, 0, 240, flip=0.0).passed == (1,) * 4

    def test_is_scored_by_the_picture_and_not_by_the_judge(self, renderer, monkeypatch):
        renderer.fault = 0.0
        blind = replace(WORLD, perceive=lambda picture: Perception())
        assert run_unit("oneshot", 0, 3, 0, 240, world=blind).passed == (0, 0, 0)

    def test_a_budget_too_small_for_a_single_round_passes_nothing(self, renderer):
        result = run_unit("director", 9, 2, 0, 50)
        assert result.evaluations == result.passed == (0, 0)

    def test_is_the_same_when_run_again(self, monkeypatch):
        results = []
        monkeypatch.setattr(probe, "world_named", lambda: WORLD)
        for _ in range(2):
            monkeypatch.setattr(World, "load_executor", lambda world, folder: Renderer())
            results.append(replace(run_unit("clvr", 5, 4, 0, 240), seconds=0.0))
        assert results[0] == results[1]


def unit(arm: str, tier: int, rate: float = 0.5) -> UnitResult:
    briefs = 8
    passed = tuple(int(place < rate * briefs) for place in range(briefs))
    bits = tuple(BITS[0] + WIDTH * (tier + 0.5) for _ in range(briefs))
    return UnitResult(arm, tier, bits, passed, (240,) * briefs, (10,) * briefs, 1.5)


SETTINGS = {"per_tier": 8, "seed": 0, "evaluations": 240, "flip": 0.05, "bits": list(BITS)}
SETTINGS |= {"judge": "independent", "planner_errors": 0.0, "planner": "independent", "reader": ""}
RATES = {
    **dict.fromkeys(ARMS, 0.625),
    "oneshot": 0.25,
    "rewrite": 0.375,
    "best-of-n": 0.5,
    "clvr": 1.0,
    "director": 0.5,
    "strokes": 0.75,
}


def results(**rates: float) -> dict:
    return {(arm, tier): unit(arm, tier, ({**RATES, **rates})[arm]) for arm in ARMS for tier in range(TIERS)}


class TestTheSummary:
    def test_tells_of_every_arm_the_area_its_interval_the_curve_and_what_was_spent(self):
        summary = summarise(results(), SETTINGS)
        assert (
            summary["settings"] == SETTINGS
            and len(summary["tier_medians"]) == TIERS
            and list(summary["arms"]) == list(ARMS)
        )
        span = summary["tier_medians"][-1] - summary["tier_medians"][0]
        for arm, values in summary["arms"].items():
            assert values["auc"] == pytest.approx(RATES[arm] * span) and values["pass"] == [RATES[arm]] * TIERS
            assert values["auc_ci"][0] <= values["auc"] <= values["auc_ci"][1]
            assert (values["evaluations"], values["verifier_calls"], values["seconds"]) == (240, 10, 15)

    def test_holds_every_loop_against_both_controls(self):
        arms = summarise(results(), SETTINGS)["arms"]
        assert arms["clvr"]["ratio_oneshot"] == pytest.approx(4) and arms["clvr"]["ratio_best-of-n"] == pytest.approx(2)
        for arm in LOOPS:
            low, high = arms[arm]["ratio_oneshot_ci"]
            assert low <= arms[arm]["ratio_oneshot"] <= high
        assert not any(key.startswith("ratio") for arm in ARMS if arm not in LOOPS for key in arms[arm])

    def test_holds_every_loop_against_the_plan_with_as_many_pictures(self):
        arms = summarise(results(**{"plan-best-of-n": 0.5}), SETTINGS)["arms"]
        assert arms["clvr"]["ratio_plan-best-of-n"] == pytest.approx(2)
        low, high = arms["clvr"]["gain_plan-best-of-n_ci"]
        gain = arms["clvr"]["gain_plan-best-of-n"]
        assert low <= gain <= high and gain == pytest.approx(arms["clvr"]["auc"] - arms["plan-best-of-n"]["auc"])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"judge": "exact"}, "the judge is never wrong, and the planner never misunderstands a brief"),
            ({}, "the judge is wrong in 5% of its answers (independent errors)"),
            ({"judge": "correlated"}, "(correlated errors)"),
            ({"planner_errors": 0.1}, "the planner misunderstands 10% of the items and relations."),
            (
                {"planner_errors": 0.1, "planner": "correlated"},
                "10% of the items and relations, the same in every plan.",
            ),
        ],
    )
    def test_names_the_judge_and_the_planner_over_its_table(self, changes, words):
        assert words in table(summarise(results(), SETTINGS | changes)).splitlines()[0]

    def test_is_json_also_where_a_control_never_passes(self):
        summary = summarise(results(oneshot=0.0, strokes=0.0), SETTINGS)
        arms = json.loads(json.dumps(summary, allow_nan=False))["arms"]
        assert arms["clvr"]["ratio_oneshot"] is None and arms["clvr"]["ratio_oneshot_ci"] == [None, None]
        assert arms["strokes"]["ratio_oneshot"] == 1.0 and "infinite (infinite-infinite)" in table(summary)

    def test_is_a_table_with_a_row_for_every_arm(self):
        lines = table(summarise(results(), SETTINGS)).splitlines()[2:]
        assert len(lines) == 2 + len(ARMS) and len({line.count("|") for line in lines}) == 1
        row = next(line for line in lines if line.startswith("| clvr"))
        assert "4.00 (" in row and "2.00 (" in row and row.count("1.00") >= TIERS


@pytest.mark.weights
def test_units_are_done_by_workers_in_processes(tmp_path):
    summary = run_probe(tmp_path, per_tier=1, arms=("oneshot",), workers=1)
    assert summary["arms"]["oneshot"]["evaluations"] > 0
    assert len(list((tmp_path / "units").glob("oneshot-*.json"))) == TIERS


class Inline:
    """An engine that works in this process, in the order of the pieces, as a stop in the middle of them needs."""

    def __init__(self, *_) -> None:
        pass

    @contextmanager
    def crew(self, task):
        with task.open(threading.Event()) as self.do:
            yield self

    def run(self, pieces):
        for number, piece in enumerate(pieces):
            yield number, self.do(piece, lambda what: None)


class TestTheProbe:
    @pytest.fixture(autouse=True)
    def inline(self, monkeypatch):
        self.ran, self.limits, self.conditions = [], {}, []
        monkeypatch.setattr(probe, "Processes", Inline)
        monkeypatch.setattr("torch.set_num_threads", lambda count: None)
        monkeypatch.setattr(probe, "run_unit", self.run)
        monkeypatch.setattr(probe, "world_named", lambda name="": WORLD)

    def run(self, arm, tier, count, seed, evaluations, flip, weights, conditions, *_):
        self.ran.append((arm, tier))
        self.conditions.append(conditions)
        self.limits[arm, tier] = evaluations
        if len(self.ran) == getattr(self, "stop_after", None):
            raise RuntimeError("killed")
        return unit(arm, tier, RATES[arm])

    def test_runs_every_arm_on_every_tier_and_writes_what_it_found(self, tmp_path):
        summary = run_probe(tmp_path / "out", per_tier=8)
        assert sorted(self.ran) == sorted((arm, tier) for arm in ARMS for tier in range(TIERS))
        assert json.loads((tmp_path / "out" / "probe.json").read_text()) == summary
        assert (tmp_path / "out" / "probe.md").read_text() == table(summary)
        assert (tmp_path / "out" / "probe.png").read_bytes().startswith(b"\x89PNG")

    def test_goes_on_from_the_units_that_were_finished(self, tmp_path):
        self.stop_after = 20
        with pytest.raises(RuntimeError, match="killed"):
            run_probe(tmp_path, per_tier=8)
        done = len(list((tmp_path / "units").glob("*-*.json")))
        self.ran, self.stop_after = [], None
        resumed = run_probe(tmp_path, per_tier=8)
        assert done > 0 and len(self.ran) == len(ARMS) * TIERS - done
        assert resumed == run_probe(tmp_path / "other", per_tier=8)

    def test_gives_the_plan_what_the_loop_spent_on_that_tier_and_the_others_the_budget(self, tmp_path):
        run_probe(tmp_path, per_tier=8, evaluations=100)
        assert {self.limits[arm, 3] for arm in PLANNED} == {240} and self.limits["best-of-n", 3] == 100

    def test_of_some_arms_has_those_alone(self, tmp_path):
        summary = run_probe(tmp_path, per_tier=8, arms=("oneshot", "plan-best-of-n", "clvr"))
        assert list(summary["arms"]) == ["oneshot", "plan-best-of-n", "clvr"]
        assert "ratio_best-of-n" not in summary["arms"]["clvr"] and "director" not in table(summary)

    @pytest.mark.parametrize(
        ("arms", "message"),
        [
            (("oneshot", "two-shot"), "unknown arm 'two-shot'; the arms are oneshot, rewrite"),
            (("clvr",), "the arms lack oneshot"),
            (("oneshot", "plan-best-of-n"), "spend what clvr spends; add clvr"),
        ],
    )
    def test_arms_that_cannot_be_compared_are_refused(self, tmp_path, arms, message):
        with pytest.raises(BadInput, match=message):
            run_probe(tmp_path, per_tier=8, arms=arms)

    def test_a_folder_of_the_first_version_is_gone_on_with_its_loops_unguided(self, tmp_path):
        run_probe(tmp_path, per_tier=8)
        path = tmp_path / "units" / "settings.json"
        note = json.loads(path.read_text())
        assert sorted(note) == ["bits", "evaluations", "flip", "loops", "per_tier", "seed", "weights", "world"]
        assert all(conditions.guided for conditions in self.conditions)
        del note["loops"]
        path.write_text(json.dumps(note))
        (tmp_path / "units" / "clvr-4.json").unlink()
        self.conditions.clear()
        run_probe(tmp_path, per_tier=8)
        assert self.ran[-1] == ("clvr", 4) and [conditions.guided for conditions in self.conditions] == [False]
        assert json.loads(path.read_text()) == note

    def test_a_finished_probe_runs_nothing(self, tmp_path):
        first = run_probe(tmp_path, per_tier=8)
        self.ran.clear()
        assert run_probe(tmp_path, per_tier=8) == first and self.ran == []

    def test_what_was_measured_is_kept_as_it_was(self, tmp_path):
        run_probe(tmp_path, per_tier=8)
        kept = json.loads((tmp_path / "units" / "clvr-4.json").read_text())
        assert kept == json.loads(json.dumps(asdict(unit("clvr", 4, RATES["clvr"]))))

    @pytest.mark.parametrize(
        "changes",
        [
            {"per_tier": 9},
            {"seed": 1},
            {"evaluations": 96},
            {"conditions": Conditions("exact")},
            {"conditions": Conditions(planner_errors=0.1)},
            {"world": replace(WORLD, name="another")},
        ],
    )
    def test_other_settings_in_the_same_folder_are_refused(self, tmp_path, changes):
        run_probe(tmp_path, per_tier=8)
        with pytest.raises(BadInput, match="other settings; choose another folder with --out"):
            run_probe(tmp_path, **{"per_tier": 8, **changes})

    def test_a_folder_that_cannot_be_used_is_refused_by_name(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(BadInput, match="file cannot be written"):
            run_probe(tmp_path / "file", per_tier=8)
        (tmp_path / "units").mkdir()
        (tmp_path / "units" / "settings.json").write_text("{")
        with pytest.raises(BadInput, match="holds a probe with other settings"):
            run_probe(tmp_path, per_tier=8)
