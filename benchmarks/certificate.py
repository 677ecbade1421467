"""Does the certificate hold? Draw many calibration samples from a population whose true risk is known.

    python benchmarks/certificate.py RUN [--export FOLDER] [--splits calibration,test] [--draws 5000]

The population is the run's layer outputs on the named splits, after the screening of `dact eval --calibrate`
(`dactcli.evaluation.sample`); its own rate is the truth. With an export, its outputs are judged, and a loss is an answer
that the run does not give at full depth. Samples are drawn from it in three ways:

    rows     every text is equally likely
    heavy    one text that disagrees at most thresholds has twice epsilon of the probability
    copies   every text that is drawn stands four times in the sample

For each sample the certified threshold is found by the function that the command uses, and counted as broken when its
risk in the population is above epsilon. The share of broken certificates may be at most delta plus three binomial
standard errors. Three wrong procedures go through the same check: the boldest threshold whose empirical rate is within
epsilon, the test on all rows alone (which copies deceive), and the test on distinct inputs alone (which a heavy text
deceives).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# internals: tests the certificate's own tests on samples that no command draws
from dactcli.evaluation.certificate import Evidence, last_certified
from dactcli.evaluation.certified_layers import DELTA, Population
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.runtime import load

SIZES, EPSILONS = (300, 500, 1000), (0.01, 0.02, 0.05)
COPIES = 4

# From the evidence of many samples [D, T], on all rows and on distinct inputs, and epsilon, to the index of the chosen
# threshold, -1 for none [D].
Choose = Callable[[Evidence, Evidence, float], NDArray[np.int64]]


def certified(rows: Evidence, distinct: Evidence, epsilon: float) -> NDArray[np.int64]:
    """The procedure that dact uses, with all of delta."""
    return last_certified([rows, distinct], epsilon=epsilon, delta=DELTA)


def rows_alone(rows: Evidence, distinct: Evidence, epsilon: float) -> NDArray[np.int64]:
    """A wrong procedure where texts are copied: copies count as evidence."""
    return last_certified([rows], epsilon=epsilon, delta=DELTA)


def distinct_alone(rows: Evidence, distinct: Evidence, epsilon: float) -> NDArray[np.int64]:
    """A wrong procedure where one text is frequent: it counts once."""
    return last_certified([distinct], epsilon=epsilon, delta=DELTA)


def boldest(rows: Evidence, distinct: Evidence, epsilon: float) -> NDArray[np.int64]:
    """The wrong procedure: the boldest threshold whose empirical rate is within epsilon."""
    within = rows.losses / rows.examples <= epsilon
    return np.where(within.any(-1), within.shape[-1] - 1 - within[..., ::-1].argmax(-1), -1)


def simulate(population: Population, size: int, epsilon: float, draws: int, choose: Choose) -> tuple[float, float]:
    """Calibrate on many samples drawn with replacement.

    Args:
        population: What they are drawn from.
        size: Size of a sample.
        epsilon: The promised risk.
        draws: Number of samples.
        choose: The procedure.

    Returns:
        The share of samples whose chosen threshold breaks the promise, and the mean layers of the chosen ones.
    """
    truth, broken, layers = population.risk, 0, 0.0
    for rows, once in population.samples(size, draws):
        chosen = choose(rows, once, epsilon)
        broken += int(((chosen >= 0) & (truth[chosen] > epsilon)).sum())
        layers += float(population.depths[chosen].sum())  # index -1 is the depth of the rule that stands in
    return broken / draws, layers / draws


def heavy(population: Population, epsilon: float) -> Population:
    """The population in which one text, that disagrees at most thresholds, has twice epsilon of the probability."""
    worst = int(population.losses.sum(0).argmax())
    weights = np.full(len(population.weights), (1 - 2 * epsilon) / (len(population.weights) - 1))
    weights[worst] = 2 * epsilon
    return replace(population, weights=weights)


def allowed(draws: int) -> float:
    """Delta plus three binomial standard errors."""
    return DELTA + 3 * float(np.sqrt(DELTA * (1 - DELTA) / draws))


@dataclass(frozen=True)
class Judged:
    """A run, and its outputs on several splits together.

    Attributes:
        run: The run.
        outputs: The outputs that are judged: the run's, or those of its export.
        reference: Those of the run.
        inputs: The number of each example's distinct input [E].
        labels: The labels.
    """

    run: Any
    outputs: Any
    reference: Any
    inputs: NDArray[np.int64]
    labels: list[int]


def load_population(run_folder: Path, splits: list[str], export: Path | None) -> Judged:
    """What samples are drawn from."""
    from dactcli import layer_outputs, open_run, run_examples
    from dactcli.api.outputs import export_outputs
    from dactcli.evaluation.sample import input_keys, screened_sample

    run = open_run(run_folder, device="cpu")
    exported = None if export is None else load(export)
    parts, judged, keys, labels = [], [], [], []
    for split in splits:
        sample = screened_sample(run, run_examples(run, split), split, print)
        parts.append(layer_outputs(run, sample.encoded, split))
        judged.append(parts[-1] if exported is None else export_outputs(run, exported, sample.encoded))
        keys += input_keys(sample.encoded)
        labels += sample.encoded.labels or []
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Judged(run, together(judged), together(parts), np.array([numbers[key] for key in keys]), labels)


def together(parts: list[Any]) -> Any:
    """The outputs of several splits as one."""
    import torch

    whole: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0].tensors()}
    return replace(parts[0], **whole)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("--export", type=Path)
    made.add_argument("--splits", default="calibration,test")
    made.add_argument("--rule", default="confidence")
    made.add_argument("--draws", type=int, default=5000)
    return made


def main() -> None:
    """Print a line per cell, and a JSON document last."""
    options = parser().parse_args()
    found = load_population(options.run, options.splits.split(","), options.export)
    run, outputs, inputs, labels = found.run, found.outputs, found.inputs, found.labels
    examples, rule = len(outputs.y), run.model.rule(f"{options.rule}:1")
    sweep = ThresholdSweep(rule, rule.grid(outputs.layers, outputs.classes), outputs, found.reference)
    exact = float(outputs.decide(run.model.rule("exact")).exit_layer.double().mean())
    print(f"population {examples} ({len(set(inputs.tolist()))} distinct inputs), {options.rule}")
    print(f"exact {exact:.3f} layers, allowed {allowed(options.draws):.4f}")
    cells = []
    for loss in ("disagreement", "harm"):
        rows = Population.even(sweep.losses(loss, labels), sweep.layers_mean, otherwise=exact, inputs=inputs)
        for epsilon in EPSILONS:
            drawn = {"rows": rows, "heavy": heavy(rows, epsilon), "copies": replace(rows, copies=COPIES)}
            for (way, population), size in [(pair, size) for pair in drawn.items() for size in SIZES]:
                cell: dict[str, Any] = {"loss": loss, "drawn": way, "epsilon": epsilon, "n": size}
                cell["broken"], cell["layers"] = simulate(population, size, epsilon, options.draws, certified)
                wrongs = {"boldest": boldest, "rows_alone": rows_alone, "distinct_alone": distinct_alone}
                for name, choose in wrongs.items():
                    cell[f"{name}_broken"] = simulate(population, size, epsilon, options.draws, choose)[0]
                cells.append(cell)
                print(
                    f"{loss:12} {way:6} epsilon {epsilon:.2f} n {size:4}: broken {cell['broken']:.4f}, "
                    f"{cell['layers']:.2f} layers ({cell['layers'] - exact:+.2f} to exact); wrong: "
                    + ", ".join(f"{name} {cell[f'{name}_broken']:.4f}" for name in wrongs),
                    flush=True,
                )
    print(json.dumps({"exact_layers": exact, "population": examples, "draws": options.draws, "cells": cells}))


if __name__ == "__main__":
    main()
