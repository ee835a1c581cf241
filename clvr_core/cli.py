"""The command line `clvr`.

Exit codes: 0 done, 2 bad input, 3 the budget was spent without meeting the goals, 130 interrupted, 143 and 129 ended by
    SIGTERM and SIGHUP. An error is one line on stderr. With
--json, one line of JSON goes to stdout in every case.

A command's modules are imported when it is run or its help is asked for: the start of one does not wait for those of all.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import Away, BadInput
from .signals import Ended, ended_in_order

if TYPE_CHECKING:
    from .models.registry import Models
    from .models.source import Named
    from .progress import ProgressBar
    from .run.session import Listener, Session

DONE, BAD_INPUT, NOT_MET, INTERRUPTED = 0, 2, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. arguments: sys.argv without the program's name if None."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = argparse.Namespace(json="--json" in arguments, again="")
    # No command may download from a model hub: only what is installed runs. The libraries' logs are silenced, because
    # every error is reported in one sentence below.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
    for each in (sys.stdout, sys.stderr):
        if isinstance(each, io.TextIOWrapper):  # a path may have characters that the terminal's encoding lacks
            each.reconfigure(errors="backslashreplace")
    try:
        with ended_in_order():
            _parser(_command_in(arguments)).parse_args(arguments, options)
            return options.run(options)
    except BadInput as error:
        return _failed(options, str(error), BAD_INPUT)
    except Away as error:
        return _failed(options, f"{error}{_again(options)}", BAD_INPUT)
    except ModuleNotFoundError as error:
        return _failed(options, _missing(error), BAD_INPUT)
    except KeyboardInterrupt:
        return _failed(options, f"interrupted{_again(options)}", INTERRUPTED)
    except Ended as error:
        return _failed(options, f"ended by {error.signal.name}{_again(options)}", 128 + error.signal)


def _again(options: argparse.Namespace) -> str:
    return f"; go on with: {options.again}" if options.again else ""


def _missing(error: ModuleNotFoundError) -> str:
    from .doctor import PACKAGES

    package = (error.name or "").partition(".")[0].replace("PIL", "pillow")
    if package not in PACKAGES:
        raise error
    return f"this needs {package}, which is not installed; pip install -c constraints.txt '.[{PACKAGES[package]}]'"


def _failed(options: argparse.Namespace, message: str, code: int) -> int:
    print(f"clvr: {message}", file=sys.stderr)
    if options.json:
        print(json.dumps({"error": message, "exit": code}))
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise BadInput(f"{message}; see {self.prog} --help")


def _seed(text: str) -> int:
    """Parse a seed from 0 to 2**32 - 1, the range that every library accepts."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number between 0 and 2**32 - 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _command_in(arguments: list[str]) -> str:
    """Return the command in the arguments: no option stands before it that takes a value."""
    return next((each for each in arguments if not each.startswith("-")), "")


def _parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands. only: the one command that gets its arguments; None for all of them."""
    parser = _Parser(prog="clvr", description="A closed loop around an image: plan, draw, judge, keep or roll back.")
    parser.add_argument("--version", action="version", version=f"clvr {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (text, add) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if only in (None, name):
            add(command)
    return parser


def _add_generate(generate: argparse.ArgumentParser) -> None:
    from .brief_arguments import add_brief_arguments

    generate.add_argument("prompt", help="what the picture should show, in words")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder for the run")
    add_brief_arguments(generate)
    _add_models(generate)
    generate.set_defaults(run=_generate)


def _add_resume(resume: argparse.ArgumentParser) -> None:
    resume.add_argument("out", type=Path, metavar="DIR")
    _add_models(resume)
    resume.set_defaults(run=_resume)


def _add_probe(probe: argparse.ArgumentParser) -> None:
    from .evaluation.probe_command import add_arguments

    probe.add_argument("--seed", type=_seed, default=0)
    add_arguments(probe)
    _add_models(probe, witness=False)


def _add_synthesize(synthesis: argparse.ArgumentParser) -> None:
    from .fleet.arguments import add_engine
    from .fleet.output import folder_or_url

    synthesis.add_argument(
        "--out",
        type=folder_or_url,
        required=True,
        metavar="DIR",
        help="the data set, a folder or a url such as s3://bucket/set; an earlier call there is gone on with",
    )
    briefs = synthesis.add_mutually_exclusive_group(required=True)
    briefs.add_argument("--prompts", type=Path, metavar="FILE", help="one brief a line")
    briefs.add_argument("--count", type=_count, metavar="N", help="so many random briefs of the embedded world")
    synthesis.add_argument(
        "--second", metavar="NAME", help="models whose verifier is the second judge of the comparison with one shot"
    )
    synthesis.add_argument(
        "--critique",
        action="store_true",
        help="paintings in strokes and critiques in place of trajectories; --count of the former",
    )
    synthesis.add_argument(
        "--controller", type=Path, metavar="DIR", help="with --critique: the model whose instructions are criticised"
    )
    synthesis.add_argument("--rounds", type=_count, default=8, help="rounds of one trajectory (default 8)")
    synthesis.add_argument(
        "--strategy", default="clvr", metavar="LIST", help="one or more, with commas, in turn (default clvr)"
    )
    synthesis.add_argument("--seed", type=_seed, default=0)
    add_engine(synthesis)
    _add_models(synthesis)
    synthesis.set_defaults(run=_synthesize)


def _add_train(train: argparse.ArgumentParser) -> None:
    from .training.command import add_train

    add_train(train, _seed)


def _add_batch(batch: argparse.ArgumentParser) -> None:
    from .brief_arguments import add_brief_arguments
    from .fleet.arguments import add_engine
    from .fleet.output import folder_or_url

    batch.add_argument(
        "prompts", type=Path, metavar="FILE", help="a brief a line: JSON strings, or objects with prompt, id, seed, ..."
    )
    batch.add_argument(
        "--out",
        type=folder_or_url,
        required=True,
        metavar="DIR",
        help="a folder in it for each run, or a url such as s3://bucket/runs; runs there are gone on with",
    )
    batch.add_argument("--concurrency", type=int, default=4, metavar="K", help="runs side by side (default 4)")
    batch.add_argument("--shard", default="1/1", metavar="I/N", help="every Nth brief from the Ith on, for N processes")
    batch.add_argument("--comfyui", metavar="URL", help="paint by a running ComfyUI, such as http://127.0.0.1:8188")
    batch.add_argument("--workflow", type=Path, metavar="FILE", help="for --comfyui: a workflow in API format")
    add_brief_arguments(batch)
    add_engine(batch)
    _add_models(batch)
    batch.set_defaults(run=_batch)


def _add_serve(serve: argparse.ArgumentParser) -> None:
    from .serve.command import add_arguments

    add_arguments(serve)


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    from .models.arguments import add_weights, add_witness
    from .run.calibration import add_drift_arguments

    doctor.add_argument(
        "--models",
        type=Path,
        metavar="FILE",
        help="ask the servers that a file like clvr.toml names, as a run would; with --drift any name of models",
    )
    add_drift_arguments(doctor)
    add_witness(doctor)
    add_weights(doctor)
    _add_json(doctor)
    doctor.set_defaults(run=_doctor)


def _add_clean(clean: argparse.ArgumentParser) -> None:
    from .storage.clean_command import add_arguments

    add_arguments(clean)
    _add_json(clean)


def _add_merge(merge: argparse.ArgumentParser) -> None:
    from .merge.command import add_arguments

    add_arguments(merge)
    _add_json(merge)
    merge.set_defaults(run=_merge)


def _add_extract(extract: argparse.ArgumentParser) -> None:
    from .merge.extract_command import add_arguments

    add_arguments(extract)
    _add_json(extract)


def _add_spectrum(spectrum: argparse.ArgumentParser) -> None:
    from .merge.spectrum_command import add_arguments

    add_arguments(spectrum)
    _add_json(spectrum)


def _add_eval(evaluation: argparse.ArgumentParser) -> None:
    from .evaluation.command import add_arguments

    add_arguments(evaluation)


def _add_models(command: argparse.ArgumentParser, witness: bool = True) -> None:
    """Add what names the models of a run, and --json."""
    from .models.arguments import add_models, add_weights, add_witness

    add_models(command)
    if witness:
        add_witness(command)
    add_weights(command)
    _add_json(command)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one machine-readable line at the end")


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "generate": ("paint a brief", _add_generate),
    "resume": ("go on with a run that was stopped or killed", _add_resume),
    "probe": ("measure one-shot, best-of-N and the strategies on briefs of growing complexity", _add_probe),
    "synthesize": ("make verified trajectories as training data", _add_synthesize),
    "train": ("train the embedded models, or FLUX.2 Klein on trajectories", _add_train),
    "batch": ("paint many briefs side by side", _add_batch),
    "serve": ("answer requests for pictures, in the form of OpenAI's images API", _add_serve),
    "doctor": ("what is installed, and which models and backends can run", _add_doctor),
    "clean": ("save a copy of a picture without prompt, trajectory or other metadata", _add_clean),
    "merge": ("merge base, distilled and aligned weights into one checkpoint", _add_merge),
    "extract": ("make a LoRA from the difference of two checkpoints", _add_extract),
    "spectrum": ("measure how many directions a checkpoint's matrices use", _add_spectrum),
    "eval": ("measure models by the field's benchmarks, whose data you bring", _add_eval),
}
"""What each command does, in the order of the help, and what adds its arguments to its parser."""


def _source(options: argparse.Namespace) -> Named:
    from .models.source import Named

    return Named(options.models, options.weights, options.witness)


def _load(options: argparse.Namespace) -> Models:
    """Load the models, and print on stderr how they share the memory."""
    models = _source(options).load()
    if models.memory:
        print(f"memory: {models.memory}", file=sys.stderr)
    return models


def _generate(options: argparse.Namespace) -> int:
    from .brief_arguments import brief_of
    from .progress import ProgressBar
    from .run.calibration import fitted
    from .run.references import read_references, with_references
    from .run.run_folder import RunFolder
    from .run.session import Session

    brief = brief_of(options, options.prompt)
    # Whatever can be refused is refused before the folder is created.
    models = _load(options)
    brief = fitted(brief, models, options.tolerance, options.depth)
    brief, references = with_references(brief, read_references(options.reference))
    if models.check:
        models.check(brief.prompt)
    bar = ProgressBar("round")
    folder = RunFolder.create(options.out)
    options.again = f"clvr resume {options.out}"
    listener = _draw_rounds(bar, brief.budget.rounds)
    session = Session(brief, models, folder, listener=listener, references=references)
    bar.show(0, brief.budget.rounds)
    return _finish(options, session, bar)


def _resume(options: argparse.Namespace) -> int:
    from .progress import ProgressBar
    from .run.run_folder import RunFolder
    from .run.session import resume

    folder = RunFolder.open(options.out)
    options.again = f"clvr resume {options.out}"
    models = _load(options)
    bar = ProgressBar("round")
    return _finish(options, resume(folder, models, _draw_rounds(bar, None, folder.lines)), bar)


def _finish(options: argparse.Namespace, session: Session, bar: ProgressBar) -> int:
    """Drive the session to its end, print how it ended, and return the exit code."""
    from .checklist import met_words
    from .policy import BASELINES
    from .run.run_folder import BEST, JOURNAL, REPORT
    from .run.session import drive

    with bar:
        trajectory = drive(session)
    cost, outcome = trajectory.cost, trajectory.outcome
    assert outcome is not None, "a driven session has ended"
    step = trajectory.best_step
    met = sum(verdict.state == "met" for verdict in step.verdicts) if step else 0
    # A baseline only draws: it does not fail for a goal that is not met.
    code = DONE if outcome.met or trajectory.brief.strategy in BASELINES else NOT_MET
    result: dict[str, Any] = {
        "exit": code,
        "met": outcome.met,
        "reason": outcome.reason,
        "goals": len(trajectory.goals),
        "goals_met": met,
        "steps": len(trajectory.steps),
        "images": cost.images,
        "evaluations": cost.evaluations,
        "vlm_calls": cost.vlm_calls,
        "vlm_tokens": cost.vlm_tokens,
        "seconds": round(cost.wall, 3),
        "best": str(options.out / BEST),
        "trajectory": str(options.out / JOURNAL),
        "report": str(options.out / REPORT),
    }
    if options.json:
        print(json.dumps(result))
    else:
        for warning in trajectory.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        states = {verdict.goal: verdict.state for verdict in step.verdicts} if step else {}
        judged = {goal.id: states.get(goal.id, "unsure") for goal in trajectory.goals}
        nice = [goal.id for goal in trajectory.goals if goal.need == "nice"]
        done = f"{met_words(judged, nice)} in {len(trajectory.steps)} steps"
        print(f"{done}, {cost.images} pictures, {cost.evaluations} evaluations, {cost.wall:.1f} s")
        print(f"{outcome.reason}; {outcome.choice}")
        print(f"picture     {result['best']}\ntrajectory  {result['trajectory']}\nreport      {result['report']}")
    return code


def _batch(options: argparse.Namespace) -> int:
    from .batch import Job, Shard, Table, batch_summary, paint_on, read_jobs, run_batch, summary_name
    from .brief_arguments import brief_of
    from .fleet.arguments import engine_of
    from .fleet.output import output_of
    from .policy import BASELINES
    from .run.calibration import fitted

    usual, shard = brief_of(options, "any"), Shard.parse(options.shard)
    output_of(options.out).require()
    jobs = read_jobs(options.prompts, usual, options.reference)
    table = Table(len(shard.of(jobs)))
    if bool(options.comfyui) != bool(options.workflow):
        raise BadInput("--comfyui and --workflow belong together: the address, and the workflow that is to run there")
    if options.comfyui:
        from .comfyui_queue import ComfyQueue, paint_there, read_workflow

        if isinstance(options.out, str):
            raise BadInput(f"--out {options.out} is no folder; with --comfyui give one of this machine")
        if shard != Shard.parse("1/1"):
            raise BadInput("--shard is for models of this process; ComfyUI has one queue, so leave it out")
        workflow = read_workflow(options.workflow)
        queue = ComfyQueue(options.comfyui)
        options.again = "the same command"
        results = paint_there(jobs, queue, workflow, options.out, options.concurrency, table, options.depth)
    else:

        def plan(models: Models) -> list[Job]:
            sized = fitted(usual, models, options.tolerance, options.depth)
            return read_jobs(options.prompts, sized, options.reference)

        options.again = "the same command"
        engine = engine_of(options, options.concurrency)
        if engine is None:
            models = _load(options)
            results = run_batch(plan(models), models, options.out, options.concurrency, table, table.tick, shard)
        else:
            results = paint_on(engine, _source(options), plan, options.out, table, table.tick, shard)
    summary, file = batch_summary(results), output_of(options.out).where(summary_name(shard))
    failed, unmet = summary["failed"] + summary["stopped"], summary["unmet"] and usual.strategy not in BASELINES
    code = BAD_INPUT if failed else NOT_MET if unmet else DONE
    if options.json:
        print(json.dumps({"exit": code, "summary": str(file), **summary}))
    else:
        counts = ", ".join(
            f"{summary[state]} {state}" for state in ("met", "unmet", "failed", "stopped") if summary[state]
        )
        print(f"{summary['runs']} runs: {counts}; {summary['images']} pictures, {summary['evaluations']} evaluations")
        print(f"summary     {file}")
    return code


def _draw_rounds(bar: ProgressBar, rounds: int | None, lines: Iterable[dict[str, Any]] = ()) -> Listener:
    """Return a listener that draws each finished round of a session, of `rounds` if that is known.

    lines: of the journal so far.
    """
    from .checklist import Tally

    tally = Tally(lines)

    def event(event: str, line: dict[str, Any]) -> None:
        tally.read(line)
        if event == "step":
            bar.show(bar.done + 1, rounds, tally.words(line["steps"][-1]))

    return event


def _criticise(options: argparse.Namespace) -> int:
    from .synthesis.critique import erring_controller, synthesize_critiques
    from .training.vlm_setup import painter

    if options.count is None:
        raise BadInput(
            "--critique takes --count, the number of paintings; their briefs are random ones of the sticker world"
        )
    if not isinstance(options.out, Path):
        raise BadInput(f"--out {options.out} is no folder; with --critique give one of this machine")
    controller = erring_controller(options.seed)
    if options.controller:
        from .stickers.neural import NeuralVlm

        controller = NeuralVlm(options.controller)
    options.again = "the same command"
    report = lambda line: print(line, file=sys.stderr)  # noqa: E731
    counts = synthesize_critiques(options.out, options.count, controller, painter(), seed=options.seed, report=report)
    print(json.dumps(counts) if options.json else "\n".join(f"{count:6d}  {part}" for part, count in counts.items()))
    return DONE


def _synthesize(options: argparse.Namespace) -> int:
    if options.critique:
        return _criticise(options)
    from .fleet.arguments import engine_of
    from .fleet.output import output_of
    from .models.registry import SIMULATED
    from .synthesis import engine as made
    from .world import embedded_weights, world_named

    output_of(options.out).require()
    found = embedded_weights(options.models, options.weights)
    if options.second is None and not found and options.models != SIMULATED:
        raise BadInput(
            "--second is missing; name models of another maker, whose verifier compares the result with one shot as well"
        )
    world = found[0] if found else world_named()
    count = options.count
    prompts = made.read_prompts(options.prompts) if count is None else made.random_prompts(world, count, options.seed)
    strategies = tuple(filter(None, options.strategy.split(",")))
    settings = made.Settings(options.seed, options.rounds, strategies=strategies)
    second = made.SecondNamed(options.second, options.seed, "" if options.second else world.name)

    def report(line: str) -> None:
        print(line, file=sys.stderr)

    engine = engine_of(options, options.workers or 1)
    if engine is None:
        models, judge = _load(options), second.load()
        if models.check:
            for prompt in prompts:
                models.check(prompt)
        options.again = "the same command"
        counts = made.synthesize(options.out, prompts, models, judge, settings, report)
    else:
        options.again = "the same command"
        counts = made.synthesize_on(options.out, prompts, engine, _source(options), second, settings, report)
    print(
        json.dumps(made.data_summary(counts))
        if options.json
        else "\n".join(f"{count:6d}  {kind}" for kind, count in sorted(counts.items()))
    )
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    if options.calibrate:
        from .evaluation.calibrate import calibrate_command

        return calibrate_command(options)
    if options.drift:
        from .evaluation.drift_command import measure
        from .models.registry import load_models

        print(measure(load_models(str(options.models or "embedded"), options.weights), options.out, options.json))
        return DONE
    from .doctor import examine, examine_models

    findings = examine_models(options.models) if options.models else examine(options.weights)
    if options.json:
        print(json.dumps([{"name": finding.name, "ok": finding.ok, "detail": finding.detail} for finding in findings]))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{'ok ' if finding.ok else '-- '} {finding.name:<{width}}  {finding.detail}")
    return DONE


def _merge(options: argparse.Namespace) -> int:
    if options.search:
        from .strengths.command import run
    else:
        from .merge.command import run
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
