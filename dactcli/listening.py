"""How work reports its progress: one listener for notices, bars and trainings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from dactcli.results import EvalResult, StepLog

Progress = Callable[[int, int], None]  # (done, total)
StreamProgress = Callable[[int, int, int | None], None]  # (examples done, bytes read, bytes in all if known)


class Listener:
    """Hears how a command goes. Every method does nothing; override those that you want to hear."""

    def notice(self, text: str) -> None:
        """Something that the user should know."""

    def working(self, description: str) -> AbstractContextManager[Progress]:
        """Work begins whose parts can be counted.

        Args:
            description: What is going on.

        Returns:
            A context for the time of the work; it yields a function of (done, total).
        """
        return nullcontext(lambda done, total: None)

    def streaming(self, description: str, there: int) -> AbstractContextManager[StreamProgress]:
        """A stream of examples begins.

        Args:
            description: What is going on.
            there: Examples that an earlier call completed.

        Returns:
            A context for the time of the work; it yields a function of (examples done, bytes read, bytes in all).
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
