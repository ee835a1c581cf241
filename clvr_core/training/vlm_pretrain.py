"""Teaches the embedded vision-language model to look: `python -m clvr_core.training.vlm_pretrain --out DIR --seconds 380`.

Three stages. First the vision part alone says of each place what stands there and which place it is (vlm_symbols). Then the
text part answers, given what the places show without a picture: in words, what stands at each place and where each kind
stands, and with Yes or No the verifier's own questions, in which each name points at its places (vlm_pointing). Then all of
it learns the same from pictures. They are drawn on the device that trains, questions are made by worker processes, and no
picture is shown twice on purpose. The first two stages may run at once in two folders (`--warm 1`, and `--warm 0 --symbols
1`): the first file of weights is that of the vision part, and can be copied to the other.

DIR gets the weights in bfloat16, `curve.jsonl` with the accuracy of each type on held-out pictures, and `run.json` with the
settings. A run that finds weights in DIR goes on from them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .muon import Muon, in_bfloat16
from .vlm_batches import CHAT, Batch, Rows, Writer
from .vlm_canvases import Canvases, drawn_by
from .vlm_feed import Feed, Settings
from .vlm_model import FOLDER, Pass
from .vlm_packing import Packed, read
from .vlm_pictures import random_codes, worn
from .vlm_pointing import AS_ONE, LAYER, ORDER, RECALL, Pointer, ordered, pointed
from .vlm_questions import TYPES
from .vlm_symbols import Symbols, begin_words
from .vlm_weights import MARKS, SHARDS, deepen, load_weights, publish, start_well, words_digest

NAMED = {-1: "words", -2: "goals", -3: "action", -4: "conversation"}
"""Answers that are no decisions, each token of which counts."""
LOSSES = "decisions", "words", "replies", "marks", "points", "order"


def _parts(kind: Any) -> tuple[Any, Any, Any]:
    """Where decisions, words and replies are, of the kinds of a batch's rows."""
    return kind >= 0, kind == -1, kind < -1


def _cut(several: Sequence[Rows], at_once: int) -> Iterator[Rows]:
    """Yield the rows in parts of about so many of the length of a request."""
    for rows in several:
        length = rows.ids.shape[1]
        count = max(1, at_once * CHAT // max(CHAT, length))
        for first in range(0, len(rows.ids), count):
            of = slice(first, first + count)
            mine = (rows.at >= first * length) & (rows.at < (first + count) * length)
            yield Rows(
                rows.ids[of],
                rows.slots[of],
                rows.positions[of],
                rows.at[mine] - first * length,
                rows.target[mine],
                rows.kind[mine],
            )


def on(device: torch.device, rows: Rows) -> dict[str, Tensor]:
    """Return the rows as long tensors on the device."""
    fields = ("ids", "slots", "positions", "at", "target", "kind")
    return {name: torch.from_numpy(getattr(rows, name)).to(device).long() for name in fields}


class Trainer:
    """One model and how it is taught. draw: int8 codes of cells and of backdrops -> float N x 3 x 192 x 192 in 0..1.
    config: of the model; the shipped one if None. canvases: that weights drew, to which the batches' `drawn` points.
    Weights that lie in `out` are gone on with."""

    def __init__(
        self,
        settings: Settings,
        out: Path,
        device: torch.device,
        draw: Callable[[Any, Any], Tensor],
        config: Any = None,
        canvases: Canvases | None = None,
    ) -> None:
        from safetensors.torch import load_file
        from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

        self.settings, self.out, self.device, self.draw = settings, out, device, draw
        self.canvases = canvases
        torch.manual_seed(settings.seed)
        random.seed(settings.seed)
        config = config or Qwen3VLConfig.from_pretrained(FOLDER)
        self.model: Any = Qwen3VLForConditionalGeneration(config).float()
        self.steps = self.before = 0
        self.looked = 0.0
        if (out / "run.json").is_file():
            found = self.model.load_state_dict(load_weights(out), strict=False)
            deepen(self.model, [name for name in found.missing_keys if name.startswith("model.language_model.layers")])
            run = json.loads((out / "run.json").read_text())
            self.before, self.looked = run["steps"], run.get("looked", 1.0)
        else:
            start_well(self.model)
        self.model.to(device).train()
        hidden = config.text_config.hidden_size
        marks: nn.Module = nn.ModuleDict({"symbols": self._begin(hidden), "pointer": Pointer(hidden)})
        if self.before and (out / MARKS).is_file():
            marks.load_state_dict(load_file(out / MARKS), strict=False)
        self.marks: Any = marks.to(device)
        self.passes = Pass(self.model)
        self.still = self.symbolic = False
        self.after = [min(layer, len(self.passes.text.layers)) for layer in (ORDER, LAYER, RECALL)]
        inner = [each for name, each in self.model.named_parameters() if each.ndim == 2 and "embed" not in name]
        known = {id(each) for each in inner}
        self.weights: list[Tensor] = [*self.model.parameters(), *self.marks.parameters()]
        others = [each for each in self.weights if id(each) not in known]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (Muon(inner, settings.muon, decay=settings.decay), settings.muon),
            (
                torch.optim.AdamW(
                    others, settings.rate, betas=(0.9, 0.98), weight_decay=0, fused=device.type == "cuda"
                ),
                settings.rate,
            ),
        ]

    def _begin(self, hidden: int) -> Symbols:
        """Return the symbols, which are those of a new model's words; give them to a new model."""
        from tokenizers import Tokenizer

        words = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
        given = self.model.model.language_model.embed_tokens.weight
        with torch.no_grad():
            embedding = torch.empty_like(given)
            begin_words(embedding, words)
            if not self.before:
                given.copy_(embedding)
        return Symbols(hidden, words, embedding)

    def autocast(self) -> Any:
        """bfloat16 on a GPU, and on a CPU where accelerate was told so (ACCELERATE_MIXED_PRECISION=bf16)."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16(self.device))

    def pictures(
        self,
        cells: np.ndarray,
        backdrops: np.ndarray,
        flat: np.ndarray | None = None,
        wear: bool = True,
        drawn: np.ndarray | None = None,
    ) -> Tensor:
        """Return float N x 3 x 192 x 192 in 0..1; wear: as a model might have drawn them, which canvases are already."""
        with torch.no_grad():
            made = self.draw(cells, backdrops)
            if flat is not None and (flat[:, 0] >= 0).any():
                color = torch.from_numpy(flat).to(self.device)[:, :, None, None]
                made = torch.where(color >= 0, color, made)
            if wear:
                some = (torch.rand(len(made)) < self.settings.worn).nonzero()[:, 0].to(self.device)
                made = worn(made) if self.settings.worn == 1 else made.index_copy(0, some, worn(made[some]))
            if drawn is not None and self.canvases is not None and len(places := np.flatnonzero(drawn >= 0)):
                shown = torch.from_numpy(self.canvases.pictures[drawn[places]]).to(self.device)
                made[torch.from_numpy(places).to(self.device)] = shown.permute(0, 3, 1, 2).to(made.dtype) / 255
            return made

    def step(self, loss: Tensor, share: float) -> None:
        """share: of the full rates."""
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.steps += 1

    def warm(self, until: Callable[[], float], tell: Callable[[dict[str, float]], None]) -> None:
        """Teach the vision part what and where. until: share of this stage that is done, 0 to 1. tell: is given what is
        read rightly, every 50 steps and at the end."""
        names = ("noun", "look", "size", "place", "backdrop", "letter")
        chance = np.random.default_rng(self.settings.seed + 17 + self.before)
        right, start = torch.zeros(6), self.steps
        while (gone := until()) < 1:
            self.looked = gone
            cells, backdrops = random_codes(chance, self.settings.first)
            drawn = np.full(len(cells), -1)
            if self.canvases is not None:
                some = chance.random(len(cells)) < self.settings.drawn
                drawn[some] = chance.choice(np.flatnonzero(~self.canvases.unseen), some.sum())
                cells[some], backdrops[some] = self.canvases.cells[drawn[some]], self.canvases.backdrops[drawn[some]]
            with self.autocast():
                seen, _ = self.passes.see(self.pictures(cells, backdrops, drawn=drawn))
                shown = torch.from_numpy(cells).to(self.device), torch.from_numpy(backdrops).to(self.device)
                loss, found = self.marks.symbols.read(seen, *shown)
            self.step(loss, min(1, (self.steps - start + 1) / 100) * (1 - 0.5 * gone))
            if self.steps % 50 == 0:
                right = found.cpu() if not right.any() else right * 0.7 + found.cpu() * 0.3
                if right.min() > 0.997:
                    break
                tell(dict(zip(names, (round(x, 4) for x in right.tolist()))))
        self.looked = 1.0
        tell(dict(zip(names, (round(x, 4) for x in right.tolist()))))

    def looks(
        self, batch: Batch, wear: bool = True, pictures: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return what the text part is given of the batch's pictures, as `Pass.see` does, and the loss of that."""
        shown = (torch.from_numpy(each).to(self.device) for each in (batch.cells, batch.backdrops))
        symbols: Symbols = self.marks.symbols
        if self.symbolic:
            seen = symbols.blurred(*shown) if wear else symbols(*shown)
            return seen, [], seen.new_zeros(())
        if pictures is None:
            pictures = self.pictures(batch.cells, batch.backdrops, batch.flat, wear, batch.drawn)
        with torch.set_grad_enabled(not self.still and torch.is_grad_enabled()):
            seen, deep = self.passes.see(pictures)
        loss, _ = symbols.read(seen, *shown)
        return seen, deep, loss

    def losses(self, batch: Batch, wear: bool = True, pictures: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss, and the six that it is made of: decisions, words, replies, marks, points, order. pictures: of the
        batch, if they are drawn already."""
        with self.autocast():
            seen, deep, marks = self.looks(batch, wear, pictures)
            sums, numbers, points, orders, named = [], [], [], [], 0
            for rows in (*batch.rows, *batch.packed):
                if not len(rows.at):
                    continue
                logits, target, kind, middle = self._answers(rows, seen, deep)
                lost = functional.cross_entropy(logits, target, reduction="none")
                sums.append(torch.stack([(lost * part).sum() for part in _parts(kind)]))
                numbers.append([int(part.sum()) for part in _parts(rows.kind)])
                if isinstance(rows, Packed):
                    early, late, later = (middle[layer] for layer in self.after)
                    points.append(pointed(late, later, rows, self.marks.pointer))
                    named += int(rows.pictures.sum()) + len(rows.spelled) + len(rows.recalls)
                    named += len(rows.compared) // AS_ONE
                    orders.append(ordered(early, rows, self.marks.pointer, self.passes.embedding.weight))
            number = torch.tensor(np.sum(numbers, 0).clip(1).tolist(), device=self.device)
            parts = torch.stack(sums).sum(0) / number
            nothing = marks.new_zeros(())
            pointing = torch.stack(points).sum() / max(1, named) if points else nothing
            order = torch.stack(orders).mean() if orders else nothing
            given = self.settings
            weights = torch.tensor([1.0, given.words, given.replies], device=self.device)
            loss = (parts * weights).sum() + given.marks * marks / len(Symbols.sizes)
            loss = loss + given.points * pointing + given.order * order
        return loss, torch.cat([parts.detach(), torch.stack([marks, pointing, order]).detach()])

    def _answers(
        self, rows: Rows | Packed, seen: Tensor, deep: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, dict[int, Tensor]]:
        """Return logits where answers are foretold, the true tokens, the kinds of their rows, and what packed rows are after
        ORDER, LAYER and RECALL layers."""
        middle: dict[int, Tensor] = {}
        if isinstance(rows, Packed):
            hidden, middle = read(self.passes, rows, seen, deep, bool(self.settings.quick), self.after)
            at, target, kind = (
                torch.from_numpy(each).to(self.device).long() for each in (rows.at, rows.target, rows.kind)
            )
        else:
            given = on(self.device, rows)
            hidden = self.passes.read(given["ids"], given["slots"], given["positions"], seen, deep).flatten(0, 1)
            at, target, kind = given["at"], given["target"], given["kind"]
        return self.passes.logits(hidden[at]).float(), target, kind, middle

    @torch.no_grad()
    def judge(self, batch: Batch, writer: Writer, at_once: int = 512) -> dict[str, float]:
        """Return the share of right decisions of each type, that of right words, and the loss of the decisions."""
        right: dict[int, list[Tensor]] = {}
        losses: list[Tensor] = []
        with self.autocast():
            seen, deep = self._seen(batch)
            for part in (*_cut(batch.rows, at_once), *batch.packed):
                logits, target, kind, _ = self._answers(part, seen, deep)
                yes = logits[:, writer.yes] > logits[:, writer.no]
                correct = torch.where(kind >= 0, yes == (target == writer.yes), logits.argmax(-1) == target).cpu()
                loss = functional.cross_entropy(logits, target, reduction="none").cpu()
                losses.append(loss[torch.from_numpy(np.flatnonzero(part.kind >= 0))])
                for kind in np.unique(part.kind):
                    right.setdefault(int(kind), []).append(correct[torch.from_numpy(np.flatnonzero(part.kind == kind))])
        shares = {
            NAMED[kind] if kind < 0 else TYPES[kind]: float(torch.cat(found).float().mean())
            for kind, found in sorted(right.items())
        }
        return {name: round(share, 4) for name, share in shares.items()} | {
            "loss": round(float(torch.cat(losses).mean()), 4)
        }

    def _seen(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Return what the text part is given of a batch that is measured."""
        looks = []
        for first in range(0, len(batch.cells), 256):
            of = slice(first, first + 256)
            part = replace(
                batch, cells=batch.cells[of], backdrops=batch.backdrops[of], flat=batch.flat[of], drawn=batch.drawn[of]
            )
            looks.append(self.looks(part, wear=False)[:2])
        seen = torch.cat([each for each, _ in looks])
        return seen, [torch.cat(level) for level in zip(*(levels for _, levels in looks))]

    def save(self) -> None:
        from safetensors.torch import save_file

        self.out.mkdir(parents=True, exist_ok=True)
        left = {
            name: each.detach().to("cpu", torch.bfloat16).contiguous()
            for name, each in self.model.state_dict().items()
            if name != "lm_head.weight"
        }
        for file, prefix in SHARDS.items():
            part = {name: each for name, each in left.items() if name.startswith(prefix)}
            left = {name: each for name, each in left.items() if name not in part}
            save_file(part, self.out / f"{file}.part", metadata={"format": "pt"})
            (self.out / f"{file}.part").replace(self.out / file)
        (self.out / MARKS).parent.mkdir(exist_ok=True)
        save_file({name: each.detach().cpu() for name, each in self.marks.state_dict().items()}, self.out / MARKS)
        settings = {
            "steps": self.before + self.steps,
            "looked": self.looked,
            "settings": asdict(self.settings),
            "torch": torch.__version__,
            "tokenizer": words_digest(),
            "canvases": self.canvases and self.canvases.about,
        }
        (self.out / "run.json").write_text(json.dumps(settings, indent=2) + "\n")


def train(
    settings: Settings,
    out: Path,
    device: torch.device,
    draw: Callable[[Any, Any], Tensor],
    begun: float,
    canvases: Canvases | None = None,
) -> None:
    """Train for `settings.seconds` since `begun` (time.monotonic) and leave the weights in `out`."""
    tokenizer = FOLDER / "tokenizer.json"
    feed = Feed(settings, tokenizer, canvases)
    try:
        trainer = Trainer(settings, out, device, draw, canvases=canvases)
        out.mkdir(parents=True, exist_ok=True)
        writer = Writer(tokenizer)

        def gone() -> float:
            return time.monotonic() - begun

        def note(**more: Any) -> None:
            line = {"seconds": round(gone(), 1), "steps": trainer.before + trainer.steps, **more}
            with (out / "curve.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)

        def tell(stage: str) -> None:
            lost = dict(zip(LOSSES, () if mean is None else (round(x, 4) for x in mean.tolist())))
            rendered, drawn = feed.unseen_batches()
            told = {"held_out": trainer.judge(rendered, writer)}
            if drawn is not None:
                told["drawn"] = trainer.judge(drawn, writer)
            note(stage=stage, again=feed.again, losses=lost, **told)

        mean: Tensor | None = None
        note(stage="begin", device=str(device))
        first = gone()
        last, before, length = first, trainer.looked, settings.warm * settings.seconds

        def tell_seen(right: dict[str, float]) -> None:
            nonlocal last
            if trainer.looked == 1 or gone() - last > settings.every:
                last = gone()
                trainer.save()
                note(stage="vision", right=right)

        if length and before < 1:
            trainer.warm(lambda: before + (gone() - first) / length, tell_seen)
        first, start, last = gone(), trainer.steps, gone()
        reserve = min(12.0, 0.04 * settings.seconds)
        end = settings.seconds - reserve
        while gone() < end:
            share = (gone() - first) / max(1e-6, end - first)
            warming = min(1, (trainer.steps - start + 1) / 100)
            trainer.still, trainer.symbolic = share < settings.still, share < settings.symbols
            loss, parts = trainer.losses(feed())
            trainer.step(
                loss, warming * (0.5 * (1 + math.cos(math.pi * min(1, share))) * (1 - settings.low) + settings.low)
            )
            mean = parts if mean is None else torch.lerp(mean, parts, 0.02)
            if gone() - last > settings.every:
                last = gone()
                trainer.save()
                tell("symbols" if trainer.symbolic else "all")
        trainer.save()
        tell("end")
        held_out, _ = feed.unseen_batches()
        kinds = np.concatenate([rows.kind for rows in (*held_out.rows, *held_out.packed)])
        note(
            stage="held out",
            counts={name: int((kinds == number).sum()) for number, name in [*NAMED.items(), *enumerate(TYPES)]},
        )
    finally:
        feed.end()


def look(
    settings: Settings, out: Path, device: torch.device, begun: float, weights: Sequence[Path] = (), count: int = 0
) -> None:
    """Train with pictures drawn on the device. CLVR_CUTOUTS names a file of prepared pictures, for a machine without art
    (see sticker_batches).

    weights: folders of weights of the sticker world, which draw `count` canvases into `out/canvases` before the time
        begins; what is there is not drawn again.

    Raises BadInput if there are neither pictures nor cutouts, and as `drawn_by` does.
    """
    from .sticker_batches import BatchRenderer, load_cutouts

    canvases = None
    if weights:
        before = time.monotonic()
        canvases = drawn_by(weights, out / "canvases", count, settings.seed, device.type, tell=print)
        begun += time.monotonic() - before
    cutouts = os.environ.get("CLVR_CUTOUTS")
    torch.set_float32_matmul_precision("high")
    draw = BatchRenderer(device, load_cutouts(Path(cutouts) if cutouts else None))
    train(settings, out, device, draw, begun, canvases)


def main(arguments: Sequence[str] | None = None) -> None:
    from .sticker_command import add_canvases

    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights and curves")
    parser.add_argument("--publish", action="store_true", help="train nothing; put what --out holds into the package")
    parser.add_argument("--usual", action="store_true", help="with --publish, as clvr train stickers vlm has it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_canvases(parser)
    defaults = Settings()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = parser.parse_args(arguments)
    if given.publish:
        publish(given.out, usual=given.usual)
        return
    settings = Settings(**{name: getattr(given, name) for name in asdict(defaults)})
    look(settings, given.out, torch.device(given.device), begun, given.canvases, given.count)


if __name__ == "__main__":
    main()
