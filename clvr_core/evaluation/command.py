"""The command `clvr eval prepare|generate|score|report`: arguments and output."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..fleet.arguments import add_engine, engine_of
from ..fleet.output import folder_or_url
from ..policy import LOOPS
from ..progress import ProgressBar
from .sessions_command import add_arguments as add_sessions

if TYPE_CHECKING:
    from .generate import Generation

INCOMPLETE = 3
"""Exit code if pictures or answers are missing; the others are kept."""
REPLIES = ("decisions", "reply")
READINGS = ("brief", "boxes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(required=True, metavar="STEP")
    prepare = steps.add_parser("prepare", help="read the benchmark's data, say what is there and what it will cost")
    generate = steps.add_parser("generate", help="draw the pictures by one arm, into the benchmark's own layout")
    score = steps.add_parser("score", help="judge the pictures; or read the result of the official script")
    report = steps.add_parser("report", help="a page, a plot and a table of all that was scored")
    sessions = steps.add_parser("sessions", help="carry out LME-Bench's sessions of ten edits, or judge them")
    compose = steps.add_parser("compose", help="write prompts of the sticker world in the form of GenEval or LGBench")
    for step in (prepare, generate, score):
        step.add_argument(
            "--data",
            type=Path,
            metavar="FOLDER",
            help="where the benchmark's own files lie (default: the list shipped for embedded-geneval)",
        )
        step.add_argument(
            "--bench", default="auto", metavar="NAME", help="which benchmark it is (default: by its files)"
        )
    for step in (prepare, score, report):
        step.add_argument(
            "--images", type=Path, required=True, metavar="FOLDER", help="the pictures, one subfolder a name"
        )
    generate.add_argument(
        "--images",
        type=folder_or_url,
        required=True,
        metavar="FOLDER",
        help="the pictures, one subfolder a name; or a url such as s3://bucket/pictures",
    )
    for step in (prepare, generate, score, report, compose):
        step.add_argument("--json", action="store_true", help="print one machine-readable line at the end")

    add_sessions(sessions)

    prepare.add_argument(
        "--judge", metavar="MODELS", help="takes prompts apart that have no list of statements or no complexity"
    )
    prepare.set_defaults(run=_prepare)

    generate.add_argument(
        "--arm",
        required=True,
        metavar="ARM",
        help="oneshot, rewrite, best-of-n, plan-best-of-n (the rewritten prompt, best of N), "
        f"{', '.join(LOOPS[:-1])} or {LOOPS[-1]}, and variants of these such as director+no-rollback",
    )
    generate.add_argument("--name", metavar="NAME", help="of the subfolder (default: the arm)")
    generate.add_argument(
        "--models", default="embedded", metavar="MODELS", help="embedded (default), a preset, or a file like clvr.toml"
    )
    generate.add_argument("--weights", default="", metavar="FOLDER", help="where the weights of a preset lie")
    generate.add_argument(
        "--seed", type=int, default=0, help="same seed, same pictures; the same for every arm (default 0)"
    )
    generate.add_argument(
        "--pictures", type=int, metavar="K", help="of each prompt (default: as many as the benchmark takes)"
    )
    generate.add_argument("--limit", type=int, metavar="N", help="prompts in all, spread over the benchmark's parts")
    generate.add_argument(
        "--evaluations", type=int, metavar="N", help="transformer evaluations for each picture, at most"
    )
    generate.add_argument(
        "--match", metavar="NAME", help="limit each picture to the evaluations that NAME spent on the same one"
    )
    generate.add_argument("--rounds", type=int, default=8, help="of a loop, at most (default 8)")
    generate.add_argument("--patience", type=int, default=3, help="rounds without improvement (default 3)")
    generate.add_argument(
        "--parallel", type=int, default=4, metavar="N", help="pictures drawn side by side (default 4)"
    )
    generate.add_argument(
        "--no-runs", action="store_true", help="do not keep the loops' runs, from which the report takes nothing"
    )
    generate.add_argument("--dry-run", action="store_true", help="say what it will cost, and draw nothing")
    generate.add_argument(
        "--shard", default="1/1", metavar="I/N", help="every Nth picture from the Ith on, for N processes"
    )
    add_engine(generate)
    generate.set_defaults(run=_generate)

    score.add_argument(
        "--name", action="append", metavar="NAME", help="score only this subfolder; may be repeated (default: all)"
    )
    by = score.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--judge", metavar="MODELS", help="a vision-language model: embedded, a file like clvr.toml, or a folder"
    )
    by.add_argument(
        "--detector", type=Path, metavar="FOLDER", help="a transformers object detector, for GenEval's rules on boxes"
    )
    by.add_argument(
        "--official", type=Path, metavar="FILE", help="what the benchmark's own script wrote about one NAME"
    )
    by.add_argument(
        "--reader",
        choices=READINGS,
        help="the sticker world's reader: the whole brief, or each goal, exactly; or GenEval's rules on its boxes",
    )
    score.add_argument(
        "--color-model", type=Path, metavar="FOLDER", help="a CLIP that names the colours of the detector's boxes"
    )
    score.add_argument("--device", default="cpu", help="of the detector (default cpu)")
    score.add_argument(
        "--protocol", default="decisions", choices=REPLIES, help="yes/no decisions (default), or one reply in JSON"
    )
    score.add_argument("--pictures", type=int, metavar="K", help="of each prompt, at most")
    score.add_argument(
        "--parallel", type=int, metavar="N", help="pictures judged at once (default: as the server's settings say)"
    )
    score.set_defaults(run=_score)

    report.add_argument("--data", type=Path, metavar="FOLDER", help="the benchmark's files, for the examples")
    report.add_argument(
        "--baseline", metavar="NAME", help="what the others are held against (default: the one-shot pictures)"
    )
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="where report.html, .png and .csv go (default: into --images)"
    )
    report.set_defaults(run=_report)

    compose.add_argument("form", choices=("geneval", "lgbench"), help="short prompts of six tasks, or long briefs")
    compose.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the file goes, for --data")
    compose.add_argument("--tasks", type=int, default=100, metavar="N", help="long briefs in all (default 100)")
    compose.add_argument("--seed", type=int, default=0, help="same seed, same file (default 0)")
    compose.set_defaults(run=_compose)


def _print(options: argparse.Namespace, value: dict[str, Any], lines: list[str], code: int) -> int:
    print(json.dumps({"exit": code, **value}) if options.json else "\n".join(lines))
    return code


def _items(options: argparse.Namespace):
    from .atoms import with_atoms

    bench = _bench(options)
    return bench, with_atoms(bench.read(options.data), options.images)


def _bench(options: argparse.Namespace):
    from .benchmarks import SHIPPED, recognise

    if options.data is None and options.bench != "embedded-geneval":
        raise BadInput(
            "--data is missing: name the folder that holds the benchmark's own files; only embedded-geneval ships with clvr"
        )
    options.data = options.data or SHIPPED
    return recognise(options.data, options.bench)


def _prepare(options: argparse.Namespace) -> int:
    from .atoms import draw_up
    from .benchmarks import data_hash
    from .judging import questions
    from .score import complexity_of

    options.again = "the same command"
    bench, items = _items(options)
    failed: list[tuple[str, str]] = []
    if options.judge:
        from ..models.registry import load_judge

        judge = load_judge(options.judge)
        with ProgressBar("picture", "prepare", keep=True) as bar:
            failed = draw_up(judge, items, options.images, statements=bench.name == "prompts", progress=bar.show)
        bench, items = _items(options)
    tags = {tag: sum(item.tag == tag for item in items) for tag in dict.fromkeys(item.tag for item in items)}
    pictures, asked = sum(item.pictures for item in items), sum(len(questions(item)) * item.pictures for item in items)
    bare = sum(not item.atoms and not item.scales for item in items)
    missing = [item.source for item in items if item.source and not (options.data / item.source).is_file()]
    warnings = [f"item {name}: {why}" for name, why in failed]
    if bench.expected not in (None, len(items)):
        warnings.append(
            f"{len(items)} items are here, and the benchmark has {bench.expected}: its numbers are not those of the whole"
        )
    if bare:
        warnings.append(f"{bare} prompts have no list of statements to be judged by: prepare them with --judge MODELS")
    if missing:
        warnings.append(f"{len(missing)} pictures to edit are not in {options.data}: the first is {missing[0]}")
    value = {
        "bench": bench.name,
        "items": len(items),
        "tags": tags,
        "pictures": pictures,
        "questions": asked,
        "with_complexity": sum(complexity_of(item) is not None for item in items),
        "data_sha256": data_hash(bench, options.data),
        "first_picture": bench.path(items[0], 0),
        "licence": bench.licence,
        "warnings": warnings,
    }
    lines = [
        f"{bench.title}: {len(items)} items ({', '.join(f'{tag} {count}' for tag, count in tags.items())})",
        f"{pictures} pictures, the first of them NAME/{bench.path(items[0], 0)}; {asked:,} questions to a judge for each name",
        *([f"licence of the data: {bench.licence}"] if bench.licence else []),
        *(f"note: {note}" for note in bench.notes),
        *(f"warning: {warning}" for warning in warnings),
    ]
    return _print(options, value, lines, INCOMPLETE if failed else 0)


def _generate(options: argparse.Namespace) -> int:
    from ..fleet.shard import Shard
    from ..models.source import Named, facts_of
    from .generate import Drawing, Generation, Order
    from .in_store import arm_in

    options.again = "the same command"
    bench = _bench(options)
    order = Order(
        options.arm,
        options.seed,
        options.pictures,
        options.limit,
        options.evaluations,
        arm_in(options.images, options.match) if options.match else None,
        options.rounds,
        options.patience,
        options.parallel,
        not options.no_runs,
        Shard.parse(options.shard),
    )
    arm, source = arm_in(options.images, options.name or options.arm), Named(options.models, options.weights)
    engine = engine_of(options, options.workers or 1)
    with ExitStack() as stack:
        if engine is None:
            generation = Generation(bench, options.data, arm, order, source.load())
        else:
            crew = stack.enter_context(engine.crew(Drawing.of(source, order, arm)))
            generation = Generation(bench, options.data, arm, order, facts_of(crew).models(), crew)
        return _generated(options, generation)


def _generated(options: argparse.Namespace, generation: Generation) -> int:
    arm, estimate = generation.arm, generation.estimate()
    print(f"{arm.name}: {estimate}", file=sys.stderr)
    value: dict[str, Any] = {"name": arm.name, "wanted": estimate.pictures, "evaluations_at_most": estimate.evaluations}
    if options.dry_run:
        return _print(options, value, [], 0)
    with ProgressBar("picture", arm.name, keep=True) as bar:
        report = generation.run(bar.show)
    value |= {
        "made": report.made,
        "there": report.there,
        "failed": [{"picture": name, "why": why} for name, why in report.failed],
    }
    lines = [f"{report.made} pictures drawn, {report.there} were there; they lie in {arm.where}"]
    lines += [f"warning: picture {name} was not drawn: {why}" for name, why in report.failed]
    return _print(options, value, lines, INCOMPLETE if report.failed else 0)


def _score(options: argparse.Namespace) -> int:
    from .score import Scoring, keep_official
    from .store import Arm, arms_in

    options.again = "the same command"
    bench, items = _items(options)
    arms = [Arm(options.images, name) for name in options.name] if options.name else arms_in(options.images)
    arms = [arm for arm in arms if options.name or arm.folder.is_dir()]
    if not arms:
        raise BadInput(
            f"{options.images} has no subfolder of pictures; make some with clvr eval generate, or put them there"
        )
    if options.official:
        if len(arms) != 1:
            raise BadInput("the official file tells of one set of pictures: give its --name")
        done = [keep_official(bench, options.data, arms[0], items, options.official)]
    else:
        judge = _judge(options, bench, items)
        done = []
        for arm in arms:
            scoring = Scoring(bench, options.data, arm, judge, items, options.pictures)
            with ProgressBar("picture", arm.name, keep=True) as bar:
                done.append(scoring.run(bar.show))
            if done[-1].down:
                break
    code = INCOMPLETE if any(scored.down or scored.result["pictures"]["unanswered"] for scored in done) else 0
    lines = []
    for scored in done:
        result = scored.result
        lines.append(f"{result['name']}: {result['title']}, {result['protocol']}, {result['judge']}")
        lines += [f"  {name}: {measure_text(measure)}" for name, measure in result["measures"].items()]
        lines += [f"  warning: {warning}" for warning in result["warnings"]]
        lines += [f"  {scored.path}"]
        if scored.down:
            lines.append("  what was answered is kept: run the same command again to go on")
    keep = ("name", "bench", "title", "protocol", "judge", "pictures", "measures", "warnings")
    value = {"results": [{**{key: scored.result[key] for key in keep}, "file": str(scored.path)} for scored in done]}
    return _print(options, value, lines, code)


def measure_text(measure: dict[str, Any]) -> str:
    """Return a measure in words: 0.712 (0.690 to 0.731), strict 0.700."""
    digits = 1 if measure["of"] >= 100 else 3

    def number(value: float | None) -> str:
        return "no answer" if value is None else f"{value:.{digits}f}"

    bounds = measure["ci95"]
    between = "" if bounds is None else f" ({number(bounds[0])} to {number(bounds[1])})"
    strict = "" if measure["strict"] == measure["value"] else f", strict {number(measure['strict'])}"
    return f"{number(measure['value'])}{between}{strict}"


def _judge(options: argparse.Namespace, bench, items):
    from .score import BoxJudge, VlmJudge

    if options.reader:
        from .sticker_judge import ReaderDetector, ReaderJudge

        named = "embedded-geneval" if options.reader == "boxes" else "embedded-geneval and embedded-lgbench"
        if bench.name not in named.split(" and "):
            raise BadInput(f"--reader {options.reader} judges {named}, and this is {bench.name}; give --judge")
        return BoxJudge(ReaderDetector()) if options.reader == "boxes" else ReaderJudge()
    if options.detector:
        from .detector import load_detector

        if bench.name not in ("geneval", "embedded-geneval"):
            raise BadInput(f"a detector judges by GenEval's rules, and this is {bench.name}; give --judge")
        return BoxJudge(load_detector(options.detector, options.color_model, options.device, _classes(items)))
    from ..models.registry import load_judge

    bare = [item.id for item in items if not item.atoms and not item.scales]
    if bare:
        raise BadInput(
            f"{len(bare)} prompts have nothing to be judged by, the first is {bare[0]}: run clvr eval prepare with --judge MODELS first"
        )
    return VlmJudge(load_judge(options.judge), items, options.protocol, options.parallel)


def _classes(items) -> list[str]:
    """The classes that GenEval's records name."""
    clauses = (clause for item in items for part in ("include", "exclude") for clause in item.record.get(part) or ())
    return sorted({clause["class"] for clause in clauses})


def _compose(options: argparse.Namespace) -> int:
    from .sticker_prompts import compose

    path = compose(options.form, options.out, options.tasks, options.seed)
    return _print(options, {"file": str(path)}, [str(path)], 0)


def _report(options: argparse.Namespace) -> int:
    from .report import write_report

    written = write_report(options.images, options.out or options.images, options.data, options.baseline)
    value = {"html": str(written.html), "png": str(written.png), "csv": str(written.csv), "results": written.results}
    return _print(
        options, value, [f"{written.results} results", f"{written.html}", f"{written.png}", f"{written.csv}"], 0
    )
