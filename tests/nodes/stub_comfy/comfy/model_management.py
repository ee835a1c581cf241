"""A CPU with `free_memory` of `total_memory` bytes, models that are loaded, and Cancel."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from _missing import missing

__getattr__ = missing(__name__)

OOM_EXCEPTION = torch.OutOfMemoryError
free_memory = 8 << 30
total_memory = 8 << 30
current_loaded_models: list[Any] = []
interrupted = False
diffusion_dtype = torch.bfloat16
"""In which diffusion models are computed."""


class InterruptProcessingException(Exception):
    pass


def throw_exception_if_processing_interrupted() -> None:
    if interrupted:
        raise InterruptProcessingException


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def intermediate_device() -> torch.device:
    return torch.device("cpu")


def get_free_memory(device: torch.device) -> int:
    return free_memory


def get_total_memory(device: torch.device) -> int:
    return total_memory


def extra_reserved_memory() -> int:
    return 0


def is_oom(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def soft_empty_cache() -> None:
    pass


def unet_dtype(device: torch.device, supported_dtypes: list[torch.dtype]) -> torch.dtype:
    return diffusion_dtype


def should_use_bf16(device: torch.device) -> bool:
    return False


@contextmanager
def cuda_device_context(device: torch.device):
    yield
