"""What the functions share: opening a run, building a request, and choosing a rule."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from dactcli.errors import UsageError, did_you_mean
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.evaluation.examples import DataFile
    from dactcli.halting.base import Rule
    from dactcli.results import Calibration
    from dactcli.runs.load import Run
    from dactcli.runtime import ExportedModel

R = TypeVar("R")
COLUMNS = ("text", "pair_column", "label")  # fields of requests that name columns of `data`
AnyRun = Union["Run", Path, str, None]


class NoticeListener(Listener):
    """Passes notices to a function; the `notice=` of earlier versions."""

    def __init__(self, notice: Any) -> None:
        self._notice = notice

    def notice(self, text: str) -> None:
        """Call the function."""
        self._notice(text)


def build_request(
    kind: type[R], request: R | None, fields: Mapping[str, Any], listener: Listener | None
) -> tuple[R, Listener]:
    """Complete a request, and choose who listens.

    Args:
        kind: The dataclass of the request.
        request: A request, or None for the defaults.
        fields: Fields that override those of the request.
        listener: Hears how it goes; nobody when None.
    """
    given = dict(fields)
    if (notice := given.pop("notice", None)) is not None:
        warnings.warn("notice= is deprecated; use listener=", DeprecationWarning, stacklevel=3)
        listener = listener or NoticeListener(notice)
    made = kind(**given) if request is None else replace(request, **given)  # type: ignore[type-var]
    return made, listener or Listener()


def check_lists(request: object, *names: str) -> None:
    """Refuse one text where a list of texts is wanted, since Python would take it for a list of letters.

    Args:
        request: The request.
        names: Its fields that are lists of texts.

    Raises:
        UsageError: A field is one text.
    """
    for name in names:
        refuse_text(getattr(request, name), name)


def refuse_text(value: object, name: str) -> None:
    """As `check_lists`, for one value."""
    if isinstance(value, str):
        raise UsageError("is one text, and a list is needed", place=f"`{name}`", remedy=f"write [{value!r}]")


def check_numbers(request: object, **lowest: float) -> None:
    """Refuse numbers that are too low.

    Args:
        request: The request.
        **lowest: The lowest value of each of its fields: an integer where only whole numbers are allowed. None in a
            field always is.

    Raises:
        UsageError: A value is lower, or no such number.
    """
    for name, low in lowest.items():
        value: Any = getattr(request, name)
        whole = isinstance(low, int)
        if value is None:
            continue
        kinds = (int, Integral) if whole else (int, float, Real)  # numpy's numbers, too
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            what = "a whole number" if whole else "a number"
            raise UsageError(f"is {value!r}", place=f"`{name}`", remedy=f"give {what} of at least {low:g}")
        if value < low:
            raise UsageError(f"is {value}", place=f"`{name}`", remedy=f"give at least {low:g}")


def locate(run: AnyRun, *, exports: bool = False) -> Run | Path:
    """The run, or the folder that its name stands for.

    Imports no torch, so that a misspelt folder is refused at once.

    Args:
        run: As for `open_run`.
        exports: Whether an export may stand for a run.

    Raises:
        ArtefactError: There is no such run.
    """
    from dactcli.runs.folders import find_run
    from dactcli.runtime.manifest import is_export

    if exports and isinstance(run, str | Path) and is_export(Path(run)):
        return Path(run)
    return find_run(optional_path(run)) if run is None or isinstance(run, str | Path) else run


def open_export(run: AnyRun) -> ExportedModel | None:
    """The export that a folder is, loaded; None where it is none.

    Args:
        run: As for `open_run`.

    Raises:
        ArtefactError: The export is damaged.
        ResourceError: onnxruntime is not installed.
    """
    from dactcli.runtime.manifest import is_export

    if not isinstance(run, str | Path) or not is_export(Path(run)):
        return None
    from dactcli.runtime import load

    return load(run)


def open_run(run: AnyRun = None, *, device: str = "auto") -> Run:
    """Load a run or saved model, checked, in evaluation mode.

    Args:
        run: Its folder; None for `runs/latest`. A run that is loaded already is returned as it is.
        device: auto, cpu, cuda or mps.

    Raises:
        ArtefactError: The run is missing, damaged or no DACT model.
        UsageError: There is no device of that name.
        ResourceError: This machine does not have the device.
    """
    run = locate(run)
    from dactcli.model.device import find_device
    from dactcli.runs.load import Run, load_run

    if isinstance(run, Run):
        return run
    where = find_device(device)
    opened = load_run(run)
    opened.model.to(where)
    return opened


def open_any(run: AnyRun = None, *, device: str = "auto") -> Run:
    """As `open_run`, and an export in the place of a run.

    Args:
        run: As for `open_run`, or the folder of an export.
        device: As for `open_run`; an export runs on the processor.

    Raises:
        ArtefactError: The run or export is missing or damaged.
        UsageError: There is no device of that name, or an export is to run on another device.
        ResourceError: This machine does not have the device, or onnxruntime is not installed.
    """
    located = locate(run, exports=True)
    from dactcli.runtime.manifest import is_export

    if not isinstance(located, Path) or not is_export(located):
        return open_run(located, device=device)
    check_processor(device)
    from dactcli.exporting.opened import open_exported

    return open_exported(located)


def check_processor(device: str) -> None:
    """Refuse a device for an export, which runs on the processor.

    Raises:
        UsageError: It is another device.
    """
    if device not in ("auto", "cpu"):
        raise UsageError("an export runs on the processor", place=f"`device` {device}", remedy="leave it out")


def name_of(run: Run) -> str:
    """The name of a run in results: its folder, relative to the current folder where it lies below it."""
    here = Path.cwd()
    folder = run.folder
    return os.fspath(folder.relative_to(here)) if folder.is_absolute() and folder.is_relative_to(here) else str(folder)


def optional_path(path: Path | str | None) -> Path | None:
    """A path, or None."""
    return None if path is None else Path(path)


def data_file(request: Any) -> DataFile | None:
    """The file that a request names in place of a split, with its columns; None without.

    Args:
        request: Has `data`, and may have `text`, `pair_column` and `label`.
    """
    from dactcli.evaluation.examples import DataFile

    if request.data is None:
        return None
    columns = {name: getattr(request, name, None) for name in COLUMNS}
    return DataFile(Path(request.data), **columns)


def check_examples(request: Any) -> None:
    """Refuse fields of a request that contradict each other about the examples to use.

    Args:
        request: Has `split`, `data`, `batch_size` and the fields of `COLUMNS`.

    Raises:
        UsageError: The split is unknown or stands beside a file, a column is named without a file, or a batch is empty.
    """
    from dactcli.recipe.schema import SPLITS

    split = request.split
    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown", place="`split`", remedy=did_you_mean(split, SPLITS))
    if split is not None and request.data is not None:
        raise UsageError("cannot be combined with `split`", place="`data`", remedy="leave one of them out")
    for name in COLUMNS:
        if getattr(request, name) is not None and request.data is None:
            raise UsageError("names a column of a file", place=f"`{name}`", remedy="add `data` FILE, or leave it out")
    check_numbers(request, batch_size=1)


def valid_calibration(run: Run, listener: Listener) -> Calibration | None:
    """The valid calibration of a run; the listener hears why there is none where it is void."""
    from dactcli.evaluation import examples

    return examples.valid_calibration(run, listener.notice)


def rule_for(run: Run, rule: str | None, listener: Listener) -> Rule:
    """The rule to halt by: the one asked for, else the calibrated one, else the model's own."""
    from dactcli.evaluation.examples import default_rule

    return run.model.rule(rule or default_rule(run, listener.notice))


def quieten_libraries() -> None:
    """Keep the libraries' own bars and reports off the screen.

    Works through the environment, because importing transformers takes longer than most refusals; a transformers that
    is imported already is told directly.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    transformers: Any = sys.modules.get("transformers")
    if transformers is None:
        return
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
