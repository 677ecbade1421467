"""A classifier that someone fine-tuned, converted without labels: the same answers, for how many layers?

    python benchmarks/conversion.py OUT --set data.source=files --set data.train=... --set data.test=... --set model.encoder=...

Plays both parts. A plain classifier of the encoder is fine-tuned on one half of train with transformers alone
(AutoModelForSequenceClassification and its Trainer; whatever features its family's head takes) and saved into
OUT/classifier. Then `dact convert` gets the texts of the other half, without labels. `--set` goes to recipes/sst2.yaml,
which says what the data are and how the classifier is trained; `--convert` goes to the conversion, and `--texts` names
other texts for it. What is finished is not done again.

Printed are the seconds of both, on one process and as many threads as OMP_NUM_THREADS says; on test, the layers at a
certified disagreement with the classifier (1,000 samples of 1,000 test texts with replacement, delta 0.05), and what the
certified rule of the run changes. Test is read once, and nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import torch

from dactcli import list_runs, open_run
from dactcli.api.outputs import layer_outputs

# internals: reads the data for a training by transformers alone, and counts certified layers over samples of test
from dactcli.data.batches import encode_split
from dactcli.data.sources import load_splits
from dactcli.evaluation.certified_layers import RISKS, Population, expected_layers
from dactcli.evaluation.threshold_sweep import ThresholdSweep
from dactcli.halting.rules import RULES
from dactcli.recipe.load import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "sst2.yaml"
SECONDS = "seconds.json"
JUDGED = ("max_prob", "agreement")


def fine_tune(folder: Path, overrides: list[str]) -> None:
    """Plain fine-tuning by transformers alone on one half of train, with the recipe's rate, batches and epochs."""
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
    train = splits.splits["train"]
    own, other = halves(len(train.texts))
    rows = [json.dumps({"text": train.texts[place]}) + "\n" for place in other]
    (folder.parent / "texts.jsonl").write_text("".join(rows), encoding="utf-8")
    began = time.perf_counter()
    encoded = encode_split(train.select(own), tokenizer, recipe.data.max_length, recipe.data.long)
    data = Dataset.from_dict({**encoded.inputs, "labels": encoded.labels})
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), num_train_epochs=keys.epochs, learning_rate=keys.learning_rate,
        per_device_train_batch_size=keys.batch_size, warmup_steps=keys.warmup, weight_decay=keys.weight_decay,
        seed=keys.seed, save_strategy="no", report_to=[], use_cpu=not torch.cuda.is_available(),
        bf16=recipe.model.dtype == "bfloat16", logging_steps=50, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"seconds": time.perf_counter() - began, "examples": len(own), "epochs": keys.epochs}
    (folder / SECONDS).write_text(json.dumps(facts))


def halves(count: int) -> tuple[list[int], list[int]]:
    """The examples of the classifier, and those whose texts the conversion gets."""
    order = list(range(count))
    Random(0).shuffle(order)
    return order[: count // 2], order[count // 2 :]


def convert(out: Path, texts: list[str], overrides: list[str]) -> Path:
    """`dact convert` with the other half's texts; its run, and how long it took."""
    if not (done := finished(out)):
        command = [sys.executable, "-m", "dactcli", "convert", str(out / "classifier"), "--quiet"]
        command += [part for path in texts for part in ("--texts", path)]
        sets = [f"output.dir={out}", "output.name=converted", *overrides]
        began = time.perf_counter()
        subprocess.run([*command, *(part for text in sets for part in ("--set", text))], check=True)
        done = finished(out)
        (done[0] / SECONDS).write_text(json.dumps({"seconds": time.perf_counter() - began}))
    return done[0]


def finished(out: Path) -> list[Path]:
    """The finished conversions, the newest first."""
    return [Path(one.run) for one in list_runs(out) if one.finished]


def report(out: Path, run: Path, overrides: list[str]) -> str:
    """Seconds and layers, in Markdown."""
    recipe = load_recipe(RECIPE, overrides)
    test = load_splits(recipe).splits["test"]
    opened = open_run(run)
    encoded = encode_split(test, opened.tokenizer, opened.tokenizer.model_max_length, opened.model.config.long_texts)
    outputs = layer_outputs(opened, encoded, "test-texts")
    whole = outputs.y[:, -1].argmax(-1)
    labels = torch.tensor(test.labels or [])
    took, paid = (json.loads((folder / SECONDS).read_text()) for folder in (out / "classifier", run))
    share = paid["seconds"] / took["seconds"]
    lines = [
        f"classifier: fine-tuned on {took['examples']:,} examples for {took['epochs']:g} epochs in {took['seconds']:.0f} s; "
        f"converted in {paid['seconds']:.0f} s, {share:.2f} of that ({torch.get_num_threads()} threads)",
        f"{len(whole):,} test texts; accuracy of the classifier {float((whole == labels).double().mean()):.4f}; layers "
        "that answer otherwise than it: "
        + " ".join(f"{float((layer.argmax(-1) != whole).double().mean()):.3f}" for layer in outputs.y.unbind(1)),
        "",
        f"| rule | {' | '.join(f'layers at {risk:.0%}' for risk in RISKS)} |",
        f"| --- |{' --- |' * len(RISKS)}",
    ]
    for name in JUDGED:
        rule = RULES[name]()
        sweep = ThresholdSweep(rule, rule.grid(outputs.layers, outputs.classes), outputs)
        population = Population.even(sweep.classes != sweep.full, sweep.layers_mean, otherwise=outputs.layers)
        cells = [f"{expected_layers(population, risk, size=1000):.2f}" for risk in RISKS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    decided = outputs.decide(opened.model.rule(opened.model.config.rule))
    early = decided.answer.argmax(-1)
    lines += [
        "",
        f"the run's own rule, {opened.model.config.rule or 'full'}: {float(decided.exit_layer.double().mean()):.2f} layers "
        f"on test, {float((early != whole).double().mean()):.2%} answered otherwise than by the classifier, accuracy "
        f"{float((early == labels).double().mean()):.4f}",
    ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path)
    made.add_argument("--set", dest="overrides", action="append", default=[])
    made.add_argument("--convert", action="append", default=[], help="KEY=VALUE of the conversion's recipe")
    made.add_argument("--texts", action="append", help="other texts, with a column text, in place of the other half")
    return made


def main() -> None:
    """Fine-tune, convert, report."""
    wanted = parser().parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    if not (wanted.out / "classifier" / SECONDS).is_file():
        fine_tune(wanted.out / "classifier", wanted.overrides)
    run = convert(wanted.out, wanted.texts or [str(wanted.out / "texts.jsonl")], wanted.convert)
    print(report(wanted.out, run, wanted.overrides))


if __name__ == "__main__":
    main()
