"""The rules all strategies share, over every small set of verdicts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.policy import rules
from clvr_core.policy.base import OVER_EDIT_LIMIT, Acceptance, Policy
from clvr_core.policy.rules import Stop
from clvr_core.trajectory import Cost, EditCheck, Step, Verdict
from tests.fakes import goals, step, trajectory

STATES = ("met", "unmet", "pending", "unsure", "error")
ROOT = Path(__file__).parents[2]
NOTHING = Cost()
POINTS = {"met": 2, "unsure": 1, "unmet": 0, "pending": 0}
"""In half points, so that sums are exact; a state that is not here says nothing."""
PAIRS = tuple(product(STATES, repeat=2))


def verdicts(*states: str) -> tuple[Verdict, ...]:
    return tuple(Verdict(f"g{number}", state) for number, state in enumerate(states, 1))


def judged(canvas: int, states: tuple[str, ...], **fields) -> Step:
    said = verdicts(*states)
    return replace(step("EDIT", canvas), verdicts=said, score=rules.score(said), **fields)


def ahead(challenger: tuple[str, ...], holder: tuple[str, ...]) -> bool:
    """The rule in other words: only goals with a word on both canvases count, unless one canvas has no word at all.

    If these are level, a goal met that had no answer on the other canvas decides, unless a goal met there is not met here.
    """
    if all(state == "error" for state in holder):
        return any(state != "error" for state in challenger)
    points = sum(POINTS[new] - POINTS[old] for old, new in zip(holder, challenger) if "error" not in (old, new))
    kept = all(new == "met" for old, new in zip(holder, challenger) if old == "met")
    return points > 0 or (points == 0 and kept and ("error", "met") in zip(holder, challenger))


class TestScore:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_the_mean_over_the_goals_that_the_judge_answered(self, count):
        for states in product(STATES, repeat=count):
            answered = [POINTS[state] for state in states if state != "error"]
            assert rules.score(verdicts(*states)) == (sum(answered) / 2 / len(answered) if answered else None), states

    def test_no_goals_no_score(self):
        assert rules.score(()) is None

    def test_an_error_is_neither_unmet_nor_met(self):
        assert rules.score(verdicts("met", "error")) == 1.0 > rules.score(verdicts("met", "unmet"))
        assert rules.score(verdicts("unmet", "error")) == 0.0 < rules.score(verdicts("unmet", "met"))

    def test_pending_is_no_credit_and_unsure_is_half(self):
        assert [rules.score(verdicts(state)) for state in ("met", "unsure", "pending", "unmet")] == [1.0, 0.5, 0.0, 0.0]


class TestGain:
    def test_the_sum_over_the_goals_judged_on_both(self):
        for old, new in product(PAIRS, PAIRS):
            both = [(a, b) for a, b in zip(old, new) if "error" not in (a, b)]
            expected = sum(POINTS[b] - POINTS[a] for a, b in both) / 2 if both else None
            assert rules.gain(verdicts(*old), verdicts(*new)) == expected, (old, new)

    def test_a_goal_judged_on_one_canvas_only_is_no_gain(self):
        assert rules.gain(verdicts("met"), verdicts("met", "met")) == 0


class TestBetter:
    def test_every_pair_of_verdict_sets(self):
        for old, new in product(PAIRS, PAIRS):
            assert rules.better(judged(1, new), judged(0, old)) is ahead(new, old), (old, new)

    def test_a_tie_keeps_the_earlier_canvas(self):
        for states in product(STATES, repeat=3):
            assert not rules.better(judged(1, states), judged(0, states))

    def test_never_both_ways(self):
        for old, new in product(PAIRS, PAIRS):
            assert not (rules.better(judged(1, new), judged(0, old)) and rules.better(judged(0, old), judged(1, new)))

    def test_any_canvas_is_better_than_none(self):
        assert rules.better(judged(0, ("error",)), None)
        assert not rules.better(step("END"), None)

    def test_a_missing_answer_holds_back_no_canvas_that_is_seen_to_meet_more(self):
        assert rules.better(judged(1, ("met", "met")), judged(0, ("met", "error")))
        assert not rules.better(judged(1, ("met", "unmet")), judged(0, ("met", "error")))
        assert not rules.better(judged(1, ("met", "error")), judged(0, ("met", "met")))
        assert not rules.better(judged(1, ("error", "met")), judged(0, ("met", "error")))

    def test_a_goal_lost_for_a_goal_won_is_a_tie(self):
        assert not rules.better(judged(1, ("unmet", "met")), judged(0, ("met", "unmet")))


class TestTheBestOfAll:
    def test_without_errors_the_first_of_the_highest_score(self):
        for states in product(("met", "unmet", "unsure"), repeat=4):
            steps = [judged(index, (state,)) for index, state in enumerate(states)]
            points = [POINTS[state] for state in states]
            assert rules.best(steps).chosen == points.index(max(points)), states

    def test_steps_without_a_canvas_are_passed_over(self):
        assert rules.best([step("END"), judged(0, ("unmet",)), step("VALIDATE")]).chosen == 0
        assert rules.best([step("END")]) is None and rules.best([]) is None

    def test_all_errors_leave_the_first(self):
        assert rules.best([judged(0, ("error",)), judged(1, ("error",))]).chosen == 0


class TestChoosingACandidate:
    def test_every_pair(self):
        for first, second in product(PAIRS, PAIRS):
            assert rules.choose([verdicts(*first), verdicts(*second)]) == int(ahead(second, first)), (first, second)

    def test_of_three_without_errors_the_first_of_the_highest_score(self):
        for three in product(product(STATES[:4], repeat=2), repeat=3):
            points = [sum(POINTS[state] for state in states) for states in three]
            assert rules.choose([verdicts(*states) for states in three]) == points.index(max(points)), three

    def test_the_first_where_none_was_judged(self):
        assert rules.choose([verdicts("error", "error")] * 4) == 0
        assert rules.choose([(), ()]) == 0

    def test_of_equals_the_least_damaged_and_no_goal_is_given_up_for_it(self):
        level, worse = verdicts("met", "unmet"), verdicts("unmet", "unmet")
        assert rules.choose([level, level, level], (0.5, 0.0, 0.0)) == 1
        assert rules.choose([worse, level, worse], (0.0, 3.0, 0.0)) == 1
        assert rules.choose([level, level], (0.0, 0.0)) == 0

    def test_a_judged_candidate_before_one_that_was_not(self):
        assert rules.choose([verdicts("error"), verdicts("unmet"), verdicts("error")]) == 1

    def test_errors_do_not_lift_a_candidate_over_one_with_more_goals_met(self):
        assert rules.choose([verdicts("met", "met", "met", "unmet"), verdicts("met", "error", "error", "error")]) == 0


class TestLost:
    def test_held_before_and_said_not_to_hold_now(self):
        for old, new in product(PAIRS, PAIRS):
            expected = {
                f"g{place}" for place, (a, b) in enumerate(zip(old, new), 1) if a == "met" and b in ("unmet", "unsure")
            }
            assert rules.lost(verdicts(*old), verdicts(*new)) == expected, (old, new)

    def test_a_goal_without_an_answer_is_not_lost(self):
        assert not rules.lost(verdicts("met", "met"), verdicts("error"))


class TestAcceptOrRollBack:
    @pytest.mark.parametrize("over_edit", [None, 0.0, OVER_EDIT_LIMIT, 0.51, 1.0])
    @pytest.mark.parametrize("success", [None, True, False])
    def test_kept_if_better_and_not_over_edited(self, over_edit, success):
        spoiled = over_edit is not None and over_edit > OVER_EDIT_LIMIT and success is not True
        for old, new in product(PAIRS, PAIRS):
            run = trajectory(judged(0, old), goals=goals("a", "b"))
            ruled = Policy().accept(run, judged(1, new, edit=EditCheck(success, over_edit)))
            assert ruled.accepted is (ahead(new, old) and not spoiled), (old, new)
            assert (ruled.ruling == "goals gained") is ruled.accepted, ruled
            assert ruled.reason.startswith("kept" if ruled.accepted else "rolled back"), ruled
            if ahead(new, old) and spoiled:
                assert ruled.ruling == "over-edited"

    def test_the_first_canvas_is_always_kept(self):
        for states in PAIRS:
            ruled = Policy().accept(trajectory(), judged(0, states, edit=EditCheck(False, 1.0)))
            assert ruled == Acceptance(True, "first canvas", "the first canvas")

    def test_the_reason_names_what_was_won_and_lost(self):
        run = trajectory(judged(0, ("met", "unmet", "unmet")))
        gained = Policy().accept(run, judged(1, ("unmet", "met", "met")))
        assert gained == Acceptance(True, "goals gained", "kept: now met g2, g3, lost g1")
        lost = Policy().accept(run, judged(1, ("unmet", "met", "unmet")))
        assert lost == Acceptance(False, "goals lost", "rolled back: lost g1, now met g2")
        same = Policy().accept(run, judged(1, ("met", "unmet", "unmet")))
        assert same.ruling == "no gain" and "no goal gained" in same.reason

    def test_a_silent_judge_is_named_as_the_reason(self):
        silent = Policy().accept(trajectory(judged(0, ("unmet",))), judged(1, ("error",)))
        assert silent.ruling == "not judged" and "judge gave no answer" in silent.reason


def in_conflict(*pairs: tuple[int, int], count: int = 4) -> tuple[Goal, ...]:
    """`count` goals; of each pair the first names the second."""
    return tuple(
        Goal(f"g{number}", f"thing {number}", conflicts_with=tuple(f"g{b}" for a, b in pairs if a == number))
        for number in range(1, count + 1)
    )


class TestConflicts:
    def test_of_two_in_conflict_the_earlier_is_wanted_whichever_names_the_other(self):
        edges = [*combinations(range(1, 5), 2), *((b, a) for a, b in combinations(range(1, 5), 2))]
        for chosen in product((False, True), repeat=len(edges)):
            named = [edge for edge, taken in zip(edges, chosen) if taken]
            against = {frozenset(edge) for edge in named}
            kept: list[int] = []
            for number in range(1, 5):
                if not any(frozenset((number, other)) in against for other in kept):
                    kept.append(number)
            assert [goal.id for goal in rules.wanted(in_conflict(*named))] == [f"g{number}" for number in kept], named

    def test_all_met_asks_only_for_what_can_hold_together(self):
        run = trajectory(goals=in_conflict((1, 2), count=3))
        for states in product(STATES, repeat=3):
            assert rules.all_met(run, judged(0, states)) is (states[0] == states[2] == "met"), states

    def test_open_goals_leave_out_what_is_met_and_what_cannot_hold(self):
        run = trajectory(goals=in_conflict((2, 1), count=3))
        for states in product(STATES, repeat=3):
            expected = tuple(goal for goal, state in (("g1", states[0]), ("g3", states[2])) if state != "met")
            assert rules.open_goals(run, judged(0, states)) == expected, states

    def test_without_a_canvas_everything_is_open_and_nothing_is_met(self):
        run = trajectory(goals=goals("a", "b"))
        assert rules.open_goals(run, None) == ("g1", "g2") and not rules.all_met(run, None)

    def test_without_goals_nothing_is_met(self):
        assert not rules.all_met(trajectory(), judged(0, ()))

    def test_a_goal_the_judge_never_spoke_of_is_not_met(self):
        assert not rules.all_met(trajectory(goals=goals("a", "b")), judged(0, ("met",)))


class TestTheFinalGate:
    def test_an_end_stands_only_if_every_goal_that_can_hold_is_met(self):
        for states in product(STATES, repeat=3):
            run = trajectory(judged(0, states), goals=in_conflict((1, 2), count=3))
            gate = Policy().final_gate(run)
            assert gate.accepted is (states[0] == states[2] == "met"), states
            assert gate.ruling == ("end accepted" if gate.accepted else "end refused")
            assert gate.reason.startswith("END: every goal holds" if gate.accepted else "END refused: not met g"), gate

    def test_an_end_without_a_canvas_is_refused(self):
        gate = Policy().final_gate(trajectory(goals=goals("a")))
        assert gate == Acceptance(False, "end refused", "END refused: not met g1")


class TestStopping:
    def test_every_goal_met_on_the_current_canvas(self):
        for states in PAIRS:
            stop = Policy().stop(trajectory(judged(0, states), goals=goals("a", "b")))
            assert (stop == Stop("goals met", "every goal is met")) is (states == ("met", "met"))

    @pytest.mark.parametrize("length", range(7))
    def test_rounds_without_gain_are_those_since_the_last_one_kept(self, length):
        for kept in product((True, False), repeat=length):
            run = trajectory(*(step("EDIT", index, accepted=accepted) for index, accepted in enumerate(kept)))
            expected = length - max((index + 1 for index, accepted in enumerate(kept) if accepted), default=0)
            assert rules.rounds_without_gain(run) == expected, kept

    @pytest.mark.parametrize("patience", [1, 2, 3])
    def test_patience_is_the_number_of_rounds_without_gain(self, patience):
        for failures in range(5):
            steps = (judged(0, ("unmet",)), *(step("EDIT", index + 1, accepted=False) for index in range(failures)))
            run = trajectory(*steps, goals=goals("a"), brief=Brief("x", budget=Budget(patience=patience)))
            stop = Stop("no improvement", f"no improvement in {patience} rounds")
            assert Policy().stop(run) == (stop if failures >= patience else None)


def having(budget: Budget, *costs: Cost, overhead: Cost = NOTHING):
    steps = (replace(step("EDIT", index), cost=cost) for index, cost in enumerate(costs))
    return trajectory(*steps, brief=Brief("x", budget=budget), overhead=overhead)


class TestTheBudget:
    def test_rounds_are_the_actions_that_draw(self):
        for limit, kinds in product((1, 2, 3), product(("GENERATE", "EDIT", "VALIDATE", "END"), repeat=3)):
            run = trajectory(*(step(kind) for kind in kinds), brief=Brief("x", budget=Budget(rounds=limit)))
            drawn = sum(kind in ("GENERATE", "EDIT") for kind in kinds)
            assert bool(rules.spent(run, images=1)) is (drawn >= limit), (limit, kinds)
            assert rules.spent(run) is None

    def test_the_next_round_must_fit_into_what_is_left_of_images_and_evaluations(self):
        for limit, spent, more in product((1, 3, 4), range(6), range(5)):
            images = having(Budget(rounds=99, images=limit), Cost(images=spent))
            evaluations = having(Budget(rounds=99, evaluations=limit), Cost(evaluations=spent))
            assert bool(rules.spent(images, images=more)) is (spent + more > limit), (limit, spent, more)
            assert bool(rules.spent(evaluations, evaluations=more)) is (spent + more > limit), (limit, spent, more)

    def test_seconds_and_tokens_stop_the_run_once_they_are_reached(self):
        for limit, spent in product((1, 3), range(5)):
            seconds = having(Budget(rounds=99, seconds=limit), Cost({"draw": float(spent)}))
            tokens = having(Budget(rounds=99, vlm_tokens=limit), Cost(vlm_tokens=spent))
            assert bool(rules.spent(seconds)) is (spent >= limit), (limit, spent)
            assert bool(rules.spent(tokens)) is (spent >= limit), (limit, spent)

    @pytest.mark.parametrize(
        ("budget", "cost"),
        [(Budget(seconds=3.0), Cost({"draw": 1.0, "judge": 0.5})), (Budget(vlm_tokens=3), Cost(vlm_tokens=1)),
         (Budget(images=3), Cost(images=1)), (Budget(evaluations=3), Cost(evaluations=1))],
        ids=["seconds", "vlm_tokens", "images", "evaluations"],
    )  # fmt: skip
    def test_what_was_spent_outside_the_steps_counts_too(self, budget, cost):
        assert rules.spent(having(budget, cost), 1, 1) is None
        assert rules.spent(having(budget, cost, cost, overhead=cost + cost), 1, 1)

    @pytest.mark.parametrize(
        ("budget", "word"),
        [(Budget(rounds=1), "rounds"), (Budget(images=1), "images"), (Budget(evaluations=1), "evaluations"), (Budget(seconds=1.0), " s "),
         (Budget(vlm_tokens=1), "tokens")],
    )  # fmt: skip
    def test_the_reason_names_the_limit(self, budget, word):
        cost = Cost({"draw": 1.0}, vlm_tokens=1, evaluations=1, images=1)
        stop = rules.spent(having(budget, cost), 1, 1)
        assert stop.ended == "budget spent" and stop.reason.startswith("budget: ") and word in stop.reason

    def test_no_limit_no_stop(self):
        cost = Cost({"draw": 1e9}, 10**9, 10**9, 10**9, 10**9)
        assert rules.spent(having(Budget(rounds=99), cost), 10**6, 10**9) is None


PURE = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event in ("open", "socket.connect", "subprocess.Popen") else None)
from clvr_core.brief import Brief, Goal
from clvr_core.policy import policy_for
from clvr_core.policy import rules
from clvr_core.trajectory import Action, Candidate, Step, Trajectory, Verdict
heavy = [name for name in ("numpy", "torch", "PIL", "transformers", "diffusers", "random") if name in sys.modules]
assert not heavy, heavy
assert all(str(path).endswith((".py", ".pyc", ".so")) for path in opened), opened
del opened[:]
goals = (Goal("g1", "a"), Goal("g2", "b", conflicts_with=("g1",)), Goal("g3", "c", "layout"))
for strategy in ("clvr", "director", "strokes", "oneshot", "best-of-n"):
    brief = Brief("x", strategy)
    policy = policy_for(brief)
    plan = policy.plan(brief, goals)
    empty = Trajectory(brief, goals, plan=plan.batches, gate=plan.gate)
    step = Step(0, Action("GENERATE"), candidates=(Candidate(0, "", 0, ""),), chosen=0, verdicts=(Verdict("g1", "unsure"),), score=0.5)
    for run in (empty, Trajectory(brief, goals, plan=plan.batches, gate=plan.gate, steps=(step,), current=0, best=0)):
        before = repr(run)
        for _ in range(2):
            said = [
                repr(answer)
                for answer in (
                    policy.candidates(run),
                    policy.directive(run),
                    policy.pending(run, step),
                    policy.accept(run, step),
                    policy.final_gate(run),
                    policy.stop(run),
                    rules.spent(run, 1, 1),
                )
            ]
            assert said == globals().setdefault(f"{strategy}/{len(run.steps)}", said)
        assert repr(run) == before
assert not opened, opened
"""


def test_the_policies_load_no_tensors_touch_no_file_and_answer_alike_when_asked_again():
    subprocess.run([sys.executable, "-B", "-c", PURE], cwd=ROOT, check=True)
