"""Does the certificate hold? Draw many calibration samples from a population whose true risk is known.

    python benchmarks/certificate.py RUN [--splits calibration,test] [--draws 5000]

The population is the run's cached outputs on the named splits, together; its own rate is the truth. For each sample
the certified threshold is found, and counted as broken when its risk in the population is above epsilon. The share of
broken certificates may be at most delta plus three binomial standard errors. A wrong procedure, the boldest threshold
whose empirical rate is within epsilon, goes through the same check, and has to fail it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dactcli.evaluation.calibration import Sweep, last_certified, thresholds

CHUNK = 250
SIZES, EPSILONS, DELTA = (300, 500, 1000), (0.01, 0.02, 0.05), 0.05

# From the losses at each threshold of many samples [D, T] to the index of the chosen threshold, -1 for none [D].
Choose = Callable[[NDArray[np.float64], int, float], NDArray[np.int64]]


def certified(losses: NDArray[np.float64], examples: int, epsilon: float) -> NDArray[np.int64]:
    """The procedure that dact uses."""
    return last_certified(losses, examples, epsilon=epsilon, delta=DELTA)


def boldest(losses: NDArray[np.float64], examples: int, epsilon: float) -> NDArray[np.int64]:
    """The wrong procedure: the boldest threshold whose empirical rate is within epsilon."""
    within = losses / examples <= epsilon
    return np.where(within.any(-1), within.shape[-1] - 1 - within[..., ::-1].argmax(-1), -1)


def simulate(
    losses: NDArray[np.bool_], depths: NDArray[np.float64], size: int, epsilon: float, draws: int, choose: Choose
) -> tuple[float, float]:
    """Calibrate on many samples drawn with replacement.

    Args:
        losses: Loss of each member of the population at each threshold, from cautious to bold [T, P].
        depths: Mean layers of the population at each threshold [T], and last the depth where none is certified.
        size: Size of a sample.
        epsilon: The promised risk.
        draws: Number of samples.
        choose: The procedure.

    Returns:
        The share of samples whose chosen threshold breaks the promise, and the mean layers of the chosen ones.
    """
    generator = np.random.default_rng(0)
    truth, population = losses.mean(1), losses.shape[1]
    broken, layers = 0, 0.0
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        samples = generator.multinomial(size, np.full(population, 1 / population), size=count)
        chosen = choose(samples.astype(float) @ losses.T.astype(float), size, epsilon)
        broken += int(((chosen >= 0) & (truth[chosen] > epsilon)).sum())
        layers += float(depths[chosen].sum())  # index -1 is the depth of the rule that stands in
    return broken / draws, layers / draws


def allowed(draws: int) -> float:
    """Delta plus three binomial standard errors."""
    return DELTA + 3 * float(np.sqrt(DELTA * (1 - DELTA) / draws))


def load_population(run_folder: Path, splits: list[str]) -> tuple[Any, Any, list[int]]:
    """A run, its layer outputs on several splits together, and the labels."""
    import torch

    from dactcli.cli.options import open_run, run_examples
    from dactcli.evaluation.outputs import LayerOutputs, cached_outputs

    run = open_run(run_folder, "cpu")
    parts, labels = [], []
    for split in splits:
        encoded, _ = run_examples(run, split, None)
        parts.append(cached_outputs(run, encoded, split, batch_size=64))
        labels += encoded.labels or []
    outputs = LayerOutputs(torch.cat([part.y for part in parts]), torch.cat([part.h for part in parts]))
    return run, outputs, labels


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("--splits", default="calibration,test")
    made.add_argument("--rule", default="confidence")
    made.add_argument("--draws", type=int, default=5000)
    return made


def main() -> None:
    """Print a line per cell, and a JSON document last."""
    options = parser().parse_args()
    run, outputs, labels = load_population(options.run, options.splits.split(","))
    examples, layers, classes = outputs.y.shape
    rule = run.model.rule(f"{options.rule}:1")
    sweep = Sweep(rule, thresholds(rule, layers=layers, classes=classes), outputs, mixes=run.model.mixes)
    exact = float(outputs.decide(run.model.rule("exact"), mixes=run.model.mixes).exit_layer.double().mean())
    depths = np.append(sweep.layers_mean, exact)
    print(f"population {examples}, {options.rule}, exact {exact:.3f} layers, allowed {allowed(options.draws):.4f}")
    cells = []
    for loss in ("disagreement", "harm"):
        losses = sweep.losses(loss, labels)
        for epsilon in EPSILONS:
            for size in SIZES:
                right = simulate(losses, depths, size, epsilon, options.draws, certified)
                wrong = simulate(losses, depths, size, epsilon, options.draws, boldest)
                cells.append(
                    {
                        "loss": loss,
                        "epsilon": epsilon,
                        "n": size,
                        "broken": right[0],
                        "layers": right[1],
                        "wrong_broken": wrong[0],
                    }
                )
                print(
                    f"{loss:12} epsilon {epsilon:.2f} n {size:4}: broken {right[0]:.4f}, {right[1]:.2f} layers "
                    f"({right[1] - exact:+.2f} to exact); wrong procedure {wrong[0]:.4f}",
                    flush=True,
                )
    print(json.dumps({"exact_layers": exact, "population": examples, "draws": options.draws, "cells": cells}))


if __name__ == "__main__":
    main()
