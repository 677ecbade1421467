"""`dact inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import AnyRun, build_request, check_lists, check_numbers, open_any, rule_for
from dactcli.errors import UsageError
from dactcli.listening import Listener
from dactcli.results import Traces

if TYPE_CHECKING:
    from dactcli.runs.load import Run


@dataclass(frozen=True)
class InspectRequest:
    """Which texts to inspect, and which of them to keep.

    Attributes:
        texts: The texts.
        pairs: Their second texts, for models of pairs.
        file: A csv, tsv, jsonl or parquet file instead of `texts`; its labels are read too.
        rule: Halting rule. Default: the calibrated rule, else the model's own.
        verify: Whether full depth is run as well.
        sort: Put first: depth (deepest), margin (closest) or loss (worst).
        only: Keep only: wrong, disagree (with full depth) or deep.
        limit: Keep at most so many.
        device: auto, cpu, cuda or mps.
    """

    texts: Sequence[str] = ()
    pairs: Sequence[str] | None = None
    file: Path | str | None = None
    rule: str | None = None
    verify: bool = False
    sort: str | None = None
    only: str | None = None
    limit: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_lists(self, "texts", "pairs")
        check_numbers(self, limit=1)
        if bool(self.texts) and self.file is not None:
            raise UsageError(
                "needs texts or `file`, and not both", remedy='write dact inspect "some sentence", or use `file` FILE'
            )
        if not self.texts and self.file is None:
            raise UsageError(
                "there is no text to inspect", remedy='write dact inspect "some sentence", or use `file` FILE'
            )


def inspect(
    texts: Sequence[str] | InspectRequest = (),
    *,
    run: AnyRun = None,
    listener: Listener | None = None,
    **fields: Any,
) -> Traces:
    """Which layers ran for each text, and what each predicted; `dact inspect`.

    Args:
        texts: The texts, or a whole request.
        run: A run folder or saved model, an export, a run from `open_run`, or None for `runs/latest`.
        listener: Hears notices.
        **fields: Fields of `InspectRequest`; they override those of a request.

    Raises:
        UsageError: There is no text, the model judges pairs and there are none, or it cannot serve the rule.
        DataError: The file cannot be read.
        ArtefactError: The run is missing or damaged, or answers are not finite.
        ResourceError: The device is missing, or memory ran out.
    """
    given = texts if isinstance(texts, InspectRequest) else None
    if given is None:
        fields = {"texts": texts, **fields}
    wanted, hears = build_request(InspectRequest, given, fields, listener)
    opened = open_any(run, device=wanted.device)
    from dactcli.inspection.select import select
    from dactcli.inspection.trace import Texts, trace
    from dactcli.runs.calibration import load_calibration

    first, second, labels = _texts(opened, wanted)
    model, rule = opened.model, rule_for(opened, wanted.rule, hears)
    calibration, _ = load_calibration(opened)
    found = trace(
        model,
        opened.tokenizer,
        Texts(first, second, labels),
        rule=rule,
        verify=wanted.verify or wanted.only == "disagree",
        promise=calibration.promise if calibration and str(rule) == calibration.rule else None,
    )
    shown = select(found, only=wanted.only, sort=wanted.sort, limit=wanted.limit)
    names = [] if model.regression else [str(model.config.id2label[index]) for index in range(model.classes)]
    return Traces(shown, every=found, names=names)


def _texts(run: Run, request: InspectRequest) -> tuple[list[str], list[str] | None, list[Any] | None]:
    """The texts, their second texts and their labels."""
    from dactcli.evaluation.examples import DataFile, read_examples

    if request.file is not None:
        examples = read_examples(run, DataFile(Path(request.file)))
        return examples.texts, examples.pairs, examples.labels
    of_pairs = run.recipe is not None and run.recipe.data.text_pair is not None
    if of_pairs and request.pairs is None:
        raise UsageError("this model takes pairs of texts", place=str(run.folder), remedy="give `pairs` as well")
    if request.pairs is not None and run.recipe is not None and not of_pairs:
        raise UsageError("this model takes single texts", place="`pairs`", remedy="leave out `pairs`")
    if request.pairs is not None and len(request.pairs) != len(request.texts):
        raise UsageError(
            f"has {len(request.pairs)} texts for {len(request.texts)}", place="`pairs`", remedy="give one for each text"
        )
    return list(request.texts), None if request.pairs is None else list(request.pairs), None
