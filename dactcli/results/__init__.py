"""Results of the commands as frozen dataclasses of plain numbers, one module per command. No logic, no torch.

`to_json` of a result gives the `--json` document. Other programs rely on its keys.
"""

from dactcli.results.calibrate import Calibration
from dactcli.results.capacity import CapacityPlan, PlannedWay
from dactcli.results.compare import AreaDifference, ComparedRule, Comparison, CurvePoint
from dactcli.results.duration import duration
from dactcli.results.evaluate import REFERENCES, ClassResult, EvalResult, Reference, RuleResult, classes_shown
from dactcli.results.export import ChangedAnswers, ExportResult
from dactcli.results.fit import KeptEpoch, RecipePlan, SeedSummary, Spread, StepLog, SweepResult, TrainResult
from dactcli.results.inspect import NO_LABEL, ExitTrace, Traces, label_text
from dactcli.results.interval import Interval
from dactcli.results.predict import PredictedFile, Prediction
from dactcli.results.profile import Breakdown, Measurement, OnnxCase, ProfileCase, ProfileResult, TrainingCase
from dactcli.results.publish import PublishResult
from dactcli.results.report import (
    Confusion,
    LengthBin,
    ReliabilityBin,
    ReportedModel,
    ReportedTime,
    RunReport,
)
from dactcli.results.runs import RunFacts
from dactcli.results.validate import PlanResult, SplitFacts

__all__ = [
    "NO_LABEL",
    "REFERENCES",
    "AreaDifference",
    "Breakdown",
    "Calibration",
    "CapacityPlan",
    "ChangedAnswers",
    "ClassResult",
    "ComparedRule",
    "Comparison",
    "Confusion",
    "CurvePoint",
    "EvalResult",
    "ExitTrace",
    "ExportResult",
    "Interval",
    "KeptEpoch",
    "LengthBin",
    "Measurement",
    "OnnxCase",
    "PlanResult",
    "PlannedWay",
    "PredictedFile",
    "Prediction",
    "ProfileCase",
    "ProfileResult",
    "PublishResult",
    "RecipePlan",
    "Reference",
    "ReliabilityBin",
    "ReportedModel",
    "ReportedTime",
    "RuleResult",
    "RunFacts",
    "RunReport",
    "SeedSummary",
    "SplitFacts",
    "Spread",
    "StepLog",
    "SweepResult",
    "Traces",
    "TrainResult",
    "TrainingCase",
    "classes_shown",
    "duration",
    "label_text",
]
