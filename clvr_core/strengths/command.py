"""`clvr merge --search`: the search for strengths with the models of a run, whose diffusion model takes each merge in
memory."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..merge.command import recipe_from
from ..merge.command import run as merge
from ..merge.recipe import Lora, MergeRecipe
from ..progress import ProgressBar
from .grid import Space, Strengths, axis_from

USUAL = (1.0, 0.75, 0.5)
"""Values of an axis that was not given. The first is preferred where the judge sees no difference."""
MAX_BRIEFS = 1 << 20
"""Bytes of a file of briefs."""


def run(options: argparse.Namespace) -> int:
    """Merge, after a search with --search; without --out a search is all. Returns the exit code; raises BadInput."""
    if options.search:
        search_strengths(options)
        if options.out is None:
            return 0
    return merge(options)


def search_strengths(options: argparse.Namespace) -> None:
    """Search, print the ranking, and put the best strengths into `options`, so that a merge uses them.

    Raises BadInput for arguments that do not fit together, and what `search` raises.
    """
    from ..models.device_sharing import unwrap
    from ..models.registry import load_models
    from ..protocols import Executor, Reloadable
    from .finder import SHEET, search, summary_of

    if options.base is None:
        raise BadInput("--base is needed: the weights that the others were made from; see clvr merge --help")
    if options.verify or options.dry_run:
        raise BadInput("--search draws pictures; leave --verify and --dry-run out")
    recipe, space = recipe_from(options), space_from(options)
    models = load_models(options.models, options.weights)
    executor = unwrap(models.executor)
    if not isinstance(executor, Reloadable):
        raise BadInput(
            f"--models {options.models}: its executor has no weights here that could be replaced; name models whose diffusion model runs "
            "in this process"
        )
    judge = models.judge or models.vlm

    def executor_at(strengths: Strengths) -> Executor:
        executor.reload(state_at(recipe, strengths, executor))
        return models.executor

    with ProgressBar("step", "search", keep=True) as bar:
        found = search(
            space,
            executor_at,
            judge,
            options.search_folder,
            key_of(recipe, options.models, judge.name),
            models.width,
            models.height,
            lambda done, most, said: bar.show(done, most, said),
        )
    options.alpha, options.beta = found.best.alpha, found.best.beta
    options.lora = [f"{lora.path}:{lora.strength:g}" for lora in with_strengths(recipe, found.best).loras]
    sheet, command = options.search_folder / SHEET, command_of(options)
    if options.json and options.out is None:
        best = {"alpha": found.best.alpha, "beta": found.best.beta, "lora": found.best.lora}
        print(json.dumps({"exit": 0, "best": best, "sheet": str(sheet), "command": command}))
    elif not options.json:
        print(summary_of(found, space))
        print(f"{'sheet':<10} {sheet}\n{'recipe':<10} {command}")


def space_from(options: argparse.Namespace) -> Space:
    """Return the grid that the arguments describe. Raises BadInput for an axis without an input."""
    axes = {
        "alphas": (options.alphas, options.aligned, "--aligned", options.alpha, USUAL),
        "betas": (options.betas, options.distilled, "--distilled", options.beta, (options.beta,)),
        "lora_factors": (options.lora_factors, options.lora, "--lora", 1.0, USUAL),
    }
    values: dict[str, tuple[float, ...]] = {}
    for name, (text, there, flag, own, usual) in axes.items():
        if text and not there:
            raise BadInput(
                f"--{name} is {text}, and there is no {flag} that it could act on; leave it out or give {flag}"
            )
        values[name] = axis_from(name, text) if text else usual if there else (own,)
    briefs = [*options.brief, *(_lines(options.briefs) if options.briefs else ())]
    if not briefs:
        raise BadInput("--brief is missing: say in words what the pictures should show; it may be repeated")
    if options.seeds < 1:
        raise BadInput(f"--seeds is {options.seeds}; at least 1 picture of each brief is drawn")
    return Space(**values, briefs=tuple(briefs), seeds=tuple(range(options.seeds)), early=not options.no_early_stop)


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_BRIEFS:
            raise BadInput(
                f"--briefs {path} is larger than {MAX_BRIEFS} bytes; give a file of a few briefs, one a line"
            )
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--briefs {path} cannot be read: {error}; give a text file, one brief a line") from error


def with_strengths(recipe: MergeRecipe, strengths: Strengths) -> MergeRecipe:
    """Return the recipe with these strengths. `lora` is a factor on the strength of every LoRA."""
    loras = tuple(Lora(lora.path, lora.strength * strengths.lora) for lora in recipe.loras)
    return replace(recipe, alpha=strengths.alpha, beta=strengths.beta, loras=loras)


def state_at(recipe: MergeRecipe, strengths: Strengths, executor: Any) -> dict[str, Any]:
    """Merge in memory, by diffusers' names and in the dtype that the executor's pipeline computes in."""
    from ..executor.weights import NAMES, merged_state
    from ..weights.checkpoint import open_checkpoint
    from ..weights.layout import layout_of, prefix_of

    checkpoint = open_checkpoint(recipe.base)
    prefix = prefix_of(checkpoint.tensors)
    layout = layout_of(name.removeprefix(prefix) for name in checkpoint.tensors)
    checkpoint.close()
    wanted = with_strengths(recipe, strengths)
    dtype = NAMES.get(executor.pipe.dtype, "bf16")
    return merged_state(
        replace(wanted, layout="base" if layout == "plain" else "diffusers", dtype=dtype, keep_lora=False)
    )


def key_of(recipe: MergeRecipe, models: str, judge: str) -> str:
    """Return a digest of what is searched: the recipe without the searched strengths, time and size of its files, and
    the models."""
    still = with_strengths(replace(recipe, loras=()), Strengths())
    paths = [recipe.base, recipe.aligned, recipe.distilled, *(each.path for each in (*recipe.loras, *recipe.added))]
    stamps = []
    for path in filter(None, paths):
        try:
            state = os.stat(path)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}; check the path") from error
        stamps.append(f"{path.name} {state.st_mtime_ns} {state.st_size}")
    strengths = [lora.strength for lora in recipe.loras]
    return hashlib.sha256(repr((still, stamps, strengths, models, judge)).encode()).hexdigest()[:32]


def command_of(options: argparse.Namespace) -> str:
    """Return the command that merges with the strengths in `options`."""
    words = ["clvr", "merge"]
    for name in ("base", "aligned", "distilled"):
        if value := getattr(options, name):
            words += [f"--{name}", str(value)]
    for name in ("lora", "add", "blocks", "include", "exclude"):
        for value in getattr(options, name):
            words += [f"--{name}", str(value)]
    words += ["--alpha", f"{options.alpha:g}"] if options.aligned else []
    words += ["--beta", f"{options.beta:g}"] if options.distilled else []
    usual = {
        "combine": "sum",
        "preset": "all",
        "layout": "base",
        "dtype": "base",
        "rounding": "nearest",
        "fp8": "refuse",
    }
    for name, value in usual.items():
        if (own := getattr(options, name)) != value:
            words += [f"--{name}", own]
    words += ["--limit", f"{options.limit:g}"] if options.limit != 0.5 else []
    words += ["--keep-lora"] if options.keep_lora else []
    return shlex.join([*words, "--out", str(options.out or "merged.safetensors")])
