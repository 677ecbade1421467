"""What training costs: DACT against transformers' Trainer with the plain classifier, and our batches against random ones.

Every way trains the run's encoder on the first examples of the run's own training data, by the Trainer, with the same
optimizer: the plain classifier and DACT on our batches of like length, and DACT on batches in random order. Peak
memory is the largest resident size (Linux) of a process of its own per way.

    python benchmarks/training.py runs/sst2-1 --examples 640 --rounds 5
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler
from transformers import PrinterCallback, Trainer

from dactcli import open_run, run_examples
from dactcli.api.common import quieten_libraries

# internals: measures the training step inside the Trainer, with the clock of `dact profile`
from dactcli.data.batches import Encoded
from dactcli.profiling.latency import Effort, ratio, round_totals, take_turns
from dactcli.profiling.ways import stock_classifier
from dactcli.training.stages import resolve_stages
from dactcli.training.trainer import DactTrainer, TrainingSet, stage_arguments

WAYS = ("plain", "dact", "dact, random order")


class Plain(DactTrainer):
    """transformers' own step and loss, on our batches and with our optimizer."""

    training_step = Trainer.training_step
    compute_loss = Trainer.compute_loss


class RandomOrder(DactTrainer):
    """Our step on batches in random order."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return RandomSampler(range(len(self.lengths)), generator=torch.Generator().manual_seed(0))


def make(way: str, run: Any, encoded: Encoded, folder: str) -> Trainer:
    stage = next(stage for stage in resolve_stages(run.recipe) if stage.name == "joint")
    model = stock_classifier(run.model) if way == "plain" else run.model
    # `encoder` is what the Trainer freezes; a stock model calls it by its own name
    if way == "plain":
        type(model).encoder = property(lambda self: self.base_model)
    kind = {"plain": Plain, "dact": DactTrainer, "dact, random order": RandomOrder}[way]
    arguments = stage_arguments(run.recipe, stage, Path(folder), torch.device("cpu"))
    arguments.num_train_epochs, arguments.max_steps, arguments.save_strategy = 1, -1, "no"
    trainer = kind(model, stage, arguments, TrainingSet(encoded, range(len(encoded.lengths)), run.tokenizer), [])
    trainer.remove_callback(PrinterCallback)
    return trainer


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("--examples", type=int, default=640)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--only", choices=WAYS, help="train one way once and print its peak memory in MiB")
    return made


def main() -> None:
    options = parser().parse_args()
    quieten_libraries()
    warnings.simplefilter("ignore")
    run = open_run(options.run, device="cpu")
    encoded = run_examples(run, "train")
    few = {name: rows[: options.examples] for name, rows in encoded.inputs.items()}
    encoded = Encoded(few, (encoded.labels or [])[: options.examples], [])
    with tempfile.TemporaryDirectory() as folder:
        if options.only:
            make(options.only, run, encoded, folder).train()
            print(peak_resident_mib())
            return
        ways = {way: lambda _, way=way: make(way, run, encoded, folder).train() for way in WAYS}
        samples = take_turns(ways, 1, device=torch.device("cpu"), effort=Effort(1, options.rounds))
    times = {name: round_totals(rounds) for name, rounds in samples.items()}
    peaks = {way: peak(way, options) for way in WAYS}
    print(f"{options.run.name}, {options.examples} examples, {options.rounds} rounds")
    step, whole = ratio(times["dact"], times["plain"]), ratio(times["dact"], times["dact, random order"])
    print(f"  step, DACT / plain                {step.value:.3f} ({step.low:.3f}-{step.high:.3f})")
    print(f"  run, our batches / random order   {whole.value:.3f} ({whole.low:.3f}-{whole.high:.3f})")
    print(f"  peak memory, MiB                  {', '.join(f'{way} {mib:.0f}' for way, mib in peaks.items())}")
    for way in ("plain", "dact, random order"):
        print(f"  peak memory, DACT / {way:20} {peaks['dact'] / peaks[way]:.3f}", flush=True)


def peak_resident_mib() -> float:
    """The kernel's own mark; getrusage would hand on that of the process that started this one."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def peak(way: str, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, str(options.run), "--examples", str(options.examples), "--only", way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
