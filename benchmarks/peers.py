"""The peers, each trained and stopped its own way, against dact's own recipe and rule.

    python benchmarks/peers.py train OUT --seeds 0,1,2 --set data.source=files --set data.train=... --set model.encoder=...
    python benchmarks/peers.py train OUT --only joint-entropy-attention,dact-mean --set ...
    python benchmarks/peers.py table OUT
    python benchmarks/peers.py table OUT --heads attention
    python benchmarks/peers.py train OUT --only dact-sum-p --suffix=-tau-0.02 --set dact.tau=0.02 --set ...
    python benchmarks/peers.py certified OUT
    python benchmarks/peers.py table benchmarks/outputs/sst2 --set data.source=files --set data.train=... --set data.test=...

`train` fine-tunes every method with every seed into OUT/runs, one after the other, and keeps what the layers of each
finished run said in OUT/<method>-<seed>.npz; it can be stopped and called again. `--set` goes to every recipe. `table`
reads the kept outputs alone; what is kept in benchmarks/outputs comes without the labels of the data, which `--set` then
names. Every method is trained as its authors have it, our own with attention in the exit heads and the peers with the
mean; `--only` names the others too, and `--heads` compares those with the same heads. A rule has a figure only at budgets at which it runs, an area only if it can stop at layer 1; "dact less this" is
the difference of areas from the given layer on, where both run. Thresholds come from the validation split, the figures from the test split, once. The
reference is plain fine-tuning; intervals are 95 % bootstrap intervals over examples and seeds, paired between methods.

`certified` needs no labels: mean layers at a certified disagreement (delta 0.05) with the last layer's own answer y_N,
for every method alike, and of DACT models also with full depth a_N, over 1,000 draws of 1,000 test examples with
replacement; N where nothing passes. It measures and chooses nothing. `papers.py` reads a sweep over tau.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dactcli import list_runs
from dactcli.api.compare import entrant

# internals: compares outputs that are kept without their runs, and resamples the sound rules over seeds
from dactcli.data.sources import load_splits
from dactcli.evaluation.certified_layers import RISKS, Population, expected_layers
from dactcli.evaluation.comparison import BOOTSTRAPS, STATIC, Entrant, compare
from dactcli.evaluation.metrics import CLASSIFICATION, Array, tally
from dactcli.evaluation.threshold_sweep import ThresholdSweep, full_decisions
from dactcli.halting import make_rule
from dactcli.halting.rules import RULES
from dactcli.recipe.load import load_recipe
from dactcli.results import AreaDifference, ComparedRule, Comparison, RunFacts
from dactcli.runs.outputs import LayerOutputs

RECIPES = Path(__file__).parents[1] / "recipes"
OURS = "dact"
LABELS = "labels.npz"  # apart from the outputs, which may be passed on where the data may not


@dataclass(frozen=True)
class Method:
    """A way to run fewer layers: how it is trained, how it stops, and how its recipe pools in the exit heads."""

    recipe: str
    rules: tuple[str, ...]
    heads: str = "mean"
    set_by: tuple[str, ...] = ()

    def with_heads(self, heads: str) -> Method:
        """The same with other exit heads."""
        return replace(self, heads=heads, set_by=(f"model.pooling={heads}",))


HEADS = ("attention", "mean")
AS_PUBLISHED = {
    OURS: Method("sst2", ("confidence", "max_prob", "agreement", "exact", "paper"), "attention"),
    "joint, entropy": Method("peers/joint-entropy", ("entropy",)),
    "PABEE": Method("peers/pabee", ("patience",)),
    "DeeBERT": Method("peers/deebert", ("entropy",)),
    "FastBERT": Method("peers/fastbert", ("entropy",)),
    "BERxiT": Method("peers/berxit", ("learned",)),
    "DACT, end to end": Method("end-to-end", ("exact", "confidence"), "attention"),
    "DACT, sum_h": Method("dact-paper/sum-h", ("paper",)),
    "DACT, sum_p": Method("dact-paper/sum-p", ("paper",)),
}
METHODS = AS_PUBLISHED | {
    f"{name}, {heads}": method.with_heads(heads)
    for name, method in AS_PUBLISHED.items()
    for heads in HEADS
    if heads != method.heads
}
PLAIN = "peers/plain"
CERTIFIED = ("max_prob", "agreement")  # the rules that every method is judged by, beside its own
MIXED = ("settled", "confidence", *CERTIFIED)  # judged against a_N, which a certificate of a DACT model is about


def slug(name: str) -> str:
    """A method's name as files bear it."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).replace("--", "-")


def train(wanted: argparse.Namespace) -> None:
    """Fine-tune what is not finished yet, seed by seed, so that a first comparison is there early."""
    out, suffix, only = wanted.out, wanted.suffix, wanted.only.split(",") if wanted.only else None
    price = [] if wanted.tau is None else [f"dact.tau={wanted.tau}"]
    jobs: dict[str, tuple[str, list[str]]] = {
        slug(name): (method.recipe, [*method.set_by, *(price if method.recipe == AS_PUBLISHED[OURS].recipe else [])])
        for name, method in METHODS.items()
        if name in AS_PUBLISHED or slug(name) in (only or ())
    }
    jobs |= {"plain": (PLAIN, []), **{f"cut-{k}": (PLAIN, [f"model.layers={k}"]) for k in range(1, wanted.layers)}}
    for seed in map(int, wanted.seeds.split(",")):
        for name, (recipe, own) in jobs.items():
            kept = out / f"{name}{suffix}-{seed}.npz"
            if kept.is_file() or (only and name not in only):
                continue
            sets = [*own, *wanted.overrides, f"training.seed={seed}"]
            run = _finished(out / "runs", f"{name}{suffix}-{seed}", recipe, sets)
            keep(run, name, kept)
            shutil.rmtree(run)
            print(f"{kept} is there", flush=True)


def _finished(folder: Path, name: str, recipe: str, overrides: list[str]) -> Path:
    sets = [*overrides, f"output.dir={folder}", f"output.name={name}"]
    going_on = ["--resume"] if any(not one.finished for one in _named(folder, name)) else []
    command = [sys.executable, "-m", "dactcli", "finetune", str(RECIPES / f"{recipe}.yaml"), *going_on]
    subprocess.run([*command, *(part for text in sets for part in ("--set", text))], check=True)
    return next(Path(one.run) for one in _named(folder, name) if one.finished)


def _named(folder: Path, name: str) -> list[RunFacts]:
    """The runs of a name, the newest first."""
    return [one for one in list_runs(folder) if Path(one.run).name.rpartition("-")[0] == name]


def keep(run: Path, variant: str, path: Path) -> None:
    """Write what the layers of a run said, on validation and test, in half precision."""
    one, metric = entrant(run, split="test", device="cpu")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path.parent / LABELS, test=one.test_labels, validation=one.validation_labels)
    arrays: dict[str, Any] = {}
    for split, outputs in (("test", one.test), ("validation", one.validation)):
        for name, tensor in outputs.tensors().items():
            values = tensor.numpy().astype(np.float16)
            if one.plain and name != "certainty":
                values[:, :-1] = 0  # nobody asks layers that were not trained, and zeros take no room
            arrays[f"{split}_{name}"] = values
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    facts = {"variant": variant, "layers": one.layers, "objective": one.test.objective, "metric": metric}
    facts |= {"seconds": summary["seconds"], "versions": summary["versions"], "seed": summary["seed"]}
    np.savez_compressed(path, facts=json.dumps(facts), **arrays)


def labels_of(out: Path, overrides: list[str]) -> dict[str, Any]:
    """The labels of validation and test [E]: as kept beside the outputs, or read from the data."""
    if not overrides:
        return dict(np.load(out / LABELS, allow_pickle=False))
    splits = load_splits(load_recipe(RECIPES / "sst2.yaml", overrides)).splits
    return {split: np.asarray(splits[split].labels) for split in ("validation", "test")}


def load(path: Path, labels: dict[str, Any]) -> tuple[Entrant, dict[str, Any]]:
    """A run as `keep` wrote it."""
    with np.load(path, allow_pickle=False) as kept:
        facts = json.loads(str(kept["facts"]))

        def outputs(split: str) -> LayerOutputs:
            names = [name for name in ("y", "h", "certainty") if f"{split}_{name}" in kept]
            tensors: dict[str, Any] = {n: torch.from_numpy(kept[f"{split}_{n}"].astype(np.float32)) for n in names}
            return LayerOutputs(**tensors, objective=facts["objective"])

        found = Entrant(
            run=path.stem,
            variant=path.stem.rpartition("-")[0],
            validation=outputs("validation"),
            test=outputs("test"),
            validation_labels=labels["validation"],
            test_labels=labels["test"],
        )
    return found, facts


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    rule: str
    comparison: Comparison
    judged: ComparedRule


def kept_runs(out: Path, overrides: list[str]) -> tuple[list[Entrant], str]:
    """All runs whose outputs are kept, and the metric."""
    paths = [path for path in sorted(out.glob("*.npz")) if path.name != LABELS]
    if not paths:
        raise SystemExit(f"{out} holds no outputs; make them with: python benchmarks/peers.py train {out} ...")
    labels = labels_of(out, overrides)
    kept = [load(path, labels) for path in paths]
    return [one for one, _ in kept], str(kept[0][1]["metric"])


def promises(runs: list[Entrant], metric: str) -> str:
    """Full depth, and the layers of the sound rules, mean and spread over seeds; full depth less plain fine-tuning."""
    lines = [
        "| training | seeds | full depth | less plain | last layer alone | layers of `exact` | layers of `paper` |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    plain = [one for one in runs if one.variant == "plain"]
    for name in ("plain", OURS, f"{OURS}-mean", *(slug(name) for name in METHODS if name.startswith("DACT,"))):
        own = [one for one in runs if one.variant == name]
        if not own:
            continue
        full = scores(own, metric)
        gap = full[:, 0] - scores(plain, metric)[:, 0]
        low, high = np.quantile(gap[1:], [0.025, 0.975])
        beside = "" if name == "plain" else f"{gap[0]:+.4f} ({low:+.4f} to {high:+.4f})"
        each = np.array([scores([one], metric)[0] for one in own])
        depths = ""
        for rule in ("exact", "paper"):
            found = [depth(one, rule) for one in own if one.test.mixes]
            depths += f" {spread(found, 2)} |" if found else " |"
        lines.append(
            f"| {name} | {len(own)} | {spread(each[:, 0].tolist())} | {beside} | {spread(each[:, 1].tolist())} |{depths}"
        )
    return "\n".join(lines)


def scores(runs: list[Entrant], metric: str) -> Array:
    """Metric of full depth and of the last layer alone, mean over seeds, of all examples and seeds and of samples of both.

    Returns:
        The whole first, then the bootstrap samples, the same ones for every method [1 + S, 2].
    """
    labels, rng = runs[0].test_labels, np.random.default_rng(0)
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=BOOTSTRAPS).astype(float)
    weights = np.concatenate([np.ones((1, len(labels))), weights])
    drawn = np.random.default_rng(1).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=BOOTSTRAPS)
    seeds = np.concatenate([np.ones((1, len(runs))), drawn]) / len(runs)  # [1 + S, runs]
    both = [
        [full_decisions(one.test) for one in runs],
        [one.test.y[:, -1].argmax(-1).numpy() for one in runs],
    ]
    classes = runs[0].test.y.shape[-1]
    found = [CLASSIFICATION[metric](tally(np.array(ways), labels, weights, classes=classes)) for ways in both]
    return np.stack([(one * seeds).sum(-1) for one in found], axis=-1)


def on_validation(one: Entrant) -> Entrant:
    """The same run with validation in the place of test."""
    return replace(one, test=one.validation, test_labels=one.validation_labels)


def depth(one: Entrant, rule: str) -> float:
    """Mean layers that a rule runs on test."""
    return float(one.test.decide(make_rule(rule)).exit_layer.double().mean())


def difference(gap: AreaDifference) -> str:
    """A difference of areas with its interval."""
    return f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard deviation over seeds."""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def compared(runs: list[Entrant], metric: str, heads: str | None) -> list[Row]:
    """All methods by their own rules, ours first; those with some exit heads, or all as published."""
    by_name = {name: [one for one in runs if one.variant == name] for name in {one.variant for one in runs}}
    plain = by_name["plain"]
    rows = []
    for name, method in METHODS.items():
        fits = method.heads == heads if heads is not None else name in AS_PUBLISHED
        if fits and (own := by_name.get(slug(name))):
            for rule in method.rules:
                found = compare([*plain, *own], metric=metric, split="test", rules=[rule])
                if rule in found.rules:
                    rows.append(Row(name, rule, found, found.rules[rule]))
    cuts = [one for one in runs if one.variant.startswith("cut-")]
    if cuts:
        found = compare([*plain, *cuts], metric=metric, split="test", rules=[STATIC])
        rows.append(Row("fewer layers", STATIC, found, found.rules[STATIC]))
    return rows


def cell(metric: float | None) -> str:
    """A metric, or a dash where the rule never runs so few layers."""
    return "-" if metric is None else f"{metric:.4f}"


def table(out: Path, overrides: list[str], heads: str | None) -> str:
    """The comparison in Markdown, of methods with the same exit heads or of all as published."""
    runs, metric = kept_runs(out, overrides)
    rows = compared(runs, metric, heads)
    reference, layers = rows[0].comparison.reference_metric, rows[0].comparison.layers
    seeds = len(rows[0].comparison.reference_runs)
    lines = [
        f"{rows[0].comparison.examples:,} test examples, {seeds} seeds; plain fine-tuning: {reference:.4f}, "
        f"the majority class: {rows[0].comparison.majority_metric:.4f}",
        "",
        f"| method | rule | at {layers / 4:g} layers | at {layers / 2:g} | at {layers * 3 / 4:g} "
        "| layers for 99 % of plain | area | dact less this | from layer |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        judged, gap = row.judged, rows[0].judged.curves.less(row.judged.curves)
        at = " | ".join(cell(judged.metric_at[share]) for share in ("0.25", "0.5", "0.75"))
        enough = f"{judged.layers_for_99:.2f}" if judged.layers_for_99 is not None else "never"
        beside, start = "", ""
        if row is not rows[0]:
            beside = difference(gap)
            start = f"{gap.layers_from:.2f}"
        own = judged.area
        area = "-" if own is None else f"{own.value:.4f} ({own.low:.4f} to {own.high:.4f})"
        lines.append(f"| {row.name} | {row.rule} | {at} | {enough} | {area} | {beside} | {start} |")
    return "\n".join([*lines, "", promises(runs, metric)])


def certified(out: Path) -> str:
    """Mean layers at a certified disagreement with y_N, mean and spread over seeds, in Markdown."""
    lines = ["| method | rule | against | seeds | layers at 1 % | at 2 % |", "| --- | --- | --- | --- | --- | --- |"]
    paths = [path for path in sorted(out.glob("*.npz")) if path.name != LABELS]
    nothing: dict[str, Any] = {"validation": np.zeros(0), "test": np.zeros(0)}
    runs = [load(path, nothing)[0] for path in paths]
    for name, method in METHODS.items():
        own = [one for one in runs if one.variant == slug(name)]
        if not own:
            continue
        wanted = [(rule, "y_N") for rule in dict.fromkeys([*CERTIFIED, *method.rules])]
        if own[0].test.mixes:
            wanted += [(rule, "a_N") for rule in MIXED]
        for rule, against in wanted:
            cells = [spread([layers_at(one, rule, risk, against) for one in own], 2) for risk in RISKS]
            lines.append(f"| {name} | {rule} | {against} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def layers_at(one: Entrant, rule: str, risk: float, against: str) -> float:
    """Mean layers of one run at a certified disagreement with the last layer's answer, y_N, or with full depth, a_N."""
    validation, outputs = one.validation, one.test
    if against == "y_N" and not RULES[rule].needs_dact:  # so that full depth is y_N, which `agreement` is fitted to
        validation, outputs = (replace(found, objective="layers") for found in (validation, outputs))
    reference = outputs
    if rule == "agreement":
        outputs = outputs.with_agreement(validation.fit_agreement())
    made = RULES[rule]()
    grid = [None] if made.threshold_name is None else made.of(outputs.answers).grid(outputs.layers, outputs.classes)
    sweep = ThresholdSweep(made, grid, outputs, reference)
    differs = sweep.classes != (outputs.y[:, -1].argmax(-1).numpy() if against == "y_N" else sweep.full)
    population = Population.even(differs, sweep.layers_mean, otherwise=outputs.layers)
    return expected_layers(population, risk, size=1000)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=["train", "table", "certified"])
    made.add_argument("out", type=Path)
    made.add_argument("--seeds", default="0,1,2")
    made.add_argument("--layers", type=int, default=6, help="of the encoder, for the cut ones")
    made.add_argument("--only", help="methods, as files name them, with commas; NAME-attention, NAME-mean: other heads")
    made.add_argument("--tau", type=float, help="price of a layer of our own method; the peers have none")
    made.add_argument("--suffix", default="", help="of the names of what is trained, such as -tau-0.02")
    made.add_argument("--heads", choices=HEADS, help="compare methods with these exit heads; else all as published")
    made.add_argument("--set", dest="overrides", action="append", default=[])
    return made


def main() -> None:
    """Parse, and train or print."""
    wanted = parser().parse_args()
    if wanted.what == "train":
        train(wanted)
    elif wanted.what == "certified":
        print(certified(wanted.out))
    else:
        print(table(wanted.out, wanted.overrides, wanted.heads))


if __name__ == "__main__":
    main()
