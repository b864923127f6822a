"""Where the arithmetic runs, and in what precision."""

from __future__ import annotations

import re

import torch

from xaicmp.core.choices import Precision
from xaicmp.errors import UsageError, XaicmpError, arg


def find_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        UsageError: no device is called that.
        XaicmpError: this machine (or this build of torch) has no such device.
    """
    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if name == "auto":
        name = next(kind for kind, count in there.items() if count)
    match = re.fullmatch(r"(cuda|mps|cpu)(?::([0-9]{1,3}))?", name)
    if not match:
        raise UsageError(f"{arg('device')} {name}: no such device; choose from auto, cpu, cuda, cuda:1, mps")
    if int(match[2] or 0) >= there[match[1]]:
        raise XaicmpError(f"{arg('device')} {name}: there is none on this machine; use {arg('device')} auto")
    return torch.device(match[1] if match[2] is None else f"{match[1]}:{int(match[2])}")


def fast_batch(device: torch.device, side: int = 32) -> int:
    """How many images of ``side`` x ``side`` a pass takes best: what a CPU's cache holds, or what keeps a GPU busy.

    It falls with the side and not with the pixels, because deep layers are small: a ResNet-50 at 224x224 on two CPU
    cores takes 77, 58, 54, 55 and 62 ms per image (forward and backward) in batches of 1, 2, 4, 8 and 16.
    """
    return max(1, (512 if device.type == "cuda" else 64) * 32 // max(side, 32))


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware on ``device``, and so is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Older versions of torch cannot tell.
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which the model computes in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
