"""Computing the same numbers again."""

from __future__ import annotations

import os

import torch


def compute_deterministically() -> None:
    """Have torch compute the same numbers whenever a run is repeated or resumed, from now on in this process.

    Not by `full_determinism` of transformers' arguments, which sets CUDA_LAUNCH_BLOCKING, so that a GPU and the process
    wait for each other at every kernel, and a workspace for matrix products so small that torch warns of it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read with the first matrix product on a GPU
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    # torch would then also fill all fresh memory, for a tenth of the time on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
