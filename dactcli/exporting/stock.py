"""ONNX Runtime without early exit: the same encoder at full depth with one classifier, to measure exports against.

B batch, T tokens, C classes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.exporting.folder import joined
from dactcli.exporting.graphs import Stage, only, write
from dactcli.exporting.plan import ExportPlan
from dactcli.halting.rules import Full

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dactcli.runs.load import Run
    from dactcli.runtime import Manifest
    from dactcli.runtime.tokens import Rows


class StockOnnx:
    """A model as one graph, by the optimiser, the precision and the operators of an export.

    Args:
        run: The run.
        like: The manifest of the export.
        threads: Threads that run it. Default: those of ONNX Runtime, one per core.
    """

    def __init__(self, run: Run, like: Manifest, threads: int | None = None) -> None:
        import onnxruntime

        self.answer = f"layer_answer_{run.model.exit_heads.layers}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stock.onnx"
            write_stock(run, like, path)
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.session.get_inputs()]

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """The answers to a batch [B, C], from its tensors by name [B, T]."""
        (answers,) = self.session.run([self.answer], {name: rows[name] for name in self.inputs})
        found: NDArray[np.float32] = answers
        return found


def write_stock(run: Run, like: Manifest, path: Path) -> None:
    """Write a model as one graph that gives the last layer's own answer.

    Args:
        run: The run.
        like: The manifest of an export, whose precision and operators it takes.
        path: The file.
    """
    layers = run.model.exit_heads.layers
    plan = ExportPlan((layers,), Full(), like.precision, like.opset, tuple(like.float_layers))
    whole = only(joined(run, plan)[0], f"layer_answer_{layers}")
    write(Stage(whole, []), path, int8=plan.precision == "int8")
