"""The calibration files of a run: the calibration in force, and the record of attempts.

`calibration.json` holds the calibration in force. It is void if anything that can change an answer has changed
(`dactcli.runs.identity`). A weaker promise replaces a stronger one only if the user asks for it.

`calibration-attempts.json` holds every attempt to certify, keyed by model and sample, because trying again costs:
attempt k on a sample has delta / 2^k, so that all attempts together spend at most delta. Repeating the same request
spends nothing. Both files travel with copies of the folder and with publications.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.errors import ArtefactError, ResourceError, UsageError
from dactcli.results import Calibration
from dactcli.runs.identity import ModelIdentity, identify
from dactcli.storage import check_format, to_json, write_json, write_whole

if TYPE_CHECKING:
    from dactcli.runs.load import Run

CALIBRATION, ATTEMPTS = "calibration.json", "calibration-attempts.json"
MOST = 1000  # attempts on a sample; delta / 2^1000 certifies nothing
_NAMES = {
    "weights_sha256": "the weights",
    "config_sha256": "config.json",
    "tokenizer_sha256": "the tokenizer files",
    "dtype": "dtype",
    "max_length": "max_length",
}


class WeakerCalibrationError(UsageError):
    """A calibration that promises less than the one in force."""


def load_calibration(run: Run) -> tuple[Calibration | None, str | None]:
    """The calibration in a run's folder.

    Args:
        run: The run.

    Returns:
        The calibration, None if there is none or it is void; and why it is void, for a warning.
    """
    if run.exported:
        return run.certificate, None
    path = run.folder / CALIBRATION
    if not path.is_file():
        return None, None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_format(document.pop("format", None), str(path))
        document.pop("promise", None)
        missing = [name for name in _NAMES if name not in document]
        if missing and "weights_sha256" not in missing:
            return None, f"{path}: the calibration is void, because an earlier version made it; calibrate again"
        found = calibration_of(document)
        if run.model.rule(found.rule, place=str(path)).threshold != found.threshold:
            raise ValueError
    except ArtefactError as error:
        return None, error.sentence
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, UsageError):
        return None, f"{path}: the calibration cannot be read and is void; calibrate again"
    now = asdict(identify(run))
    changed = [name for key, name in _NAMES.items() if getattr(found, key) != now[key]]
    if changed:
        return None, f"{path}: the calibration is void, because {', '.join(changed)} changed; calibrate again"
    return found, None


def calibration_of(document: dict[str, Any]) -> Calibration:
    """The calibration in a document; ValueError or TypeError where the document is none."""
    from pydantic import TypeAdapter

    if unknown := document.keys() - {field.name for field in fields(Calibration)}:
        raise ValueError(unknown)
    found = Calibration.from_json(document)
    TypeAdapter(Calibration).validate_json(json.dumps(asdict(found)), strict=True)
    needed = (
        (found.epsilon, found.delta, found.delta_spent, found.loss)
        if found.kind == "risk"
        else (found.budget, found.layers_mean)
    )
    outdone = (found.outdone is None) == (found.outdone_layers_mean is None)
    if None in needed or (found.certified and found.threshold is None) or not outdone:
        raise ValueError
    return found


def keep_calibration(run: Run, found: Calibration, *, replace: bool) -> None:
    """Put a calibration in force: its rule becomes the model's own, however the model is loaded.

    Args:
        run: The run.
        found: The calibration.
        replace: Whether it may replace a stronger promise.

    Raises:
        WeakerCalibrationError: It promises less than the one in force, which is kept.
        ResourceError: The folder cannot be written.
    """
    refuse_weaker(run, found, replace=replace)
    write_json(run.folder / CALIBRATION, found.to_json())
    set_rule(run, found.rule)


def refuse_weaker(run: Run, found: Calibration, *, replace: bool) -> None:
    """Keep a stronger promise, unless it is to be given up.

    Args:
        run: The run or export.
        found: The new calibration.
        replace: Whether it may replace a stronger promise.

    Raises:
        WeakerCalibrationError: It promises less than the one in force.
    """
    before, _ = load_calibration(run)
    weaker = None if before is None or replace else _weaker(found, before)
    if before is not None and weaker is not None:
        raise WeakerCalibrationError(
            f"{weaker}; the certificate of {before.rule} is kept ({before.terms})",
            place=str(run.folder),
            remedy="add `replace` to give it up",
        )


def _weaker(found: Calibration, before: Calibration) -> str | None:
    """In which way a calibration promises less than another; None if it does not."""
    if not before.certified or found.outdone is not None:  # a sound rule promises more than any certificate
        return None
    if found.kind == "budget":
        return "a budget promises nothing"
    if not found.certified:
        return found.failure
    orders = {
        "its risk is larger": (found.epsilon or 0) > (before.epsilon or 0),
        "its delta is larger": (found.delta or 0) > (before.delta or 0),
        "it bounds harm, not disagreement": (found.loss, before.loss) == ("harm", "disagreement"),
        "it bounds disagreement, which bounds no harm by label": before.by_class
        and (found.loss, before.loss) == ("disagreement", "harm"),
        "it is not for every class": before.by_class and not found.by_class,
        "it leaves out classes": bool(set(found.small_classes) - set(before.small_classes)),
        "it holds under a condition": bool(found.condition) and not before.condition,
        "it is about inputs that training did not use": bool(found.left_out) and not before.left_out,
    }
    return next((text for text, holds in orders.items() if holds), None)


def set_rule(run: Run, rule: str) -> None:
    """Write a rule into config.json, so that the Auto classes and pipelines halt by it, and into the loaded model."""
    path = run.folder / "config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("rule") != rule:
        write_whole(path, to_json({**document, "rule": rule}, indent=2, sort_keys=True) + "\n")
    run.model.config.rule = rule


def spend(run: Run, fingerprint: str, request: dict[str, Any], *, model: str | None = None) -> int:
    """Record an attempt to certify, before its result is known.

    Args:
        run: The run.
        fingerprint: Fingerprint of the sample.
        request: The request, as plain values.
        model: Digest of the model that is certified. Default: the run's own; an export is another model.

    Returns:
        k: the number of this attempt on this sample, from 1; a repeated request has the number of the first one.

    Raises:
        ArtefactError: The record is damaged, so it is unknown how much of delta was spent.
        UsageError: The sample is spent.
        ResourceError: The folder cannot be written.
    """
    digest = model or identify(run).digest
    with _alone(run.folder):
        attempts = load_attempts(run.folder)
        own = [one for one in attempts if (one["model"], one["sample"]) == (digest, fingerprint)]
        for one in own:
            if one["request"] == request:
                return int(one["attempt"])
        number = max((len(own), *(int(one["attempt"]) for one in own))) + 1
        if number > MOST:
            fault = f"{MOST} attempts on this sample have spent its delta"
            raise UsageError(fault, place=str(run.folder), remedy="use fresh examples")
        entry = {"model": digest, "sample": fingerprint, "attempt": number, "request": request}
        write_json(run.folder / ATTEMPTS, {"attempts": [*attempts, entry]})
    return number


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time count attempts."""
    from filelock import FileLock

    lock = FileLock(folder / ".calibrating")
    try:
        lock.acquire()
    except OSError as error:
        raise ResourceError(
            f"cannot be written: {error.strerror}", place=str(folder), remedy="calibrate a copy that can be written"
        ) from None
    try:
        yield
    finally:
        lock.release()


def load_attempts(folder: Path) -> list[dict[str, Any]]:
    """The attempts in a run's record.

    Args:
        folder: The run folder.

    Raises:
        ArtefactError: The record is damaged.
    """
    path = folder / ATTEMPTS
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_format(document.get("format"), str(path))
        attempts = document["attempts"]
        if not all(_is_attempt(one) for one in attempts):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtefactError(
            "the record of calibration attempts cannot be read, so the part of delta that is already spent is unknown",
            place=str(path),
            remedy="restore it, or delete it and calibrate on examples that were never used to calibrate",
        ) from None
    return list(attempts)


def _is_attempt(one: Any) -> bool:
    kinds = {"model": str, "sample": str, "attempt": int, "request": dict}
    typed = isinstance(one, Mapping) and all(isinstance(one.get(name), kind) for name, kind in kinds.items())
    return typed and 1 <= one["attempt"] <= MOST


def bound_to(identity: ModelIdentity) -> dict[str, Any]:
    """The fields of a calibration that bind it to a model."""
    names = {field.name for field in fields(Calibration)}
    return {name: value for name, value in asdict(identity).items() if name in names}
