"""Write the folder of an export: stages, tokenizer and dact.json."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.data.labels import label_values
from dactcli.exporting.graphs import Stage, cut, fuse, join, keep_in_float, write
from dactcli.exporting.outliers import scale_outliers
from dactcli.exporting.tracing import TYPES, trace_encoder, trace_heads
from dactcli.halting.label_sets import LabelSets
from dactcli.halting.rules import Full
from dactcli.runs.identity import identify
from dactcli.runtime.manifest import TOKENIZER, Manifest, Port, RuleFacts, StageFile, TokenizerFacts
from dactcli.storage import sha256

if TYPE_CHECKING:
    from dactcli.exporting.plan import ExportPlan
    from dactcli.halting.base import Rule
    from dactcli.runs.load import Run

CONFIG, RECIPE = "config.json", "recipe.yaml"
PACKAGES = ("dactcli", "torch", "transformers", "onnx", "onnxruntime", "onnxscript", "tokenizers")


@dataclass(frozen=True)
class Graph:
    """A model as stages, before they are written.

    Attributes:
        stages: The stages.
        fused: How many layers have fused attention.
    """

    stages: list[Stage]
    fused: int


def build(run: Run, plan: ExportPlan) -> Graph:
    """Trace, fuse and cut a model.

    Args:
        run: The run.
        plan: What to export.

    Raises:
        ArtefactError: PyTorch cannot trace this model.
    """
    whole, fused = joined(run, plan)
    return Graph(cut(whole, plan.stages), fused)


def joined(run: Run, plan: ExportPlan) -> tuple[Any, int]:
    """The fused encoder with its exit heads as one graph, and how many layers have fused attention.

    Args:
        run: The run.
        plan: What to export.

    Raises:
        ArtefactError: PyTorch cannot trace this model.
    """
    sizes = run.model.config.encoder_config
    encoder = trace_encoder(run.model, plan, types=TYPES in run.tokenizer.model_input_names)
    fused, count = fuse(encoder, heads=sizes.num_attention_heads, width=sizes.hidden_size)
    whole = join(fused, trace_heads(run.model, plan))
    if plan.precision == "int8":
        scale_outliers(whole, run)
        keep_in_float(whole, plan.float_layers)
    return whole, count


def write_export(run: Run, plan: ExportPlan, graph: Graph, folder: Path) -> Manifest:
    """Write stages and tokenizer.

    Args:
        run: The run.
        plan: What to export.
        graph: The stages.
        folder: Where to; it is there and empty.

    Returns:
        What dact.json is to say, without a certificate.

    Raises:
        OSError: The disk does not take it.
    """
    files = []
    for number, stage in enumerate(graph.stages, start=1):
        path = folder / ("model.onnx" if len(graph.stages) == 1 else f"stage-{number}.onnx")
        write(stage, path, int8=plan.precision == "int8")
        files.append(_stage_file(stage, path, plan, number - 1))
    for name in (CONFIG, RECIPE):  # for commands that evaluate and inspect the export
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
    model, config, data = run.model, run.model.config, run.recipe.data if run.recipe is not None else None
    names = [] if model.regression else [str(config.id2label[index]) for index in range(config.num_labels)]
    return Manifest(
        kind=model.answers.kind,
        labels=label_values(names) if names else [],
        label_thresholds=list(model.answers.thresholds) if isinstance(model.answers, LabelSets) else None,
        columns={"text": data.text, "pair": data.text_pair} if data is not None else {},
        layers=plan.layers,
        model_layers=model.exit_heads.layers,
        precision=plan.precision,
        stages=files,
        rule=rule_facts(plan.rule),
        tokenizer=_write_tokenizer(run, folder),
        certificate=None,
        changed=None,
        objective=config.objective,
        model=vars(identify(run)) | {"encoder": config.encoder_config.model_type},
        run=Path(os.path.relpath(run.folder.resolve(), folder.resolve())).as_posix(),
        fused=graph.fused,
        opset=plan.opset,
        made_with={name: version(name) for name in PACKAGES},
        float_layers=list(plan.float_layers),
    )


def rule_facts(rule: Rule) -> RuleFacts:
    """A rule as the runtime needs it."""
    return RuleFacts(str(rule), rule.threshold, None if isinstance(rule, Full) else rule.cut)


def _stage_file(stage: Stage, path: Path, plan: ExportPlan, at: int) -> StageFile:
    last = plan.stages[at]
    graph = stage.model.graph
    outputs = [_port(value) for value in graph.output]
    mixed = f"answer_{last}"
    own = plan.rule.own_answer or all(port.name != mixed for port in outputs)
    return StageFile(
        file=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        first_layer=plan.stages[at - 1] + 1 if at else 1,
        last_layer=last,
        inputs=[_port(value) for value in graph.input],
        outputs=outputs,
        score=f"score_{last}",
        answer=f"layer_answer_{last}" if own else mixed,
    )


def _port(value: Any) -> Port:
    from onnx import TensorProto

    kind = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
    return Port(value.name, TensorProto.DataType.Name(kind.elem_type).lower(), shape)


def _write_tokenizer(run: Run, folder: Path) -> TokenizerFacts:
    """Write the tokenizer with its truncation and padding, so that other readers of the file need no settings."""
    from tokenizers import Tokenizer

    tokenizer, path = run.tokenizer, folder / TOKENIZER
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    padding = int(tokenizer.pad_token_id or 0)
    copy.enable_truncation(tokenizer.model_max_length, direction=tokenizer.truncation_side)
    copy.enable_padding(pad_id=padding, pad_token=copy.id_to_token(padding) or "")
    path.write_text(copy.to_str(pretty=False), encoding="utf-8")
    types = TYPES in tokenizer.model_input_names
    return TokenizerFacts(TOKENIZER, sha256(path), tokenizer.model_max_length, padding, types)
