"""Start several processes on this machine, as users do: torchrun with gloo on the CPU."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "distributed"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

# 61 rows in batches of 12 leave 1 for two processes; it and accumulation end the epoch with a short step
RECIPE = """
data: {source: files, train: train.csv, validation: validation.csv, calibration: calibration.csv, max_length: 24}
model:
  encoder: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 24, dropout: 0.0}
  pooling: mean
dact: {layer_loss: alternate, tau: 0.01}
training:
  batch_size: 12
  accumulate: 2
  mask_tokens: 0
  log_steps: 1
  learning_rate: 5e-3
  unit_learning_rate: 1e-2
  stages: [{name: joint, tau: null, epochs: 4}, {name: joint, epochs: 4}, {name: units, epochs: 1}]
evaluation: {rules: [full, exact, "max_prob:0.52"]}
output: {name: words}
"""
WORDS = ["a", "film", "of", "many", "scenes", "and", "few", "ideas", "with", "the", "usual", "end"]


def write_data(folder: Path) -> None:
    """Files in which one word decides, mostly; and the recipe."""
    chance = random.Random(0)
    for name, rows in {"train": 61, "validation": 37, "calibration": 41, "one": 1}.items():
        lines = ["sentence,label"]
        for _ in range(rows):
            good = chance.random() < 0.5
            words = [*chance.choices(WORDS, k=chance.randint(1, 12)), "good" if good else "bad"]
            chance.shuffle(words)
            lines.append(f"{' '.join(words)},{'yes' if good != (chance.random() < 0.1) else 'no'}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "words.yaml").write_text(RECIPE)


def environment() -> dict[str, str]:
    """What the processes find, from whichever folder the package is taken."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def launch(
    folder: Path, *commands: list[object], fault: tuple[str, int] | None = None
) -> subprocess.CompletedProcess[str]:
    """Two processes that run command lines of `dact` in a folder; see driver.py."""
    plan = folder / "commands.json"
    plan.write_text(json.dumps([[str(word) for word in command] for command in commands]))
    words = [*TORCHRUN, str(HERE / "driver.py"), str(plan), *map(str, fault or ())]
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)


def codes(folder: Path) -> list[list[int]]:
    """The exit codes of each process's command lines."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("codes-*.json"))]


def sentences(stderr: str) -> list[str]:
    """What the processes said went wrong."""
    return [line for line in stderr.splitlines() if line.startswith("error:")]
