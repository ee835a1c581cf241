"""The flags of the command line that make a brief."""

from __future__ import annotations

import argparse

from .brief import CONDITIONINGS, JUDGINGS, STRATEGIES, Brief, Budget


def add_brief_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that `brief_of` reads."""
    command.add_argument(
        "--strategy", default="clvr", metavar="NAME", help=f"one of {', '.join(STRATEGIES)} (default clvr)"
    )
    command.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default 0)")
    command.add_argument(
        "--candidates", type=int, metavar="N", help="pictures drawn each round (default: the strategy's own)"
    )
    estimate = "let the complexity of the brief lower the rounds, and choose between one shot and stages"
    command.add_argument("--estimate", action="store_true", help=estimate)
    guided = "states with retry budgets guide the controller: nothing that failed again, stalled edits drawn anew"
    command.add_argument("--guided", action=argparse.BooleanOptionalAction, default=True, help=guided)
    command.add_argument(
        "--conversation",
        action="store_true",
        help="ask the controller in one conversation that grows from step to step",
    )
    command.add_argument("--no-rollback", action="store_true", help="keep every canvas, the last one is handed over")
    modes = ", ".join(CONDITIONINGS)
    command.add_argument(
        "--conditioning", default="proxy", metavar="MODE", help=f"the prompt of the executor: {modes} (default proxy)"
    )
    reference = (
        "a picture of which something is kept, NAME=FILE or NAME=FILE:face (subject, face, product, style); several"
    )
    command.add_argument("--reference", action="append", default=[], metavar="NAME=FILE", help=reference)
    limits = command.add_argument_group("budget")
    limits.add_argument("--rounds", type=int, default=12, help="rounds that draw (default 12)")
    limits.add_argument("--images", type=int, help="pictures in all")
    limits.add_argument("--evaluations", type=int, help="transformer evaluations in all")
    limits.add_argument("--seconds", type=float, help="wall time")
    limits.add_argument("--vlm-tokens", type=int, help="tokens of the vision-language model")
    limits.add_argument("--patience", type=int, default=4, help="rounds without improvement (default 4)")
    limits.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="X",
        help="damage that an edit may do to the rest before the rest is put back: 1 as usual, 0 for any (default 1)",
    )
    limits.add_argument(
        "--depth",
        type=int,
        metavar="N",
        help="edits in a row before the next one starts from a clean picture: 0 for any (default: as measured of the "
        "executor by `clvr doctor --drift`, else 3)",
    )
    judging, usual = command.add_argument_group("judging"), Budget()
    judging.add_argument(
        "--judging",
        default="each",
        metavar="HOW",
        help=f"of several candidates: one of {', '.join(JUDGINGS)} (default each)",
    )
    judging.add_argument(
        "--evidence", action="store_true", help="have the judge say in words what it sees where a goal does not hold"
    )
    judging.add_argument(
        "--fused", action="store_true", help="judge and choose the next action in one reply (clvr); it judges by words"
    )
    judging.add_argument(
        "--met", type=float, default=usual.met, metavar="P", help="probability from which a goal holds (default 0.65)"
    )
    judging.add_argument(
        "--unmet", type=float, default=usual.unmet, metavar="P", help="and up to which it does not (default 0.35)"
    )


def brief_of(options: argparse.Namespace, prompt: str) -> Brief:
    """Return the brief of these words and flags."""
    limits = (
        options.rounds,
        options.images,
        options.evaluations,
        options.seconds,
        options.vlm_tokens,
        options.patience,
    )
    budget = Budget(*limits, options.met, options.unmet, options.tolerance or None)
    options_of_brief = {
        name: getattr(options, name)
        for name in ("candidates", "conditioning", "judging", "evidence", "fused", "estimate", "guided", "conversation")
    }
    rollback = not options.no_rollback
    return Brief(prompt, options.strategy, options.seed, budget=budget, rollback=rollback, **options_of_brief)
