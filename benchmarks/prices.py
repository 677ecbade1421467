"""What the price of a layer, tau, buys on validation, and outputs of `peers.py` with the halting of another price.

    python benchmarks/prices.py benchmarks/outputs/sst2 --set data.source=files --set data.train=... --set data.test=...
    python benchmarks/prices.py benchmarks/outputs/sst2 --write 0.02 --set ...

With halting units that see the answer, tau enters after the layers are trained, when their thresholds are fitted to
validation. So the kept outputs of the layers are all that another price needs, and the fit is the one of `dact finetune`.
Without `--write` every price is shown, mean over seeds: the metric of full depth a_N and of the last layer's own answer
y_N, the layers of `exact`, and those where `settled` is certified for a disagreement of 1% and 2% with a_N, all on
validation. Nothing reads the test split. `--write` puts the halting weights of one price in the place of those that are
kept, of our own method's trainings alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch

# internals: fits halting to kept outputs as training does
from dactcli.evaluation.comparison import Entrant
from dactcli.halting.answers import CLASSES
from dactcli.model.loss import charge_for
from dactcli.recipe.settings import HaltingSettings
from dactcli.runs.outputs import LayerOutputs
from dactcli.training.thresholds import best_biases, halting_from

PRICES = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04)
OURS = ("dact", "dact-mean")


def refitted(one: Entrant, tau: float) -> Entrant:
    """A run with the halting thresholds that a price gives."""
    settings = HaltingSettings(tau=tau)
    logs, sure = _seen(one.validation)
    labels = torch.as_tensor(np.asarray(one.validation_labels)).long()
    right = CLASSES.right(logs, labels.unsqueeze(1).expand(-1, logs.shape[1]))
    charge = partial(charge_for, labels=labels, settings=settings, answers=CLASSES)
    biases = best_biases(right, sure, charge, settings, stepped=lambda: None)
    own: dict[str, Any] = {
        split: replace(outputs, h=halting_from(biases, _seen(outputs)[1]))
        for split, outputs in (("validation", one.validation), ("test", one.test))
    }
    return replace(one, **own)


def _seen(outputs: LayerOutputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The logs of the layers' answers [E, N, C], and how sure they are [E, N]; the kept ones are in half precision."""
    logs = CLASSES.logs(outputs.y)
    return logs, CLASSES.sureness(CLASSES.logits(logs))


def table(runs: list[Entrant], metric: str) -> str:
    """What every price buys on validation, in Markdown."""
    lines = ["| tau | a_N | y_N | layers of `exact` | `settled`, 1 % | 2 % |", "| --- | --- | --- | --- | --- | --- |"]
    for tau in PRICES:
        priced = [refitted(one, tau) for one in runs]
        held = [peers.on_validation(one) for one in priced]
        values = np.array([peers.scores([one], metric)[0] for one in held]).mean(0)
        exact = [peers.depth(one, "exact") for one in held]
        certified = [np.mean([peers.layers_at(one, "settled", risk, "a_N") for one in held]) for risk in (0.01, 0.02)]
        cells = [f"{value:.4f}" for value in values] + [f"{value:.2f}" for value in (np.mean(exact), *certified)]
        lines.append(f"| {tau:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(path: Path, tau: float, labels: dict[str, Any]) -> None:
    """Put the halting weights of a price into a file of kept outputs."""
    one, facts = peers.load(path, labels)
    priced = refitted(one, tau)
    with np.load(path, allow_pickle=False) as kept:
        arrays = dict(kept)
    for split, outputs in (("validation", priced.validation), ("test", priced.test)):
        arrays[f"{split}_h"] = outputs.h.numpy().astype(np.float16)
    np.savez_compressed(path, **{**arrays, "facts": np.array(json.dumps({**facts, "tau": tau}))})


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path)
    made.add_argument("--write", type=float, metavar="TAU")
    made.add_argument("--set", dest="overrides", action="append", default=[])
    return made


def main() -> None:
    """Parse, and print or write."""
    wanted = parser().parse_args()
    labels = peers.labels_of(wanted.out, wanted.overrides)
    names = OURS[:1] if wanted.write is None else OURS
    paths = [path for name in names for path in sorted(wanted.out.glob(f"{name}-[0-9].npz"))]
    if wanted.write is not None:
        for path in paths:
            write(path, wanted.write, labels)
            print(f"{path} has the halting of tau {wanted.write:g}")
        return
    found = [peers.load(path, labels) for path in paths]
    print(table([one for one, _ in found], str(found[0][1]["metric"])))


if __name__ == "__main__":
    main()
