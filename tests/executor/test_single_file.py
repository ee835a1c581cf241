"""Klein from ComfyUI's three files: tiny random models of the real classes, there and back, to the same bits."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from clvr_core.errors import BadInput
from clvr_core.executor.klein import published
from clvr_core.executor.single_file import SCHEDULE, load_encoder, load_tokenizer, load_vae, vae_settings
from clvr_core.executor.small_klein import CHAT_TEMPLATE
from clvr_core.models.config import ExecutorSettings, read_config
from clvr_core.models.executors import load_executor, weights_of
from clvr_core.models.registry import load_models
from clvr_core.protocols import DrawRequest
from tests.executor.test_klein import one_thread, pictures
from tests.executor.test_weights import bfl
from tests.pixels import close
from tests.vlm import tiny

__all__ = ["one_thread"]
LAYERS, WIDTH = 28, 32
REQUEST = DrawRequest("a red circle", 1, width=64, height=64)


def encoder() -> Qwen3ForCausalLM:
    """With one layer more than is read; Qwen3's own frequencies and epsilon."""
    words = len(tiny.tokenizer()) + 7
    sizes = {
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
    }
    config = Qwen3Config(
        vocab_size=words, hidden_size=WIDTH, num_hidden_layers=LAYERS, rope_theta=1e6, tie_word_embeddings=True, **sizes
    )
    return Qwen3ForCausalLM(config).eval()


def vae(**more) -> diffusers.AutoencoderKLFlux2:
    made = diffusers.AutoencoderKLFlux2(
        **{"block_out_channels": (32, 32, 64, 32), "layers_per_block": 1, "latent_channels": 4} | more
    )
    made.bn.running_mean.normal_()
    made.bn.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.fixture(scope="module")
def pipe() -> diffusers.Flux2KleinPipeline:
    torch.manual_seed(0)
    words = tiny.tokenizer()
    words.chat_template = CHAT_TEMPLATE
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULE)
    parts = {"vae": vae(), "text_encoder": encoder(), "tokenizer": words, "transformer": transformer.eval()}
    return diffusers.Flux2KleinPipeline(scheduler=scheduler, **parts, is_distilled=True)


def comfy_vae(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As ComfyUI's flux2-vae names and cuts it."""
    modules = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    found = {}
    for name, tensor in state.items():
        if part := re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
            name = f"{part[1]}.mid.attn_1.{modules[part[2]]}.{part[3]}"
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        elif part := re.match(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.", name):
            name = f"{part[1]}.mid.block_{int(part[2]) + 1}.{name[part.end() :]}"
        elif part := re.match(r"encoder\.down_blocks\.(\d)\.", name):
            name = f"encoder.down.{part[1]}.{name[part.end() :]}"
        elif part := re.match(r"decoder\.up_blocks\.(\d)\.", name):
            name = f"decoder.up.{3 - int(part[1])}.{name[part.end() :]}"
        name = (
            name.replace("resnets.", "block.")
            .replace("downsamplers.0", "downsample")
            .replace("upsamplers.0", "upsample")
        )
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        name = re.sub(
            r"^quant_conv", "encoder.quant_conv", re.sub(r"^post_quant_conv", "decoder.post_quant_conv", name)
        )
        found[name] = tensor.contiguous()
    return found


def fp8(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Its linear layers as ComfyUI scales them."""
    found = {}
    for name, tensor in state.items():
        if not name.endswith("_proj.weight"):
            found[name] = tensor
            continue
        scale = tensor.abs().max() / 448
        found[name] = (tensor / scale).to(torch.float8_e4m3fn)
        found[name.replace(".weight", ".weight_scale")] = scale.float()
    return found


@pytest.fixture(scope="module")
def files(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comfyui")
    save_file(bfl(pipe.transformer.state_dict()), folder / "flux-2-klein-4b.safetensors")
    texts = {name: value for name, value in pipe.text_encoder.state_dict().items() if name != "lm_head.weight"}
    save_file(texts, folder / "qwen_3_4b.safetensors")
    save_file(comfy_vae(pipe.vae.state_dict()), folder / "flux2-vae.safetensors")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def settings_of(files: Path, **more) -> ExecutorSettings:
    names = {"transformer": "flux-2-klein-4b", "text_encoder": "qwen_3_4b", "vae": "flux2-vae"}
    given = {part: str(files / f"{name}.safetensors") for part, name in names.items()} | {
        "tokenizer": str(files / "tokenizer")
    }
    return ExecutorSettings(**given | {"dtype": "float32"} | more)


class TestThereAndBack:
    def test_the_three_files_draw_what_the_folder_draws(self, pipe, files, tmp_path):
        pipe.save_pretrained(tmp_path / "klein")
        own = load_executor(ExecutorSettings(folder=str(tmp_path / "klein"), dtype="float32"), "cpu")
        put_together = load_executor(settings_of(files), "cpu")
        assert close(pictures(own, REQUEST)[0], pictures(put_together, REQUEST)[0])
        assert put_together.name == "flux-2-klein-4b.safetensors + qwen_3_4b.safetensors + flux2-vae.safetensors"
        assert put_together.recipe == own.recipe == published(True) and put_together.distilled
        edit = replace(REQUEST, references=(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8),))
        assert close(pictures(own, edit)[0], pictures(put_together, edit)[0])

    def test_a_clvr_toml_that_names_them_gives_models_and_a_plan_of_their_memory(self, files, tmp_path):
        settings = {
            part: getattr(settings_of(files), part) for part in ("transformer", "text_encoder", "vae", "tokenizer")
        }
        settings |= {"device": "cpu", "dtype": "float32"}
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
        path = tmp_path / "clvr.toml"
        path.write_text(f'[controller]\nkind = "embedded"\n[executor]\n{lines}\nwidth = 64\nheight = 64\n')
        models = load_models(str(path))
        assert {"DiT", "text encoder", "VAE"} == set(re.findall(r"(\w[\w ]*?) \d+ MB", models.memory.partition(";")[0]))
        assert np.array_equal(
            pictures(models.executor, REQUEST)[0], pictures(load_executor(settings_of(files), "cpu"), REQUEST)[0]
        )

    def test_one_of_them_takes_the_place_of_the_folders_own(self, pipe, files, tmp_path):
        pipe.save_pretrained(tmp_path / "klein")
        for part in ("text_encoder", "vae"):
            for path in (tmp_path / "klein" / part).iterdir():
                path.unlink()
        both = {"text_encoder": str(files / "qwen_3_4b.safetensors"), "vae": str(files / "flux2-vae.safetensors")}
        mixed = load_executor(ExecutorSettings(folder=str(tmp_path / "klein"), dtype="float32", **both), "cpu")
        assert close(pictures(mixed, REQUEST)[0], pictures(load_executor(settings_of(files), "cpu"), REQUEST)[0])
        assert mixed.name == "klein + qwen_3_4b.safetensors + flux2-vae.safetensors"

    def test_the_vae_encodes_and_decodes_as_it_did(self, pipe, files):
        found, pixels = load_vae(files / "flux2-vae.safetensors", torch.float32), torch.rand(1, 3, 32, 32)
        with torch.inference_mode():
            latents = [each.encode(pixels).latent_dist.mode() for each in (found, pipe.vae)]
            assert torch.equal(*latents) and torch.equal(
                found.decode(latents[0]).sample, pipe.vae.decode(latents[0]).sample
            )
        assert torch.equal(found.bn.running_mean, pipe.vae.bn.running_mean) and found.config.batch_norm_eps == 1e-4

    def test_its_names_are_those_that_diffusers_gives_them(self, files):
        state = load_file(files / "flux2-vae.safetensors")
        theirs = {
            re.sub(r"^(en|de)coder\.(quant|post_quant)_conv", r"\2_conv", name): value for name, value in state.items()
        }
        converted = convert_ldm_vae_checkpoint(theirs, {"down_block_types": [""] * 4, "up_block_types": [""] * 4})
        mine = load_vae(files / "flux2-vae.safetensors", torch.float32).state_dict()
        assert {name for name in mine if not name.startswith("bn.")} == converted.keys()
        assert all(torch.equal(mine[name], value) for name, value in converted.items())

    @pytest.mark.parametrize("of", ["Qwen3", "Qwen3-VL"])
    def test_the_text_encoder_gives_the_layers_that_are_read(self, pipe, files, tmp_path, of):
        path = files / "qwen_3_4b.safetensors"
        if of == "Qwen3-VL":
            state = {
                name.replace("model.", "model.language_model.", 1): value for name, value in load_file(path).items()
            }
            path = tmp_path / "qwen3vl_4b.safetensors"
            save_file(
                state
                | {"model.visual.patch_embed.proj.weight": torch.zeros(4, 4), "lm_head.weight": torch.zeros(4, 4)},
                path,
            )
        found, words = load_encoder(path, torch.float32, 27), torch.arange(40)[None]
        with torch.inference_mode():
            ours, whole = (
                each(input_ids=words, output_hidden_states=True).hidden_states for each in (found, pipe.text_encoder)
            )
        assert len(found.model.layers) == 27 and all(torch.equal(ours[layer], whole[layer]) for layer in (9, 18, 27))

    def test_scaled_fp8_is_read_with_its_scales(self, files, tmp_path):
        state = load_file(files / "qwen_3_4b.safetensors")
        save_file(fp8(state), tmp_path / "qwen_3_4b_fp8.safetensors")
        found = load_encoder(tmp_path / "qwen_3_4b_fp8.safetensors", torch.bfloat16, 27).state_dict()
        assert {value.dtype for value in found.values()} == {torch.bfloat16}
        apart = {
            name: float((value.float() - state[name]).norm() / state[name].norm()) for name, value in found.items()
        }
        assert 0.01 < max(apart.values()) < 0.04 and apart["model.embed_tokens.weight"] < 0.004

    def test_a_decoder_of_its_own_width_is_seen(self):
        small = vae(decoder_block_out_channels=(32, 32, 32, 64)).state_dict()
        found = vae_settings({name: tuple(value.shape) for name, value in small.items()})
        assert found["block_out_channels"] == (32, 32, 64, 32) and found["decoder_block_out_channels"] == (
            32,
            32,
            32,
            64,
        )

    def test_the_words_are_framed_as_klein_was_trained_whatever_the_folder_says(self, files):
        words = load_tokenizer(files / "tokenizer")
        assert tiny.tokenizer().chat_template != words.chat_template and words.padding_side == "right"
        asked = [{"role": "user", "content": "a cat"}]
        said = words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        assert said == "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

    def test_a_base_is_known_by_its_name_or_by_a_guidance(self, files, tmp_path):
        base = tmp_path / "flux-2-klein-base-4b.safetensors"
        shutil.copy(files / "flux-2-klein-4b.safetensors", base)
        assert load_executor(settings_of(files, transformer=str(base)), "cpu").nfe(REQUEST) == 56
        assert load_executor(settings_of(files, transformer=str(base), steps=4, guidance=1.0), "cpu").nfe(REQUEST) == 4
        assert load_executor(settings_of(files, steps=10, guidance=3.0), "cpu").nfe(REQUEST) == 20
        assert load_executor(settings_of(files), "cpu").nfe(REQUEST) == 4

    def test_what_they_take_is_known_before_they_are_loaded(self, pipe, files):
        held = {each.name: each.nbytes for each in weights_of(settings_of(files, dtype="bfloat16", storage="fp8"))}
        state = pipe.text_encoder.state_dict()
        layers = sum(value.numel() for name, value in state.items() if not re.search(r"layers\.27\.|lm_head", name))
        assert held["text encoder"] == 2 * layers and held.keys() == {"DiT", "text encoder", "VAE"}
        assert held["DiT"] == sum(value.numel() for value in pipe.transformer.parameters())


class TestRefusals:
    def config(self, folder: Path, lines: str) -> ExecutorSettings:
        (folder / "clvr.toml").write_text(f'[controller]\nkind = "embedded"\n[executor]\n{lines}\n')
        return read_config(folder / "clvr.toml").executor

    def test_the_files_of_a_clvr_toml_lie_beside_it(self, tmp_path):
        found = self.config(
            tmp_path, 'transformer = "a.safetensors"\ntext_encoder = "b.safetensors"\nvae = "c"\ntokenizer = "../words"'
        )
        assert (found.vae, found.tokenizer) == (str(tmp_path / "c"), str(tmp_path / "../words"))

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (
                'transformer = "a"\ntext_encoder = "b"\nvae = "c"',
                r"it lacks tokenizer: the tokenizer folder of FLUX.2-klein-4B, .* comfy/text_encoders/qwen25_tokenizer of ComfyUI",
            ),
            ('transformer = "a"', r"without a folder needs transformer, .*; it lacks text_encoder and vae and tokenizer"),
            ('kind = "generic"\nfolder = "x"\nvae = "c"', "kind generic takes no vae; only klein is put together from files"),
            ('steps = 4', "needs a folder, .* or a hub name; it has neither"),
        ],
    )  # fmt: skip
    def test_what_is_lacking_is_said_and_where_words_come_from(self, tmp_path, lines, says):
        with pytest.raises(BadInput, match=says):
            self.config(tmp_path, lines)

    def test_a_folder_without_words_or_without_klein_s_marks_says_what_to_give(self, files, tmp_path):
        with pytest.raises(BadInput, match=r"none is not a folder; .*qwen25_tokenizer of ComfyUI"):
            load_executor(settings_of(files, tokenizer=str(tmp_path / "none")), "cpu")
        with pytest.raises(
            BadInput, match=r"holds no tokenizer that can be read .*; give the tokenizer folder of FLUX.2-klein-4B"
        ):
            load_tokenizer(tmp_path)
        words = tiny.tokenizer().save_pretrained(tmp_path)
        path = next(Path(name) for name in words if name.endswith("tokenizer.json"))
        path.write_text(path.read_text().replace("<think>", "<thing>").replace("</think>", "</thing>"))
        with pytest.raises(BadInput, match=r"does not know <think>, </think>; give the tokenizer folder"):
            load_tokenizer(tmp_path)

    def test_a_file_in_the_place_of_another_is_refused_by_name(self, files):
        encoder, vae = files / "qwen_3_4b.safetensors", files / "flux2-vae.safetensors"
        with pytest.raises(
            BadInput, match=r"flux2-vae.safetensors is no whole text encoder of FLUX.2 Klein .*; give qwen_3_4b"
        ):
            load_encoder(vae, torch.float32, 27)
        with pytest.raises(BadInput, match=r"qwen_3_4b.safetensors is no whole VAE of FLUX.2 .*; give flux2-vae"):
            load_vae(encoder, torch.float32)
        with pytest.raises(BadInput, match=r"it has 28 layers, and 29 are read"):
            load_encoder(encoder, torch.float32, 29)

    @pytest.mark.parametrize(
        "loss", ["decoder.up.3.block.0.conv1.weight", "encoder.mid.attn_1.q.bias", "bn.running_var"]
    )
    def test_a_vae_that_lacks_a_tensor_is_refused(self, files, tmp_path, loss):
        state = load_file(files / "flux2-vae.safetensors")
        del state[loss]
        save_file(state, tmp_path / "cut.safetensors")
        with pytest.raises(BadInput, match=r"cut.safetensors is no whole VAE"):
            load_vae(tmp_path / "cut.safetensors", torch.float32)

    def test_parts_of_different_sizes_do_not_go_together(self, files, tmp_path):
        wide = load_file(files / "qwen_3_4b.safetensors")
        wide["model.embed_tokens.weight"] = torch.cat([wide["model.embed_tokens.weight"]] * 2, 1)
        save_file(wide, tmp_path / "wide.safetensors")
        with pytest.raises(BadInput, match="is no whole text encoder"):
            load_executor(settings_of(files, text_encoder=str(tmp_path / "wide.safetensors")), "cpu")
        save_file(comfy_vae(vae(latent_channels=8).state_dict()), tmp_path / "deep.safetensors")
        with pytest.raises(
            BadInput, match=r"paints 16 channels and the VAE holds 32; give the VAE of FLUX.2, flux2-vae"
        ):
            load_executor(settings_of(files, vae=str(tmp_path / "deep.safetensors")), "cpu")
