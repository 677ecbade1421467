"""Run the stages of an export: after each stage finished rows leave, and the next one runs on the rest.

The loop is that of `dactcli.model.engine`, on ONNX Runtime: survivors of several batches are pooled by depth, so that
deep stages still run on full batches.

B batch, T tokens, C classes, E examples, L layers of the export.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dactcli.runtime.tokens import MASK, Rows

if TYPE_CHECKING:
    from dactcli.runtime.manifest import Manifest, StageFile

Batches = Iterable[tuple[NDArray[np.int64], Rows]]
HIDDEN = "hidden_"  # begins the names of the tensors that have an axis of tokens


class Answers(NamedTuple):
    """Results in the caller's order.

    Attributes:
        exit_layer: The layer after which each row left [E].
        answer: Probabilities [E, C], or values [E, 1] for a regression.
    """

    exit_layer: NDArray[np.int64]
    answer: NDArray[np.float32]


@dataclass
class Live:
    """Rows that still run, all after the same stage.

    Attributes:
        stage: Stages that have run.
        positions: Their positions in the caller's order [B].
        rows: Their tensors, by name.
    """

    stage: int
    positions: NDArray[np.int64]
    rows: Rows

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included, that the next stage runs."""
        return int(self.rows[MASK].size)

    def select(self, keep: NDArray[np.bool_]) -> Live:
        """The rows to keep [B], without padding that none of them needs."""
        mask = self.rows[MASK][keep]
        width = int(mask.sum(1).max())
        rows = {
            name: values[keep, :width] if _has_tokens(name) else values[keep]
            for name, values in self.rows.items()
            if name != MASK
        }
        return Live(self.stage, self.positions[keep], {MASK: mask[:, :width], **rows})


def join(parts: list[Live]) -> Live:
    """One batch of several after the same stage, padded on the right to the longest."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.rows[MASK].shape[1] for part in parts)
    rows = {
        name: np.concatenate(
            [_widen(part.rows[name], width) if _has_tokens(name) else part.rows[name] for part in parts]
        )
        for name in parts[0].rows
    }
    return Live(parts[0].stage, np.concatenate([part.positions for part in parts]), rows)


def _has_tokens(name: str) -> bool:
    return name == MASK or name.startswith(HIDDEN)


def _widen(values: NDArray[Any], width: int) -> NDArray[Any]:
    """[B, T, ...] with zeros on the right up to T = width."""
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing), *((0, 0),) * (values.ndim - 2))) if missing else values


class StageRunner:
    """Runs the stages one at a time.

    Args:
        manifest: What the export consists of.
        sessions: The stages, as `onnxruntime.InferenceSession`.
    """

    def __init__(self, manifest: Manifest, sessions: list[Any]) -> None:
        self.manifest, self.sessions = manifest, sessions
        stages = manifest.stages
        self._inputs = [[port.name for port in stage.inputs] for stage in stages]
        # what a stage has to give: its score and answer, and what the next one takes
        self._wanted = [
            sorted({stage.score, stage.answer, *self._carried(number)}) for number, stage in enumerate(stages, start=1)
        ]

    def _carried(self, number: int) -> list[str]:
        """What stage `number` + 1 takes from the one before it; none after the last."""
        stages = self.manifest.stages
        own = {port.name for port in stages[number - 1].outputs}
        return [] if number == len(stages) else [name for name in self._inputs[number] if name in own]

    def step(self, live: Live, wanted: list[str] | None = None) -> Rows:
        """Run the next stage; returns its outputs, by name.

        Args:
            live: The rows.
            wanted: Names of the outputs. Default: score, answer and what the next stage takes.
        """
        names = wanted or self._wanted[live.stage]
        given = {name: live.rows[name] for name in self._inputs[live.stage]}
        return dict(zip(names, self.sessions[live.stage].run(names, given), strict=True))

    def survive(self, live: Live, outputs: Rows, leave: NDArray[np.bool_] | None) -> Live | None:
        """The rows that go on to the next stage; None where all leave.

        Args:
            live: The rows before the stage.
            outputs: What the stage gave.
            leave: Which rows leave [B]; None for none.
        """
        carried = {name: outputs[name] for name in self._carried(live.stage + 1)}
        after = Live(live.stage + 1, live.positions, {MASK: live.rows[MASK], **carried})
        if leave is None or not leave.any():
            return after
        return None if leave.all() else after.select(~leave)


def answer_rows(runner: StageRunner, batches: Batches, examples: int, *, regroup: int) -> Answers:
    """Answer rows, each with no more stages than it needs.

    A batch runs on while it has `regroup` tokens. Its survivors then wait for survivors of other batches after the same
    stage, until together they have that many, or no further batch comes.

    Args:
        runner: The stages.
        batches: Positions in the caller's order [B], and the tokens [B, T].
        examples: How many positions there are, E.
        regroup: Fewest tokens, padding included, for a stage to run on.
    """
    stages, cut = runner.manifest.stages, runner.manifest.rule.cut
    found = Answers(np.zeros(examples, dtype=np.int64), np.full((examples, width_of(runner)), np.nan, dtype=np.float32))
    waiting: list[list[Live]] = [[] for _ in stages]  # by stages run

    def advance(live: Live) -> Live | None:
        stage: StageFile = stages[live.stage]
        outputs = runner.step(live)
        last = live.stage + 1 == len(stages)
        if cut is None and not last:
            return runner.survive(live, outputs, None)
        # a score that is not a number never leaves early
        leave = np.ones(len(live.positions), dtype=bool) if last else outputs[stage.score] >= cut
        gone = live.positions[leave]
        found.answer[gone], found.exit_layer[gone] = outputs[stage.answer][leave], stage.last_layer
        return runner.survive(live, outputs, leave) if not last else None

    def run_on(live: Live | None) -> None:
        while live is not None:
            live = advance(live)
            if live is None or live.tokens >= regroup:
                continue
            pool = waiting[live.stage]
            pool.append(live)
            live = None
            if sum(part.tokens for part in pool) >= regroup:
                live, waiting[pool[0].stage] = join(pool), []

    for positions, rows in batches:
        run_on(Live(0, positions, rows))
    for parts in waiting:
        if parts and (left := advance(join(parts))) is not None:
            waiting[left.stage].append(left)
    return found


def width_of(runner: StageRunner) -> int:
    """C."""
    return max(len(runner.manifest.labels), 1)


def layer_outputs(runner: StageRunner, batches: Batches, examples: int) -> Rows:
    """The outputs of every layer, without any row leaving.

    Args:
        runner: The stages.
        batches: Positions in the caller's order [B], and the tokens [B, T].
        examples: How many positions there are, E.

    Returns:
        `layer_answer` [E, L, C], `halting` [E, L] and, with that head, `certainty` [E, L].
    """
    manifest = runner.manifest
    outputs = {port.name for stage in manifest.stages for port in stage.outputs}
    found: Rows = {
        "layer_answer": np.zeros((examples, manifest.layers, width_of(runner)), dtype=np.float32),
        "halting": np.zeros((examples, manifest.layers), dtype=np.float32),
    }
    if "certainty_1" in outputs:
        found["certainty"] = np.zeros((examples, manifest.layers), dtype=np.float32)
    for positions, rows in batches:
        live: Live | None = Live(0, positions, rows)
        while live is not None:
            stage = manifest.stages[live.stage]
            given = runner.step(live, [port.name for port in stage.outputs])
            for layer in range(stage.first_layer, stage.last_layer + 1):
                for name, values in found.items():
                    values[positions, layer - 1] = given[f"{name}_{layer}"]
            live = runner.survive(live, given, None) if live.stage + 1 < len(manifest.stages) else None
    return found
