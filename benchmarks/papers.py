"""The papers' own form over the price of a layer: what each form reaches, and the peers where it runs as few layers.

    python benchmarks/peers.py train OUT --only dact-sum-p --seeds 0 --suffix=-tau-0.1-two --set dact.tau=0.1 --set ...
    python benchmarks/papers.py benchmarks/outputs/sst2 --set data.source=files --set data.train=... --set data.test=...

A form is a training at several prices: a ponder cost (`sum_h`, `sum_p`), a start, and exit heads. Its models differ in
price alone, each is stopped by the papers' bound, and they make one curve. Three tables, read from the outputs that
`peers.py` keeps, whose names hold `-tau-` and the price:

1. every model: its layers and full depth on test, what DeeBERT and PABEE with the same exit heads have at as many
   layers, and its layers and full depth on validation;
2. every form on validation, its area over the layers that all forms run: what a form is chosen by;
3. every form's curve on test, and its area less those of the same peers, over the layers that both run, with paired 95 %
   bootstrap intervals: over examples and, where a form has as many seeds as plain fine-tuning, over seeds.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import peers

# internals: compares outputs that are kept without their runs
from dactcli.evaluation.comparison import Entrant, compare
from dactcli.results import ComparedRule

FORM = "dact-sum-"  # how the names of trainings in the papers' form begin
PRICE = re.compile(r"-tau-[0-9.]+")
PEERS = {"DeeBERT": ("deebert", "entropy"), "PABEE": ("pabee", "patience")}
HEADS = ("-attention", "")  # how names of trainings with them end
Beside = dict[str, ComparedRule]  # a peer's curve, by its name


def forms_of(runs: Iterable[Entrant]) -> dict[str, list[Entrant]]:
    """The trainings at several prices, by their name without the price."""
    found: dict[str, list[Entrant]] = {}
    for one in runs:
        if one.variant.startswith(FORM) and PRICE.search(one.variant):
            found.setdefault(PRICE.sub("", one.variant), []).append(one)
    return found


def models(runs: list[Entrant], metric: str, beside: dict[str, Beside]) -> str:
    """Every training, mean and spread over seeds, beside the peers, in Markdown."""
    lines = [
        "| training | seeds | layers of `paper` | layers of `exact` | full depth | last layer alone "
        f"| {' | '.join(f'{peer} there' for peer in PEERS)} | on validation: layers of `paper` | full depth |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted({one.variant for one in runs if one.variant.startswith(FORM)}):
        own = [one for one in runs if one.variant == name]
        held = [peers.on_validation(one) for one in own]
        values = np.array([peers.scores([one], metric)[0] for one in own])
        layers = [peers.depth(one, "paper") for one in own]
        cells = [peers.spread(layers, 2), peers.spread([peers.depth(one, "exact") for one in own], 2)]
        cells += [peers.spread(values[:, place].tolist()) for place in (0, 1)]
        cells += [at(beside[heads(name)].get(peer), float(np.mean(layers))) for peer in PEERS]
        cells += [peers.spread([peers.depth(one, "paper") for one in held], 2)]
        cells += [peers.spread([float(peers.scores([one], metric)[0, 0]) for one in held])]
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def heads(name: str) -> str:
    """The pooling of a training's exit heads, as names of other trainings end."""
    return HEADS[0] if HEADS[0] in name else HEADS[1]


def peer_curves(kind: str, runs: list[Entrant], plain: list[Entrant], metric: str) -> Beside:
    """The curves on test of the peers that were trained with some exit heads, each by its own rule."""
    own = {peer: [one for one in runs if one.variant == variant + kind] for peer, (variant, _) in PEERS.items()}
    return {peer: judged(plain, found, PEERS[peer][1], metric) for peer, found in own.items() if found}


def judged(plain: list[Entrant], own: list[Entrant], rule: str, metric: str) -> ComparedRule:
    """The curve of a rule over all thresholds or models."""
    return compare([*plain, *own], metric=metric, split="test", rules=[rule]).rules[rule]


def points(found: ComparedRule) -> str:
    """A curve's points, as layers and metric."""
    return ", ".join(f"{point.layers_mean:.2f}: {point.metric:.4f}" for point in found.points)


def choice(forms: dict[str, list[Entrant]], plain: list[Entrant], metric: str) -> str:
    """What a form is chosen by: its curve on validation, over the layers that all forms run, in Markdown."""
    held = [peers.on_validation(one) for one in plain]
    found = {
        name: judged(held, [peers.on_validation(one) for one in own], "paper", metric) for name, own in forms.items()
    }
    starts = np.max([one.curves.starts for one in found.values()], axis=0)
    first = float(starts[0]) * plain[0].layers
    lines = [f"| form | area on validation, from layer {first:.2f} | layers: full depth |", "| --- | --- | --- |"]
    for name, one in found.items():
        lines.append(f"| {name} | {one.curves.areas(starts)[0]:.4f} | {points(one)} |")
    return "\n".join(lines)


def beside_peers(forms: dict[str, list[Entrant]], plain: list[Entrant], metric: str, beside: dict[str, Beside]) -> str:
    """Every form's curve on test, less those of the peers with the same exit heads, in Markdown."""
    lines = [
        "| form | layers: full depth | peer, same heads | area of the form less the peer's | from layer |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, own in forms.items():
        curve = judged(plain, own, "paper", metric)
        for peer, other in beside[heads(name)].items():
            gap = curve.curves.less(other.curves)
            lines.append(f"| {name} | {points(curve)} | {peer} | {peers.difference(gap)} | {gap.layers_from:.2f} |")
    return "\n".join(lines)


def at(found: ComparedRule | None, layers: float) -> str:
    """A curve's metric at so many mean layers; a dash where it runs more, or there is none."""
    if found is None:
        return "-"
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
    beside = {kind: peer_curves(kind, runs, plain, metric) for kind in HEADS}
    for text in (
        models(runs, metric, beside),
        choice(forms, plain, metric),
        beside_peers(forms, plain, metric, beside),
    ):
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
