"""Every recipe that comes with dact, found by itself: it validates, and trains two steps on data of its task's shape.

The data are generated in the layout that the hub, or the recipe's files, have; the encoder is a tiny random one. A
recipe whose data nobody has described to `layouts` fails here, and so does one that names a column, a split or a class
that the hub does not have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import LAYOUTS, Layout, rows_of, write_hub_folder
from support import Silence, dact

from dactcli.data import agreement
from dactcli.evaluation.evaluate import validator
from dactcli.recipe.bundled import BundledRecipe, bundled_recipes, pick
from dactcli.recipe.load import load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.runs.load import load_run
from dactcli.training.fit import fit

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = ["training.batch_size=8", "training.max_steps=2", "evaluation.batch_size=64"]
OWN = ("no", "yes")  # the classes of files whose recipe leaves them to the data


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random BERT and a random RoBERTa, each with its own kind of tokenizer, by family."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast, RobertaConfig, RobertaModel, RobertaTokenizerFast

    torch.manual_seed(0)
    folders = {family: tmp_path_factory.mktemp(family) for family in ("bert", "roberta")}
    words = agreement.vocabulary()
    bert = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=512, **SIZES))
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}, model_max_length=512)
    bert.save_pretrained(folders["bert"])
    tokenizer.save_pretrained(folders["bert"])
    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator([" ".join(words)], vocab_size=400, special_tokens=special, show_progress=False)
    roberta = RobertaModel(RobertaConfig(vocab_size=400, max_position_embeddings=514, type_vocab_size=1, **SIZES))
    roberta.save_pretrained(folders["roberta"])
    model = json.loads(pieces.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    RobertaTokenizerFast(vocab=model["vocab"], merges=merges, model_max_length=512).save_pretrained(folders["roberta"])
    return folders


@pytest.fixture(autouse=True)
def _quiet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets are prepared in the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def shaped_data(recipe: Recipe, folder: Path) -> list[str]:
    """Overrides that put generated data of the recipe's shape in place of its own; fails where it has none."""
    data = recipe.data
    if data.source == "builtin":
        return ["data.examples=64"]
    if data.source == "hub":
        if (data.name, data.config) not in LAYOUTS:
            pytest.fail(f"tests/layouts.py does not know how the hub lays out {data.name} {data.config or ''}")
        write_hub_folder(folder, str(data.name), data.config)
        return [f"data.name={folder}", f"data.config={data.config or 'default'}"]
    return _files(recipe, folder)


def _files(recipe: Recipe, folder: Path) -> list[str]:
    """A jsonl file in place of each split that is a file."""
    data, task = recipe.data, recipe.task
    texts = (data.text, *([data.text_pair] if data.text_pair else []))
    low, high = task.range or (0.0, 5.0)
    layout = Layout(texts, data.label, None if task.range else tuple(task.labels or OWN), (), (low, high))
    folder.mkdir()
    overrides = []
    for seed, split in enumerate(("train", "validation", "calibration", "test")):
        if not isinstance(getattr(data, split), str | list):
            continue
        columns = rows_of(layout, 48, seed=seed)
        if layout.classes:
            columns[data.label] = [layout.classes[index] for index in columns[data.label]]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        overrides.append(f"data.{split}={path}")
    return overrides


def train_two_steps(path: Path, overrides: list[str]) -> None:
    recipe = load_recipe(path, overrides)
    quiet: Any = Silence()
    result = fit(recipe, evaluate=validator(recipe), listener=quiet, device=torch.device("cpu"))
    assert result.steps == 2 * len(recipe.training.stages)
    judged = result.evaluation["validation"]
    assert list(judged.rules) == recipe.evaluation.rules
    assert judged.metric == recipe.task.metric
    assert all(judged.metric in rule.metrics for rule in judged.rules.values())
    config = load_run(Path(result.run)).model.config
    if recipe.task.range:
        assert config.answer_range == recipe.task.range
    else:
        assert list(config.id2label.values()) == (recipe.task.labels or list(OWN))


def overrides_for(recipe: Recipe, encoder: Path, tmp_path: Path) -> list[str]:
    named = [f"model.encoder={encoder}"] if isinstance(recipe.model.encoder, str) else []
    return [*shaped_data(recipe, tmp_path / "data"), *named, *SMALL, f"output.dir={tmp_path / 'runs'}"]


@pytest.mark.parametrize("recipe", bundled_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_validates_and_trains(recipe: BundledRecipe, encoders: dict[str, Path], tmp_path: Path) -> None:
    written = load_recipe(recipe.path)
    assert recipe.path.read_text().startswith(f"# dact finetune recipes/{recipe.name}.yaml\n#\n# ")
    overrides = overrides_for(written, encoders["bert"], tmp_path)
    checked = dact("validate", recipe.path, *(word for override in overrides for word in ("--set", override)))
    assert checked.exit_code == 0, checked.stderr
    assert "the recipe is valid" in checked.stdout
    train_two_steps(recipe.path, overrides)


@pytest.mark.parametrize("name", ["cola", "stsb", "imdb"])
def test_one_set_puts_a_roberta_in_its_place(name: str, encoders: dict[str, Path], tmp_path: Path) -> None:
    recipe = pick(name)
    train_two_steps(recipe.path, overrides_for(load_recipe(recipe.path), encoders["roberta"], tmp_path))


def test_every_named_encoder_is_bert_base_uncased() -> None:
    named = {load_recipe(recipe.path).model.encoder for recipe in bundled_recipes()}
    assert {name for name in named if isinstance(name, str)} == {"bert-base-uncased"}


def test_a_recipe_whose_data_nobody_described_fails(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text("data: {source: hub, name: some/data}\nmodel: {encoder: bert-base-uncased}\n")
    with pytest.raises(pytest.fail.Exception, match="does not know how the hub lays out some/data"):
        shaped_data(load_recipe(path), tmp_path / "data")


def test_every_task_of_the_issue_has_its_recipe() -> None:
    wanted = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ag_news", "imdb", "trec"]
    assert set(wanted) <= {recipe.name for recipe in bundled_recipes()}
