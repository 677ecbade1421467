"""Run several command lines in one process, as the launcher started it; a launch for each would import torch anew.

    torchrun --nproc_per_node 2 driver.py commands.json

commands.json holds lists of arguments of `dact`. Each process writes the exit codes beside it, `codes-RANK.json`. Before
them a fault may be named, which process 1 alone then meets.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def disk_full_in_step(step: int) -> None:
    from dactcli.training.trainer import DactTrainer

    before = DactTrainer.training_step

    def training_step(self: Any, *args: Any) -> Any:
        if self.state.global_step == step:
            raise OSError(28, "No space left on device", "/somewhere")
        return before(self, *args)

    setattr(DactTrainer, "training_step", training_step)  # noqa: B010 - a method, which mypy lets nobody assign


def lost_in_step(step: int) -> None:
    """As the kernel ends a process when memory is short."""
    from dactcli.training.trainer import DactTrainer

    before = DactTrainer.training_step

    def training_step(self: Any, *args: Any) -> Any:
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *args)

    setattr(DactTrainer, "training_step", training_step)  # noqa: B010 - a method, which mypy lets nobody assign


def not_finite_in_step(step: int) -> None:
    import torch

    from dactcli.training.trainer import DactTrainer

    before = DactTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = before(self, *args, **kwargs)
        return loss * torch.nan if self.state.global_step == step else loss

    setattr(DactTrainer, "compute_loss", compute_loss)  # noqa: B010


def main() -> None:
    from dactcli import distributed
    from dactcli.cli.app import main as dact

    path, *fault = sys.argv[1:]
    if fault and distributed.launched_rank() == 1:
        globals()[fault[0]](int(fault[1]))
    codes: list[Any] = []
    for arguments in json.loads(Path(path).read_text()):
        sys.argv = ["dact", *arguments]
        try:
            dact()
        except SystemExit as end:
            codes.append(end.code or 0)
        Path(path).with_name(f"codes-{distributed.launched_rank()}.json").write_text(json.dumps(codes))
    sys.exit(next(filter(None, codes), 0))


if __name__ == "__main__":
    main()
