"""The listener protocol: notices, progress bars and training progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dactcli.results import EvalResult, StepLog

Progress = Callable[[int, int], None]  # (done, total)
StreamProgress = Callable[[int, int, int | None], None]  # (examples done, bytes read, total bytes if known)


class Listener:
    """Receives the progress of a command. Every method is a no-op; override the ones you need."""

    def notice(self, text: str) -> None:
        """A message for the user."""

    def working(self, description: str) -> AbstractContextManager[Progress]:
        """Work with a known number of parts begins.

        Args:
            description: Description of the work.

        Returns:
            A context manager around the work. It yields a function of (done, total).
        """
        return nullcontext(lambda done, total: None)

    def streaming(self, description: str, there: int) -> AbstractContextManager[StreamProgress]:
        """A stream of examples begins.

        Args:
            description: Description of the work.
            there: Examples that an earlier call completed.

        Returns:
            A context manager around the work. It yields a function of (examples done, bytes read, total bytes).
        """
        return nullcontext(lambda done, read, size: None)

    def run_started(self, name: str, number: int, runs: int) -> None:
        """Run `number` of a sweep of `runs` runs begins."""

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        """Training stage `number` of `stages` begins; it takes `steps` optimizer steps."""

    def stepped(self, step: int) -> None:
        """Optimizer step `step` of the stage is done."""

    def logged(self, log: StepLog) -> None:
        """Loss, throughput, mean layers and halting weights, every few steps."""

    def evaluated(self, result: EvalResult) -> None:
        """The validation split was evaluated."""

    def best_epoch(self, epoch: float) -> None:
        """The epoch just evaluated is the best of its stage so far."""
