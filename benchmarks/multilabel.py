"""Multi-label: DACT against plain fine-tuning of the same encoder, in folds; micro F1, layers, and a certificate on sets.

Each fold in turn is the test split, with a training seed of its own. From the other rows, a tenth serves validation and
a quarter calibration. Every finished training leaves its figures in OUT/results, and a second call goes on with what is
missing.

    python benchmarks/multilabel.py train OUT train.jsonl --text text --label intents --encoder MODEL
    python benchmarks/multilabel.py table OUT
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dactcli import RiskRequest, calibrate, evaluate, fit

# internals: the overrides of a recipe file, and atomic results
from dactcli.recipe.load import load_recipe
from dactcli.storage import write_json

WAYS = ("dact", "plain")
RECIPE = """
data: {source: files, train: train.jsonl, validation: 0.1, calibration: 0.25, test: test.jsonl, max_length: 64}
task: {kind: multilabel}
model: {encoder: bert-base-uncased}
dact: {tau: 0.003}
evaluation: {risk: null}
training: {epochs: 40, batch_size: 16, learning_rate: 1e-4, unit_learning_rate: 1e-3, report_to: []}
"""


def write_folds(data: Path, out: Path, folds: int) -> list[Path]:
    """The folder of each fold, with its train.jsonl and test.jsonl; written once."""
    rows = [line for line in data.read_text(encoding="utf-8").splitlines() if line.strip()]
    random.Random(0).shuffle(rows)
    folders = [out / f"fold-{number}" for number in range(folds)]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"test": rows[number::folds], "train": [row for at, row in enumerate(rows) if at % folds != number]}
        for name, part in parts.items():
            (folder / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
        (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folders


def settings(arguments: argparse.Namespace, way: str, seed: int, runs: Path) -> list[str]:
    """The overrides of one training."""
    plain = ["dact=null", "training.stages=[{name: encoder}]"] if way == "plain" else []
    return [
        f"data.text={arguments.text}",
        f"data.label={arguments.label}",
        f"model.encoder={arguments.encoder}",
        f"training.seed={seed}",
        f"output.dir={runs}",
        f"output.name={way}",
        *plain,
        *arguments.set,
    ]


def measure(folder: Path, overrides: Sequence[str], way: str, risk: float) -> dict[str, Any]:
    """Train one run, certify it, and judge it on the fold's test split."""
    run = fit(load_recipe(folder / "recipe.yaml", overrides)).run
    certificate = calibrate(run, RiskRequest(risk)).to_json() if way == "dact" else None
    judged = evaluate(run, split="test").to_json()
    shutil.rmtree(run)
    return {"certificate": certificate, "test": judged}


def train(arguments: argparse.Namespace) -> None:
    """Train what is missing, fold by fold."""
    out: Path = arguments.out
    folders = write_folds(arguments.data, out / "data", arguments.folds)
    for seed in map(int, arguments.seeds.split(",")):
        for number, folder in enumerate(folders):
            for way in arguments.ways.split(","):
                place = out / "results" / f"{way}-{number}-{seed}.json"
                if place.exists():
                    continue
                found = measure(folder, settings(arguments, way, seed + number, out / "runs"), way, arguments.risk)
                place.parent.mkdir(parents=True, exist_ok=True)
                write_json(place, {"way": way, "fold": number, "seed": seed, **found})
                print(place, found["test"]["rules"]["full"]["metrics"], flush=True)


def figures(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """The rows of the table that one training gives: rule, and its figures."""
    rules, certificate = document["test"]["rules"], document["certificate"]
    for name in ("full", "exact", *([certificate["rule"]] if certificate else [])):
        if name in rules:
            told = "certified" if certificate and certificate["certified"] and name == certificate["rule"] else name
            one = rules[name]
            shown = {key: value for key, value in one["metrics"].items() if value is not None}
            share, same = one["layers_share"], one["agreement_with_full"]
            yield f"{document['way']} {told}", {**shown, "layers_share": share, "same_set": same}


def table(arguments: argparse.Namespace) -> None:
    """Mean and standard deviation over folds and seeds."""
    found: dict[str, list[dict[str, float]]] = {}
    for path in sorted((arguments.out / "results").glob("*.json")):
        for row, values in figures(json.loads(path.read_text(encoding="utf-8"))):
            found.setdefault(row, []).append(values)
    for row, several in found.items():
        cells = []
        for name in several[0]:
            known = [one[name] for one in several if name in one]
            spread = statistics.stdev(known) if len(known) > 1 else 0.0
            cells.append(f"{name} {statistics.mean(known):.4f} ±{spread:.4f}")
        print(f"{row:16} n={len(several)}  {'  '.join(cells)}")


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = found.add_subparsers(required=True)
    trains, tables = commands.add_parser("train"), commands.add_parser("table")
    trains.add_argument("out", type=Path)
    trains.add_argument("data", type=Path)
    trains.add_argument("--text", default="text")
    trains.add_argument("--label", default="labels")
    trains.add_argument("--encoder", required=True)
    trains.add_argument("--folds", type=int, default=5)
    trains.add_argument("--seeds", default="0")
    trains.add_argument("--ways", default=",".join(WAYS))
    trains.add_argument("--risk", type=float, default=0.02)
    trains.add_argument("--set", action="append", default=[])
    trains.set_defaults(do=train)
    tables.add_argument("out", type=Path)
    tables.set_defaults(do=table)
    return found


if __name__ == "__main__":
    given = parser().parse_args()
    given.do(given)
