"""SIGINT and SIGTERM while a stream is predicted: what was answered is kept, and how to go on is said."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dactcli.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(error: Callable[[int, str], StoppedError]) -> Iterator[None]:
    """Work that either signal ends at once. Outside the main thread signals are not ours.

    Args:
        error: The error to end with, from the signal's number and name.

    Raises:
        StoppedError: A signal came.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, _raise) for number in SIGNALS}
    try:
        yield
    except _SignalError as caught:
        raise error(caught.number, signal.Signals(caught.number).name) from None
    except KeyboardInterrupt:
        raise error(signal.SIGINT, "SIGINT") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _SignalError(BaseException):
    """A signal; no handler of exceptions on the way takes it for one of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise _SignalError(number)
