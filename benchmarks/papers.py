"""The papers' own form over the price of a layer: what each form reaches, and the peers where it runs as few layers.

    python benchmarks/peers.py train OUT --only dact-sum-p --seeds 0 --suffix=-tau-0.1-two --set dact.tau=0.1 --set ...
    python benchmarks/papers.py benchmarks/outputs/sst2 --set data.source=files --set data.train=... --set data.test=...

A form is a training at several prices: a ponder cost (`sum_h`, `sum_p`), a start, and exit heads. Its models differ in
price alone, each is stopped by the papers' bound, and they make one curve. Three tables, read from the outputs that
`peers.py` keeps, whose names hold `-tau-` and the price:

1. every model: its layers and full depth on test, and both on validation;
2. every form on validation, its area over the layers that all forms run: what a form is chosen by;
3. every form's curve on test, and how far it lies above those of DeeBERT and PABEE with the same exit heads, over the
   layers that both run, with paired 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers

# internals: compares outputs that are kept without their runs
from dactcli.evaluation.comparison import Entrant, compare
from dactcli.halting import make_rule
from dactcli.results import ComparedRule

FORM = "dact-sum-"  # how the names of trainings in the papers' form begin
PRICE = re.compile(r"-tau-[0-9.]+")
BESIDE = {"DeeBERT": ("deebert", "entropy"), "PABEE": ("pabee", "patience")}


def forms_of(runs: Iterable[Entrant]) -> dict[str, list[Entrant]]:
    """The trainings at several prices, by their name without the price."""
    found: dict[str, list[Entrant]] = {}
    for one in runs:
        if one.variant.startswith(FORM) and PRICE.search(one.variant):
            found.setdefault(PRICE.sub("", one.variant), []).append(one)
    return found


def on_validation(one: Entrant) -> Entrant:
    """The same with validation in the place of test."""
    return replace(one, test=one.validation, test_labels=one.validation_labels)


def depth(one: Entrant, rule: str) -> float:
    """Mean layers that a rule runs on test."""
    return float(one.test.decide(make_rule(rule)).exit_layer.double().mean())


def models(runs: list[Entrant], metric: str) -> str:
    """Every training, mean and spread over seeds, in Markdown."""
    lines = [
        "| training | seeds | layers of `paper` | layers of `exact` | full depth | last layer alone "
        "| on validation: layers of `paper` | full depth |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted({one.variant for one in runs if one.variant.startswith(FORM)}):
        own = [one for one in runs if one.variant == name]
        held = [on_validation(one) for one in own]
        values = np.array([peers.scores([one], metric)[0] for one in own])
        cells = [peers.spread([depth(one, rule) for one in own], 2) for rule in ("paper", "exact")]
        cells += [peers.spread(values[:, place].tolist()) for place in (0, 1)]
        cells += [peers.spread([depth(one, "paper") for one in held], 2)]
        cells += [peers.spread([float(peers.scores([one], metric)[0, 0]) for one in held])]
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def judged(plain: list[Entrant], own: list[Entrant], rule: str, metric: str) -> ComparedRule:
    """The curve of a rule over all thresholds or models."""
    return compare([*plain, *own], metric=metric, split="test", rules=[rule]).rules[rule]


def points(found: ComparedRule) -> str:
    """A curve's points, as layers and metric."""
    return ", ".join(f"{point.layers_mean:.2f}: {point.metric:.4f}" for point in found.points)


def choice(forms: dict[str, list[Entrant]], plain: list[Entrant], metric: str) -> str:
    """What a form is chosen by: its curve on validation, over the layers that all forms run, in Markdown."""
    held = [on_validation(one) for one in plain]
    found = {name: judged(held, [on_validation(one) for one in own], "paper", metric) for name, own in forms.items()}
    starts = np.max([one.curves.starts for one in found.values()], axis=0)
    first = float(starts[0]) * plain[0].layers
    lines = [f"| form | area on validation, from layer {first:.2f} | layers: full depth |", "| --- | --- | --- |"]
    for name, one in found.items():
        lines.append(f"| {name} | {one.curves.areas(starts)[0]:.4f} | {points(one)} |")
    return "\n".join(lines)


def beside_peers(forms: dict[str, list[Entrant]], runs: list[Entrant], plain: list[Entrant], metric: str) -> str:
    """Every form's curve on test, less those of the peers with the same exit heads, in Markdown."""
    lines = [
        "| form | layers: full depth | peer, same heads | at these layers | area of the form less the peer's | from layer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, own in forms.items():
        curve = judged(plain, own, "paper", metric)
        for peer, (variant, rule) in BESIDE.items():
            wanted = f"{variant}-attention" if "-attention" in name else variant
            others = [one for one in runs if one.variant == wanted]
            if not others:
                continue
            other = judged(plain, others, rule, metric)
            gap = curve.curves.less(other.curves)
            there = ", ".join(f"{point.layers_mean:.2f}: {at(other, point.layers_mean)}" for point in curve.points)
            area = f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
            lines.append(f"| {name} | {points(curve)} | {peer} | {there} | {area} | {gap.layers_from:.2f} |")
    return "\n".join(lines)


def at(found: ComparedRule, layers: float) -> str:
    """A curve's metric at so many mean layers; a dash where it runs no fewer."""
    xs, ys = ([getattr(point, name) for point in found.points] for name in ("layers_mean", "metric"))
    return "-" if layers < xs[0] else f"{np.interp(layers, xs, ys):.4f}"


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path)
    made.add_argument("--set", dest="overrides", action="append", default=[])
    return made


def main() -> None:
    """Parse and print."""
    wanted = parser().parse_args()
    runs, metric = peers.kept_runs(wanted.out, wanted.overrides)
    plain = [one for one in runs if one.variant == "plain"]
    forms = forms_of(runs)
    for text in (
        models(runs, metric),
        choice(forms, plain, metric),
        beside_peers(forms, runs, plain, metric),
    ):
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
