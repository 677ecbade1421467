"""Which examples may certify a threshold; every calibration selects its examples here.

Examples that trained layers, fitted thresholds or chose checkpoints cannot certify. Two examples are the same input
if they have the same token ids after truncation. Examples that also occur in a split used for training are left out
and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dactcli.data.batches import encode_split
from dactcli.data.sources import load_splits
from dactcli.errors import DactError, DataError, UsageError
from dactcli.evaluation.examples import DataFile, run_examples
from dactcli.evaluation.requests import BudgetRequest, RiskRequest
from dactcli.recipe.schema import SPLITS
from dactcli.storage import SUMMARY, read_document

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.results import Calibration
    from dactcli.runs.load import Run

Notice = Callable[[str], None]
USED = ("train", "validation")  # training uses both: for layers, halting thresholds and checkpoints


@dataclass(frozen=True)
class CalibrationSample:
    """Examples that may certify.

    Attributes:
        name: The split, or the file.
        encoded: The remaining examples.
        inputs: The number of each one's distinct input [E].
        fingerprint: Digest of all given examples, independent of their order; it keys the record of attempts.
        screened: The training splits that they were compared with, as they were in training; empty if unknown.
        left_out: How many examples were left out because they occur in such a split, by split.
    """

    name: str
    encoded: Encoded
    inputs: NDArray[np.int64]
    fingerprint: str
    screened: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def calibration_sample(
    run: Run, request: RiskRequest | BudgetRequest, *, split: str | None, data: DataFile | None, notice: Notice
) -> CalibrationSample:
    """The examples of a split or file that a run is calibrated on.

    Args:
        run: The run.
        request: The risk or budget; a budget promises nothing, so no example is left out.
        split: One of the run's splits; None for `calibration`.
        data: A file instead.
        notice: Told what was left out and what is unknown.

    Raises:
        UsageError: The split has another purpose, or the request needs labels that are missing.
        DataError: Every example occurs in a split used for training, or the file cannot be used.
    """
    name = split or "calibration"
    if data is None and name != "calibration":
        uses = (
            "is for judging, so a threshold chosen on it could not be judged on it"
            if name == "test"
            else ("served training, so a threshold chosen on it promises nothing")
        )
        raise UsageError(
            f"the {name} split {uses}", place="`split`", remedy="use calibration, or a file of fresh examples"
        )
    encoded, _ = run_examples(run, name, data, notice)
    given = str(data) if data else name
    if isinstance(request, RiskRequest):
        if request.loss == "harm" and encoded.labels is None:
            raise UsageError("loss=harm needs labels", place="`calibrate`", remedy="use loss=disagreement")
        return screened_sample(run, encoded, given, notice)
    keys = input_keys(encoded)
    return CalibrationSample(given, encoded, _numbered(keys), fingerprint(keys))


def screened_sample(run: Run, encoded: Encoded, name: str, notice: Notice) -> CalibrationSample:
    """The examples that occur in no training split.

    Args:
        run: The run.
        encoded: The examples.
        name: Their split or file.
        notice: Told what was left out and what is unknown.

    Raises:
        DataError: None is left.
    """
    keys = input_keys(encoded)
    screened, left_out = [], {}
    kept = np.ones(len(keys), dtype=bool)
    for used in USED:
        others, known = _used_inputs(run, used, notice)
        if known:
            screened.append(used)
        shared = np.array([key in others for key in keys], dtype=bool)
        if shared.any():
            left_out[used] = int((shared & kept).sum())
        kept &= ~shared
    counted = " and ".join(f"{count:,} also in {used}" for used, count in left_out.items() if count)
    if not kept.any():
        raise DataError(
            f"no example is left to calibrate on: of {len(keys):,}, {counted or 'none'}",
            place=name,
            remedy="use examples that the model has not seen",
        )
    if counted:
        notice(f"{name}: {int(kept.sum()):,} of {len(keys):,} examples are used; left out: {counted}")
    positions = np.flatnonzero(kept)
    return CalibrationSample(
        name=name,
        encoded=encoded.select(positions.tolist()) if len(positions) < len(keys) else encoded,
        inputs=_numbered([keys[position] for position in positions]),
        fingerprint=fingerprint(keys),
        screened=tuple(screened),
        left_out={used: count for used, count in left_out.items() if count},
    )


def input_keys(encoded: Encoded) -> list[bytes]:
    """A digest of each example's token ids: equal for equal inputs."""
    columns = [encoded.inputs[name] for name in sorted(encoded.inputs)]
    return [
        hashlib.blake2b(b"|".join(np.asarray(tokens, dtype="<i8").tobytes() for tokens in row), digest_size=16).digest()
        for row in zip(*columns, strict=True)
    ]


def fingerprint(keys: list[bytes]) -> str:
    """SHA-256 of a sample, independent of the order of its examples."""
    return hashlib.sha256(b"".join(sorted(keys))).hexdigest()


def _used_inputs(run: Run, split: str, notice: Notice) -> tuple[set[bytes], bool]:
    """The inputs of a training split, and whether they are the ones that training used.

    The recipe and its files may have changed since training. The inputs that they hold now are left out of the sample
    in any case, and a notice reports the change.
    """
    if run.recipe is None:
        if split == USED[0]:
            notice(
                "this model was saved without a recipe, so dact cannot check whether it was trained on these examples"
            )
        return set(), False
    try:
        loaded = load_splits(run.recipe, only=(split,))
    except DactError as error:
        notice(f"dact cannot check whether these examples occur in {split}: {error.sentence}")
        return set(), False
    inputs = encode_split(
        loaded.splits[split], run.tokenizer, run.tokenizer.model_max_length, run.model.config.long_texts
    )
    trained_on = read_document(run.folder / SUMMARY).get("data_fingerprint", {})
    known = loaded.fingerprint[split] == trained_on.get(split)
    if not known:
        notice(
            f"{split} differs from the data this run was trained with, "
            "so dact cannot check whether it was trained on these examples"
        )
    return set(input_keys(inputs)), known


def _numbered(keys: list[bytes]) -> NDArray[np.int64]:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def calibrated_share(run: Run, calibration: Calibration, encoded: Encoded) -> int | None:
    """How many of the examples were used to choose the calibrated threshold; its figures on them are too good.

    Args:
        run: The run.
        calibration: Its calibration.
        encoded: The examples to evaluate on.

    Returns:
        The number; None if the calibration examples are unavailable and the given ones are not exactly those.
    """
    keys = input_keys(encoded)
    if fingerprint(keys) == calibration.data_fingerprint:
        return len(keys)
    if calibration.published:
        return None
    own = calibration.split in SPLITS
    try:
        sample, _ = run_examples(
            run, calibration.split, None if own else DataFile(Path(calibration.split)), lambda text: None
        )
    except DactError:
        return None
    others = input_keys(sample)
    if fingerprint(others) != calibration.data_fingerprint:
        return None
    seen = set(others)
    return sum(key in seen for key in keys)
