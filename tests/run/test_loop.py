"""The whole loop with scripted models: what is kept, what is handed over, when it stops, what it never believes."""

from __future__ import annotations

import json
from itertools import count, repeat

import pytest

from clvr_core.brief import Budget, Goal
from clvr_core.protocols import Decision, Reply
from clvr_core.run import perform as perform_module
from clvr_core.run import session as session_module
from clvr_core.trajectory import Trajectory, seed_for, states
from tests.fakes import FakeExecutor
from tests.run.script import (
    END,
    PROMPT,
    a_brief,
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


class TestWhenItStops:
    def test_at_once_if_the_first_canvas_meets_every_goal(self):
        vlm, executor = scripted([generate()], {0: "mmm"}), FakeExecutor()
        run = play(vlm, executor)
        assert (run.outcome.reason, run.outcome.canvas, run.outcome.met) == ("every goal is met", 0, True)
        assert len(executor.requests) == 1 and len(asked(vlm, "action")) == 1

    def test_in_the_round_that_meets_the_last_goal(self):
        run = play(scripted([generate(), edit(), edit()], {0: "muu", 1: "mmu", 2: "mmm"}))
        assert run.outcome.canvas == 2 and run.outcome.met and kept(run) == [0, 1, 2]

    def test_goals_that_cannot_hold_beside_earlier_ones_are_not_waited_for(self):
        listed = (Goal("g1", "day"), Goal("g2", "night", conflicts_with=("g1",)), Goal("g3", "a barn"))
        run = play(scripted([generate()], {0: "mum"}), goals=listed)
        assert run.outcome.met and run.outcome.reason == "every goal is met"

    @pytest.mark.parametrize("patience", [1, 2, 3])
    def test_after_as_many_rounds_without_improvement_as_it_has_patience(self, patience):
        run = play(
            scripted([generate(), *repeat(edit(), 9)], dict.fromkeys(range(9), "muu")), budget=Budget(patience=patience)
        )
        assert run.outcome.reason == f"no improvement in {patience} rounds" and len(run.steps) == 1 + patience

    def test_an_improvement_gives_new_patience(self):
        canvases = {0: "uuu", 1: "uuu", 2: "muu", 3: "uuu", 4: "uuu", 5: "uuu"}
        run = play(scripted([generate(), *repeat(edit(), 9)], canvases), budget=Budget(patience=2))
        assert len(run.steps) == 5 and run.outcome.canvas == 2

    def test_the_best_canvas_is_handed_over_and_not_the_last(self):
        run = play(scripted([generate(), *repeat(edit(), 9)], {0: "uuu", 1: "mmu", 2: "muu", 3: "umu", 4: "uuu"}))
        assert run.outcome.canvas == run.best == 1 and run.canvases == 5 and not run.outcome.met
        assert run.outcome.choice == "the best canvas by the judge's word"


class TestRollingBack:
    def test_a_canvas_that_lost_a_goal_is_rolled_back_and_the_next_edit_starts_from_the_earlier_one(self):
        executor = FakeExecutor()
        run = play(scripted([generate(), edit(), edit()], {0: "mmu", 1: "uuu", 2: "mmm"}), executor)
        assert [(step.parent, step.chosen, step.accepted) for step in run.steps] == [
            (None, 0, True),
            (0, 1, False),
            (0, 2, True),
        ]
        assert run.steps[1].reason == "rolled back: lost g1, g2"
        assert seen(executor) == [(), (0,), (0,)]

    def test_a_tie_goes_to_the_earlier_canvas(self):
        for tied in ("muu", "umu", "mue", "euu"):
            run = play(scripted([generate(), *repeat(edit(), 9)], {0: "muu", 1: tied, 2: tied, 3: tied}))
            assert run.outcome.canvas == run.current == 0, tied

    def test_the_failed_branch_stays_in_the_tree_and_is_told_to_the_controller(self):
        vlm = scripted([generate(), edit("paint the cat blue"), edit()], {0: "muu", 1: "uuu", 2: "mmm"})
        run = play(vlm)
        assert [failed.chosen for failed in run.failed] == [1]
        first, second, third = asked(vlm, "action")
        assert first.data["failed"] == second.data["failed"] == []
        assert third.data["failed"] == [
            {
                "parent": 0,
                "kind": "EDIT",
                "edit_prompt": "paint the cat blue",
                "scene_prompt": "",
                "reason": "rolled back: lost g1",
            }
        ]
        assert "paint the cat blue" in third.text and "rolled back: lost g1" in third.text

    def test_a_step_that_changed_what_was_to_stay_is_rolled_back_though_it_won_a_goal(self):
        run = play(scripted([generate(), edit(), edit()], {0: "muu", 1: "mmu", 2: "mmm"}, edits={1: (0.1, 0.2)}))
        assert not run.steps[1].accepted and "over-edit 0.80" in run.steps[1].reason and run.steps[2].parent == 0

    def test_each_edit_is_checked_against_the_canvas_it_started_from(self):
        vlm = scripted([generate(), edit(), edit(), edit()], {0: "muu", 1: "uuu", 2: "mmu", 3: "mmm"})
        play(vlm)
        assert [tuple(map(canvas_of, call.images)) for call in asked(vlm, "edit-done")] == [(0, 1), (0, 2), (2, 3)]


class TestASilentJudge:
    @pytest.mark.parametrize("silence", ["eee", TimeoutError("slow"), ConnectionError("gone")], ids=repr)
    def test_a_run_without_any_answer_hands_over_a_picture_and_says_that_it_was_not_judged(self, silence):
        run = play(
            scripted([generate(), *repeat(edit(), 9)], {canvas: [silence] for canvas in range(9)}), final_ab=True
        )
        assert (run.outcome.canvas, run.outcome.met) == (0, False)
        assert run.outcome.choice == "the first canvas: no canvas was judged" and run.outcome.reason.startswith(
            "no improvement"
        )
        assert {verdict.state for step in run.steps for verdict in step.verdicts} == {"error"}
        assert all(verdict.evidence for verdict in run.steps[0].verdicts)

    def test_an_error_is_not_unmet_so_a_goal_without_an_answer_is_not_lost(self):
        run = play(scripted([generate(), edit(), edit()], {0: "muu", 1: "emu", 2: "mmm"}))
        assert run.steps[1].accepted and run.steps[1].reason == "kept: now met g2"

    def test_an_error_is_not_met_so_it_does_not_end_the_run(self):
        run = play(scripted([generate(), *repeat(edit(), 3)], {0: "mme", 1: "mme", 2: "mme", 3: "mme"}))
        assert not run.outcome.met and len(run.steps) == 4

    def test_a_failed_connection_on_one_look_is_asked_once_more(self):
        vlm = scripted([generate()], {0: [TimeoutError("slow"), "mmm"]})
        run = play(vlm)
        assert run.outcome.met and judged(vlm) == [0, 0]

    def test_a_canvas_that_was_judged_is_better_than_one_that_was_not(self):
        run = play(scripted([generate(), edit(), edit()], {0: "eee", 1: "muu", 2: "mmm"}))
        assert kept(run) == [0, 1, 2]

    def test_an_unjudged_canvas_does_not_replace_a_judged_one(self):
        run = play(scripted([generate(), edit(), edit()], {0: "muu", 1: "eee", 2: "mmm"}))
        assert kept(run) == [0, 2] and "judge gave no answer" in run.steps[1].reason

    def test_the_words_beside_an_answer_do_not_decide(self):
        refuted = Decision(0.05, evidence="Yes! yes, met: true. The answer is yes.", tokens=1)
        run = play(
            scripted([generate(), *repeat(edit(), 3)], {canvas: [[refuted, refuted, "m"]] for canvas in range(4)})
        )
        assert states(run.steps[0].verdicts) == {"g1": "unmet", "g2": "unmet", "g3": "met"}


CUT = Reply(
    '{"kind": "EDIT", "goals": ["g2"], "references": [0], "edit_prompt": "add a cat", "scene_prompt": "a barn and a c',
    1,
    False,
)
PROSE = (
    'I weighed {this} and {"that": 1} and {"kind": "END"}.\n```json\n'
    + json.dumps(generate("the barn"))
    + '\n```\nNot {"that": 2}, {}.'
)


class TestABadReply:
    def test_a_reply_that_was_cut_behind_the_instruction_is_mended_without_asking_again(self):
        vlm = scripted([generate(), CUT], {0: "muu", 1: "mmm"})
        run = play(vlm)
        assert (run.steps[1].action.edit_prompt, run.steps[1].action.scene_prompt, run.warnings) == (
            "add a cat",
            "",
            (),
        )
        assert len(vlm.chats) == 3

    def test_of_several_objects_between_words_the_last_that_fits_is_read(self):
        executor = FakeExecutor()
        run = play(scripted([PROSE], {0: "mmm"}), executor)
        assert executor.requests[0].prompt == "the barn" and run.warnings == ()

    @pytest.mark.parametrize(
        "bad",
        [
            "sorry, I cannot do that",
            '{"kind": "GENERATE", "scene_prompt": ',
            Reply('{"kind": "GENERATE", "scene_prompt": "half a sent', 1, False),
            TimeoutError("slow"),
            edit("fly", 7),
            {"kind": "rm -rf", "scene_prompt": "x"},
            END,
        ],
        ids=lambda bad: str(bad)[:30],
    )
    def test_any_other_bad_reply_is_asked_once_more(self, bad):
        vlm = scripted([bad, generate("the barn")], {0: "mmm"})
        run = play(vlm)
        assert run.steps[0].action.scene_prompt == "the barn" and run.warnings == () and run.outcome.met
        assert len([chat for chat in vlm.chats if chat.messages[1].data["task"] == "action"]) == 2

    def test_after_two_bad_replies_the_missing_goals_are_asked_for_in_their_own_words_with_a_warning(self):
        executor = FakeExecutor()
        run = play(scripted([generate(), "no", "no", edit()], {0: "muu", 1: "mmu", 2: "mmm"}), executor)
        assert "thing 2; thing 3" in executor.requests[1].prompt and seen(executor)[1] == (0,)
        assert len(run.warnings) == 1 and run.warnings[0].startswith("step 1: fake-vlm gave no usable reply")
        assert run.outcome.met

    def test_before_the_first_canvas_the_brief_is_drawn_in_its_own_words(self):
        executor = FakeExecutor()
        run = play(scripted([TimeoutError("slow"), TimeoutError("slow")], {0: "mmm"}), executor)
        assert executor.requests[0].prompt == PROMPT and run.warnings[0].startswith(
            "step 0: fake-vlm gave no reply: TimeoutError"
        )

    def test_without_a_goal_list_the_brief_is_judged_as_one_goal(self):
        vlm = scripted([generate()], {0: "m"}, goals=["no", TimeoutError("slow")])
        run = play(vlm)
        assert [(goal.id, goal.text) for goal in run.goals] == [("g1", PROMPT)] and PROMPT in run.goals[0].check
        assert run.outcome.met and run.warnings[0].startswith("no goal list: fake-vlm gave no reply")

    def test_it_stops_once_the_controller_fails_more_often_running_than_there_is_patience(self):
        vlm = scripted(["no"] * 6, {0: "uuu", 1: "muu", 2: "mmu"})
        run = play(vlm, budget=Budget(patience=2))
        assert run.outcome.reason.startswith(
            "the controller gave no usable action 3 times running: fake-vlm gave no usable reply"
        )
        assert (run.canvases, run.outcome.canvas) == (2, 1)
        assert [warning.split(":")[0] for warning in run.warnings] == ["step 0", "step 1", "step 2"]

    def test_one_usable_action_gives_it_new_patience(self):
        replies = ["no"] * 4 + [edit()] + ["no"] * 6
        run = play(
            scripted(replies, {0: "uuuuu", 1: "muuuu", 2: "mmuuu", 3: "mmmuu", 4: "mmmmu"}, goals=5),
            budget=Budget(patience=2),
        )
        assert "3 times running" in run.outcome.reason and run.canvases == 5

    def test_what_the_last_request_cost_is_counted_though_nothing_came_of_it(self):
        vlm = scripted(["no"] * 6, {0: "uuu", 1: "muu", 2: "mmu"})
        run = play(vlm, budget=Budget(patience=2))
        spoken = len(vlm.chats) + sum(len(call.questions) for call in vlm.decides)
        assert (run.cost.vlm_tokens, run.cost.vlm_calls) == (spoken, len(vlm.chats) + len(vlm.decides))


class Dear(FakeExecutor):
    """A new picture costs 24, an edit 8, as with the embedded models."""

    def nfe(self, request) -> int:
        return 8 if request.references else 24


def endless(strategy: str, **brief):
    """A run that only its budget can end: each canvas is judged better than the one before, and no goal is ever met."""
    value = count(1)

    def judge(images, questions):
        return [0.36 + 0.0001 * next(value) if questions[0].data["task"] == "goal" else 0.9 for _ in questions]

    vlm = scripted([generate("some"), *repeat(edit(), 99)], goals=[drafts(3, feasibility=0.1)], inspections=repeat(0.1))
    vlm._decisions = judge
    return vlm, a_brief(strategy=strategy, **brief)


class TestTheBudget:
    @pytest.mark.parametrize("rounds", [1, 2, 3])
    def test_rounds(self, rounds):
        run = play(
            scripted([generate(), *repeat(edit(), 9)], {0: "uuuu", 1: "muuu", 2: "mmuu"}, goals=4),
            budget=Budget(rounds=rounds),
        )
        assert len(run.steps) == rounds and run.outcome.reason == f"budget: {rounds} rounds are spent"
        assert run.outcome.canvas == rounds - 1

    def test_only_rounds_that_draw_are_counted(self):
        run = play(scripted([generate(), END, edit(), edit()], {0: "uuu", 1: "muu", 2: "mmu"}), budget=Budget(rounds=2))
        assert kinds(run) == ["GENERATE", "END", "EDIT"]

    @pytest.mark.parametrize(("images", "drawn"), [(4, 4), (7, 4), (8, 8), (11, 8)])
    def test_images_are_counted_with_all_candidates_and_no_round_is_begun_that_does_not_fit(self, images, drawn):
        canvases = {canvas: "uuuu" if canvas < 4 else "muuu" if canvas < 8 else "mmuu" for canvas in range(12)}
        vlm = scripted([edit()] * 9, canvases, goals=4)
        run = play(vlm, strategy="director", budget=Budget(images=images))
        assert run.cost.images == drawn and run.outcome.reason.startswith(f"budget: {drawn} of {images} images")

    @pytest.mark.parametrize(("evaluations", "drawn"), [(4, 1), (7, 1), (8, 2), (11, 2), (12, 3)])
    def test_evaluations(self, evaluations, drawn):
        run = play(
            scripted([generate(), *repeat(edit(), 9)], {0: "uuuuu", 1: "muuuu", 2: "mmuuu", 3: "mmmuu"}, goals=5),
            budget=Budget(evaluations=evaluations),
        )
        assert run.canvases == drawn and run.cost.evaluations == 4 * drawn
        assert run.outcome.reason.startswith(f"budget: {4 * drawn} of {evaluations} evaluations")

    def test_an_action_that_turns_out_too_dear_ends_the_run_and_its_request_is_paid_for(self):
        vlm = scripted([generate(), edit(), generate("all of it")], {0: "muu", 1: "mmu"})
        run = play(vlm, Dear(), budget=Budget(evaluations=24 + 8 + 23))
        assert run.cost.evaluations == 32 and run.outcome.reason.endswith("the next round costs 24")
        assert len(asked(vlm, "action")) == 3
        assert run.cost.vlm_tokens == len(vlm.chats) + sum(len(call.questions) for call in vlm.decides)

    def test_the_controller_is_not_asked_when_nothing_is_affordable(self):
        vlm = scripted([generate(), edit()], {0: "muu", 1: "mmu"})
        play(vlm, Dear(), budget=Budget(evaluations=24 + 8 + 7))
        assert len(asked(vlm, "action")) == 2

    def test_seconds(self, monkeypatch):
        clock = count()
        monkeypatch.setattr(perform_module.time, "perf_counter", lambda: float(next(clock)))
        canvases = {0: "uuuuu", 1: "muuuu", 2: "mmuuu", 3: "mmmuu"}
        run = play(scripted([generate(), *repeat(edit(), 9)], canvases, goals=5), budget=Budget(seconds=6.0))
        # Each call takes one tick: goals 1, then action, drawing and judging 3 a round; 7 are spent before the third round.
        assert len(run.steps) == 2 and run.outcome.reason == "budget: 7.0 s of 6 s are spent"
        assert run.cost.seconds == {"think": 3.0, "draw": 2.0, "judge": 2.0}

    def test_tokens_of_the_vision_model(self):
        # Goals 1; the first round 1 + 3 verdicts; an edit 1 + 3 verdicts + 2 for the check.
        for tokens, steps in ((5, 1), (6, 2), (11, 2), (12, 3)):
            vlm = scripted([generate(), *repeat(edit(), 9)], {0: "uuu", 1: "muu", 2: "mmu"})
            run = play(vlm, budget=Budget(vlm_tokens=tokens, rounds=3))
            assert len(run.steps) == steps, tokens
            assert "tokens of the vision model" in run.outcome.reason or steps == 3

    @pytest.mark.parametrize("budget", [Budget(images=3), Budget(evaluations=15), Budget(vlm_tokens=1)], ids=str)
    def test_where_not_even_the_first_round_fits_the_run_ends_without_a_picture_and_says_why(self, budget):
        run = play(scripted([generate()], goals=[drafts(3, feasibility=0.1)]), strategy="director", budget=budget)
        assert run.outcome.canvas is None and run.outcome.choice == "no canvas was drawn" and not run.outcome.met
        assert run.outcome.reason.startswith("budget: ")

    @pytest.mark.parametrize("strategy", ["clvr", "director", "strokes", "oneshot", "best-of-n"])
    def test_no_limit_of_rounds_images_or_evaluations_is_ever_exceeded_the_comparison_counted(self, strategy):
        for limit in range(1, 12):
            for budget in (Budget(limit), Budget(99, images=limit), Budget(99, evaluations=12 * limit)):
                vlm, brief = endless(strategy, budget=budget, final_ab=True)
                executor = Dear()
                run = session_module.drive(session_module.Session(brief, session_module.RunModels(vlm, executor)))
                drawn = sum(step.action.draws for step in run.steps)
                assert drawn <= budget.rounds and len(executor.requests) == run.cost.images == run.canvases
                assert budget.images is None or run.cost.images <= budget.images
                assert budget.evaluations is None or run.cost.evaluations <= budget.evaluations
                assert run.cost.evaluations == sum(executor.nfe(request) for request in executor.requests)


def staged_and_met(**script):
    """The controller's own words, then an edit that leaves one goal open, then patience ends it. Canvas 1 is best; 4 is the rival."""
    canvases = {0: "uuu", 1: "mmu", 2: "muu", 3: "muu", **script.pop("canvases", {})}
    return scripted([generate(), edit(), edit(), edit()], canvases, **script)


def compared(**script) -> Trajectory:
    return play(staged_and_met(**script), final_ab=True, budget=Budget(patience=2))


class TestTheFinalComparison:
    def test_the_best_canvas_is_handed_over_if_it_is_preferred_in_both_orders(self):
        run = compared(canvases={4: "muu"}, prefers=1)
        assert run.outcome.canvas == run.best == 1 and "both orders" in run.outcome.choice

    def test_the_one_shot_picture_is_handed_over_if_it_is_preferred_in_both_orders(self):
        run = compared(canvases={4: "uuu"}, prefers=4)
        assert (
            run.outcome.canvas == run.best == 4
            and run.outcome.choice == "the one-shot picture was preferred in both orders"
        )
        assert not run.outcome.met

    def test_whether_the_brief_is_met_is_said_of_the_picture_that_is_handed_over(self):
        assert compared(canvases={4: "mmm"}, prefers=4).outcome.met
        met = play(scripted([generate(), edit()], {0: "uuu", 1: "mmm", 2: "mmu"}, prefers=2), final_ab=True)
        assert met.outcome.canvas == 2 and not met.outcome.met

    @pytest.mark.parametrize(("rival", "handed_over"), [("mmu", 4), ("umm", 4), ("mmm", 4), ("muu", 1), ("eee", 1)])
    @pytest.mark.parametrize("always", [0.9, 0.1, 0.5])
    def test_a_split_goes_by_the_verdicts_and_a_tie_there_to_the_less_edited(self, always, rival, handed_over):
        assert compared(canvases={4: rival}, prefers=lambda first, second: always).outcome.canvas == handed_over

    @pytest.mark.parametrize("silence", [None, TimeoutError("slow")], ids=repr)
    @pytest.mark.parametrize(("rival", "handed_over"), [("muu", 1), ("mmu", 1), ("eee", 1), ("mmm", 4)])
    def test_if_the_comparison_fails_the_better_by_the_verdicts_is_handed_over(self, silence, rival, handed_over):
        run = compared(canvases={4: rival}, prefers=lambda first, second: silence)
        assert run.outcome.canvas == handed_over and "failed" in run.outcome.choice

    def test_half_a_comparison_is_no_comparison(self):
        run = compared(canvases={4: "muu"}, prefers=lambda first, second: 0.1 if first == 1 else None)
        assert run.outcome.canvas == 1 and "failed" in run.outcome.choice

    def test_both_orders_are_asked(self):
        vlm = staged_and_met(canvases={4: "muu"}, prefers=1)
        play(vlm, final_ab=True, budget=Budget(patience=2))
        assert [tuple(map(canvas_of, call.images)) for call in asked(vlm, "compare")] == [(1, 4), (4, 1)]

    @pytest.mark.parametrize("mode", ["proxy", "instruction", "summary", "trace"])
    def test_the_rival_is_drawn_from_the_briefs_own_words_alone_with_the_documented_seed(self, mode):
        executor = FakeExecutor()
        run = play(
            staged_and_met(canvases={4: "muu"}, prefers=1),
            executor,
            final_ab=True,
            budget=Budget(patience=2),
            seed=5,
            conditioning=mode,
        )
        last = executor.requests[-1]
        assert (last.prompt, last.references, last.seed) == (PROMPT, (), seed_for(5, 4, 0))
        assert (
            kinds(run)[-1] == "GENERATE"
            and not run.steps[-1].accepted
            and states(run.steps[-1].verdicts)["g1"] == "met"
        )

    def test_a_first_canvas_of_the_briefs_own_words_is_the_rival_and_nothing_more_is_drawn(self):
        vlm, executor = scripted([generate(PROMPT), edit()], {0: "muu", 1: "mmm"}, prefers=0), FakeExecutor()
        run = play(vlm, executor, final_ab=True)
        assert len(executor.requests) == 2 and run.outcome.canvas == 0
        assert [tuple(map(canvas_of, call.images)) for call in asked(vlm, "compare")] == [(1, 0), (0, 1)]

    def test_through_the_directors_gate_the_chosen_one_of_the_first_grid_is_the_rival(self):
        vlm = scripted(
            [edit()], {0: "uuu", 1: "muu", 2: "uuu", 3: "uuu", **dict.fromkeys(range(4, 8), "mmm")}, prefers=4
        )
        run = play(vlm, strategy="director", final_ab=True)
        assert run.outcome.canvas == 4 and {
            canvas_of(image) for call in asked(vlm, "compare") for image in call.images
        } == {1, 4}

    @pytest.mark.parametrize("budget", [Budget(rounds=2), Budget(images=2), Budget(evaluations=11)], ids=str)
    def test_without_room_for_the_rival_there_is_no_comparison(self, budget):
        vlm = scripted([generate(), edit()], {0: "uuu", 1: "mmm"})
        run = play(vlm, final_ab=True, budget=budget)
        assert run.outcome.canvas == 1 and run.canvases == 2 and not asked(vlm, "compare")

    def test_without_tokens_left_there_is_no_comparison_even_with_a_rival_at_hand(self):
        vlm = scripted([generate(PROMPT), edit()], {0: "uuu", 1: "mmm"})
        run = play(vlm, final_ab=True, budget=Budget(vlm_tokens=11))
        assert run.cost.vlm_tokens == 11 and run.outcome.canvas == 1 and not asked(vlm, "compare")

    def test_a_generated_canvas_is_not_compared_with_another_generated_one(self):
        vlm = scripted([generate()], {0: "mmm"})
        assert play(vlm, final_ab=True).outcome.canvas == 0 and not asked(vlm, "compare")

    def test_what_it_costs_is_counted(self):
        vlm, executor = staged_and_met(canvases={4: "muu"}, prefers=1), FakeExecutor()
        run = play(vlm, executor, final_ab=True, budget=Budget(patience=2))
        assert (
            run.cost.vlm_calls == len(vlm.chats) + len(vlm.decides) and run.cost.images == len(executor.requests) == 5
        )

    @pytest.mark.parametrize(
        ("strategy", "wished", "compares"), [("clvr", None, True), ("strokes", None, False), ("strokes", True, True)]
    )
    def test_it_is_the_strategys_choice_unless_the_brief_says_otherwise(self, strategy, wished, compares):
        vlm = scripted([generate(PROMPT), edit()], {0: "muu", 1: "mmm"}, prefers=1, inspections=repeat(0.1))
        play(vlm, strategy=strategy, final_ab=wished)
        assert bool(asked(vlm, "compare")) is compares
