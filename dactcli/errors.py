"""Errors that users see.

Every failure that a user can cause or fix is one of these. The command line prints its sentence and exits with its
code. Any other exception is a bug in dact and keeps its traceback.

    DactError                     base class
    ├── UsageError           2    a command, option or argument is invalid
    │   ├── RecipeError      2    a recipe has an unknown key, a wrong type, a bad value or bad YAML
    │   └── DataError        2    a data file, column, label or split is invalid
    ├── ArtefactError        3    a run folder or saved model is missing, damaged or of another kind
    ├── DivergedError        4    a loss, gradient or weight of a training is not finite
    ├── ResourceError        5    the device is missing, the disk is full, a folder is read-only, or memory ran out
    └── StoppedError  130, 143    a signal ended the command; training can be resumed
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_NAMES = 30  # a task may have thousands of classes


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
        """The sentence that the user reads: `place: fault; remedy`."""
        head = f"{self.place}: {self.fault}" if self.place else self.fault
        return f"{head}; {self.remedy}" if self.remedy else head


class UsageError(DactError):
    """An invalid command, option or argument."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be read or does not validate."""


class DataError(UsageError):
    """An invalid data file, column, label or split."""


class ArtefactError(DactError):
    """A run folder or saved model that is missing, damaged or of another kind."""

    exit_code = 3


class DivergedError(DactError):
    """A loss, gradient or weight is not finite."""

    exit_code = 4


class ResourceError(DactError):
    """The machine lacks a device, disk space, a writable folder or memory."""

    exit_code = 5


class StoppedError(DactError):
    """A signal ended the command. Training saves its state first.

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
        """Pickle support, for sending errors between processes."""
        return type(self), (self.exit_code - 128, self.fault), self.__dict__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Remedy for a misspelt name: the closest known name, or all of them.

    Args:
        word: What the user wrote.
        known: The valid names.

    Returns:
        `did you mean X?` if one name is close, otherwise `known: A, B, C` as `listed` writes it.
    """
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known: {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence; beyond `MOST_NAMES`, name the first ones and count the rest."""
    whole = list(names)
    more = len(whole) - MOST_NAMES
    return ", ".join(whole) if more <= 0 else f"{', '.join(whole[:MOST_NAMES])} and {more:,} more"


def first_line(error: BaseException) -> str:
    """First line of a library's error without its full stop; the type's name if the error is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
