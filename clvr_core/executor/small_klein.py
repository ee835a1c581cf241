"""FLUX.2 Klein's own classes at a size that runs on a CPU, for the embedded worlds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import to_json
from ..weights.manifest import write_manifest
from .klein import RECIPE, SamplingRecipe

if TYPE_CHECKING:
    import torch
    from diffusers import Flux2KleinPipeline

TEXT_LAYERS = (1, 2, 3)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<unk>")

# The shape of Qwen3's non-thinking prompt, which Flux2KleinPipeline asks its tokenizer for.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def word_tokenizer(vocabulary: Sequence[str], apart: Sequence[str], length: int):
    """A word-level tokenizer over the vocabulary; case is ignored, other words become <unk>.

    apart: regular expressions of what is a token of its own within a word, one after the other.
    length: tokens at most.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = (*SPECIAL, "user", "assistant", *vocabulary)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in apart),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[1:5]),
        padding_side="right",
        model_max_length=length,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def small_vae(channels: tuple[int, ...], latent_channels: int, side: int):
    """A VAE with one level for each of the channels. side: pixels of a canvas."""
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=side,
        mid_block_add_attention=False,
    )


def patchify(latents: torch.Tensor) -> torch.Tensor:
    """N x C x 2h x 2w -> N x 4C x h x w, in the pipeline's order."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def small_text_encoder(vocabulary: int, width: int):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=len(TEXT_LAYERS),
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=width // 4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    )


def small_transformer(latent_channels: int, width: int, double: int, single: int, text_width: int):
    from diffusers import Flux2Transformer2DModel

    head = 32
    return Flux2Transformer2DModel(
        in_channels=4 * latent_channels,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=width // head,
        joint_attention_dim=len(TEXT_LAYERS) * text_width,
        timestep_guidance_channels=256,
        axes_dims_rope=(head // 4,) * 4,
        guidance_embeds=False,
    )


def small_pipeline(
    tokenizer: Any, vae: Any, *, width: int, double: int, single: int, text_width: int
) -> Flux2KleinPipeline:
    """A pipeline with random weights around a tokenizer and a VAE."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=2.0, use_dynamic_shifting=False),
        vae=vae.eval(),
        text_encoder=small_text_encoder(len(tokenizer), text_width).eval(),
        tokenizer=tokenizer,
        transformer=small_transformer(vae.config.latent_channels, width, double, single, text_width).eval(),
        is_distilled=False,
    )


def save_pipeline(pipe: Flux2KleinPipeline, folder: Path, recipe: SamplingRecipe) -> None:
    """Write diffusers' folder format in bfloat16, with the recipe beside it, so that transformers 4.57 and 5 can load
    it."""
    import torch

    pipe.to(torch.bfloat16).save_pretrained(folder)
    for config in folder.glob("*/config.json"):
        _amend(config, lambda value: {key: item for key, item in value.items() if key != "_name_or_path"})
    index, tokenizer = folder / "model_index.json", folder / "tokenizer" / "tokenizer_config.json"
    # transformers 5 writes names of its own that 4.x does not know.
    # The executor's own pipeline is a subclass, which a user of the folder does not have.
    _amend(
        index,
        lambda value: (
            value | {"_class_name": "Flux2KleinPipeline", "tokenizer": ["transformers", "PreTrainedTokenizerFast"]}
        ),
    )
    _amend(tokenizer, _for_both)
    # The length that training padded to last is no property of the words.
    _amend(folder / "tokenizer" / "tokenizer.json", lambda value: value | {"padding": None, "truncation": None})
    (folder / RECIPE).write_text(json.dumps(to_json(recipe), indent=1))
    write_manifest(folder)


def _amend(path: Path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=1))


def _for_both(config: dict) -> dict:
    config = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")} | {
        "tokenizer_class": "PreTrainedTokenizerFast"
    }
    if "extra_special_tokens" in config:
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
