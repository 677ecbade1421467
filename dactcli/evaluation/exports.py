"""Certify an export: choose its threshold on held-out examples, against the PyTorch model's full-depth answers.

Other kernels and int8 weights move probabilities, so the certificate of the model does not hold for its export. The
promise that a user wants is about the model that was trained: an answer of the export counts as a loss where it differs
from that model's full depth, whether the early exit or the quantisation changed it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dactcli.evaluation.calibrate import Measured, bound_facts, calibrate_risk
from dactcli.halting.rules import Full
from dactcli.results import Calibration, ChangedAnswers
from dactcli.runs.calibration import spend
from dactcli.runs.identity import identify

if TYPE_CHECKING:
    from dactcli.evaluation.requests import RiskRequest
    from dactcli.evaluation.sample import CalibrationSample
    from dactcli.halting.base import Rule
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs

AGAINST = "the PyTorch model at full depth"


def changed_answers(export: LayerOutputs, model: LayerOutputs, split: str) -> ChangedAnswers:
    """How often an export at its full depth decides otherwise than the model does.

    Args:
        export: The outputs of the export's layers.
        model: Those of the PyTorch model, on the same examples.
        split: The split or file.
    """
    same = model.answers.same(export.decide(Full()).answer, model.decide(Full()).answer)
    return ChangedAnswers(split, len(same), int((~same).sum()))


def certify_export(
    run: Run,
    rule: Rule,
    request: RiskRequest,
    sample: CalibrationSample,
    outputs: tuple[LayerOutputs, LayerOutputs],
    *,
    arithmetic: str,
) -> Calibration:
    """Choose the threshold of an export.

    The attempt is recorded in the run folder before its result is known, as one about another model than the run's own.

    Args:
        run: The exported run.
        rule: The rule; its threshold is chosen here.
        request: The risk to certify.
        sample: The examples, as `calibration_sample` gives them.
        outputs: The outputs of the export and of the PyTorch model on them.
        arithmetic: What the export computes in, as its manifest says it.

    Returns:
        The certificate; its `certified` is False where no threshold passes.

    Raises:
        UsageError: The request does not fit the model or the sample.
        ArtefactError: The record of attempts is damaged.
        ResourceError: The run folder cannot be written.
    """
    export, model = outputs
    asked = dataclasses.replace(request, rules=(rule.name,))
    digest = export_digest(identify(run).digest, arithmetic, export.exits or ())
    number = spend(run, sample.fingerprint, asked.to_json(), model=digest)
    facts = bound_facts(run, sample) | {"dtype": arithmetic, "attempt": number, "against": AGAINST}
    measured = Measured(export, sample.inputs, sample.encoded.labels, reference=model)
    return calibrate_risk(measured, [rule], request, delta=request.delta / 2**number, facts=facts)


QUANTISED = 2  # counts the changes of how int8 weights come about, since each makes another model


def export_digest(model: str, arithmetic: str, exits: Sequence[int]) -> str:
    """One SHA-256 of what an export's answers depend on, as 64 hex digits.

    Args:
        model: Digest of the model.
        arithmetic: What it computes in.
        exits: The layers after which rows may leave.
    """
    facts: dict[str, Any] = {"model": model, "precision": arithmetic, "exits": list(exits)}
    if arithmetic.startswith("int8"):
        facts["quantised"] = QUANTISED
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
