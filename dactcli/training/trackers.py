"""Trackers of a training: a TensorBoard log of our own, and transformers' callbacks for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dactcli import distributed
from dactcli.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from transformers import TrainerCallback

TENSORBOARD = "tensorboard"
PLACE = "training.report_to"


def check_trackers(names: Sequence[str]) -> None:
    """Reject trackers that are unknown or unavailable.

    Args:
        names: As `training.report_to` has them: transformers' names of its integrations.

    Raises:
        RecipeError: A name is unknown or given twice, or its package is not installed.
    """
    for number, name in enumerate(names):
        if name in names[:number]:
            raise RecipeError(f"names {name} twice", place=PLACE, remedy="keep one of them")
        if name != TENSORBOARD:
            _check(name)


def _check(name: str) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    if name not in INTEGRATION_TO_CALLBACK:
        raise RecipeError(f"{name!r} is unknown", place=PLACE, remedy=did_you_mean(name, INTEGRATION_TO_CALLBACK))
    kind = INTEGRATION_TO_CALLBACK[name]
    # a callback that was made in part only may fail again when it is thrown away, beyond the reach of `except`
    probe = type(kind.__name__, (kind,), {"__del__": lambda self: None})
    try:
        probe()  # it says what is missing, and begins nothing yet
    except Exception as error:  # whatever a tracker's package may raise, the user needs a sentence
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise RecipeError(reason, place=PLACE, remedy=f"or leave {name} out of it") from None


@contextmanager
def reporting(
    names: Sequence[str], folder: Path, notice: Callable[[str], None], *, after: int = 0
) -> Iterator[list[TrainerCallback]]:
    """Callbacks that report a stage, on rank 0 only.

    Args:
        names: Trackers that `check_trackers` let through.
        folder: Where TensorBoard's log goes.
        notice: Called when that log ends early.
        after: The step that the stage goes on from; what an earlier process logged beyond it does not count.

    Yields:
        One callback for each name.
    """
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    from dactcli.training.callbacks import TensorBoardLog

    with ExitStack() as stack:
        yield [
            stack.enter_context(TensorBoardLog.open(folder, notice, after=after))
            if name == TENSORBOARD
            else INTEGRATION_TO_CALLBACK[name]()
            for name in (names if distributed.is_main() else ())
        ]
