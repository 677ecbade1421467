"""What LoRA saves: the training step and peak memory of LoRA against training all weights of the same encoder.

Both ways train the first examples of the built-in task with the Trainer, the same batches and the same optimizer. Peak
memory is the largest resident size (Linux) of a process of its own per way.

    python benchmarks/lora.py path/to/encoder --examples 160 --rounds 5
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import torch
from training import peak_resident_mib
from transformers import PrinterCallback

from dactcli.api.common import quieten_libraries

# internals: measures the training step inside the Trainer, with the clock of `dact profile`
from dactcli.data.sources import load_splits
from dactcli.profiling.latency import Effort, ratio, round_totals, take_turns
from dactcli.recipe.schema import DataSection, ModelSection, Recipe, TaskSection, TrainingSection
from dactcli.recipe.tasks import complete
from dactcli.training.build import build, with_labels
from dactcli.training.frozen import count_parameters
from dactcli.training.stages import resolve_stages
from dactcli.training.trainer import DactTrainer, TrainingSet, stage_arguments

WAYS = ("all weights", "LoRA")


def make(way: str, options: argparse.Namespace, folder: str) -> tuple[DactTrainer, tuple[int, int]]:
    """A trainer for one epoch, with the parameters of the model and those it trains."""
    recipe = complete(
        Recipe(
            task=TaskSection(name="agreement"),
            data=DataSection(source="builtin", examples=options.examples),
            model=ModelSection(encoder=str(options.encoder), adapter="lora" if way == "LoRA" else None),
            training=TrainingSection(epochs=1.0, batch_size=options.batch_size),
        )
    )
    splits = load_splits(recipe)
    recipe = with_labels(recipe, splits)
    built = build(recipe, splits, lambda text: None, only=["train"])
    stage = resolve_stages(recipe)[0]
    counted = count_parameters(built.model, [stage])
    arguments = stage_arguments(recipe, stage, Path(folder), torch.device("cpu"))
    arguments.save_strategy = "no"
    encoded = built.encoded["train"]
    data = TrainingSet(encoded, range(len(encoded.lengths)), built.tokenizer)
    trainer = DactTrainer(built.model, stage, arguments, data, [])
    trainer.remove_callback(PrinterCallback)
    return trainer, counted


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("encoder", type=Path)
    made.add_argument("--examples", type=int, default=160)
    made.add_argument("--batch-size", type=int, default=16)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--only", choices=WAYS, help="train one way once and print its peak memory in MiB")
    return made


def main() -> None:
    options = parser().parse_args()
    quieten_libraries()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if options.only:
            make(options.only, options, folder)[0].train()
            print(peak_resident_mib())
            return
        made = {way: make(way, options, folder) for way in WAYS}
        samples = take_turns(
            {way: partial(_train, trainer) for way, (trainer, _) in made.items()},
            1,
            device=torch.device("cpu"),
            effort=Effort(1, options.rounds),
        )
    times = {way: round_totals(rounds) for way, rounds in samples.items()}
    peaks = {way: peak(way, options) for way in WAYS}
    step = ratio(times["LoRA"], times["all weights"])
    print(f"{options.encoder}, {options.examples} examples, {options.rounds} rounds")
    for way, (_, (parameters, trained)) in made.items():
        print(f"  parameters trained, {way:12}  {trained:,} of {parameters:,} ({trained / parameters:.1%})")
    print(f"  epoch, LoRA / all weights         {step.value:.3f} ({step.low:.3f}-{step.high:.3f})")
    print(f"  peak memory, MiB                  {', '.join(f'{way} {mib:.0f}' for way, mib in peaks.items())}")
    print(f"  peak memory, LoRA / all weights   {peaks['LoRA'] / peaks['all weights']:.3f}", flush=True)


def _train(trainer: DactTrainer, _: int) -> None:
    trainer.train()


def peak(way: str, options: argparse.Namespace) -> float:
    """Peak MiB of a process that trains one way."""
    sizes = ["--examples", str(options.examples), "--batch-size", str(options.batch_size)]
    command = [sys.executable, __file__, str(options.encoder), *sizes, "--only", way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
