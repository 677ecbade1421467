"""Run a command in several processes of this machine, as torchrun does."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

OPTION = "--processes"
WORDS = f"{__name__}.words"  # of the command line, in the meta of its context


def without_option(words: Sequence[str]) -> list[str]:
    """The words of a command line without the option that asks for processes."""
    rest, found = iter(words), []
    for word in rest:
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            found.append(word)
    return found


def run_in_processes(words: Sequence[str], number: int) -> int:
    """Run a command line of `dact` in processes that share its work.

    They know of each other by the variables that torchrun sets; process 0 reads, writes and prints.

    Args:
        words: The command line after `dact`.
        number: How many processes.

    Returns:
        The exit code: that of the first process that failed, else 0.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "dactcli", *words)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return abs(failure.exitcode) or 1
    return 0
