"""A file of predictions that is written now and complete later.

Predictions are appended to `OUTPUT.part`, beside `OUTPUT.part.json`, which says what they were made of; when all are
there they become OUTPUT in one move. An output that bears its name is therefore complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from dactcli.data.inputs import ADDRESS, Input
from dactcli.errors import DataError, ResourceError, StoppedError, UsageError, did_you_mean
from dactcli.prediction.answer_columns import AnswerColumns
from dactcli.prediction.forms import FORMATS, Notice, free_names, told
from dactcli.prediction.parts import ArrowPart, JsonPart, Part
from dactcli.storage import FORMAT, read_document, sync_folder, write_json

if TYPE_CHECKING:
    from dactcli.prediction.windows import Window


class Output:
    """A file of predictions, for a `with` block in which windows are added.

    What was added stays for `--resume` when the block is left early; where nothing was added, nothing is left behind.

    Args:
        path: Its name; the extension says jsonl, csv or parquet.
        inputs: What is predicted.
        skips: Whether faulty rows are skipped, so that there is a column `error`.
        answers: The answers' columns.
        notice: Told what the user should know of the columns.
        names: What the answers' columns are called; None for names that no input column has.

    Raises:
        UsageError: The extension is none of those, or the path names a folder or an input.
    """

    def __init__(
        self,
        path: Path,
        inputs: Sequence[Input],
        *,
        skips: bool,
        answers: AnswerColumns,
        notice: Notice,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.place = f"`output` {path}"
        if os.path.islink(path):  # the file that it names is written, and the link stays
            path = Path(os.path.realpath(path))
        self.path, self.inputs, self.skips, self.notice, self.names = path, inputs, skips, notice, names
        if ADDRESS.fullmatch(str(path)) and not os.path.exists(path.parts[0]):
            remedy = "name a file here, and copy it there afterwards"
            raise UsageError("is an address, and outputs are local files", place=self.place, remedy=remedy)
        self.kind = path.suffix.lower().lstrip(".")
        if self.kind not in FORMATS:
            fault = f"extension .{self.kind} is unknown" if self.kind else "has no extension"
            raise UsageError(fault, place=self.place, remedy=did_you_mean(self.kind, FORMATS))
        self.part = path.with_name(f"{path.name}.part")
        self.note = path.with_name(f"{path.name}.part.json")
        self.lock = FileLock(path.with_name(f"{path.name}.part.lock"))
        for mine in (path, self.part, self.note):
            self._refuse(mine)
        typed = self.kind == "parquet" and all(one.kind == "parquet" for one in inputs)
        self.rows: Part = ArrowPart(self.part, answers) if typed else JsonPart(self.part, answers)
        self.count = 0
        self.made: list[Path] = []

    def _refuse(self, mine: Path) -> None:
        if os.path.islink(mine):
            raise UsageError("is a link that leads nowhere", place=self.place, remedy="name a file")
        if os.path.isdir(mine):
            raise UsageError("is a folder", place=f"`output` {mine}", remedy="name a file")
        for one in self.inputs:
            with suppress(OSError):
                if not one.remote and os.path.exists(mine) and mine.samefile(one.name):
                    fault = f"{mine} is an input, and would be written over"
                    raise UsageError(fault, place=self.place, remedy="choose another name")

    @property
    def begun(self) -> bool:
        """Whether an earlier call left predictions to go on with."""
        return os.path.exists(self.part) and self.part.stat().st_size > 0

    def complete(self, *, resume: bool) -> bool:
        """Whether there is nothing left to go on with, because the output is complete."""
        return resume and os.path.exists(self.path) and not self.begun

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Make sure, before any work, that the output can be written, and make its folder.

        Args:
            resume: Whether to go on with what an earlier call wrote.
            overwrite: Whether to begin again where there is something.

        Raises:
            UsageError: Something is there and neither was asked for, or an input cannot be read twice.
            ResourceError: The folder cannot be made or written.
        """
        if resume and (pipe := next((one for one in self.inputs if one.pipe), None)) is not None:
            name = "standard input" if pipe.name == "-" else "a pipe"
            fault = f"{name} cannot be resumed, because what was read of it is gone"
            raise UsageError(fault, place="`resume`", remedy="save it to a file first, or leave `resume` out")
        self._hold()
        try:
            self._check(resume=resume, overwrite=overwrite)
        except BaseException:
            self._release()
            raise

    def _hold(self) -> None:
        """Make the folder, and keep other processes from writing the same output."""
        folder = self.path.parent
        try:
            self.made = [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(blocking=False)
        except Timeout:
            fault = "another process is writing it"
            raise ResourceError(fault, place=self.place, remedy="wait for it, or name another file") from None
        except OSError as error:
            self._clean()
            raise self._unwritable(error) from None

    def _check(self, *, resume: bool, overwrite: bool) -> None:
        if os.path.exists(self.path) and not overwrite and not (resume and self.begun):
            raise UsageError("already exists", place=self.place, remedy="add `overwrite`")
        if self.begun and not (resume or overwrite):
            raise UsageError(
                "an interrupted output exists",
                place=str(self.part),
                remedy="add `resume` to continue it, or `overwrite` to start again",
            )
        with self._named():
            self.rows.check(self.inputs)
        try:
            with self.part.open("ab"):
                pass
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ResourceError:
        fault = f"cannot be written: {error.strerror}"
        return ResourceError(fault, place=self.place, remedy="choose another `output`")

    def begin(self, facts: dict[str, Any], *, resume: bool) -> int:
        """Make ready to append.

        Args:
            facts: What the predictions are made of; a resumed output must be made of the same.
            resume: Whether to go on with what an earlier call wrote.

        Returns:
            How many predictions are there already.

        Raises:
            UsageError: What is there was made of something else.
        """
        facts = {**facts, "inputs": [[one.name, one.digest()] for one in self.inputs]}
        if resume and self.begun:
            self._compare(facts)
            self.count = self.rows.resume()
            return self.count
        self.part.write_bytes(b"")
        write_json(self.note, facts)
        return 0

    def _compare(self, facts: dict[str, Any]) -> None:
        """Refuse to go on with predictions that were made of something else."""
        before = read_document(self.note)
        changed = [name for name, value in facts.items() if before.get(name) != value]
        if facts.get("on_error") == "skip" and "on_error" in changed and "on_error" in before:
            changed.remove("on_error")  # what stopped at a faulty row may go on by skipping it
        if not changed and before.get("format") == FORMAT:
            return
        other = _changed(before.get("inputs"), facts["inputs"])
        if not before:
            fault = f"nothing says what it was made of, because {self.note} is missing or damaged"
        elif not changed:
            fault = "was begun by another version of dact"
        elif other and changed == ["inputs"]:
            fault = f"{', '.join(other)} changed since it was begun"
        else:
            fault = f"was begun with different {' and '.join(changed)}"
        remedy = "add `overwrite` instead of `resume` to begin again"
        raise UsageError(fault, place=str(self.part), remedy=remedy)

    def add(self, windows: Iterable[Window]) -> None:
        """Append windows as they come."""
        for window in windows:
            self.rows.append(window)
            self.count += len(window.answers)

    def finish(self) -> None:
        """Give the predictions their form and their name."""
        names = self.names
        if names is None:
            names = free_names(self.rows.columns, self.rows.answers.names, error=self.skips)
        elif taken := [name for name in names.values() if name in self.rows.columns]:
            fault = f"later rows have a column {taken[0]}, and the first ones have none, so the answers got that name"
            raise DataError(fault, place=self.inputs[0].name, remedy="rename it, or predict with `engine` local")
        fresh = self.path.with_name(f".{self.path.name}.form")
        try:
            with self._named():
                self.rows.write(self.kind, fresh, names, self.notice)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        if text := told(names):
            self.notice(text)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the output's form name the output."""
        try:
            yield
        except DataError as error:
            raise DataError(error.fault, place=error.place or self.place, remedy=error.remedy) from None

    def stopped(self, number: int, name: str) -> StoppedError:
        """The error of a prediction that a signal ended: how to go on.

        Args:
            number: The signal's number.
            name: Its name.
        """
        if self.begun and not self.count:
            fault = f"stopped by {name} before the first new prediction"
            return StoppedError(number, fault, place=str(self.path), remedy="what an earlier call answered is kept")
        fault = f"stopped by {name} after {self.count:,} predictions"
        if not self.count:
            return StoppedError(number, fault, place=str(self.path), remedy="nothing is left behind")
        if any(one.pipe for one in self.inputs):
            remedy = f"a pipe cannot be resumed; what was answered is in {self.part}"
        else:
            remedy = "the same command with `resume` continues from there"
        return StoppedError(number, fault, place=str(self.path), remedy=remedy)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind where nothing was written."""
        self._release(failed=kind is not None)

    def _release(self, *, failed: bool = True) -> None:
        with suppress(OSError):
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()
        if failed:
            self._clean()

    def _clean(self) -> None:
        """Take away what was made for predictions that did not come."""
        with suppress(OSError):
            if not self.begun:
                self.part.unlink(missing_ok=True)
                self.note.unlink(missing_ok=True)
            for folder in self.made:
                folder.rmdir()


def _changed(before: Any, now: list[list[Any]]) -> list[str]:
    """The inputs that have the same names as before and other contents; none where names differ."""
    try:
        pairs = list(zip(dict.fromkeys(map(tuple, before)), dict.fromkeys(map(tuple, now)), strict=True))
        return [new[0] for old, new in pairs if old != new] if all(old[0] == new[0] for old, new in pairs) else []
    except (TypeError, ValueError, IndexError):
        return []
