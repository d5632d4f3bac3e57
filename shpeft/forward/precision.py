"""The precision in which a backbone computes on a device."""

import torch

from shpeft.config.schema import Precision, PrecisionChoice


def resolve_precision(choice: PrecisionChoice, device: torch.device | str) -> Precision:
    """Return the precision that ``auto`` stands for on a device; other choices stand for themselves.

    Examples:
        >>> resolve_precision("float32", "cpu"), resolve_precision("bfloat16", "cpu")
        ('float32', 'bfloat16')
        >>> resolve_precision("auto", "mps")
        'float32'
    """
    if choice != "auto":
        return choice
    return "bfloat16" if has_bfloat16(torch.device(device)) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16; others emulate it, which is several times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # PyTorch has no public way to ask; a version without these names counts as a processor without bfloat16.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)
