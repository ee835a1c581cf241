"""The smallest pipelines of diffusers' own classes beside Klein, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl import Qwen3VLProcessor

from tests.executor import small
from tests.vlm import tiny


def processor(kind: type, patch: int) -> Any:
    """Of that kind, without its part for video, which needs torchvision."""
    words = tiny.tokenizer()
    still = type(kind.__name__, (kind,), {"check_argument_for_proper_class": lambda self, name, part: None})
    sizes = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (4 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, temporal_patch_size=2, size=sizes)
    return still(image_processor=images, tokenizer=words, video_processor=None, chat_template=tiny.TEMPLATE)


def edit_plus() -> QwenImageEditPlusPipeline:
    """Scales references as the module's constants say, which are to be made small."""
    read = processor(Qwen2VLProcessor, 14)
    words = read.tokenizer
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 14,
        "spatial_merge_size": 2,
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={**tiny._text(words, num_hidden_layers=2), "rope_parameters": rope},
        vision_config={
            **vision,
            "temporal_patch_size": 2,
            "out_hidden_size": tiny.HIDDEN,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        **tiny._marks(words),
    )
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=tiny.HIDDEN,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift=1.0),
        vae=AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=words,
        processor=read,
        transformer=transformer.eval(),
    )


def words(most: int = 77) -> Any:
    """Stands in for the tokenizers of CLIP and T5."""
    return small.words(most)


def clip(width: int = 32) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": width, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    read = words()
    marks = {"eos_token_id": read.eos_token_id, "bos_token_id": 1, "pad_token_id": read.pad_token_id}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(read), **sizes, **marks)).eval()


def kl(channels: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    levels = 4
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        **kinds,
        **more,
    ).eval()


def kontext() -> Any:
    """Scales references to the sizes in a constant of its module, which is to be made small."""
    from diffusers import FluxKontextPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    t5 = T5Config(
        vocab_size=len(words()), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, is_encoder_decoder=False
    )
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=kl(4, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(),
        tokenizer=words(),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=words(512),
        transformer=transformer.eval(),
    )


def pix2pix() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    parts = {
        "vae": kl(4),
        "unet": unet.eval(),
        "text_encoder": clip(),
        "tokenizer": words(),
        "scheduler": DDIMScheduler(),
    }
    return StableDiffusionInstructPix2PixPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def qwen21() -> Any:
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel

    read = processor(Qwen3VLProcessor, 16)
    encoder = tiny.qwen3_vl(read.tokenizer).eval()
    torch.manual_seed(0)
    transformer = QwenImage21Transformer2DModel(
        num_layers=1, attention_head_dim=16, num_attention_heads=4, context_in_dim=tiny.HIDDEN, axes_dims_rope=(4, 6, 6)
    )
    return QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift=1.0),
        vae=AutoencoderKLQwenImage21(base_dim=8, decoder_base_dim=8, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1).eval(),
        text_encoder=encoder,
        processor=read,
        transformer=transformer.eval(),
    )


def flux3() -> Any:
    """A modular pipeline; its text encoder has as many layers as are read."""
    from diffusers import Flux3Transformer2DModel
    from diffusers.modular_pipelines import Flux3AutoBlocks

    read = processor(Qwen3VLProcessor, 16)
    config = tiny.qwen3_vl(read.tokenizer).config
    config.text_config.num_hidden_layers = 33
    torch.manual_seed(0)
    encoder = Qwen3VLForConditionalGeneration(config).eval()
    transformer = Flux3Transformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=8 * tiny.HIDDEN,
        axes_dims_rope=(4, 4, 4, 4),
    ).eval()
    channels = {
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    }
    blocks = Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipe = blocks.init_pipeline()
    vae, scheduler = AutoencoderKLFlux2(**channels).eval(), FlowMatchEulerDiscreteScheduler(shift=6.93)
    pipe.update_components(text_encoder=encoder, tokenizer=read, vae=vae, transformer=transformer, scheduler=scheduler)
    return pipe
