"""What can go wrong, as the user sees it.

Every failure that a user can cause or cure is one of these; the command line prints its one sentence and leaves
with its exit code. Anything else is a defect of ours and keeps its traceback.

    DactError                     base class
    ├── UsageError           2    a command, option or argument that does not fit
    │   ├── RecipeError      2    a recipe: unknown key, wrong type, bad value, bad YAML
    │   └── DataError        2    a data file, a column, a label, a split
    ├── ArtefactError        3    a run folder or saved model that is missing, damaged or not ours
    ├── DivergedError        4    training reached a loss or gradient that is not finite
    ├── ResourceError        5    no such device, disk full, folder not writable, out of memory
    └── StoppedError  130, 143    a signal ended a command; a training can be resumed
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_NAMES = 30  # of a task with thousands of classes a sentence cannot name all


class DactError(Exception):
    """Base of all errors that are reported in one sentence: place, fault, remedy.

    Args:
        fault: What is wrong, in plain words.
        place: Where: a file with its line, an option, a run folder.
        remedy: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, fault: str, *, place: str | None = None, remedy: str | None = None) -> None:
        self.fault, self.place, self.remedy = fault, place, remedy
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """The one sentence that the user reads: `place: fault; remedy`."""
        head = f"{self.place}: {self.fault}" if self.place else self.fault
        return f"{head}; {self.remedy}" if self.remedy else head


class UsageError(DactError):
    """A command line that does not fit together."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be read or does not validate."""


class DataError(UsageError):
    """A data file, column, label or split that cannot serve."""


class ArtefactError(DactError):
    """A run folder or saved model that is missing, damaged or of another kind."""

    exit_code = 3


class DivergedError(DactError):
    """Training reached a loss or gradient that is not finite."""

    exit_code = 4


class ResourceError(DactError):
    """The machine lacks what was asked for: a device, disk space, a writable folder, memory."""

    exit_code = 5


class StoppedError(DactError):
    """A signal ended a command; a training, after what it had learned was saved.

    Args:
        number: The signal's number.
        fault: As for DactError.
        place: As for DactError.
        remedy: As for DactError.
    """

    def __init__(self, number: int, fault: str, *, place: str | None = None, remedy: str | None = None) -> None:
        super().__init__(fault, place=place, remedy=remedy)
        self.exit_code = 128 + number

    def __reduce__(self) -> tuple[Any, ...]:
        """As processes send it to one another; the rest stands in the attributes."""
        return type(self), (self.exit_code - 128, self.fault), self.__dict__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest known one, or the list of all.

    Args:
        word: What the user wrote.
        known: The names that would have been understood.

    Returns:
        `did you mean X?` when one is close, else `known: A, B, C`, as `listed` has it.
    """
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known: {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: all of them, but of more than `MOST_NAMES` the first ones and how many more."""
    whole = list(names)
    more = len(whole) - MOST_NAMES
    return ", ".join(whole) if more <= 0 else f"{', '.join(whole[:MOST_NAMES])} and {more:,} more"


def first_line(error: BaseException) -> str:
    """What a library's error says first, without its full stop; the error's kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
