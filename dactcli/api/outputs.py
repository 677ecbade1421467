"""The examples of a run and the outputs of its layers, for evaluations that no command makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dactcli.api.common import AnyRun, open_run
from dactcli.listening import Listener

if TYPE_CHECKING:
    from dactcli.data.batches import Encoded
    from dactcli.runs.load import Run
    from dactcli.runs.outputs import LayerOutputs
    from dactcli.runtime import ExportedModel


def run_examples(run: AnyRun = None, split: str = "validation", *, listener: Listener | None = None) -> Encoded:
    """The examples of a split of the run's data, tokenized as the run's model needs them.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        split: A split of the run's data.
        listener: Hears notices.

    Raises:
        DataError: The split cannot be read.
        ArtefactError: The run is missing or damaged.
    """
    opened, hears = open_run(run), listener or Listener()
    from dactcli.evaluation import examples

    encoded, _ = examples.run_examples(opened, split, None, hears.notice)
    return encoded


def layer_outputs(
    run: AnyRun, encoded: Encoded, name: str, *, batch_size: int | None = None, listener: Listener | None = None
) -> LayerOutputs:
    """What every layer answers, from which `dactcli.halting.decide` derives the decision of any rule.

    Outputs that the run folder keeps of the same model and examples are read; others are computed and kept there.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        encoded: The examples, as `run_examples` gives them.
        name: Name of the split or file; the kept file's name begins with it.
        batch_size: Examples per batch. Default: the recipe's.
        listener: Hears the progress of the encoder.

    Returns:
        y_n [E, N, C], h_n [E, N] and, with that head, the certainty [E, N].

    Raises:
        ArtefactError: The run is missing or damaged, or outputs are not finite.
        ResourceError: Memory ran out.
    """
    from dactcli.api.evaluate import outputs_of

    return outputs_of(open_run(run), encoded, name, batch_size, listener or Listener())


def export_outputs(run: Run, exported: ExportedModel, encoded: Encoded) -> LayerOutputs:
    """What every layer of an export answers, computed by ONNX Runtime.

    Args:
        run: The run that was exported.
        exported: The export.
        encoded: The examples.

    Returns:
        As `layer_outputs`, with the layers after which rows may leave.

    Raises:
        ArtefactError: Outputs are not finite.
    """
    from dactcli.exporting.opened import OnnxModel
    from dactcli.runs.outputs import collect

    model: Any = OnnxModel(exported, run.model.config)
    return collect(model, run.tokenizer, encoded, batch_size=len(encoded.lengths))
