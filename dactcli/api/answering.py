"""What answers texts for `dact predict`: a run, or an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dactcli.api.common import AnyRun, check_processor, open_export, open_run, rule_for
from dactcli.errors import UsageError
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.api.predict import PredictFilesRequest, PredictRequest
    from dactcli.halting.base import Rule
    from dactcli.prediction.windows import Answer
    from dactcli.results import Prediction
    from dactcli.runs.load import Run
    from dactcli.runtime import ExportedModel

TEXT = "sentence"  # the column of the text where no recipe names one


@dataclass(frozen=True)
class TextModel:
    """What answers texts: a run or an export.

    Attributes:
        rule: The halting rule, as a text.
        digest: Computes a digest of what the answers depend on; for a run that reads all weights.
        text: Column of the text in files.
        pair: Column of the second text; None for a model of single texts.
        regression: Whether the answers are values.
        tokens: Tokens of a window.
        answer: Makes, from what hears of progress, the function that answers.
    """

    rule: str
    digest: Callable[[], str]
    text: str
    pair: str | None
    regression: bool
    tokens: int
    answer: Callable[[Callable[[int], None] | None], Answer]


def text_model(run: AnyRun, request: PredictFilesRequest | PredictRequest, listener: Listener) -> TextModel:
    """Open what answers texts.

    Args:
        run: A run, or the folder of a run or export.
        request: The rule, cap and device that were asked for.
        listener: Hears notices.

    Raises:
        UsageError: The model cannot serve the rule, or an export cannot serve the request.
        ArtefactError: The run or export is missing or damaged.
        ResourceError: The device or a package is missing.
    """
    if (exported := open_export(run)) is not None:
        return _export_model(exported, request, listener)
    from functools import partial

    from dactcli.data.batches import tokens_per_batch
    from dactcli.prediction.predict import predict_texts
    from dactcli.prediction.windows import most_tokens
    from dactcli.runs.identity import identify

    opened = open_run(run, device=request.device)
    rule = _capped_rule(opened, request.rule, request.max_layers, listener)
    data = opened.recipe.data if opened.recipe is not None else None
    size = request.batch_tokens or tokens_per_batch(opened.model.device)
    return TextModel(
        rule=str(rule),
        digest=lambda: identify(opened).digest,
        text=data.text if data else TEXT,
        pair=data.text_pair if data else None,
        regression=opened.model.regression,
        tokens=most_tokens(opened.model, size),
        answer=lambda progress: partial(predict_texts, opened, rule=rule, tokens=size, progress=progress),
    )


def _export_model(
    exported: ExportedModel, request: PredictFilesRequest | PredictRequest, listener: Listener
) -> TextModel:
    """An export; it halts by its own rule, on the processor.

    Raises:
        UsageError: The request asks for another rule, a cap on the layers, or a device.
    """
    from dactcli.prediction.windows import BATCHES
    from dactcli.runtime.model import TOKENS

    manifest = exported.manifest
    if request.rule is not None and request.rule != manifest.rule.text:
        raise UsageError(
            f"this export halts by {manifest.rule.text}, which its graphs hold",
            place=f"`rule` {request.rule}",
            remedy="leave it out, or export the run with that rule",
        )
    if request.max_layers is not None:
        remedy = "leave it out, or predict with the run"
        raise UsageError("an export has no cap on its layers", place="`max_layers`", remedy=remedy)
    check_processor(request.device)
    size = request.batch_tokens or TOKENS
    if size != TOKENS and manifest.precision == "int8" and manifest.certificate is not None:
        listener.notice(
            f"with `batch_tokens` {size} the certificate of this int8 export no longer holds: it was measured with "
            f"batches of {TOKENS}, and int8 answers depend on the batch"
        )

    def answer(progress: Callable[[int], None] | None) -> Answer:
        def found(texts: list[str], pairs: list[str] | None) -> list[Prediction]:
            made = exported.predict(texts, pairs, batch_tokens=size)
            if progress is not None:
                progress(len(texts))
            return made

        return found

    columns = manifest.columns
    return TextModel(
        rule=manifest.rule.text,
        digest=lambda: manifest.digest,
        text=columns.get("text") or TEXT,
        pair=columns.get("pair"),
        regression=manifest.kind == "regression",
        tokens=64 * BATCHES * size,
        answer=answer,
    )


def _capped_rule(run: Run, rule: str | None, max_layers: int | None, listener: Listener) -> Rule:
    from dactcli.evaluation.examples import promise_under, valid_calibration
    from dactcli.halting.limits import AtMost

    chosen = rule_for(run, rule, listener)
    if max_layers is None or max_layers >= run.model.exit_heads.layers:
        return chosen
    # rule_for gave notice of a void calibration already
    if promise := promise_under(chosen, valid_calibration(run, lambda text: None)):
        listener.notice(f"with `max_layers` {max_layers} the promise of {chosen} no longer holds: {promise}")
    return AtMost(chosen, max_layers)
