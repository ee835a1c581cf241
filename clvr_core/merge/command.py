"""The command `clvr merge`: its arguments, and its output for people or as one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..progress import ProgressBar
from .presets import ALL, PRESETS, preset_words

if TYPE_CHECKING:
    from .recipe import MergeRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group(
        "inputs", "safetensors files, indices of shards, or diffusers folders; of FLUX.2 in any layout"
    )
    inputs.add_argument("--base", type=Path, metavar="B", help="what the others were made from")
    inputs.add_argument("--aligned", type=Path, metavar="A", help="fine-tuned weights, or a LoRA")
    inputs.add_argument("--distilled", type=Path, metavar="D", help="weights for few steps")
    inputs.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="F:S",
        help="a LoRA or LoKr and its strength (default 1); may be repeated",
    )
    inputs.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="F:S",
        help="further weights made from the base, and the strength of their difference (default 1); may be repeated",
    )
    strengths = parser.add_argument_group("strengths")
    strengths.add_argument(
        "--combine",
        default="sum",
        choices=("sum", "ties", "orthogonal"),
        help="ties: in each element only the deltas of the majority's sign; orthogonal: the others without their share along "
        "the distilled delta (default sum)",
    )
    strengths.add_argument("--alpha", type=float, default=1.0, help="of aligned - base (default 1)")
    strengths.add_argument("--beta", type=float, default=1.0, help="of distilled - base (default 1)")
    strengths.add_argument(
        "--blocks",
        action="append",
        default=[],
        metavar="P=X[,Y]",
        help="factors on alpha and LoRAs, and on beta, where P matches: single_blocks.*=0.5",
    )
    strengths.add_argument(
        "--preset",
        default=ALL,
        choices=(ALL, *PRESETS),
        help=f"blocks of FLUX.2 Klein that alpha and LoRAs change, before --blocks: {preset_words()} (default {ALL})",
    )
    strengths.add_argument("--include", action="append", default=[], metavar="P", help="merge only what matches")
    strengths.add_argument(
        "--exclude", action="append", default=[], metavar="P", help="leave what matches as it is in the base"
    )
    strengths.add_argument(
        "--limit",
        type=float,
        default=0.5,
        help="largest delta, relative to the base, taken for one of this base (default 0.5)",
    )
    strengths.add_argument(
        "--fp8",
        default="refuse",
        choices=("refuse", "dequantise"),
        help="differences of weights of 8 bits or fewer, much of which is rounding noise (default refuse)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="O", help="the merged .safetensors file")
    output.add_argument(
        "--layout",
        default="base",
        choices=("base", "bfl", "diffusers"),
        help="naming of FLUX.2 weights (default: the base's)",
    )
    output.add_argument(
        "--dtype",
        default="base",
        choices=("base", "bf16", "fp16", "fp32", "fp8"),
        help="default: the base's, bf16 where that is fp8",
    )
    output.add_argument(
        "--rounding",
        default="nearest",
        choices=("nearest", "stochastic"),
        help="stochastic keeps small deltas on average",
    )
    output.add_argument("--seed", type=int, default=0, help="of stochastic rounding (default 0)")
    output.add_argument(
        "--keep-lora", action="store_true", help="write the LoRAs beside the merged file instead of into it"
    )
    output.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    output.add_argument(
        "--no-sha256",
        action="store_true",
        help="leave the inputs' sums out of the metadata, and save the time they take",
    )
    parser.add_argument(
        "--report", type=Path, metavar="R.json", help="figures from every weight as JSON, and a plot beside it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, sample the weights, write nothing but the report"
    )
    parser.add_argument(
        "--verify", type=Path, metavar="O", help="make the merged file O again from its own recipe, and compare"
    )
    search = parser.add_argument_group(
        "search for strengths",
        "draw over a small grid, have the pictures compared two at a time, and merge with the best",
    )
    search.add_argument("--search", action="store_true", help="search before the merge; without --out only search")
    search.add_argument(
        "--models",
        default="embedded",
        metavar="NAME",
        help="what draws, with --base for its weights, and judges: as in clvr generate (default embedded)",
    )
    search.add_argument("--weights", default="", metavar="DIR", help="where the weights of a set of models lie")
    search.add_argument(
        "--brief", action="append", default=[], metavar="TEXT", help="what a picture should show; may be repeated"
    )
    search.add_argument("--briefs", type=Path, metavar="FILE", help="more of them, one a line")
    search.add_argument(
        "--seeds", type=int, default=2, metavar="N", help="pictures of each brief, one a round (default 2)"
    )
    search.add_argument("--alphas", metavar="X,Y", help="values of alpha (default 0.5,0.75,1 with --aligned)")
    search.add_argument("--betas", metavar="X,Y", help="values of beta (default the value of --beta)")
    search.add_argument("--lora-factors", metavar="X,Y", help="factors on every LoRA (default 0.5,0.75,1 with --lora)")
    search.add_argument("--no-early-stop", action="store_true", help="draw every point with every seed")
    search.add_argument(
        "--search-folder",
        type=Path,
        default=Path("merge-search"),
        metavar="DIR",
        help="pictures, contact sheet and ranking; a search there is gone on with (default merge-search)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: one more than there are cores, at most 8")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Merge, or with --verify compare a merged file. Returns the exit code; raises BadInput."""
    options.again = "the same command"
    if options.threads is not None and options.threads < 1:
        raise BadInput(f"--threads is {options.threads}; it must be at least 1")
    return _verify(options) if options.verify else _merge(options)


def recipe_from(options: argparse.Namespace) -> MergeRecipe:
    """Make the recipe that the arguments describe. Raises BadInput as MergeRecipe does."""
    from .recipe import Block, Lora, MergeRecipe

    return MergeRecipe(
        options.base,
        options.aligned,
        options.distilled,
        tuple(map(Lora.parse, options.lora)),
        options.alpha,
        options.beta,
        tuple(map(Block.parse, options.blocks)),
        tuple(options.include),
        tuple(options.exclude),
        options.layout,
        options.dtype,
        options.rounding,
        options.seed,
        options.keep_lora,
        options.limit,
        options.fp8,
        tuple(map(Lora.parse, options.add)),
        options.combine,
        options.preset,
    )


def _merge(options: argparse.Namespace) -> int:
    from .keep import exchanged_warning
    from .plan import make_plan
    from .report import merge_report, merge_summary, save_report
    from .run import merge
    from .survey import survey
    from .target import check_target

    out: Path | None = options.out
    if options.base is None or (out is None and not options.dry_run):
        raise BadInput("--base and --out are needed; see clvr merge --help")
    _check_report(options.report)
    recipe = recipe_from(options)
    with make_plan(recipe) as plan:
        if exchanged := exchanged_warning(plan.kept, plan.layout):
            plan.warnings.append(exchanged)
        result: dict[str, Any] = {"exit": 0}
        if options.dry_run or out is None:
            if out:
                check_target(plan, out, plan.nbytes, options.overwrite)
            found = survey(plan).findings()
            values = merge_report(plan, found)
            result |= {"dry_run": True, "bytes": plan.nbytes, "tensors": len(plan.outputs), "layout": plan.layout}
        else:
            with ProgressBar("B", scaled=True) as bar:
                done = merge(
                    plan,
                    out,
                    progress=bar.show,
                    threads=options.threads,
                    overwrite=options.overwrite,
                    sha256=not options.no_sha256,
                    measured=options.report is not None,
                )
            values = merge_report(plan, done.found, done.seconds, done.read, done.nbytes, done.engine)
            result |= {"out": str(done.out), "bytes": done.nbytes, "seconds": round(done.seconds, 3)}
            if done.kept:
                result["kept_lora"] = str(done.kept)
    result |= {"sampled": values["sampled"], "model": values["model"], "warnings": values["warnings"]}
    if options.report:
        try:
            result |= {"report": str(options.report), "plot": str(save_report(values, options.report))}
        except OSError as error:
            done = "" if options.dry_run else f"; {options.out} is written"
            raise BadInput(f"--report {options.report} cannot be written: {error.strerror}{done}") from error
    if options.json:
        print(json.dumps(result))
        return 0
    for warning in values["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(merge_summary(values))
    if options.dry_run:
        print(
            f"nothing written; the merge would be {plan.nbytes / 1e9:.3g} GB in {len(plan.outputs)} tensors, layout {plan.layout}"
        )
    else:
        print(f"{result['bytes'] / 1e9:.3g} GB in {result['seconds']:.1f} s")
    for name in ("out", "kept_lora", "report", "plot"):
        if name in result:
            print(f"{name:<10} {result[name]}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from .recipe import Lora
    from .run import verify

    paths = {role: path for role in ("base", "aligned", "distilled") if (path := getattr(options, role))}
    paths |= {f"added {number}": Lora.parse(each).path for number, each in enumerate(options.add, 1)}
    with ProgressBar("B", scaled=True) as bar:
        found = verify(
            options.verify,
            paths,
            tuple(Lora.parse(each).path for each in options.lora),
            progress=bar.show,
            threads=options.threads,
        )
    if options.json:
        print(json.dumps({"exit": 0, "verified": str(options.verify), "inputs": found}))
    else:
        print(f"{options.verify} is what its recipe gives, bit for bit, from {', '.join(path for _, path in found)}")
    return 0


def _check_report(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix != ".json" or not path.parent.is_dir():
        raise BadInput(f"--report {path} must be a .json file in a folder that exists")
