"""A whole split of a trained run: latency at a budget of layers, and throughput against transformers' pipeline.

The rule is the run's own: calibrate it first, on its calibration split. Throughput starts from
texts and ends at labels for every way: tokenising is part of the time. The pipeline holds a plainly fine-tuned
classifier of the same encoder (random head weights do as well: they cost the same).

    dact eval runs/sst2-1 --calibrate budget=3.0 --replace
    python benchmarks/dataset.py runs/sst2-1 --split test --rounds 5
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch

from dactcli import Listener, open_run, run_examples
from dactcli.api.common import quieten_libraries, rule_for

# internals: measures the engine with and without pooling, on the batches and with the clock of `dact profile`
from dactcli.data.batches import by_length, encode, tokens_per_batch
from dactcli.data.sources import load_splits
from dactcli.model.engine import run_batches
from dactcli.profiling.latency import Effort, ratio, round_totals, take_turns
from dactcli.profiling.profile import Measured, profile_latency, profile_throughput
from dactcli.profiling.ways import Subject, stock_classifier


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("--split", default="test")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--batch-size", type=int, default=32)
    return made


def main() -> None:
    options = parser().parse_args()
    quieten_libraries()
    run = open_run(options.run, device="cpu")
    model, tokenizer = run.model, run.tokenizer
    rule = rule_for(run, None, Listener())
    stock = stock_classifier(model)
    subject = Subject(model, stock, rule)
    measured, effort = Measured(run_examples(run, options.split)), Effort(1, options.rounds)
    case = profile_latency(subject, measured, effort, batch_size=options.batch_size)
    layers = case.adaptive.layers_mean or 0.0
    print(f"{options.run.name}, {options.split}, {measured.examples:,} examples, rule {rule}: {layers:.2f} layers")
    for name, found in {
        "full depth / stock": case.full_ratio_to_stock,
        "adaptive / stock": case.time_ratio_to_stock,
        "realised share": case.realised_share,
    }.items():
        print(f"  {name:40} {found.value:.3f} ({found.low:.3f}-{found.high:.3f})", flush=True)
    whole = profile_throughput(subject, measured, effort).realised_share
    print(
        f"  realised share, whole data set, pooled   {whole.value:.3f} ({whole.low:.3f}-{whole.high:.3f})", flush=True
    )
    assert run.recipe is not None  # run_examples refuses a run without one
    texts = load_splits(run.recipe, only=(options.split,)).splits[options.split].texts
    throughput(subject, tokenizer, texts, layers, options)


def throughput(subject: Subject, tokenizer: Any, texts: list[str], layers: float, options: argparse.Namespace) -> None:
    """Texts to labels: the pipeline as it comes, the stock encoder with our batches, adaptive inference."""
    from transformers import pipeline

    model, stock, rule = subject.model, subject.stock, subject.rule
    budget, longest = tokens_per_batch(model.device), tokenizer.model_max_length
    piped = pipeline("text-classification", model=stock, tokenizer=tokenizer, batch_size=32)

    def batches() -> Any:
        encoded = encode(tokenizer, texts, max_length=longest, long_texts="cut")
        return by_length(tokenizer, encoded, len(texts), tokens=budget)

    def pipe(_: int) -> object:
        return piped(texts, truncation=True, max_length=longest, long_texts="cut")

    def bucketed(_: int) -> object:
        return [stock(**batch).logits.argmax(-1) for _, batch in batches()]

    def pooled(_: int) -> object:
        return run_batches(model, rule, batches(), len(texts), regroup=budget // 2).answer.argmax(-1)

    def apart(_: int) -> object:
        return run_batches(model, rule, batches(), len(texts), regroup=0).answer.argmax(-1)

    def by_rows(_: int) -> object:
        encoded = encode(tokenizer, texts, max_length=longest, long_texts="cut")
        rows = by_length(tokenizer, encoded, options.batch_size)
        return run_batches(model, rule, rows, len(texts), regroup=0).answer.argmax(-1)

    ways = {
        "pipeline": pipe,
        "stock, our batches": bucketed,
        "adaptive, pooled": pooled,
        "adaptive, not pooled": apart,
        "adaptive, batches by rows, not pooled": by_rows,
    }
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        samples = take_turns(ways, 1, device=model.device, effort=Effort(1, options.rounds))
    times = {name: round_totals(rounds) for name, rounds in samples.items()}
    for name, spent in times.items():
        found = ratio(times["pipeline"], spent)
        rate = len(texts) / (sorted(spent)[len(spent) // 2] / 1000)
        print(f"  {name:40} {rate:7.0f} examples/s, {found.value:.2f} x pipeline ({found.low:.2f}-{found.high:.2f})")
    print(f"  goal: 1.3 x N / mean layers = {1.3 * model.exit_heads.layers / layers:.2f} x pipeline", flush=True)


if __name__ == "__main__":
    main()
