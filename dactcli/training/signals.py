"""SIGINT and SIGTERM: a training finishes its step, saves, and says how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

from dactcli import distributed
from dactcli.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper(AbstractContextManager["Stopper"]):
    """Listens for signals while a run is made.

    Between steps of a stage a signal is only remembered, so that the step can end and be saved; a second one, or one
    that comes while nothing is being trained, ends the run at once. Outside the main thread signals are not ours.
    Of several processes some may hear a signal one step later than others, or not at all: they `agree` after each step.

    Args:
        place: The run, for the error.
        notice: Told of the first signal.

    Attributes:
        resumable: Whether the run has begun, so that it can be resumed.
    """

    def __init__(self, place: str, notice: Callable[[str], None]) -> None:
        self.place, self.notice = place, notice
        self.stepping = self.resumable = False
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def agree(self) -> int | None:
        """The signal that ends the run, once any process has received one; all must ask, at the same point."""
        self.received = distributed.all_reduce_max(self.received or 0) or None
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        broken = distributed.failure() is not None  # then this is the launcher, which ends what is left of the group
        if self.stepping and self.received is None and not broken:
            self.received = number
            self.notice(
                f"{signal.Signals(number).name}: finishing this step and saving; once more ends the run at once"
            )
            return
        raise self.error(number, "stopped at once by")

    def error(self, number: int, how: str) -> StoppedError:
        """The error that ends the run."""
        return StoppedError(
            number,
            f"{how} {signal.Signals(number).name}",
            place=self.place,
            remedy="the same command with `resume` continues from the last checkpoint" if self.resumable else None,
        )
