"""The embedded pipeline: FLUX.2 Klein's own classes at a size that draws on a CPU.

One cell of the canvas is one token: a VAE of six levels (f32) and Klein's 2 x 2 patches give 64 px a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..executor.klein import Sampling, SamplingRecipe
from .words import VOCABULARY

if TYPE_CHECKING:
    from diffusers import Flux2KleinPipeline

TEXT_LAYERS = (1, 2, 3)
TEXT_BUCKETS = (32, 64, 128)
LATENT_CHANNELS = 32
VAE_CHANNELS = (16, 16, 48, 96, 128, 160)
RECIPE = SamplingRecipe(Sampling(28, 2.0), Sampling(12, 1.0), TEXT_LAYERS, TEXT_BUCKETS)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<unk>")

# The shape of Qwen3's non-thinking prompt, which Flux2KleinPipeline asks its tokenizer for.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def build_tokenizer():
    """A word-level tokenizer over the world's vocabulary; case is ignored, other words become <unk>.

    A word in quotes is read letter by letter.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = (*SPECIAL, "user", "assistant", *VOCABULARY)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    quoted = r'(?<="|"[a-z]|"[a-z]{2}|"[a-z]{3}|"[a-z]{4})[a-z](?=[a-z]{0,4}")'
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(quoted), "isolated"),
            pre_tokenizers.Split(Regex(r'[.,:;!"]'), "isolated"),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[1:5]),
        padding_side="right",
        model_max_length=TEXT_BUCKETS[-1],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_vae(channels: tuple[int, ...] = VAE_CHANNELS):
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=192,
        mid_block_add_attention=False,
    )


def build_text_encoder(vocabulary: int, width: int = 128):
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


def build_transformer(width: int = 192, double: int = 2, single: int = 6, text_width: int = 128):
    from diffusers import Flux2Transformer2DModel

    head = 32
    return Flux2Transformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=width // head,
        joint_attention_dim=len(TEXT_LAYERS) * text_width,
        timestep_guidance_channels=256,
        axes_dims_rope=(head // 4,) * 4,
        guidance_embeds=False,
    )


def build_pipeline(
    width: int = 192, double: int = 2, single: int = 6, text_width: int = 128, vae_channels=VAE_CHANNELS
) -> Flux2KleinPipeline:
    """A pipeline with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    tokenizer = build_tokenizer()
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=2.0, use_dynamic_shifting=False),
        vae=build_vae(vae_channels).eval(),
        text_encoder=build_text_encoder(len(tokenizer), text_width).eval(),
        tokenizer=tokenizer,
        transformer=build_transformer(width, double, single, text_width).eval(),
        is_distilled=False,
    )
