"""Select the device to run on."""

from __future__ import annotations

import torch

from dactcli import distributed
from dactcli.errors import ResourceError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str = "auto") -> torch.device:
    """The device with this name, never a different one.

    Args:
        name: `auto` takes CUDA, then MPS, then the CPU. Of several processes each takes a CUDA device of its own, and
            none takes MPS, over which they cannot speak.

    Raises:
        UsageError: The name is unknown.
        ResourceError: This machine, or this torch build, lacks the device.
    """
    if name not in DEVICES:
        raise UsageError(f"device {name!r} is unknown", place="`device`", remedy=f"use {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available() and not distributed.launched()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if name == "cuda" and not cuda:
        built = torch.version.cuda is not None
        raise ResourceError(
            "torch sees no CUDA device" if built else "this torch was built without CUDA",
            place="`device` cuda",
            remedy="check the driver (nvidia-smi), or use `device` cpu"
            if built
            else "install a CUDA build of torch (see the README), or use `device` cpu",
        )
    if name == "mps" and not mps:
        fault = "several processes cannot share it" if distributed.launched() else "torch sees no MPS device"
        raise ResourceError(fault, place="`device` mps", remedy="use `device` cpu")
    return _own_cuda() if name == "cuda" and distributed.launched() else torch.device(name)


def _own_cuda() -> torch.device:
    """The CUDA device of this process among those of its machine."""
    number, devices = distributed.local_rank(), torch.cuda.device_count()
    if number >= devices:
        raise ResourceError(
            f"process {number} of this machine finds no device of its own among {devices}",
            place="`device` cuda",
            remedy=f"start {devices} processes here (--nproc_per_node {devices}), or use `device` cpu",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
