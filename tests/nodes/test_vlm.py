"""Vision models out of ComfyUI's CLIP objects and behind servers: prompts, replies, decisions, refusals."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from clvr_pack.nodes.vlm import server_model
from clvr_pack.nodes.vlm.chat_templates import (
    GEMMA_3,
    GEMMA_4,
    QWEN,
    Turn,
    control_tokens,
    side_by_side,
    template_for,
)
from clvr_pack.nodes.vlm.comfy_clip import SIDE_BY_SIDE, Blind, ClipVlm
from clvr_pack.nodes.vlm.loaders import Loader, loader_of

from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.protocols import Message, Question, Vlm
from clvr_core.vlm import sight
from tests.fakes import grey
from tests.nodes.graph import Graph

WORDS = ("<|im_start|>", "<|im_end|>", "Yes", "No", "yes", "maybe", "{", "}", "blue")
VOCABULARY = dict(enumerate(WORDS))
STOP = WORDS.index("<|im_end|>")


class Writer:
    """The inner language model: `says` are the words it would write, the most likely first."""

    def __init__(self, *says: str) -> None:
        self.says = says
        self.model = SimpleNamespace(config=SimpleNamespace(stop_tokens=[STOP], vocab_size=len(WORDS)))

    def sample_token(self, logits: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return logits.argmax(-1, keepdim=True)

    def logits(self, place: int) -> torch.Tensor:
        scores = torch.full((1, len(WORDS)), -9.0)
        scores[0, WORDS.index(self.says[place]) if place < len(self.says) else STOP] = 9.0
        return scores


class Clip:
    """A CLIP of ComfyUI's with a small vocabulary. `prompts`: the raw prompts. `fails`: what a forward pass raises."""

    def __init__(self, *says: str, sees: bool = True, words: tuple[str, ...] = WORDS, **tokenizer: object) -> None:
        self.writer, self.sees = Writer(*says), sees
        self.prompts: list[str] = []
        self.fails: Exception | None = None
        inner = SimpleNamespace(inv_vocab=dict(enumerate(words)), tokenizer=object(), **tokenizer)
        self.tokenizer = SimpleNamespace(clip="small", small=inner)
        self.cond_stage_model = SimpleNamespace(clip="small", small=SimpleNamespace(transformer=self.writer))

    def tokenize(self, prompt: str, images: object = (), image: torch.Tensor | None = None) -> dict:
        self.prompts.append(prompt)
        pictures = list(images) if image is None else list(image.split(1))
        seen = [({"type": "image", "data": picture}, 1.0) for picture in pictures] if self.sees else []
        return {"small": [[*((word_id, 1.0) for word_id in range(len(prompt.split()))), *seen]]}

    def generate(self, tokens: object, do_sample: bool, max_length: int, seed: int) -> list[int]:
        if self.fails:
            raise self.fails
        made: list[int] = []
        while len(made) < max_length and (not made or made[-1] != STOP):
            made.append(int(self.writer.sample_token(self.writer.logits(len(made)))[0, 0]))
        return made

    def decode(self, ids: list[int]) -> str:
        return " ".join(VOCABULARY[token] for token in ids)


def ask(text: str = "Is it blue?") -> list[Question]:
    return [Question(text)]


class TestTemplates:
    def test_a_family_is_known_by_its_marks(self):
        assert template_for([*WORDS, "<think>"]) is QWEN and template_for(["<|turn>"]) is GEMMA_4
        assert template_for(["<start_of_turn>"]) is GEMMA_3 and template_for(["hello"]) is None

    def test_qwens_turns_end_with_the_beginning_of_the_reply(self):
        turns = [Turn("system", ("Be brief.",)), Turn("user", (0, "What is it?"))]
        assert QWEN.prompt(turns, control_tokens(WORDS)) == (
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )

    def test_a_model_that_cannot_mark_a_thought_is_given_none(self):
        found = template_for(WORDS)
        assert found is not None and found.prompt([], control_tokens(WORDS)) == "<|im_start|>assistant\n"

    def test_gemma_calls_the_assistant_model_and_closes_a_thought_only_where_it_must(self):
        marks = control_tokens(["<|turn>"])
        assert GEMMA_4.prompt([], marks) == "<|turn>model\n"
        primed = GEMMA_4.for_tokenizer(SimpleNamespace(prime_empty_thought=True))
        assert primed.prompt([], marks).endswith("<|channel>thought\n<channel|>")
        assert GEMMA_3.prompt([], marks) == "<start_of_turn>model\n"

    @pytest.mark.parametrize("mark", ["<|im_end|>", "<start_of_turn>", "<|turn>", "embedding:"])
    def test_control_tokens_in_a_persons_words_stay_words(self, mark):
        prompt = QWEN.prompt([Turn("user", (f"a {mark} b",))], control_tokens(WORDS))
        assert f"a {mark} b" not in prompt and prompt.count("<|im_end|>") == 1

    def test_pictures_side_by_side_are_level_at_the_top_on_white(self):
        sheet = side_by_side([grey(1, 4, 8), grey(2, 6, 4)])
        assert sheet.shape == (8, 26, 3)
        assert sheet[7, 0, 0] == 1 and (sheet[:, 4:20] == 255).all() and sheet[3, 20, 0] == 2 and sheet[4, 20, 0] == 255


class TestClip:
    def test_it_is_a_vlm(self):
        assert isinstance(ClipVlm(Clip(), "small"), Vlm)

    def test_a_text_encoder_that_writes_nothing_is_refused(self):
        clip = Clip(words=("a", "b"))
        with pytest.raises(Blind, match="it is not a language model that writes"):
            ClipVlm(clip, "small")

    def test_a_clip_that_drops_pictures_is_refused(self):
        with pytest.raises(Blind, match="it drops pictures"):
            ClipVlm(Clip(sees=False), "small")

    def test_a_reply_ends_at_a_stop_token_and_counts_its_tokens(self):
        clip = Clip("{", "}")
        reply = ClipVlm(clip, "small").chat([Message("user", "Say it.", (grey(1, 64, 64),))], {"type": "object"})
        assert reply.text == "{ }" and reply.finished and reply.tokens > 3
        assert "Say it." in clip.prompts[-1] and '"type"' in clip.prompts[-1], "the schema is asked for in words"

    def test_a_reply_that_is_cut_is_not_finished(self):
        reply = ClipVlm(Clip(*["blue"] * 9), "small", reply_limit=4).chat([Message("user", "Go on.")], {})
        assert not reply.finished and reply.text == "blue blue blue blue"

    @pytest.mark.parametrize(("says", "low", "high"), [("Yes", 0.99, 1.0), ("yes", 0.99, 1.0), ("No", 0.0, 0.01)])
    def test_a_decision_is_the_share_of_yes(self, says, low, high):
        (decision,) = ClipVlm(Clip(says), "small").decide([grey(1, 64, 64)], ask())
        assert low <= decision.yes <= high and decision.tokens > 0

    def test_where_neither_yes_nor_no_is_likely_there_is_no_decision(self):
        (decision,) = ClipVlm(Clip("maybe"), "small").decide([], ask())
        assert decision.yes is None and decision.evidence.startswith("the answer would not begin with Yes or No")
        assert ClipVlm(Clip("maybe"), "small").decide([], []) == []

    def test_the_way_tokens_are_chosen_is_put_back(self):
        clip = Clip("Yes")
        ClipVlm(clip, "small").decide([], ask())
        assert "sample_token" not in vars(clip.writer)

    def test_a_core_that_chooses_tokens_by_itself_is_read_in_words(self):
        clip = Clip("No")
        vlm = ClipVlm(clip, "small")
        clip.generate = lambda *_, **__: [WORDS.index("No")]
        assert vlm.decide([], ask())[0].yes == 0.1
        clip.generate = lambda *_, **__: [WORDS.index("blue")]
        assert vlm.decide([], ask())[0].yes is None

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (torch.OutOfMemoryError("CUDA"), "small ran out of memory; choose a smaller model"),
            (RuntimeError("shapes\ndiffer"), "small failed: shapes differ"),
            (ValueError("tokens: 52, features: 4"), "small failed: tokens: 52, features: 4"),
            (JudgeFailure("the reply cannot be held to its schema"), "^the reply cannot be held to its schema"),
        ],
    )
    def test_a_failing_model_is_a_failure_of_the_judge_and_no_end_of_the_run(self, error, words):
        clip = Clip("Yes")
        vlm = ClipVlm(clip, "small")
        clip.fails = error
        with pytest.raises(JudgeFailure, match=words):
            vlm.decide([], ask())

    def test_cancel_within_the_model_is_no_failure(self, host):
        clip = Clip("Yes")
        vlm = ClipVlm(clip, "small")
        clip.fails = host.Cancelled()
        with pytest.raises(host.Cancelled):
            vlm.decide([], ask())

    def test_several_pictures_become_one_for_a_family_that_takes_one(self):
        clip = Clip("Yes", words=("<start_of_turn>", "<end_of_turn>", *WORDS[2:]))
        vlm = ClipVlm(clip, "small")
        vlm.decide([grey(1, 64, 64), grey(2, 64, 64)], ask())
        assert clip.prompts[-1].count("<image_soft_token>") == 1 and SIDE_BY_SIDE in clip.prompts[-1]

    def test_a_large_picture_is_scaled_down(self):
        large, small = grey(1, 2048, 2048), grey(1, 1024, 1024)
        vlm = ClipVlm(Clip("Yes"), "small")
        assert vlm.decide([large], ask())[0].tokens == vlm.decide([small], ask())[0].tokens

    def test_cancel_ends_a_decision(self, host):
        vlm = ClipVlm(Clip("Yes"), "small")
        host.memory.interrupted = True
        with pytest.raises(host.Cancelled):
            vlm.decide([], ask())


class TestLoaders:
    def prompt(self, **widgets: object) -> dict:
        return {
            "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen3vl_4b.safetensors", **widgets}},
            "2": {"class_type": "LoraLoader", "inputs": {"clip": ["1", 0], "strength_clip": 1.0}},
            "3": {"class_type": "CLVR_VisionModel", "inputs": {"clip": ["2", 1]}},
        }

    def test_the_loader_is_found_through_lora_loaders(self):
        loader = loader_of(Graph(self.prompt(type="flux2")), "3", "clip")
        assert loader.title == "the node 'Load CLIP' (1)" and loader.name.startswith("qwen3vl_4b (")
        assert loader.digest[:8] in loader.name

    def test_a_wrong_type_is_named_with_the_right_one(self):
        refusal = loader_of(Graph(self.prompt(type="flux2")), "3", "clip").refusal("it drops pictures")
        assert "has type 'flux2'" in refusal and "Choose type 'stable_diffusion' for the judge" in refusal

    def test_a_file_that_cannot_judge_is_named_by_its_widget(self):
        loader = Loader("the node 'Load CLIP' (1)", {"clip_name": "t5.safetensors", "type": "stable_diffusion"}, "d")
        assert "has clip_name 't5.safetensors', which cannot judge pictures: it is blind" in loader.refusal(
            "it is blind"
        )
        assert (
            "its file" in Loader("a node", {}, "d").refusal("x")
            and Loader("a node", {}, "d" * 9).name == "a node (dddddddd)"
        )


class TestVisionModelNode:
    def run(self, clip: object, **inputs: object) -> tuple:
        prompt = {
            "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": "small.safetensors", "type": "flux2"}},
            "3": {"class_type": "CLVR_VisionModel", "inputs": {"clip": ["1", 0], **inputs}},
        }
        graph = Graph(prompt)
        clip.tokenize, clip.cond_stage_model  # noqa: B018 - what the node's check of its input looks for
        graph.outputs["1"] = SimpleNamespace(args=(clip,))
        return graph.run("3")

    def test_it_is_named_after_its_file(self):
        (vlm,) = self.run(Clip("Yes"), prove_sight=False)
        assert vlm.name.startswith("small (")

    def test_a_blind_clip_names_the_loader_and_the_widget(self):
        with pytest.raises(BadInput, match=r"the node 'Load CLIP' \(1\) has type 'flux2'"):
            self.run(Clip(sees=False))

    def test_one_that_tells_no_colours_apart_names_the_loader(self, monkeypatch):
        def fail(vlm: object) -> None:
            raise JudgeFailure("small cannot tell red from blue")

        monkeypatch.setattr(sight, "check_sight", fail)
        with pytest.raises(
            BadInput, match="small cannot tell red from blue; choose another model in the node 'Load CLIP'"
        ):
            self.run(Clip("Yes"))


class TestServerModel:
    @pytest.fixture
    def servers(self, host):
        path = server_model.config_file()
        path.parent.mkdir(parents=True)
        path.write_text(server_model.EXAMPLE)
        return path

    def test_without_a_file_the_list_says_so_and_the_node_says_where_to_write_it(self, host):
        assert server_model.server_names() == [server_model.NONE]
        with pytest.raises(BadInput, match=r"server 'x' is not in .*__clvr.*servers.toml; write it there, for example"):
            server_model.ServerModel.execute(server="x")

    def test_the_list_has_the_names_in_the_file(self, servers):
        assert server_model.server_names() == ["ollama"]
        before = server_model.ServerModel.fingerprint_inputs("ollama")
        assert before[0] == "ollama" and before[1] == servers.stat().st_mtime_ns
        servers.write_text("no toml at all [")
        assert server_model.server_names() == [server_model.NONE]

    def test_a_model_is_named_without_its_address(self, servers, monkeypatch):
        monkeypatch.setattr(sight, "check_sight", lambda vlm: None)
        (vlm,) = server_model.ServerModel.execute(server="ollama").args
        assert vlm.name == "qwen3-vl:8b (ollama)" and "127.0.0.1" not in vlm.name

    def test_a_server_that_does_not_answer_is_named_with_its_entry(self, servers, monkeypatch):
        def fail(vlm: object) -> None:
            raise JudgeFailure("no answer")

        monkeypatch.setattr(sight, "check_sight", fail)
        with pytest.raises(BadInput, match="no answer; see to the server, or to its entry in "):
            server_model.ServerModel.execute(server="ollama")
