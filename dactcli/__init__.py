"""dact: BERT-like encoders that run only as many layers as each answer needs.

Importing this package imports nothing heavy; its public names load on first use.

    from dactcli import fit, predict

    run = fit("recipes/quickstart.yaml").run
    for answer in predict(["the key to the cabinets is rusty ."], run=run):
        print(answer.label, answer.exit_layer)

Every command has its function. A function takes a request, or its fields as keywords, prints nothing, returns a frozen
dataclass of `dactcli.results` and raises the errors of `dactcli.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.api.calibrate import CalibrateRequest, calibrate
    from dactcli.api.common import open_run
    from dactcli.api.compare import CompareRequest, compare
    from dactcli.api.convert import ConvertRequest, convert
    from dactcli.api.evaluate import EvaluateRequest, evaluate
    from dactcli.api.export import ExportRequest, export
    from dactcli.api.fit import FitRequest, fit, plan
    from dactcli.api.inspect import InspectRequest, inspect
    from dactcli.api.outputs import layer_outputs, run_examples
    from dactcli.api.predict import PredictFilesRequest, PredictRequest, predict, predict_files
    from dactcli.api.profile import ProfileRequest, profile
    from dactcli.api.publish import PublishRequest, publish
    from dactcli.api.recipes import copy_recipe, recipes, show_recipe
    from dactcli.api.report import ReportRequest, report_run
    from dactcli.api.runs import list_runs
    from dactcli.api.sweep import SweepRequest, sweep
    from dactcli.api.validate import ValidateRequest, validate
    from dactcli.evaluation.requests import BudgetRequest, RiskRequest
    from dactcli.listening import Listener
    from dactcli.model import DactConfig, DactForSequenceClassification, DactOutput
    from dactcli.report.run_page import write_report

# the module of each public name
_HOMES = {
    "BudgetRequest": "dactcli.evaluation.requests",
    "CalibrateRequest": "dactcli.api.calibrate",
    "CompareRequest": "dactcli.api.compare",
    "ConvertRequest": "dactcli.api.convert",
    "DactConfig": "dactcli.model",
    "DactForSequenceClassification": "dactcli.model",
    "DactOutput": "dactcli.model",
    "EvaluateRequest": "dactcli.api.evaluate",
    "ExportRequest": "dactcli.api.export",
    "FitRequest": "dactcli.api.fit",
    "InspectRequest": "dactcli.api.inspect",
    "Listener": "dactcli.listening",
    "PredictFilesRequest": "dactcli.api.predict",
    "PredictRequest": "dactcli.api.predict",
    "ProfileRequest": "dactcli.api.profile",
    "PublishRequest": "dactcli.api.publish",
    "ReportRequest": "dactcli.api.report",
    "RiskRequest": "dactcli.evaluation.requests",
    "SweepRequest": "dactcli.api.sweep",
    "ValidateRequest": "dactcli.api.validate",
    "calibrate": "dactcli.api.calibrate",
    "compare": "dactcli.api.compare",
    "convert": "dactcli.api.convert",
    "copy_recipe": "dactcli.api.recipes",
    "evaluate": "dactcli.api.evaluate",
    "export": "dactcli.api.export",
    "fit": "dactcli.api.fit",
    "inspect": "dactcli.api.inspect",
    "layer_outputs": "dactcli.api.outputs",
    "list_runs": "dactcli.api.runs",
    "open_run": "dactcli.api.common",
    "plan": "dactcli.api.fit",
    "predict": "dactcli.api.predict",
    "predict_files": "dactcli.api.predict",
    "profile": "dactcli.api.profile",
    "publish": "dactcli.api.publish",
    "recipes": "dactcli.api.recipes",
    "report_run": "dactcli.api.report",
    "run_examples": "dactcli.api.outputs",
    "show_recipe": "dactcli.api.recipes",
    "sweep": "dactcli.api.sweep",
    "validate": "dactcli.api.validate",
    "write_report": "dactcli.report.run_page",
}

__all__ = [
    "BudgetRequest",
    "CalibrateRequest",
    "CompareRequest",
    "ConvertRequest",
    "DactConfig",
    "DactForSequenceClassification",
    "DactOutput",
    "EvaluateRequest",
    "ExportRequest",
    "FitRequest",
    "InspectRequest",
    "Listener",
    "PredictFilesRequest",
    "PredictRequest",
    "ProfileRequest",
    "PublishRequest",
    "ReportRequest",
    "RiskRequest",
    "SweepRequest",
    "ValidateRequest",
    "calibrate",
    "compare",
    "convert",
    "copy_recipe",
    "evaluate",
    "export",
    "fit",
    "inspect",
    "layer_outputs",
    "list_runs",
    "open_run",
    "plan",
    "predict",
    "predict_files",
    "profile",
    "publish",
    "recipes",
    "report_run",
    "run_examples",
    "show_recipe",
    "sweep",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dactcli' has no attribute {name!r}")
