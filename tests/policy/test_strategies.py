"""What makes each strategy different: its plan, its batches, what it asks for next, what may wait."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from clvr_core.brief import GOAL_KINDS, STRATEGIES, Brief, Budget, Goal
from clvr_core.policy import policy_for
from clvr_core.policy.clvr import Clvr
from clvr_core.policy.controls import BestOfN, OneShot
from clvr_core.policy.director import BATCH, ONE_SHOT_CHANCE, ORDER, Director, area_at_risk, batches, next_batch
from clvr_core.policy.rules import Stop
from clvr_core.policy.strokes import Strokes
from clvr_core.trajectory import Candidate
from tests.fakes import goals, step, trajectory

BRIEF = Brief("a red circle")
STATES = ("met", "unmet", "pending", "unsure", "error")


def of_kinds(*kinds: str) -> tuple[Goal, ...]:
    return tuple(Goal(f"g{number}", f"thing {number}", kind) for number, kind in enumerate(kinds, 1))


def test_every_strategy_has_its_policy_under_its_own_name():
    for name in STRATEGIES:
        assert policy_for(Brief("x", name)).name == name


def test_the_grid_is_the_strategys_own_unless_the_brief_says_otherwise():
    own = {name: policy_for(Brief("x", name)).candidates(trajectory(brief=Brief("x", name))) for name in STRATEGIES}
    assert own | {"clvr": 1, "director": 4, "strokes": 1, "oneshot": 1, "best-of-n": 4} == own
    for name in ("clvr", "director", "strokes", "best-of-n"):
        assert policy_for(Brief("x", name)).candidates(trajectory(brief=Brief("x", name, candidates=3))) == 3


class TestClvr:
    def test_the_first_canvas_is_generated_for_all_goals_that_can_hold(self):
        run = trajectory(goals=(*goals("a", "b"), Goal("g3", "c", conflicts_with=("g1",))))
        directive = Clvr().directive(run)
        assert directive.allowed == ("GENERATE",) and directive.focus == ("g1", "g2") and directive.fixed is None

    def test_afterwards_the_controller_chooses_and_validates_only_what_is_unclear(self):
        for states in product(STATES, repeat=2):
            run = trajectory(step("GENERATE", 0, verdicts=dict(zip(("g1", "g2"), states))), goals=goals("a", "b"))
            directive = Clvr().directive(run)
            unclear = "unsure" in states or "error" in states
            assert directive.allowed == ("GENERATE", "EDIT", *(("VALIDATE",) if unclear else ()), "END"), states
            assert directive.focus == tuple(goal for goal, state in zip(("g1", "g2"), states) if state != "met")

    def test_what_was_just_validated_is_not_validated_again(self):
        run = trajectory(step("GENERATE", 0, verdicts={"g1": "error"}), step("VALIDATE"), goals=goals("a"))
        assert Clvr().directive(run).allowed == ("GENERATE", "EDIT", "END")

    def test_it_compares_with_the_one_shot_picture_and_the_others_do_not(self):
        assert [name for name in STRATEGIES if policy_for(Brief("x", name)).final_ab] == ["clvr"]


class TestTheDirectorsAreas:
    LEFT, TOP = (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 0.5)

    def goal(self, number: int, area=None, feasibility: float = 0.8, kind: str = "local") -> Goal:
        return Goal(f"g{number}", f"thing {number}", kind, feasibility=feasibility, area=area)

    def test_at_risk_is_what_goals_that_may_fail_claim_together(self):
        both = (self.goal(1, self.LEFT), self.goal(2, self.TOP))
        assert area_at_risk(both) == pytest.approx(0.75) and area_at_risk(both[:1]) == pytest.approx(0.5)
        assert area_at_risk((self.goal(1, self.LEFT, 0.95), self.goal(2))) == 0

    def test_a_goal_of_the_whole_picture_claims_all_of_it(self):
        assert area_at_risk((self.goal(1, kind="global"),)) == 1.0

    def test_a_guided_run_is_staged_where_they_claim_much_and_one_shot_where_little(self):
        large, small = (
            (self.goal(1, self.LEFT), self.goal(2, self.TOP)),
            (self.goal(1, (0.0, 0.0, 0.3, 0.3)), self.goal(2)),
        )
        guided = replace(BRIEF, guided=True)
        assert Director().plan(guided, large).gate == "staged: goals that may fail claim 75% of the picture"
        assert Director().plan(guided, small).route == Director().plan(BRIEF, large).route == "one shot"


class TestTheDirectorsPlan:
    def test_batches_hold_each_goal_once_global_before_layout_before_local_before_text(self):
        assert sorted(GOAL_KINDS, key=ORDER.get) == ["global", "layout", "local", "text"]
        for kinds in product(GOAL_KINDS, repeat=4):
            found = [goal for batch in batches(of_kinds(*kinds), 2) for goal in batch]
            ranks = [(ORDER[kinds[int(goal[1:]) - 1]], int(goal[1:])) for goal in found]
            assert len(found) == len(set(found)) == 4 and ranks == sorted(ranks), kinds

    @pytest.mark.parametrize("count", range(6))
    def test_batches_are_full_but_the_last(self, count):
        sizes = [len(batch) for batch in batches(of_kinds(*["local"] * count), BATCH)]
        assert (
            sum(sizes) == count
            and all(size == BATCH for size in sizes[:-1])
            and all(1 <= size <= BATCH for size in sizes)
        )

    def test_a_goal_that_cannot_hold_beside_an_earlier_one_is_in_no_batch(self):
        assert batches((*goals("a"), Goal("g2", "b", conflicts_with=("g1",))), 2) == (("g1",),)

    def test_the_gate_is_one_shot_where_one_generation_has_the_chance_to_meet_all(self):
        for a, b, c in product((0.0, 0.25, 0.5, 1.0), repeat=3):
            listed = tuple(Goal(f"g{number}", "x", feasibility=value) for number, value in enumerate((a, b, c)))
            plan = Director().plan(BRIEF, listed)
            assert plan.route == ("one shot" if a * b * c >= ONE_SHOT_CHANCE else "staged"), (a, b, c)
            assert plan.gate.startswith(f"{plan.route}: ")

    def test_a_goal_that_cannot_hold_does_not_close_the_gate(self):
        listed = (Goal("g1", "day", feasibility=1.0), Goal("g2", "night", feasibility=0.0, conflicts_with=("g1",)))
        assert Director().plan(BRIEF, listed).route == "one shot"

    def test_through_the_gate_the_first_canvas_is_the_briefs_own_words(self):
        listed = goals("a", "b")
        fixed = Director().directive(trajectory(goals=listed, route="one shot")).fixed
        assert (fixed.kind, fixed.scene_prompt, fixed.goals) == ("GENERATE", "a red circle", ("g1", "g2"))

    def test_staged_the_controller_writes_the_first_canvas(self):
        directive = Director().directive(trajectory(goals=goals("a", "b"), route="staged"))
        assert directive.fixed is None and directive.allowed == ("GENERATE",) and directive.focus == ("g1", "g2")


def edits(*failed_for: tuple[str, ...]):
    """Canvas 0 stands with nothing met; then one rolled-back edit of it for each tuple of goals."""
    failed = (step("EDIT", place, parent=0, accepted=False, goals=served) for place, served in enumerate(failed_for, 1))
    return trajectory(step("GENERATE", 0), *failed, goals=goals("a", "b", "c"), plan=(("g1", "g2"), ("g3",)))


class TestTheNextBatch:
    def test_it_is_the_first_with_an_open_goal_and_holds_only_its_open_goals(self):
        for states in product(STATES, repeat=3):
            run = trajectory(
                step("GENERATE", 0, verdicts=dict(zip(("g1", "g2", "g3"), states))),
                goals=goals("a", "b", "c"),
                plan=(("g1", "g2"), ("g3",)),
            )
            left = [goal for goal, state in zip(("g1", "g2", "g3"), states) if state != "met"]
            first = tuple(goal for goal in left if goal in ("g1", "g2"))
            assert next_batch(run) == (first or tuple(left)), states

    @pytest.mark.parametrize(
        ("failed_for", "expected"),
        [
            ((), ("g1", "g2")),
            ((("g1",),), ("g1", "g2")),
            ((("g1",), ("g2",)), ("g3",)),
            ((("g1", "g2"), ("g3",), ("g1",)), ("g3",)),
            ((("g3",), ("g3",)), ("g1", "g2")),
            ((("g1",), ("g1",), ("g3",), ("g3",)), ("g1", "g2", "g3")),
        ],
    )
    def test_a_batch_that_failed_twice_lets_the_next_one_go_first(self, failed_for, expected):
        assert next_batch(edits(*failed_for)) == expected

    def test_failures_from_another_canvas_do_not_count(self):
        run = edits(("g1",), ("g1",))
        later = replace(step("EDIT", 3, parent=0), index=3)
        assert next_batch(replace(run, steps=(*run.steps, later), current=3)) == ("g1", "g2")

    def test_without_a_plan_all_open_goals_are_served(self):
        assert next_batch(replace(edits(), plan=())) == ("g1", "g2", "g3")

    def test_the_director_may_start_anew_once_it_is_stuck(self):
        assert [Director().directive(edits(*[("g1",)] * count)).allowed for count in range(4)] == [
            ("EDIT",),
            ("EDIT",),
            ("EDIT", "GENERATE"),
            ("EDIT", "GENERATE"),
        ]


class TestStrokes:
    def test_background_first_and_the_arrangement_last(self):
        plan = Strokes().plan(BRIEF, of_kinds("layout", "local", "text", "global", "local", "layout"))
        assert plan.batches == (("g4", "g2"), ("g5", "g3"), ("g1", "g6")) and plan.route == "staged"

    def test_without_an_arrangement_there_is_no_empty_stroke(self):
        assert Strokes().plan(BRIEF, of_kinds("local")).batches == (("g1",),)

    def test_the_first_stroke_serves_the_first_batch_and_later_ones_only_edit(self):
        run = trajectory(goals=goals("a", "b", "c"), plan=(("g1", "g2"), ("g3",)))
        assert (Strokes().directive(run).focus, Strokes().directive(run).allowed) == (("g1", "g2"), ("GENERATE",))
        assert Strokes().directive(edits()).allowed == ("EDIT",)

    def test_the_text_of_each_step_is_inspected_by_strokes_alone(self):
        assert [name for name in STRATEGIES if policy_for(Brief("x", name)).inspects_text] == ["strokes"]

    def test_a_stroke_that_did_not_do_its_work_is_corrected_only_where_pictures_are_looked_at(self):
        goals_, plan = goals("a", "b", "c"), (("g1",), ("g2",), ("g3",))
        first = step("GENERATE", 0, verdicts={"g1": "unmet", "g2": "pending", "g3": "pending"}, goals=("g1",))
        run = trajectory(first, goals=goals_, plan=plan)
        looks, blind = Strokes().directive(run), Strokes(picture=False).directive(run)
        assert (looks.focus, looks.stage, looks.wrong) == (("g1",), "stroke_refine", ("g1",))
        assert (blind.focus, blind.stage, blind.wrong) == (("g2",), "stroke_plan", ())

    def test_without_a_look_each_sub_scene_is_painted_once_and_then_it_ends(self):
        plan, policy = (("g1",), ("g2",)), Strokes(text=False, picture=False)
        run = trajectory(step("GENERATE", 0, verdicts={"g1": "met"}, goals=("g1",)), goals=goals("a", "b"), plan=plan)
        assert policy.stop(run) is None
        failed = step("EDIT", 1, parent=0, verdicts={"g1": "met", "g2": "unmet"}, accepted=False, goals=("g2",))
        both = trajectory(*run.steps, failed, goals=goals("a", "b"), plan=plan)
        assert policy.stop(both) == Stop("all drawn", "every sub-scene is painted")
        assert Strokes().stop(both) is None and not policy.inspects_text

    def test_without_sub_scenes_the_brief_is_drawn_at_once_and_then_corrected(self):
        policy = Strokes(subscenes=False)
        plan = policy.plan(BRIEF, of_kinds("local", "layout", "local"))
        assert plan.batches == (("g1", "g2", "g3"),) and plan.route == "one shot"
        run = trajectory(goals=of_kinds("local", "layout", "local"), plan=plan.batches)
        fixed = policy.directive(run).fixed
        assert fixed is not None and (fixed.kind, fixed.scene_prompt) == ("GENERATE", run.brief.prompt)
        drawn = step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet", "g3": "met"}, goals=("g1", "g2", "g3"))
        after = policy.directive(trajectory(drawn, goals=run.goals, plan=plan.batches))
        assert (after.focus, after.stage, after.wrong) == (("g2",), "stroke_refine", ("g2",))

    @pytest.mark.parametrize("reached", range(-1, 3))
    def test_what_comes_after_the_furthest_batch_begun_is_pending(self, reached):
        plan = (("g1", "g2"), ("g3",), ("g4",))
        for earlier in range(-1, reached + 1):
            served = step("EDIT", 1, goals=plan[reached][-1:] if reached >= 0 else ())
            before = step("GENERATE", 0, goals=plan[earlier][:1] if earlier >= 0 else ())
            later = {goal for batch in plan[reached + 1 :] for goal in batch}
            assert Strokes().pending(trajectory(before, plan=plan), served) == later
            assert Strokes().pending(trajectory(served, plan=plan), before) == later

    def test_for_the_other_strategies_nothing_is_pending(self):
        for policy in (Clvr(), Director(), OneShot(), BestOfN()):
            assert policy.pending(trajectory(plan=(("g1",), ("g2",))), step("EDIT", 0, goals=("g1",))) == frozenset()


class TestTheControls:
    @pytest.mark.parametrize("policy", [OneShot(), BestOfN()], ids=["one shot", "best of n"])
    def test_they_draw_the_briefs_own_words_and_ask_no_controller(self, policy):
        fixed = policy.directive(trajectory(goals=goals("a"))).fixed
        assert (fixed.kind, fixed.scene_prompt) == ("GENERATE", "a red circle")

    def test_one_shot_is_one_picture_whatever_the_grid(self):
        assert OneShot().candidates(trajectory(brief=Brief("x", "oneshot", candidates=8))) == 1

    @pytest.mark.parametrize(
        ("candidates", "images", "count"), [(None, None, 4), (None, 7, 7), (3, 7, 3), (3, None, 3)]
    )  # fmt: skip
    def test_best_of_n_takes_n_from_the_brief_else_from_the_budget(self, candidates, images, count):
        brief = Brief("x", "best-of-n", candidates=candidates, budget=Budget(images=images))
        assert BestOfN().candidates(trajectory(brief=brief)) == count

    def test_they_stop_after_their_one_round_even_if_it_met_nothing(self):
        four = replace(step("GENERATE", 0), candidates=tuple(Candidate(canvas, "", canvas, "") for canvas in range(4)))
        assert OneShot().stop(trajectory(goals=goals("a"))) is None and BestOfN().stop(trajectory()) is None
        assert OneShot().stop(trajectory(step("GENERATE", 0), goals=goals("a"))) == Stop("all drawn", "one shot")
        assert BestOfN().stop(trajectory(four)) == Stop("all drawn", "best of 4")
