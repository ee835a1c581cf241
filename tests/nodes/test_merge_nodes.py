"""Merges in ComfyUI: which files, where to, what is refused, and the patches of the live merge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from clvr_pack.nodes.host.sticker_files import BASE, DISTILLED, LORA, MERGED
from clvr_pack.nodes.merge import files
from clvr_pack.nodes.merge.live_patch import PREFIX, live_model
from clvr_pack.nodes.stickers.weights import state_of_model
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.executor.weights import state_of
from clvr_core.world import world_named
from tests.merge import klein
from tests.merge.test_lowrank import delta, factors, named
from tests.nodes.graph import Graph
from tests.nodes.pack import NODES, stubs


@pytest.fixture
def models(host):
    """base, aligned and distilled as files of ComfyUI's, and their tensors."""
    folder = host.base / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    tensors = dict(zip(("base", "aligned", "distilled"), klein.three()))
    for name, held in tensors.items():
        klein.save(folder / f"{name}.safetensors", held)
    return tensors


def merge(**inputs: object) -> tuple:
    usual = {"base": "base.safetensors", "distilled": "distilled.safetensors", "aligned": "aligned.safetensors"}
    inputs = usual | {"lora": "none", "name": "merged", "lora_strength": 1.0, "alpha": 1.0, "beta": 1.0} | inputs
    return Graph({"1": {"class_type": "CLVR_DSWMMerge", "inputs": inputs}}).run("1")


class TestFiles:
    def test_the_merge_is_a_file_that_the_loader_finds(self, host, models):
        name, report, summary = merge(alpha=0.5)
        assert name == "merged.safetensors" and report.ndim == 4
        made = load_file(host.base / "output" / "diffusion_models" / name)
        key = "single_blocks.0.linear2.weight"
        base, aligned, distilled = (models[role][key].float() for role in ("base", "aligned", "distilled"))
        wanted = base + 0.5 * (aligned - base) + (distilled - base)
        assert torch.allclose(made[key].float(), wanted, atol=1e-3) and made[key].dtype == torch.bfloat16
        assert summary.splitlines()[0].endswith("merged.safetensors")

    def test_the_same_merge_is_not_written_again(self, models):
        merge()
        assert merge()[2].startswith("merged.safetensors is this merge already; nothing was written")
        with pytest.raises(BadInput, match="overwrite"):
            merge(beta=0.5)
        assert "already" not in merge(beta=0.5, overwrite=True)[2]

    def test_blocks_have_strengths_of_their_own(self, host, models):
        merge(blocks="* = 0, 0\ntxt_in = 1, 0")
        made = load_file(host.base / "output" / "diffusion_models" / "merged.safetensors")
        assert torch.equal(made["img_in.weight"], models["base"]["img_in.weight"])
        assert torch.allclose(made["txt_in.weight"].float(), models["aligned"]["txt_in.weight"].float(), atol=1e-3)

    def test_the_bar_counts_bytes_and_the_text_says_what_is_merged(self, host, models):
        from tests.nodes.graph import Executing

        with Executing(Graph({"1": {}}), "1"):
            files.progress_of("x.safetensors")(5, 10)
        assert stubs["comfy.utils"].ProgressBar.shown == [(5, 10, None)]
        assert host.texts == ["merging 1e-08 GB, inputs' checksums included, into x.safetensors"]

    def test_cancel_leaves_no_file(self, host, models):
        host.memory.interrupted = True
        with pytest.raises(host.Cancelled):
            merge()
        assert not list((host.base / "output" / "diffusion_models").glob("*.safetensors"))

    @pytest.mark.parametrize("name", ["../../secret.safetensors", "missing.safetensors", ""])
    def test_only_files_in_a_model_folder_are_read(self, host, models, name):
        klein.save(host.base / "secret.safetensors", models["base"])
        with pytest.raises(BadInput, match=r"aligned is .*, which does not lie in a folder of diffusion_models"):
            merge(aligned=name)

    def test_a_link_in_a_model_folder_and_a_file_called_sft_are_read(self, host, models):
        """Models lie on a large disk, and a link to them in ComfyUI's folder."""
        folder = host.base / "models" / "diffusion_models"
        klein.save(host.base / "elsewhere.safetensors", models["base"])
        (folder / "linked.safetensors").symlink_to(host.base / "elsewhere.safetensors")
        merge()
        (folder / "distilled.safetensors").rename(folder / "distilled.sft")
        merge(base="linked.safetensors", distilled="distilled.sft", name="again")
        one, two = (
            load_file(host.base / "output" / "diffusion_models" / f"{n}.safetensors") for n in ("merged", "again")
        )
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_loras_of_a_list_count_with_their_strengths_and_the_factor(self, host, models):
        folder = host.base / "models" / "loras"
        folder.mkdir()
        pairs = [factors(seed=number) for number in (5, 6, 7)]
        for number, pair in enumerate(pairs):
            klein.save(folder / f"{number}.safetensors", named(pair))
        third = {"more_3": "one more", "lora_3": "2.safetensors", "strength_3": -0.5, "more_4": {"more_4": "none"}}
        more = {"more_loras": "one more", "lora_2": "1.safetensors", "strength_2": 0.25, "more_3": third}
        merge(lora="0.safetensors", lora_strength=0.5, more_loras=more, lora_factor=2.0, dtype="fp32")
        made = load_file(host.base / "output" / "diffusion_models" / "merged.safetensors")
        name = next(iter(pairs[0]))
        deltas = [delta(pair[name], strength) for pair, strength in zip(pairs, (1.0, 0.5, -1.0))]
        base, aligned, distilled = (models[role][f"{name}.weight"].float() for role in ("base", "aligned", "distilled"))
        wanted = base + (aligned - base) + (distilled - base) + sum(deltas)
        torch.testing.assert_close(made[f"{name}.weight"], wanted.float(), rtol=0, atol=1e-6)

    def test_entries_without_a_file_are_left_out_and_unknown_files_refused(self, models):
        assert files.loras_in({"lora_1": "none", "strength_1": 1.0, "more_2": {"more_2": "none"}}) == ()
        with pytest.raises(BadInput, match="lora is '/etc/passwd', which does not lie in a folder of loras"):
            merge(more_loras={"more_loras": "one more", "lora_2": "/etc/passwd", "strength_2": 1.0})

    def test_a_preset_changes_its_blocks(self, host, models):
        merge(preset="style", distilled="none")
        made = load_file(host.base / "output" / "diffusion_models" / "merged.safetensors")
        changed = {name for name in made if not torch.equal(made[name], models["base"][name])}
        assert {name.split(".")[:2] == ["single_blocks", "1"] for name in changed} == {True}

    def test_the_recipe_of_a_merged_file_makes_it_again(self, host, models):
        merge(alpha=0.5, beta=0.8, blocks="txt_in = 0.25", name="first")
        folder = host.base / "output" / "diffusion_models"
        again = {
            "base": "aligned.safetensors",
            "distilled": "none",
            "aligned": "none",
            "recipe_of": "first.safetensors",
        }
        merge(name="second", **again)
        one, two = (load_file(folder / f"{name}.safetensors") for name in ("first", "second"))
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert "is this merge already" in merge(name="second", **again)[2]

    def test_a_recipe_whose_inputs_are_not_there_is_refused(self, host, models):
        merge(name="first")
        models_folder = host.base / "models" / "diffusion_models"
        with pytest.raises(BadInput, match=r"base.safetensors was not merged by clvr"):
            merge(recipe_of="base.safetensors", name="second")
        klein.save(models_folder / "distilled.safetensors", klein.weights(7, double=2))
        with pytest.raises(
            BadInput, match=r"recipe_of is first.safetensors, which was merged from 'distilled.safetens"
        ):
            merge(recipe_of="first.safetensors", name="second")

    def test_a_name_that_the_loader_would_take_from_elsewhere_is_refused(self, models):
        with pytest.raises(
            BadInput, match=r"a model folder has a base.safetensors already, which the loader would take"
        ):
            merge(name="base")

    def test_errors_speak_of_widgets(self, models):
        assert files.in_widgets("give --lora-out or --overwrite") == "give lora_out or overwrite"

    def test_another_file_of_the_same_name_is_another_input(self, host, models):
        node = NODES["CLVR_DSWMMerge"]
        before = node.fingerprint_inputs(base="base.safetensors", lora="none", alpha=1.0)
        klein.save(host.base / "models" / "diffusion_models" / "base.safetensors", klein.weights(7, double=2))
        more = {"more_loras": "one more", "lora_2": "none", "more_3": {"lora_3": "base.safetensors"}}
        (host.base / "models" / "loras").mkdir()
        klein.save(host.base / "models" / "loras" / "base.safetensors", named(factors()))
        assert len(node.fingerprint_inputs(base="base.safetensors", more_loras=more)) == 2
        assert len(before) == 1 and before != node.fingerprint_inputs(base="base.safetensors", lora="none", alpha=1.0)

    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ({"name": "a/b"}, "name is 'a/b'; it may have at most 64 letters"),
            ({"blocks": "x" * 10_001}, "blocks has 10,001 characters; at most 10,000 are read"),
            ({"blocks": "txt_in"}, "blocks: 'txt_in' is not PATTERN=ALIGN"),
        ],
    )
    def test_widgets_are_checked_before_the_prompt_is_queued(self, inputs, words):
        assert words in NODES["CLVR_DSWMMerge"].validate_inputs(**inputs)
        assert NODES["CLVR_DSWMMerge"].validate_inputs() is True

    def test_the_list_has_safetensors_only(self, host, models):
        (host.base / "models" / "diffusion_models" / "old.ckpt").touch()
        assert files.list_files("diffusion_models") == [
            "aligned.safetensors",
            "base.safetensors",
            "distilled.safetensors",
        ]


class TestEmbedded:
    def test_its_choices_come_after_the_files(self, host, models):
        assert files.choices("diffusion_models") == [
            *sorted(f"{name}.safetensors" for name in models),
            BASE,
            DISTILLED,
            MERGED,
        ]
        assert files.choices("loras") == [LORA]

    def test_it_is_merged_without_any_file_of_comfyuis_to_the_bits_that_come_with_the_pack(self, host):
        parts = {"base": BASE, "distilled": DISTILLED, "aligned": "none", "lora": LORA, "beta": 0.85}
        name, *_ = merge(name="stickers", **parts)
        made = state_of(host.base / "output" / "diffusion_models" / name, torch.float32)
        installed = state_of(world_named().merged / "transformer", torch.float32)
        assert made.keys() == installed.keys() and all(torch.equal(made[key], installed[key]) for key in made)
        again = {"base": BASE, "distilled": "none", "aligned": "none", "recipe_of": name}
        assert "is this merge already" in merge(name="stickers", **again)[2]
        assert len(NODES["CLVR_DSWMMerge"].fingerprint_inputs(**parts)) == 3

    def test_files_too_large_for_it_are_not_offered(self, host, models):
        with (host.base / "models" / "diffusion_models" / "klein.safetensors").open("wb") as file:
            file.truncate(files.SMALL + 1)
        (weights,) = NODES["CLVR_StickerWeights"].define_schema().inputs
        assert weights.options["options"] == [
            BASE,
            DISTILLED,
            MERGED,
            *sorted(f"{name}.safetensors" for name in models),
        ]

    def test_another_model_is_refused_with_what_to_do(self):
        with pytest.raises(
            BadInput, match=r"model is no transformer of the stickers world: .* use Load Diffusion Model"
        ):
            state_of_model(Patcher(klein.weights()))


class Patcher:
    """A ModelPatcher with some weights, which can evaluate its patches as ComfyUI does."""

    load_device = torch.device("cpu")

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self.weights, self.patches, self.backup, self.hook_backup = weights, {}, {}, {}
        self.model = SimpleNamespace()
        for name, value in weights.items():
            at = self.model
            *outer, last = f"{PREFIX}{name}".split(".")
            for part in outer:
                at.__dict__.setdefault(part, SimpleNamespace())
                at = getattr(at, part)
            setattr(at, last, value)

    def model_state_dict(self, prefix: str = PREFIX) -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": value for name, value in self.weights.items()}

    def clone(self) -> Patcher:
        other = Patcher(self.weights)
        other.patches = {key: list(value) for key, value in self.patches.items()}
        return other

    def add_patches(self, patches: dict[str, list], strength: float) -> None:
        for key, patch in patches.items():
            self.patches.setdefault(key, []).append((strength, patch, 1.0, None, None))

    def value(self, name: str) -> torch.Tensor:
        return evaluate([(self.weights[name], None), *self.patches.get(f"{PREFIX}{name}", [])])


def evaluate(patch: list) -> torch.Tensor:
    """A list of ComfyUI's: a weight, then (strength, value, strength of the sum so far, offset, function)."""
    (value, *_), *rest = patch
    for strength, addend, before, *_ in rest:
        value = value * before + strength * (evaluate(addend) if isinstance(addend, list) else addend)
    return value


class TestLive:
    @pytest.fixture
    def three(self):
        return [Patcher({name: value.float() for name, value in held.items()}) for held in klein.three()]

    def live(self, base, aligned=None, distilled=None, alpha=1.0, beta=1.0, blocks="", fp8="refuse"):
        return live_model(base, aligned, distilled, alpha, beta, blocks, fp8)

    def test_the_patches_are_both_deltas(self, three):
        merged = self.live(*three, alpha=0.5, beta=0.8)
        for name in ("img_in.weight", "single_blocks.1.linear1.weight"):
            base, aligned, distilled = (model.weights[name] for model in three)
            wanted = base + 0.5 * (aligned - base) + 0.8 * (distilled - base)
            assert torch.allclose(merged.value(name), wanted, atol=1e-6)
        assert not three[0].patches, "the base stays as it is"

    def test_one_model_and_strengths_by_block(self, three):
        merged = self.live(three[0], aligned=three[1], blocks="* = 0\nimg_in = 0.5")
        name = "img_in.weight"
        assert torch.allclose(merged.value(name), (three[0].weights[name] + three[1].weights[name]) / 2, atol=1e-6)
        assert set(merged.patches) == {f"{PREFIX}{name}"}

    def test_a_preset_comes_before_blocks_of_ones_own(self, three):
        merged = live_model(three[0], three[1], None, 1.0, 1.0, "txt_in = 1", "refuse", preset="style")
        changed = {key.removeprefix(PREFIX).rpartition(".linear")[0] or key for key in merged.patches}
        assert {key.split(".")[0] for key in changed} <= {"single_blocks", "diffusion_model", "txt_in"}
        assert (
            f"{PREFIX}txt_in.weight" in merged.patches and f"{PREFIX}single_blocks.1.linear1.weight" in merged.patches
        )
        assert f"{PREFIX}single_blocks.0.linear1.weight" not in merged.patches
        with pytest.raises(BadInput, match=r"preset style names blocks of FLUX.2 Klein, and this base has none"):
            live_model(
                Patcher({"a.weight": torch.ones(1)}),
                Patcher({"a.weight": torch.ones(1)}),
                None,
                1,
                1,
                "",
                "refuse",
                preset="style",
            )

    def test_a_lora_on_a_model_counts(self, three):
        name = "img_in.weight"
        three[1].add_patches({f"{PREFIX}{name}": [(torch.ones_like(three[1].weights[name]),)]}, 0.5)
        three[1].patches[f"{PREFIX}{name}"] = [(0.5, torch.ones_like(three[1].weights[name]), 1.0, None, None)]
        merged = self.live(three[0], aligned=three[1])
        assert torch.allclose(merged.value(name), three[1].weights[name] + 0.5, atol=1e-6)

    def test_models_of_two_kinds_are_refused_with_names(self, three):
        other = Patcher(klein.weights(single=1))
        with pytest.raises(
            BadInput, match=r"distilled is not a model of the base's kind: 4 weights missing .*-single_blocks.1"
        ):
            self.live(three[0], distilled=other)

    def test_nothing_to_merge_and_patterns_that_match_nothing_are_refused(self, three):
        with pytest.raises(
            BadInput, match="nothing to merge into the base; link distilled or aligned, or choose a LoRA"
        ):
            self.live(three[0])
        with pytest.raises(BadInput, match=r"the pattern 'blokcs.1' matches nothing in base; its blocks are like"):
            self.live(*three, blocks="blokcs.1 = 1")

    def test_fp8_weights_are_refused_unless_their_values_are_to_be_merged(self, three):
        three[1].weights["img_in.weight"] = three[1].weights["img_in.weight"].to(torch.float8_e4m3fn)
        quantised = Patcher(three[1].weights)
        with pytest.raises(BadInput, match="aligned has quantised weights"):
            self.live(three[0], aligned=quantised)
        assert self.live(three[0], aligned=quantised, fp8="dequantise").patches

    def test_the_node_gives_the_merged_model(self, three):
        inputs = {"base": three[0], "distilled": three[2], "alpha": 1.0, "beta": 1.0}
        (merged,) = Graph({"1": {"class_type": "CLVR_DSWMMergeLive", "inputs": inputs}}).run("1")
        assert merged.patches and NODES["CLVR_DSWMMergeLive"].validate_inputs(blocks="x") is not True
