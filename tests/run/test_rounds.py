"""The gates, the second look, the grid, references, strokes: what a round may be, on scripted models."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, repeat

import pytest

from clvr_core.brief import Budget, Goal
from clvr_core.policy import rules
from clvr_core.policy.clvr import Clvr
from clvr_core.run import session as session_module
from clvr_core.trajectory import Trajectory, seed_for, states
from tests.fakes import FakeExecutor
from tests.run.script import (
    END,
    PROMPT,
    VALIDATE,
    asked,
    canvas_of,
    drafts,
    edit,
    generate,
    judged,
    play,
    scripted,
    seen,
)


def kinds(run: Trajectory) -> list[str]:
    return [step.action.kind for step in run.steps]


def kept(run: Trajectory) -> list[int]:
    return [step.chosen for step in run.steps if step.accepted]


@dataclass(frozen=True)
class LetsTheControllerEnd(Clvr):
    def stop(self, trajectory: Trajectory) -> str | None:
        return rules.spent(trajectory)


class TestTheGates:
    def test_director_draws_what_is_likely_to_work_in_one_shot_without_asking_for_words(self):
        vlm, executor = scripted([], dict.fromkeys(range(4), "mmm")), FakeExecutor()
        run = play(vlm, executor, strategy="director")
        assert (
            run.route == "one shot"
            and {request.prompt for request in executor.requests} == {PROMPT}
            and not asked(vlm, "action")
        )

    def test_director_stages_what_is_not_and_lets_the_controller_write_the_first_scene(self):
        vlm, executor = (
            scripted([generate("a barn")], dict.fromkeys(range(4), "mmm"), goals=[drafts(3, feasibility=0.3)]),
            FakeExecutor(),
        )
        run = play(vlm, executor, strategy="director")
        assert run.route == "staged" and {request.prompt for request in executor.requests} == {"a barn"}

    def test_an_end_with_open_goals_is_refused_with_the_reason_and_the_run_goes_on(self):
        vlm = scripted([generate(), END, edit()], {0: "mmu", 1: "mmm"})
        run = play(vlm)
        assert kinds(run) == ["GENERATE", "END", "EDIT"] and run.outcome.met
        assert (run.steps[1].accepted, run.steps[1].reason) == (False, "END refused: not met g3")
        assert "END refused: not met g3" in asked(vlm, "action")[2].text

    def test_an_end_is_accepted_once_every_goal_holds(self, monkeypatch):
        monkeypatch.setattr(session_module, "policy_for", lambda brief: LetsTheControllerEnd())
        run = play(scripted([generate(), END, edit(), END], {0: "mmu", 1: "mmm"}))
        assert [step.accepted for step in run.steps] == [True, False, True, True]
        assert run.outcome.reason == "END: every goal holds" and run.outcome.met and run.outcome.canvas == 1

    def test_a_controller_that_only_wants_to_end_does_not_keep_the_run_going(self):
        run = play(scripted([generate(), *repeat(END, 9)], {0: "mmu"}))
        assert run.outcome.reason == "no improvement in 3 rounds" and run.outcome.canvas == 0 and not run.outcome.met


class TestValidating:
    def test_only_goals_without_a_clear_word_are_judged_again_and_take_the_new_word(self):
        vlm = scripted([generate(), VALIDATE], {0: ["m?e", "m?e", "umm"]})
        run = play(vlm)
        assert [[question.data["goal"]["id"] for question in call.questions] for call in asked(vlm, "goal")][-1] == [
            "g2",
            "g3",
        ]
        assert states(run.steps[0].verdicts) == {"g1": "met", "g2": "met", "g3": "met"} and run.steps[0].score == 1.0
        assert (
            run.outcome.met and run.outcome.canvas == 0 and run.steps[1].reason == "judged again: 2 verdicts cleared up"
        )

    def test_nothing_is_drawn(self):
        executor = FakeExecutor()
        run = play(scripted([generate(), VALIDATE, edit()], {0: ["mm?", "mmu"], 1: "mmm"}), executor)
        assert len(executor.requests) == 2 and run.steps[1].candidates == () and run.steps[2].parent == 0

    @pytest.mark.parametrize("silence", ["eee", TimeoutError("slow")], ids=repr)
    def test_silence_leaves_the_earlier_word(self, silence):
        run = play(scripted([generate(), VALIDATE, edit()], {0: ["mu?", silence], 1: "mmm"}))
        assert (
            states(run.steps[0].verdicts) == {"g1": "met", "g2": "unmet", "g3": "unsure"} and not run.steps[1].accepted
        )

    def test_it_is_offered_only_where_something_is_unclear(self):
        vlm = scripted([generate(), edit(), edit()], {0: "m?u", 1: "mmu", 2: "mmm"})
        play(vlm)
        assert [message.data["allowed"] for message in asked(vlm, "action")] == [
            ["GENERATE"],
            ["GENERATE", "EDIT", "VALIDATE", "END"],
            ["GENERATE", "EDIT", "END"],
        ]

    @pytest.mark.parametrize("budget", [Budget(rounds=3), Budget(vlm_tokens=12)], ids=["a round later", "at once"])
    def test_a_canvas_that_was_kept_on_a_doubt_gives_way_once_the_doubt_is_against_it(self, budget):
        vlm = scripted([generate(), edit(), VALIDATE, edit()], {0: "muu", 1: ["m?u", "muu"], 2: "muu"})
        run = play(vlm, budget=budget)
        assert kinds(run)[:3] == ["GENERATE", "EDIT", "VALIDATE"] and run.steps[1].accepted and run.outcome.canvas == 0

    def test_a_judge_that_stays_unsure_in_ever_new_shades_does_not_keep_the_run_going(self):
        shade = count()

        def doubt(images, questions):
            return [0.4 + 0.001 * next(shade) for _ in questions]

        vlm = scripted([generate(), *(END if turn % 2 else VALIDATE for turn in range(40))])
        vlm._decisions = doubt
        run = play(vlm)
        assert (
            kinds(run) == ["GENERATE", "VALIDATE", "END", "VALIDATE"]
            and run.outcome.reason == "no improvement in 3 rounds"
        )


class TestTheGridOfCandidates:
    def test_each_round_draws_n_candidates_in_one_batch_with_distinct_documented_seeds(self):
        executor = FakeExecutor()
        canvases = {canvas: "muu" if canvas < 4 else "mmm" for canvas in range(8)}
        run = play(scripted([edit()], canvases), executor, strategy="director", seed=11)
        assert executor.batches == [4, 4]
        assert [request.seed for request in executor.requests] == [
            seed_for(11, step, candidate) for step in (0, 1) for candidate in range(4)
        ]
        assert len({request.seed for request in executor.requests}) == 8
        assert [[candidate.seed for candidate in step.candidates] for step in run.steps] == [
            [seed_for(11, step, candidate) for candidate in range(4)] for step in (0, 1)
        ]

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_n_is_the_briefs_if_it_says_so(self, size):
        executor = FakeExecutor()
        play(scripted([generate()], dict.fromkeys(range(size), "mmm")), executor, candidates=size)
        assert executor.batches == [size]

    @pytest.mark.parametrize("best", range(4))
    def test_every_candidate_is_judged_and_the_best_is_chosen(self, best):
        vlm = scripted([generate()], {canvas: "mmm" if canvas == best else "mmu" for canvas in range(4)})
        run = play(vlm, candidates=4)
        assert judged(vlm) == [0, 1, 2, 3] and run.steps[0].chosen == run.outcome.canvas == best and run.outcome.met

    def test_a_tie_goes_to_the_first(self):
        run = play(
            scripted([generate()], {0: "muu", 1: "mmu", 2: "umm", 3: "mum"}), candidates=4, budget=Budget(rounds=1)
        )
        assert run.outcome.canvas == 1

    def test_each_candidate_of_an_edit_is_checked_against_the_canvas_it_started_from(self):
        vlm = scripted([generate(), edit()], {0: "uuu", 1: "muu", 2: "muu", 3: "mmm"}, edits={3: (0.9, 0.75)})
        run = play(vlm, candidates=2)
        assert [tuple(map(canvas_of, call.images)) for call in asked(vlm, "edit-done")] == [(1, 2), (1, 3)]
        assert run.steps[1].chosen == 3 and run.steps[1].edit.over_edit == 0.25

    def test_best_of_n_is_one_round_of_the_briefs_own_words(self):
        vlm, executor = scripted([], {canvas: "mmu" if canvas == 5 else "muu" for canvas in range(6)}), FakeExecutor()
        run = play(vlm, executor, strategy="best-of-n", budget=Budget(images=6))
        assert (
            executor.batches == [6]
            and run.outcome.canvas == 5
            and run.outcome.reason == "best of 6"
            and not asked(vlm, "action")
        )


class TestReferences:
    def test_several_canvases_reach_the_executor_in_the_order_in_which_they_were_named(self):
        for named in ((0, 1), (1, 0), (1,), (0,)):
            executor = FakeExecutor()
            run = play(
                scripted(
                    [generate(), edit(), edit("take the roof of image 2", *named)], {0: "muu", 1: "mmu", 2: "mmm"}
                ),
                executor,
            )
            assert seen(executor)[2] == named == run.steps[2].action.references

    def test_the_edit_is_checked_against_the_first_of_them(self):
        vlm = scripted([generate(), edit(), edit("x", 0, 1)], {0: "muu", 1: "mmu", 2: "mmm"})
        play(vlm)
        assert tuple(map(canvas_of, asked(vlm, "edit-done")[-1].images)) == (0, 2)

    def test_the_controller_sees_the_current_canvas_first_then_the_kept_ones_from_new_to_old_and_no_failed_one(self):
        vlm = scripted([generate(), edit(), edit(), edit()], {0: "uuu", 1: "muu", 2: "uuu", 3: "mmm"})
        play(vlm)
        shown = [
            (message.data["canvases"], [canvas_of(image) for image in message.images])
            for message in asked(vlm, "action")
        ]
        assert shown == [([], []), ([0], [0]), ([1, 0], [1, 0]), ([1, 0], [1, 0])]

    def test_at_most_four_canvases_are_shown(self):
        letters = ["u" * 7, *("m" * done + "u" * (7 - done) for done in range(1, 8))]
        vlm = scripted([generate(), *repeat(edit(), 7)], dict(enumerate(letters)), goals=7)
        play(vlm)
        assert asked(vlm, "action")[-1].data["canvases"] == [6, 5, 4, 3]

    def test_a_new_picture_is_drawn_from_nothing(self):
        executor = FakeExecutor()
        play(scripted([generate(), {**generate("all"), "references": [0]}], {0: "muu", 1: "mmm"}), executor)
        assert seen(executor) == [(), ()]


class TestStrokes:
    def test_what_is_not_painted_yet_is_pending_and_the_judge_cannot_make_it_wrong(self):
        vlm = scripted([generate(goals=["g1", "g2"]), edit(goals=["g3", "g4"]), edit(goals=["g5"])],
                       {0: "mu?um", 1: "mm?mu", 2: "mmmmm"}, goals=5, inspections=repeat(0.1))  # fmt: skip
        run = play(vlm, strategy="strokes")
        assert run.plan == (("g1", "g2"), ("g3", "g4"), ("g5",))
        said = [list(states(step.verdicts).values()) for step in run.steps]
        assert said == [
            ["met", "unmet", "pending", "pending", "met"],
            ["met", "met", "unsure", "met", "pending"],
            ["met"] * 5,
        ]
        assert run.outcome.met

    def test_pending_is_told_to_the_controller_as_no_error(self):
        vlm = scripted([generate(goals=["g1"]), edit()], {0: "mmu", 1: "mmm"}, inspections=repeat(0.1))
        play(vlm, strategy="strokes")
        message = asked(vlm, "action")[1]
        assert message.data["verdicts"]["g3"] == "pending" and "g3: planned for a later step" in message.text

    def test_an_error_on_a_pending_goal_stays_an_error(self):
        run = play(
            scripted([generate(goals=["g1"]), edit()], {0: "mme", 1: "mmm"}, inspections=repeat(0.1)),
            strategy="strokes",
        )
        assert states(run.steps[0].verdicts)["g3"] == "error"

    def test_an_instruction_that_contradicts_the_brief_is_asked_for_again_before_anything_is_drawn(self):
        vlm, executor = (
            scripted([generate("a blue dog"), generate("a barn")], {0: "mmm"}, inspections=[0.9]),
            FakeExecutor(),
        )
        run = play(vlm, executor, strategy="strokes")
        assert [request.prompt for request in executor.requests] == ["a barn"] and run.warnings == ()
        first, second = asked(vlm, "action")
        assert first.data["note"] == "" and "a blue dog" in second.data["note"] and second.data["note"] in second.text

    def test_one_that_does_not_is_drawn_at_once(self):
        for answer in (0.5, 0.1):
            vlm = scripted([generate()], {0: "mmm"}, inspections=[answer])
            play(vlm, strategy="strokes")
            assert len(asked(vlm, "action")) == 1

    def test_an_inspection_without_an_answer_holds_nothing_up(self):
        run = play(scripted([generate()], {0: "mmm"}, inspections=[None, None]), strategy="strokes")
        assert run.outcome.met and run.warnings == ()

    def test_if_no_other_instruction_comes_the_first_is_drawn_with_a_warning(self):
        executor = FakeExecutor()
        run = play(
            scripted([generate("a blue dog"), "no", "no"], {0: "mmm"}, inspections=[0.9]), executor, strategy="strokes"
        )
        assert executor.requests[0].prompt == "a blue dog" and run.warnings[0].startswith(
            "step 0: fake-vlm gave no usable reply"
        )

    def test_no_other_strategy_inspects(self):
        vlm = scripted([generate()], {0: "mmm"})
        play(vlm)
        assert not asked(vlm, "plan-check")


class TestTheChecklist:
    @pytest.mark.parametrize("strategy", ["clvr", "director", "strokes"])
    def test_it_is_made_once_and_every_canvas_is_judged_against_the_same_one(self, strategy):
        vlm = scripted([generate(), *repeat(edit(), 3)], dict.fromkeys(range(4), "uuu"), goals=[drafts(3, feasibility=0.3)],
                       inspections=repeat(0.1))  # fmt: skip
        run = play(vlm, strategy=strategy, candidates=1)
        assert len(asked(vlm, "goals")) == 1 and len(run.steps) == 4
        assert len({tuple(question.text for question in call.questions) for call in asked(vlm, "goal")}) == 1

    def test_the_artists_own_is_taken_as_it_is(self):
        listed = (Goal("roof", "a red roof"), Goal("cat", "a cat"))
        vlm = scripted([generate()])
        vlm._decisions = lambda images, questions: [0.9] * len(questions)
        run = play(vlm, goals=listed)
        assert run.goals == listed and not asked(vlm, "goals")
        assert [verdict.goal for verdict in run.steps[0].verdicts] == ["roof", "cat"] and run.outcome.met
