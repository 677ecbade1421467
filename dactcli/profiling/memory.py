"""Peak memory of a way to run a batch: its weights, and the most that was allocated while it ran."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.profiler import profile

MIB = 2**20


def weights_bytes(modules: Sequence[nn.Module]) -> int:
    """Bytes of parameters and buffers; memory that several share counts once."""
    seen: dict[int, int] = {}
    for module in modules:
        for value in (*module.parameters(), *module.buffers()):
            storage = value.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def peak_memory_mib(run: Callable[[], object], modules: Sequence[nn.Module], device: torch.device) -> float | None:
    """MiB that a way needs.

    Args:
        run: Runs once.
        modules: The modules whose weights it needs.
        device: Where it runs.

    Returns:
        Weights plus the most that was allocated above the start; None where the allocator cannot be asked (MPS).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        above = torch.cuda.max_memory_allocated(device) - before
    elif device.type == "cpu":
        above = _allocated_on_cpu(run)
    else:
        return None
    return (weights_bytes(modules) + above) / MIB


def silent_profile(**options: Any) -> profile:
    """`torch.profiler.profile`, without its library's own lines about starting and stopping."""
    import torch.profiler

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when a profiler is first used
    return torch.profiler.profile(**options)


def _allocated_on_cpu(run: Callable[[], object]) -> int:
    """The largest running sum of what the CPU allocator gave and took back."""
    from torch.profiler import ProfilerActivity

    with silent_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    kineto = profiler.profiler.kineto_results if profiler.profiler is not None else None
    events = [event for event in kineto.events() if event.name() == "[memory]"] if kineto is not None else []
    total = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most
