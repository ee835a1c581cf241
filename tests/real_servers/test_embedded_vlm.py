"""The embedded vision-language model's folder behind a real llama.cpp server: the answers of this process."""

from __future__ import annotations

from tests.embedded_answers import answers_here, measured, save_random
from tests.stickers.test_art import needs_art

from .processes import HERE, LLAMA, free_port, need, run, serving

need(*LLAMA)


@needs_art
def test_the_same_weights_give_the_same_answers_behind_llama(tmp_path):
    """With every kind of question, about one picture and about several; the weights are random."""
    folder, port = save_random(tmp_path / "model"), free_port()
    here = answers_here(folder, tmp_path / "answers.json")
    run([HERE / "gguf_files.py", folder])
    start = [HERE / "llama.py", port, folder / "model.gguf", folder / "mmproj.gguf"]
    with serving(start, port, tmp_path / "llama.log") as url:
        missed = measured("--backend", "server", "--model", url, "--against", here)
    assert "backends differ" not in missed, missed
