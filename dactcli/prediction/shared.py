"""Windows of a stream that several processes answer together: process 0 reads and writes, all of them predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dactcli import distributed
from dactcli.prediction.windows import Answer
from dactcli.results import Prediction


@contextmanager
def helped(answer: Answer) -> Iterator[Answer]:
    """What process 0 answers windows with.

    Args:
        answer: Predicts texts.

    Yields:
        The same, with the help of the processes that are in `help_out`; they are let go in the end. Where a window
        broke off they wait for their part of it, and end with this process.
    """
    if distributed.world_size() == 1:
        yield answer
        return
    busy = False

    def together(texts: list[str], pairs: list[str] | None) -> Sequence[Prediction]:
        nonlocal busy
        busy = True
        found = _part(answer, *distributed.broadcast((texts, pairs)))
        busy = False
        return found

    try:
        yield together
    finally:
        if not busy:
            distributed.broadcast(None)


def help_out(answer: Answer) -> None:
    """What the other processes do: their part of every window, until there are no more.

    Args:
        answer: Predicts texts.
    """
    window: tuple[list[str], list[str] | None] | None = None
    while (window := distributed.broadcast(window)) is not None:
        _part(answer, *window)


def _part(answer: Answer, texts: list[str], pairs: list[str] | None) -> Sequence[Prediction]:
    """The predictions of a window, in order; this process makes its part of them."""
    own = list(distributed.share(pairs)) if pairs is not None else None
    return distributed.join(answer(list(distributed.share(texts)), own))
