"""How many questions a second the embedded model's training takes in: `python benchmarks/vlm_speed.py --pack 1 --batches 6`.

Prints of each batch what was read and how long pictures, loss and step took, then the mean without the first two.
ACCELERATE_MIXED_PRECISION=bf16 trains in bfloat16 on a CPU; CLVR_CUTOUTS names prepared pictures. --profile prints the
operations that took longest in one more batch. Seconds are those of the processor, on a GPU those of the clock.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from clvr_core.training.sticker_batches import BatchRenderer, load_cutouts
from clvr_core.training.vlm_batches import Batch, Writer
from clvr_core.training.vlm_feed import Settings
from clvr_core.training.vlm_model import FOLDER
from clvr_core.training.vlm_pretrain import Trainer
from clvr_core.training.vlm_questions import CHECKS, asked

now = time.perf_counter if torch.cuda.is_available() else time.process_time


def taken(trainer: Trainer, batch: Batch) -> dict[str, float]:
    """Train on the batch; return the seconds of each part."""
    begin = now()
    pictures = trainer.pictures(batch.cells, batch.backdrops, batch.flat)
    drawn = now()
    loss, _ = trainer.losses(batch, pictures=pictures)
    lost = now()
    trainer.step(loss, 0.1)
    return {"pictures": drawn - begin, "loss": lost - drawn, "step": now() - lost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=int, default=0)
    parser.add_argument("--quick", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--kinds", type=int, default=2)
    parser.add_argument("--checks", type=float, default=CHECKS)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    cutouts = os.environ.get("CLVR_CUTOUTS")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    draw = BatchRenderer(device, load_cutouts(Path(cutouts) if cutouts else None))
    writer, rng = Writer(FOLDER / "tokenizer.json"), random.Random(1)
    share = given.pictures / 256
    counts = None if given.pack else (round(1280 * share), round(544 * share), 0, 0)
    with TemporaryDirectory() as out:
        trainer, totals = Trainer(Settings(quick=given.quick), Path(out), device, draw), []

        def batch() -> Batch:
            made = asked(rng, given.pictures, questions=given.questions, kinds=given.kinds, checks=given.checks)
            return writer.batch(made, counts=counts, packed=given.pack and given.pictures)

        for number in range(given.batches):
            begin = now()
            made = batch()
            asking = now() - begin
            seconds = {"questions": asking} | taken(trainer, made)
            rows = [rows for rows in (*made.rows, *made.packed) if len(rows.at)]
            questions = sum(int((rows.kind >= 0).sum()) for rows in rows)
            words = sum(int((rows.kind < 0).sum()) for rows in rows)
            tokens = sum(rows.ids.size for rows in made.rows) + sum(rows.tokens for rows in made.packed)
            total = sum(seconds.values())
            if number > 1:
                totals.append((questions, total))
            print(
                f"{questions} questions, {words} words, {tokens} tokens read, {total:.2f} s:",
                *(f"{name} {each:.2f}" for name, each in seconds.items()),
            )
        if given.profile:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                taken(trainer, batch())
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=22, max_name_column_width=44))
    print(f"{sum(each for each, _ in totals) / sum(each for _, each in totals):.0f} questions a second")


if __name__ == "__main__":
    main()
