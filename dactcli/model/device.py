"""Which device to run on: what was asked for, or a sentence that says why not."""

from __future__ import annotations

import torch

from dactcli.errors import ResourceError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str = "auto") -> torch.device:
    """The device of a name; never another one than was asked for.

    Args:
        name: `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: No such name.
        ResourceError: This machine, or this torch, does not have it.
    """
    if name not in DEVICES:
        raise UsageError(f"device {name!r} is unknown", place="--device", remedy=f"use {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if name == "cuda" and not cuda:
        built = torch.version.cuda is not None
        raise ResourceError(
            "torch sees no CUDA device" if built else "this torch was built without CUDA",
            place="--device cuda",
            remedy="check the driver (nvidia-smi), or use --device cpu"
            if built
            else "install a CUDA build of torch (see the README), or use --device cpu",
        )
    if name == "mps" and not mps:
        raise ResourceError("torch sees no MPS device", place="--device mps", remedy="use --device cpu")
    return torch.device(name)
