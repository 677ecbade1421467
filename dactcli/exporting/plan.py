"""What an export consists of, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from dactcli.errors import ArtefactError, ResourceError, UsageError

if TYPE_CHECKING:
    from dactcli.halting.base import Rule
    from dactcli.runs.load import Run

Precision = Literal["float32", "int8"]
OPSET, OPSETS = 18, range(18, 24)  # 18 is the lowest that torch writes
LARGEST = 2**31 - 1  # bytes of an ONNX file, which is one protobuf message
NEEDED = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class ExportPlan:
    """What an export consists of.

    Attributes:
        stages: The last layer of each stage, in rising order; rows may leave after each of them.
        rule: The halting rule, whose score is traced into the stages.
        precision: float32, or int8 for the encoder's weights and embeddings.
        opset: Version of the ONNX operators.
        float_layers: Layers whose weights stay in float32 where the precision is int8.
    """

    stages: tuple[int, ...]
    rule: Rule
    precision: Precision = "float32"
    opset: int = OPSET
    float_layers: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Layers that the export has."""
        return self.stages[-1]


def check_installed() -> None:
    """Refuse to export without the packages of the extra.

    Raises:
        ResourceError: One of them is not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ResourceError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            place="dact export",
            remedy="pip install 'dactcli[onnx]'",
        )


def check_opset(opset: int) -> None:
    """Refuse a version of the ONNX operators that is not tested.

    Raises:
        UsageError: It is not in `OPSETS`.
    """
    if opset not in OPSETS:
        raise UsageError(f"is {opset}", place="`opset`", remedy=f"give {OPSETS[0]} to {OPSETS[-1]}")


def check_run(run: Run) -> None:
    """Refuse a run that cannot be exported.

    Args:
        run: The run.

    Raises:
        ArtefactError: Its encoder does not compute in float32, its tokenizer is not a fast one, it reads both ends of
            long texts, or it is too large.
    """
    model, place = run.model, str(run.folder)
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype != "float32":
        raise ArtefactError(
            f"the model computes in {dtype}, and an export computes in float32",
            place=place,
            remedy="set dtype to float32 in config.json",
        )
    if getattr(run.tokenizer, "backend_tokenizer", None) is None:
        raise ArtefactError(
            "the tokenizer runs in Python only, and an export needs a tokenizer.json",
            place=place,
            remedy="save the model with a fast tokenizer",
        )
    if model.config.long_texts != "cut":
        raise ArtefactError(
            f"the model was trained with data.long: {model.config.long_texts}, and an export cuts long texts",
            place=place,
            remedy="predict with the run itself, or train it with data.long: cut",
        )
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if weights > LARGEST:
        raise ArtefactError(
            f"the weights take {weights / 2**30:.1f} GiB, and an ONNX file holds less than 2",
            place=place,
            remedy="use a smaller encoder",
        )


def float_layers_of(given: Sequence[int] | None, layers: int, *, int8: bool) -> tuple[int, ...]:
    """The layers of an int8 export that stay in float32, in order.

    Args:
        given: As they were asked for; None for none.
        layers: Layers of the export.
        int8: Whether the others become int8.

    Raises:
        UsageError: Nothing becomes int8, or they are no layers of the export.
    """
    if given is None:
        return ()
    text = ",".join(map(str, given))
    if not all(type(number) is int for number in given):
        raise UsageError(f"{text} is not a list of layers", place="`float_layers`", remedy="give whole numbers")
    found = tuple(sorted(set(given)))
    if not int8:
        raise UsageError("is for `int8`", place=f"`float_layers` {text}", remedy="add `int8`, or leave it out")
    if not found or found[0] < 1 or found[-1] > layers:
        fault = f"{text or 'nothing'} does not name layers of this export"
        raise UsageError(fault, place="`float_layers`", remedy=f"give numbers from 1 to {layers}")
    return found


def stages_of(given: Sequence[int] | None, layers: int) -> tuple[int, ...]:
    """The last layer of each stage.

    Args:
        given: The layers after which rows may leave; None for all.
        layers: N.

    Raises:
        UsageError: They do not rise, are no layers of the model, or do not end with its last one.
    """
    if given is None:
        return tuple(range(1, layers + 1))
    stages = tuple(given)
    text = ",".join(map(str, stages))
    rising = all(before < after for before, after in pairwise(stages))
    if not stages or not rising or stages[0] < 1 or stages[-1] > layers:
        raise UsageError(
            f"{text or 'nothing'} does not name layers of this model in order",
            place="`stages`",
            remedy=f"give numbers from 1 to {layers} that rise, such as {','.join(map(str, sorted({1, layers})))}",
        )
    if stages[-1] != layers:
        raise UsageError(
            f"the last stage ends after layer {stages[-1]}, and the model has {layers}",
            place=f"`stages` {text}",
            remedy=f"add {layers}, or use `layers` for a graph of fewer layers",
        )
    return stages
