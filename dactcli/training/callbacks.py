"""Callbacks of a training: the metrics file, the screen, and the evaluation after each epoch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from dactcli import distributed
from dactcli.listening import Listener
from dactcli.results import EvalResult, StepLog
from dactcli.storage import to_json
from dactcli.training.best import BestEpoch
from dactcli.training.signals import Stopper
from dactcli.training.stages import Stage

if TYPE_CHECKING:
    from dactcli.training.trainer import DactTrainer

SHOWN = ("loss", "learning_rate", "grad_norm", "epoch")  # of what transformers logs
Depth = tuple[float, list[float]]  # mean layers, and mean halting weights


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Writes `metrics.jsonl`, updates the listener, and evaluates after each epoch.

    Every process has one, because evaluation and stopping are shared; rank 0 writes.

    Args:
        stage: The stage.
        stages: Number of stages.
        listener: The screen.
        log: The run's metrics.jsonl.
        evaluate: Evaluates the validation split.
        stopper: Knows whether a signal requested a stop.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        stages: int,
        listener: Listener,
        log: Path,
        evaluate: Callable[[], EvalResult],
        stopper: Stopper,
    ) -> None:
        self.best: BestEpoch | None = None
        self.ended_at = -1  # the step at which patience ran out
        self.stage, self.stages, self.stopper = stage, stages, stopper
        self.listener, self.log, self.evaluate = listener, log, evaluate
        self.depth: Callable[[], Depth | None] = lambda: None
        self.clock, self.step = time.perf_counter(), 0  # when the last log was, less what evaluations took since

    def attach(self, trainer: DactTrainer, depth: Callable[[], Depth | None], best: BestEpoch | None) -> None:
        """Give it the trainer's view of depth, and take the Trainer's own printing away.

        Args:
            trainer: The trainer.
            depth: Mean layers and halting weights of the last batches.
            best: Chooses the epoch to keep; None where the last one is kept.
        """
        from transformers import PrinterCallback, ProgressCallback

        self.depth, self.best = depth, best
        for kind in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(kind)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the stage; after a resume drop log lines of steps that are taken again."""
        if distributed.is_main():
            keep_lines_until(self.log, self.stage.label, state.global_step)
        self.listener.stage_started(self.stage.name, self.stage.number, self.stages, state.max_steps)
        self.listener.stepped(state.global_step)
        if self.best is not None and state.global_step:
            if _ends_epoch(state) and not distributed.on_main(lambda: self._evaluated(state.global_step)):
                self._evaluate(state)  # a kill came between this step and its evaluation
            self._end_if_exhausted(state, control)
        self.clock, self.step = time.perf_counter(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the step; save and stop after it when a signal came to any process."""
        if self.ended_at >= 0:
            control.should_training_stop = True  # the Trainer takes a step even if training ended where it resumed
            return
        self.listener.stepped(state.global_step)
        if self.stopper.agree() is not None:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write the Trainer's numbers down, with the throughput and the depth."""
        if logs is None or "loss" not in logs:
            return
        layers, weights = self.depth() or (None, None)
        log = StepLog(
            **{name: float(logs[name]) for name in SHOWN},
            examples_per_second=self._throughput(args, state.global_step),
            layers_mean=layers,
            halting_weights=weights,
        )
        self._write(state.global_step, {name: value for name, value in asdict(log).items() if value is not None})
        self.listener.logged(log)

    def _throughput(self, args: Any, step: int) -> float:
        """Examples per second since the last log, of all processes together."""
        now = time.perf_counter()
        examples = (step - self.step) * args.train_batch_size * args.gradient_accumulation_steps
        rate = examples / max(now - self.clock, 1e-9)
        self.clock, self.step = now, step
        return float(rate)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the validation split, unless a signal ended the epoch."""
        if self.ended_at >= 0 or self.stopper.agree() is not None:
            return
        self._evaluate(state)
        self._end_if_exhausted(state, control)

    def _evaluate(self, state: Any) -> None:
        """Evaluate the validation split, and keep the weights if they are the best so far."""
        began = time.perf_counter()
        result = self.evaluate()
        self.clock += time.perf_counter() - began
        rules = {
            rule: {"metric": judged.metric, "layers_mean": judged.layers_mean} for rule, judged in result.rules.items()
        }
        best = self.best is not None and self.best.judge(result, state.epoch, state.global_step)
        marked = {} if self.best is None else {"best": best}
        self._write(state.global_step, {"epoch": state.epoch, "evaluation": rules, **marked})
        self.listener.evaluated(result)
        if best:
            self.listener.best_epoch(state.epoch)

    def _end_if_exhausted(self, state: Any, control: Any) -> None:
        if self.best is not None and self.best.exhausted(state.epoch):
            self.ended_at = state.global_step
            control.should_training_stop = True

    def _evaluated(self, step: int) -> bool:
        """Whether the log has an evaluation of a step."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.is_file() else []
        found = [line for line in map(json.loads, lines) if "evaluation" in line]
        return any(line["stage"] == self.stage.label and line["step"] == step for line in found)

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        line = {"stage": self.stage.label, "step": step, "time": round(time.time(), 3), **values}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")


def _ends_epoch(state: Any) -> bool:
    return bool(abs(state.epoch - round(state.epoch)) < 1e-6 or state.global_step >= state.max_steps)


class TensorBoardLog(TensorBoardCallback):  # type: ignore[misc]
    """Scalars for TensorBoard; a disk that takes no more of them ends the log and not the training.

    Args:
        writer: Writes the events.
        notice: Called when the log ends early.
    """

    def __init__(self, writer: SummaryWriter, notice: Callable[[str], None]) -> None:
        self.notice, self.ended = notice, False
        super().__init__(writer)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the Trainer's numbers down."""
        if self.ended:
            return
        try:
            super().on_log(args, state, control, **kwargs)
        except OSError as error:
            self.ended = True
            self.notice(f"{self.tb_writer.log_dir}: the TensorBoard log ends here: {error.strerror}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the writer open: who opened it closes it."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path, notice: Callable[[str], None], *, after: int = 0) -> Iterator[TensorBoardLog]:
        """A log that is closed in the end, with its thread's own complaints about a full disk kept off the screen.

        Args:
            folder: Where it goes.
            notice: Called when the log ends early.
            after: The last step that stands of what is there; TensorBoard drops later ones, which are taken again.
        """
        before = threading.excepthook

        def hook(trouble: threading.ExceptHookArgs) -> None:
            if not isinstance(trouble.exc_value, OSError):
                before(trouble)

        threading.excepthook = hook
        writer = SummaryWriter(str(folder), purge_step=after + 1)
        try:
            yield cls(writer, notice)
        finally:
            with suppress(OSError):
                writer.close()
            threading.excepthook = before


def keep_lines_until(log: Path, stage: str, step: int) -> None:
    """Drop the log lines of a stage beyond a step; its first line marks where to look.

    Args:
        log: metrics.jsonl, which may not exist yet.
        stage: The stage's label.
        step: Its last step that stands.
    """
    if not log.is_file():
        return
    kept = []
    lines = log.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue  # torn by a kill
        if value["stage"] != stage or value["step"] <= step:
            kept.append(line)
    if len(kept) < len(lines):
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
