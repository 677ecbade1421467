"""A classifier that someone fine-tuned, given units: what is kept of its accuracy at a share of its layers?

    python benchmarks/conversion.py OUT --set data.source=files --set data.train=... --set model.encoder=...

Plays both parts. First a plain classifier of the encoder is fine-tuned with transformers alone (AutoModelForSequence-
Classification and its Trainer; whatever features its family's head takes) and saved into OUT/classifier. Then
`dact finetune` converts it: encoder and classifier stay as they are, only the units are trained. Printed are the
classifier's accuracy on test, and what each rule keeps of it at 70 % of the layers, thresholds chosen on validation.
`--set` goes to recipes/sst2.yaml. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from dactcli import compare, list_runs
from dactcli.api.compare import entrant

# internals: reads the data for a training by transformers alone, and a curve at a share that no command prints
from dactcli.data.batches import encode_split
from dactcli.data.sources import load_splits
from dactcli.evaluation.curves import curve, value_at
from dactcli.evaluation.metrics import classification_metrics
from dactcli.recipe.load import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "sst2.yaml"
SHARE = 0.7


def fine_tune(folder: Path, overrides: list[str]) -> None:
    """Plain fine-tuning by transformers alone, with the recipe's rate, batches and epochs."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    recipe = load_recipe(RECIPE, overrides)
    splits, keys = load_splits(recipe), recipe.training
    set_seed(keys.seed)
    tokenizer = AutoTokenizer.from_pretrained(str(recipe.model.encoder))
    names = {"id2label": dict(enumerate(splits.labels)), "label2id": {n: i for i, n in enumerate(splits.labels)}}
    model = AutoModelForSequenceClassification.from_pretrained(str(recipe.model.encoder), **names)
    encoded = encode_split(splits.splits["train"], tokenizer, recipe.data.max_length, recipe.data.long)
    data = Dataset.from_dict({**encoded.inputs, "labels": encoded.labels})
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), num_train_epochs=keys.epochs, learning_rate=keys.learning_rate,
        per_device_train_batch_size=keys.batch_size, warmup_steps=keys.warmup, weight_decay=keys.weight_decay,
        seed=keys.seed, save_strategy="no", report_to=[], use_cpu=not torch.cuda.is_available(),
        bf16=recipe.model.dtype == "bfloat16", logging_steps=50,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def convert(out: Path, overrides: list[str]) -> Path:
    """`dact finetune` on the classifier; its run."""
    if not (done := finished(out)):
        sets = [*overrides, f"model.encoder={out / 'classifier'}", "model.keep_classifier=true"]
        sets += [f"output.dir={out}", "output.name=converted"]
        command = [sys.executable, "-m", "dactcli", "finetune", str(RECIPE)]
        subprocess.run([*command, *(part for text in sets for part in ("--set", text))], check=True)
        done = finished(out)
    return done[0]


def finished(out: Path) -> list[Path]:
    """The finished conversions, the newest first."""
    return [Path(one.run) for one in list_runs(out) if one.finished]


def report(run: Path) -> str:
    """What is kept, in Markdown."""
    one, metric = entrant(run, split="test")
    classes = one.test.y.shape[-1]
    alone = [
        classification_metrics(layer.argmax(-1).tolist(), one.test_labels.tolist(), classes=classes)[metric]
        for layer in one.test.y.unbind(1)
    ]
    whole = alone[-1]
    if whole is None:
        raise SystemExit(f"{run}: {metric} of full depth is undefined; train longer")
    lines = [
        f"{len(one.test_labels):,} test examples; the classifier: {metric} {whole:.4f}; layers alone: "
        + " ".join("undefined" if value is None else f"{value:.4f}" for value in alone),
        "",
        f"| rule | {metric} at {SHARE:.0%} of the layers | kept of the classifier's | layers for 99 % |",
        "| --- | --- | --- | --- |",
    ]
    for name, rule in compare(run, split="test").rules.items():
        xs = [point.layers_mean / one.layers for point in rule.points]
        ys = [point.metric for point in rule.points]
        there = value_at(curve(np.array(xs), np.array(ys)), SHARE)
        enough = next((x * one.layers for x, y in zip(xs, ys, strict=True) if y >= 0.99 * whole), None)
        kept = "- | -" if there is None else f"{there:.4f} | {there / whole:.1%}"
        lines.append(f"| {name} | {kept} | {'never' if enough is None else f'{enough:.2f}'} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path)
    made.add_argument("--set", dest="overrides", action="append", default=[])
    return made


def main() -> None:
    """Fine-tune, convert, report."""
    wanted = parser().parse_args()
    if not (wanted.out / "classifier" / "model.safetensors").is_file():
        fine_tune(wanted.out / "classifier", wanted.overrides)
    print(report(convert(wanted.out, wanted.overrides)))


if __name__ == "__main__":
    main()
