"""The forms of a data set are read back: by this project, and where it is installed by TRL with a model of Qwen3-VL's
class."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clvr_core.errors import BadInput
from clvr_core.stickers.neural import FOLDER
from clvr_core.synthesis.data import Row, Turn, read_sharegpt, read_trl, sharegpt_messages, write_rows

ROW = Row(
    "r1",
    "a cat and a dog",
    3,
    (
        Turn("GENERATE", "I begin with the cat.", "a cat", "a cat", "a cat", "images/0.png"),
        Turn("EDIT", "Now the dog.", "a dog", "add a dog", "a cat and a dog", "images/1.png", "add a dog", (0,)),
    ),
    "All of it stands.",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(2):
        shade = np.full((192, 192, 3), 50 + 100 * number, np.uint8)
        Image.fromarray(shade).save(tmp_path / "images" / f"{number}.png")
    write_rows(tmp_path, [ROW], [])
    return tmp_path


def test_sharegpt_is_read_with_a_picture_for_each_placeholder(folder):
    (line,) = read_sharegpt(folder)
    places = re.findall(r"<IMG_GEN_(\d+)>", line["conversations"][1]["value"])
    assert [int(place) for place in places] == [1, 2]
    assert [image.getpixel((0, 0))[0] for image in line["images"]] == [50, 150]


def test_trl_is_read_with_the_pictures_in_the_turns_of_the_tools(folder):
    (line,) = read_trl(folder)
    shown = [
        (message["role"], part["image"].getpixel((0, 0))[0])
        for message in line["messages"]
        for part in message["content"]
        if part["type"] == "image"
    ]
    assert shown == [("tool", 50), ("tool", 150)]


def test_what_is_missing_is_named(folder, tmp_path):
    (folder / "images" / "1.png").unlink()
    for read in (read_trl, read_sharegpt):
        with pytest.raises(BadInput, match=r"1\.png"):
            read(folder)
        with pytest.raises(BadInput, match=r"clvr synthesize"):
            read(tmp_path / "nowhere")


def test_trl_learns_from_what_the_assistant_says_alone(folder):
    """Its collator, with the training form of the template that it knows the shipped one by."""
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    templates = pytest.importorskip("trl.chat_template_utils")
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from clvr_core.vlm.local import _processor

    processor = _processor(FOLDER)
    collate = trainer.DataCollatorForVisionLanguageModeling(
        processor, assistant_only_loss=True, chat_template=templates.get_training_chat_template(processor)
    )
    batch = collate(read_trl(folder))
    said = processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] != -100])
    calls = (
        '{"name": "generate", "arguments": {"prompt": "a cat"}}',
        '{"name": "edit", "arguments": {"prompt": "add a dog", "ref_img_list": [1]}}',
    )
    thoughts = (turn.thought for turn in ROW.turns)
    turns = [f"<think>{thought}</think>\n<tool_call>\n{call}\n</tool_call>" for thought, call in zip(thoughts, calls)]
    turns.append(f"<think>{ROW.closing}</think>\nDONE")
    assert said == "".join(f"{turn}<|im_end|>\n" for turn in turns)
    config = Qwen3VLConfig.from_pretrained(FOLDER)
    assert (batch["input_ids"] == config.image_token_id).sum() == 18, "nine tokens a picture"
    model = Qwen3VLForConditionalGeneration(config)
    loss = model(**batch).loss
    loss.backward()
    seen = model.model.visual.patch_embed.proj.weight.grad
    assert seen is not None and float(seen.abs().sum()) > 0, "the pictures reach the loss"


@pytest.mark.parametrize("read", [partial(read_trl, files=True), sharegpt_messages], ids=["trl", "sharegpt"])
def test_trl_trains_a_tiny_model_on_it(folder, tmp_path, read):
    """Two steps of SFTTrainer on the file lower the loss, which is of the assistant's words alone."""
    datasets = pytest.importorskip("datasets", reason="the extra rl is not installed")
    trl = pytest.importorskip("trl", reason="the extra rl is not installed")
    from transformers import AutoModelForImageTextToText

    from clvr_core.vlm.local import _processor
    from tests.stickers.untrained import save_untrained

    start = save_untrained(tmp_path / "vlm", small=True)
    rows = datasets.Dataset.from_list(read(folder) * 2, on_mixed_types="use_json")
    processor = _processor(start)
    trainer = trl.SFTTrainer(
        AutoModelForImageTextToText.from_pretrained(start),
        trl.SFTConfig(
            str(tmp_path / "out"),
            assistant_only_loss=True,
            max_length=None,
            max_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            per_device_train_batch_size=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            warmup_steps=0,
        ),
        train_dataset=rows,
        processing_class=processor,
    )
    learnt = []
    compute = trainer.compute_loss

    def watched(model, inputs, *rest, **named):
        labels, ids = inputs["labels"][0], inputs["input_ids"][0]
        learnt.append(processor.tokenizer.decode(labels[labels != -100]))
        shown.append(int((ids == model.config.image_token_id).sum()))
        return compute(model, inputs, *rest, **named)

    shown: list[int] = []
    trainer.compute_loss = watched
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 2 and losses[1] < losses[0], losses
    assert shown == [18, 18], "nine tokens a picture, none for a text"
    turns = [
        "".join(part["text"] for part in message["content"])
        for message in rows[0]["messages"]
        if message["role"] == "assistant"
    ]
    assert len(turns) == 3 and turns[-1].endswith("DONE")
    assert learnt == ["".join(f"{turn}<|im_end|>\n" for turn in turns)] * 2


def test_sharegpt_as_messages_has_the_turns_and_pictures_of_trl(folder):
    (told,), (wanted,) = sharegpt_messages(folder), read_trl(folder, files=True)
    assert [each["role"] for each in told["messages"]] == [each["role"] for each in wanted["messages"]]
    for one, other in zip(told["messages"], wanted["messages"]):
        if one["role"] != "assistant":
            assert one == other
            continue
        (text,), (known,) = (
            [part["text"].replace("<think>", "").replace("</think>", "") for part in each["content"]]
            for each in (one, other)
        )
        assert text == known
