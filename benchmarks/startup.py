"""How long until something is on the screen? Whole processes, in turn, as ratios.

    python benchmarks/startup.py RUN [--export FOLDER] [--rounds 10]

`dact --help` against the help of a bare typer program, and `dact inspect` on one sentence, cold, against a minimal
transformers script that classifies it with a stock classifier around the same encoder. With an export of the run, also
`dactcli.runtime` on one sentence, cold, against `dact inspect`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dactcli import open_run

# internals: the stock classifier and the interval of paired times are those of `dact profile`
from dactcli.profiling.latency import ratio
from dactcli.profiling.ways import stock_classifier

BARE = "import typer\napp = typer.Typer()\n@app.command()\ndef main(name: str) -> None:\n    print(name)\napp()\n"
MINIMAL = """
import sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    print(model(**tokenizer(["the key is rusty ."], return_tensors="pt")).logits.softmax(-1))
"""

SERVED = """
import sys
from dactcli.runtime import load
print(load(sys.argv[1]).predict(["the key is rusty ."]))
"""


def seconds(command: list[str]) -> float:
    """Of a process from start to end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def against(name: str, ours: list[str], theirs: list[str], rounds: int) -> None:
    """Run both in turn and print the ratio."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]  # the first fills the file cache
    mine, other = zip(*pairs, strict=True)
    found = ratio(list(mine), list(other))
    print(
        f"{name}: {statistics.median(mine):.2f} s against {statistics.median(other):.2f} s, "
        f"ratio {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    )


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("--export", type=Path)
    made.add_argument("--rounds", type=int, default=10)
    return made


def main() -> None:
    """Measure both."""
    wanted = parser().parse_args()
    dact = [sys.executable, "-m", "dactcli"]
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(wanted.run, device="cpu")
        stock_classifier(run.model).save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)
        against("dact --help", [*dact, "--help"], [sys.executable, "-c", BARE, "--help"], wanted.rounds)
        inspect = [*dact, "inspect", "the key is rusty .", "--run", str(wanted.run)]
        against("dact inspect", inspect, [sys.executable, "-c", MINIMAL, folder], wanted.rounds)
        if wanted.export is not None:
            served = [sys.executable, "-c", SERVED, str(wanted.export)]
            against("dactcli.runtime / dact inspect", served, inspect, wanted.rounds)


if __name__ == "__main__":
    main()
