"""How much of the time that adaptive depth could save is saved: random weights, forced depths, measured in turn.

With more examples than one batch, they also run in one pass that pools survivors. Prints, for one batch size and length: time of full depth over stock, of adaptive inference in which nobody halts over
full depth, and for each depth profile the realised share (ideal time over adaptive time; see `dact profile`).

    python benchmarks/realised_share.py --batch-size 32 --tokens 32 --rounds 20
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

# internals: measures the engine at forced depths, on random weights, with the clock of `dact profile`
from dactcli.data.batches import by_length
from dactcli.halting import make_rule
from dactcli.halting.limits import ForcedDepths
from dactcli.model.engine import run_batches
from dactcli.profiling.flops import layer_flops, share_of_full
from dactcli.profiling.geometry import depth_profile, random_examples, random_model
from dactcli.profiling.latency import Effort, ratio, round_totals, take_turns
from dactcli.profiling.ways import Subject, run_batch, stock_classifier
from dactcli.results import Interval


def skewed(layers: int, examples: int) -> str:
    """70 % stop at layer 3, the rest evenly at the later ones."""
    later = round(0.3 * examples)
    rest = [4 + index * (layers - 3) // later for index in range(later)] if later else []
    return ",".join(map(str, [3] * (examples - later) + rest))


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--geometry", default="bert-base")
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--tokens", type=int, default=32)
    made.add_argument("--examples", type=int, help="per round; one batch without")
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--warmup", type=int, default=1)
    return made


def main() -> None:
    options = parser().parse_args()
    model = random_model(options.geometry)
    examples, layers = options.examples or options.batch_size, model.exit_heads.layers
    encoded = random_examples(model, examples, options.tokens)
    batches = list(by_length(model.config.encoder_config, encoded, options.batch_size))
    stock = stock_classifier(model)
    profiles = {"uniform": "uniform", "70 % at 3": skewed(layers, examples), "nobody halts": str(layers)}
    ways = Subject(model, stock, make_rule("full")).ways(batches)
    del ways["adaptive"]
    shares = {}
    operations = layer_flops(model)
    for name, text in profiles.items():
        depths = depth_profile(text, layers, examples)
        shares[name] = share_of_full(operations, torch.tensor(encoded.lengths), depths)

        def run(number: int, depths: torch.Tensor) -> object:
            positions, batch = batches[number]
            return run_batch(model, ForcedDepths(depths[positions]), batch)

        ways[name] = partial(run, depths=depths)
    with torch.inference_mode():
        samples = take_turns(
            ways, len(batches), device=torch.device("cpu"), effort=Effort(options.warmup, options.rounds)
        )
    times = {name: round_totals(rounds) for name, rounds in samples.items()}
    where = f"{options.geometry}, batch {options.batch_size}, {options.tokens} tokens, {options.rounds} rounds"
    print(f"{where}, stock {sorted(times['stock'])[options.rounds // 2] / len(batches):.1f} ms per batch")
    found = {
        "full depth / stock": ratio(times["full"], times["stock"]),
        "nobody halts / full depth": ratio(times["nobody halts"], times["full"]),
        "realised share, uniform": ratio(times["stock"], times["uniform"], shares["uniform"]),
        "realised share, 70 % at 3": ratio(times["stock"], times["70 % at 3"], shares["70 % at 3"]),
    }
    if len(batches) > 1:
        found |= pooled(model, stock, batches, profiles, shares, options)
    for name, interval in found.items():
        print(f"  {name:34} {interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})", flush=True)


def pooled(
    model: Any,
    stock: Any,
    batches: list[Any],
    profiles: dict[str, str],
    shares: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Interval]:
    """All batches in one pass, where survivors of several batches run on together."""
    examples = sum(len(positions) for positions, _ in batches)
    ways: dict[str, Any] = {"stock": lambda _: [stock(**batch) for _, batch in batches]}
    for name in ("uniform", "70 % at 3"):
        rule = ForcedDepths(depth_profile(profiles[name], model.exit_heads.layers, examples))
        regroup = options.batch_size * options.tokens // 2
        ways[name] = lambda _, rule=rule, regroup=regroup: run_batches(model, rule, batches, examples, regroup=regroup)
    with torch.inference_mode():
        samples = take_turns(ways, 1, device=torch.device("cpu"), effort=Effort(1, options.rounds))
    times = {name: round_totals(rounds) for name, rounds in samples.items()}
    return {
        f"realised share, {name}, pooled": ratio(times["stock"], times[name], shares[name])
        for name in ("uniform", "70 % at 3")
    }


if __name__ == "__main__":
    main()
