"""FLUX.2 Klein's own classes at a size that runs on a CPU, for the embedded worlds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
