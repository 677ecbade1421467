"""Which examples may certify: the one place that decides it, whatever route they come by.

Examples that trained layers, fitted thresholds or chose checkpoints cannot certify. Two examples are the same input
when they have the same token ids after cutting. Those that also stand in a split that training used are left out and
counted.
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
from dactcli.errors import DactError, DataError, UsageError
from dactcli.evaluation.calibration import BudgetRequest, RiskRequest
from dactcli.evaluation.examples import own_split, run_examples
from dactcli.recipe.schema import SPLITS

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.results import Calibration
    from dactcli.runs.load import Run

Notice = Callable[[str], None]
USED = ("train", "validation")  # splits that training used: layers, halting thresholds, checkpoints


@dataclass(frozen=True)
class CalibrationSample:
    """Examples that may certify.

    Attributes:
        name: The split, or the file.
        encoded: The examples that are left.
        inputs: The number of each one's distinct input [E].
        fingerprint: Digest of all examples as given, in any order; it keys the record of attempts.
        screened: The splits of training that they were compared with; empty where those are not known.
        left_out: How many examples stand in each of those splits too, and were left out.
    """

    name: str
    encoded: Encoded
    inputs: NDArray[np.int64]
    fingerprint: str
    screened: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def distinct(self) -> int:
        """How many distinct inputs there are."""
        return int(self.inputs.max()) + 1 if len(self.inputs) else 0


def calibration_sample(
    run: Run, request: RiskRequest | BudgetRequest, *, split: str | None, data: Path | None, notice: Notice
) -> CalibrationSample:
    """The examples of a split or file that a run is calibrated on.

    Args:
        run: The run.
        request: What they are for; a budget promises nothing, so it leaves nothing out.
        split: One of its own splits; `calibration` when None and there is no file.
        data: A file instead.
        notice: Told what was left out, and what is not known.

    Raises:
        UsageError: The split serves something else, or the request needs labels that are not there.
        DataError: Every example stands in a split that training used, or the file cannot serve.
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
    """The examples that no split of training holds.

    Args:
        run: The run.
        encoded: The examples.
        name: Their split or file.
        notice: Told what was left out, and what is not known.

    Raises:
        DataError: None is left.
    """
    keys = input_keys(encoded)
    screened, left_out = [], {}
    kept = np.ones(len(keys), dtype=bool)
    for used in USED:
        others = _used_inputs(run, used, notice)
        if others is None:
            continue
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
    """A digest of each example's token ids; equal inputs have equal keys."""
    columns = [encoded.inputs[name] for name in sorted(encoded.inputs)]
    return [
        hashlib.blake2b(b"|".join(np.asarray(tokens, dtype="<i8").tobytes() for tokens in row), digest_size=16).digest()
        for row in zip(*columns, strict=True)
    ]


def fingerprint(keys: list[bytes]) -> str:
    """SHA-256 of a sample: the same whatever the order of its examples."""
    return hashlib.sha256(b"".join(sorted(keys))).hexdigest()


def _used_inputs(run: Run, split: str, notice: Notice) -> set[bytes] | None:
    """The inputs of a split that training used; None where it is not known, which the user is told once."""
    if run.recipe is None:
        if split == USED[0]:
            notice("this model was saved without a recipe, so it is not known whether these examples trained it")
        return None
    if split not in run.recipe.data.splits:
        return None
    try:
        dataset = own_split(run, split, lambda text: None)
    except DactError as error:
        notice(f"it is not known whether these examples stand in {split}: {error.sentence}")
        return None
    return set(input_keys(encode_split(dataset, run.tokenizer, run.tokenizer.model_max_length)))


def _numbered(keys: list[bytes]) -> NDArray[np.int64]:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def calibrated_share(run: Run, calibration: Calibration, encoded: Encoded) -> int | None:
    """How many of some examples chose the calibrated threshold, so that its figures on them are too good.

    Args:
        run: The run.
        calibration: Its calibration.
        encoded: The examples to judge on.

    Returns:
        The number; None where the calibration examples are not at hand and the examples are not all of them.
    """
    keys = input_keys(encoded)
    if fingerprint(keys) == calibration.data_fingerprint:
        return len(keys)
    if calibration.published:
        return None
    own = calibration.split in SPLITS
    try:
        sample, _ = run_examples(run, calibration.split, None if own else Path(calibration.split), lambda text: None)
    except DactError:
        return None
    others = input_keys(sample)
    if fingerprint(others) != calibration.data_fingerprint:
        return None
    seen = set(others)
    return sum(key in seen for key in keys)
