"""Tokenizers that are missing, incomplete or another encoder's: a sentence before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Silence, dact, pretrained, small_config, train, words
from transformers import AutoModel, AutoTokenizer, BertTokenizerFast

from dactcli.data.long_texts import windowed_tokens
from dactcli.errors import ArtefactError, UsageError
from dactcli.model.tokenizers import check_fit, load_tokenizer
from dactcli.runs.load import load_run

RECIPE = """
task: {name: agreement}
data: {source: builtin, max_length: 48, examples: 64}
model: {encoder: ENCODER}
training: {max_steps: 2, batch_size: 8}
output: {name: tiny}
"""
PAIRS = """
task: {name: pairs}
data: {source: files, train: pairs.csv, validation: pairs.csv, text: a, text_pair: b, max_length: 48}
model: {encoder: ENCODER}
training: {max_steps: 2, batch_size: 4}
output: {name: tiny}
"""


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """An encoder with its tokenizer, to be damaged."""
    return pretrained("bert", tmp_path / "encoder")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def refused(encoder: Path, fault: str, text: str = RECIPE) -> None:
    """Neither `validate` nor a training takes the encoder; no run folder is left, and the place is named."""
    folder = encoder.parent
    recipe = folder / "recipe.yaml"
    recipe.write_text(text.replace("ENCODER", str(encoder)))
    shown = dact("validate", recipe)
    assert shown.exit_code == 3
    assert "valid" not in shown.stdout
    with pytest.raises(ArtefactError, match=fault) as caught:
        train(folder, text.replace("ENCODER", str(encoder)))
    assert str(encoder) in caught.value.sentence
    assert caught.value.remedy
    assert not list((folder / "runs").glob("tiny-*/model.safetensors"))


@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"]])
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "deberta-v2"])
def test_an_encoder_without_its_tokenizer_is_not_trained(family: str, left: list[str], tmp_path: Path) -> None:
    """transformers makes a tokenizer of five special tokens there, and every word is unknown."""
    folder = pretrained(family, tmp_path / "encoder")
    for file in folder.glob("*token*"):
        if file.name not in left:
            file.unlink()
    assert len(AutoTokenizer.from_pretrained(folder)) < 10
    refused(folder, "the tokenizer is not there: .* is missing; save the tokenizer of this encoder beside it")


def test_a_vocabulary_without_its_merges_is_not_made_up(tmp_path: Path) -> None:
    folder = pretrained("roberta", tmp_path / "encoder")
    for file in folder.glob("*token*"):
        file.unlink()
    vocabulary = {
        token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefgh", "ab"])
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    refused(folder, "the tokenizer cannot be loaded: ")
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    assert load_tokenizer(folder)("ab")["input_ids"]


def test_a_vocabulary_of_special_tokens_alone_is_refused(encoder: Path) -> None:
    BertTokenizerFast(
        vocab={token: n for n, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    ).save_pretrained(encoder)
    refused(encoder, "the tokenizer knows no words: its vocabulary holds special tokens only")


def test_added_tokens_without_embeddings_are_found_before_the_training(encoder: Path) -> None:
    tokenizer = words("bert")
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(encoder)
    size = len(words("bert"))
    refused(
        encoder,
        f"gives '<new>' the id {size}, and the encoder has embeddings for {size} tokens; use the tokenizer that",
    )
    model = AutoModel.from_pretrained(encoder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)  # the remedy
    model.save_pretrained(encoder)
    assert train(encoder.parent, RECIPE.replace("ENCODER", str(encoder))).steps == 2


def test_added_tokens_without_embeddings_are_found_before_a_prediction(run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    tokenizer.save_pretrained(run)
    shown = dact("inspect", "the key <new> is rusty .", "--run", run)
    assert shown.exit_code == 3
    assert "gives '<new>' the id" in " ".join(shown.stderr.split())
    with pytest.raises(ArtefactError, match="the tokenizer gives '<new>' the id"):
        load_run(run)


def test_a_run_without_its_tokenizer_is_not_read(run: Path) -> None:
    (run / "tokenizer.json").unlink()
    with pytest.raises(ArtefactError, match=r"the tokenizer is not there: vocab\.txt or tokenizer\.json is missing"):
        load_run(run)


def test_a_tokenizer_without_padding_is_refused(encoder: Path) -> None:
    tokenizer = words("bert")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(encoder)
    config = json.loads((encoder / "tokenizer_config.json").read_text())
    config.update(pad_token=None, tokenizer_class="PreTrainedTokenizerFast")
    (encoder / "tokenizer_config.json").write_text(json.dumps(config))
    refused(encoder, "the tokenizer has no padding token; set tokenizer.pad_token")


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_padding_by_which_positions_are_counted_is_the_encoders(family: str, tmp_path: Path) -> None:
    folder = pretrained(family, tmp_path / "encoder")
    words("bert").save_pretrained(folder)
    refused(folder, "the tokenizer pads with id 0, and the encoder counts positions by padding of id 1")


def test_an_encoder_that_names_no_padding_to_count_from_is_refused(tmp_path: Path) -> None:
    folder = pretrained("roberta", tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    refused(folder, "pad_token_id is None, and this encoder counts positions from it on; set it in config.json")


def test_halves_of_pairs_without_embeddings_are_found_before_the_training(tmp_path: Path) -> None:
    folder, tokenizer = tmp_path / "encoder", words("bert")
    AutoModel.from_config(small_config("bert", layers=2, vocab_size=len(tokenizer), type_vocab_size=1)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    rows = "".join(f"the key {n},the doctor {n},{n % 2}\n" for n in range(12))
    (tmp_path / "pairs.csv").write_text("a,b,label\n" + rows)
    refused(folder, "the tokenizer gives token types up to 1, and the encoder has embeddings for 1", PAIRS)
    assert train(tmp_path, RECIPE.replace("ENCODER", str(folder))).steps == 2  # of single texts it can be trained


@pytest.mark.parametrize("length", [65, 0, 2, -1, True, "x", 48.5])
def test_a_length_that_the_encoder_does_not_take_is_refused(length: Any, run: Path) -> None:
    change(run, model_max_length=length)
    with pytest.raises(
        ArtefactError, match=r"model_max_length is .*, and this model takes texts of 3 to 49 tokens; set it"
    ):
        load_run(run)


def test_a_tokenizer_that_names_no_length_has_the_encoders(run: Path) -> None:
    config = json.loads((run / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (run / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_run(run).tokenizer.model_max_length == 49
    shown = dact("inspect", "the key is rusty . " * 40, "--run", run)
    assert shown.exit_code == 0


def change(folder: Path, **values: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_texts_that_the_tokenizer_does_not_know_are_told(encoder: Path) -> None:
    rows = "".join(f"河 {n} 上 的 船,{n % 2}\n" for n in range(12))
    (encoder.parent / "chinese.csv").write_text("text,label\n" + rows)
    text = """
task: {name: chinese}
data: {source: files, train: chinese.csv, validation: chinese.csv, text: text, max_length: 48}
model: {encoder: ENCODER}
training: {max_steps: 2, batch_size: 4}
output: {name: tiny}
""".replace("ENCODER", str(encoder))
    listener = Silence()
    train(encoder.parent, text, listener=listener)
    told = [str(value) for what, value in listener.heard if what == "notice"]
    assert any("train: the tokenizer does not know" in line and "[UNK]" in line for line in told), told
    (encoder.parent / "recipe.yaml").write_text(text)
    assert "the tokenizer does not know" in " ".join(dact("validate", encoder.parent / "recipe.yaml").output.split())
    listener = Silence()
    train(encoder.parent, RECIPE.replace("ENCODER", str(encoder)), listener=listener)
    assert not any("does not know" in str(value) for _, value in listener.heard)


@pytest.mark.parametrize("make", ["bytes", "characters"])
def test_tokenizers_of_bytes_and_characters_have_no_files_and_are_taken(make: str, tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer, CanineTokenizer

    made: Callable[[], Any] = ByT5Tokenizer if make == "bytes" else CanineTokenizer
    folder = tmp_path / "tokenizer"
    made().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer("abc")["input_ids"]) >= 4
    config = small_config("bert", layers=1, vocab_size=1_114_112 if make == "characters" else 400)
    check_fit(tokenizer, config, str(folder))


def test_a_tokenizer_that_cannot_keep_both_ends_is_refused() -> None:
    from transformers import CanineTokenizer

    from dactcli.data.batches import encode

    with pytest.raises(UsageError, match=r"data.long: is head\+tail, and this encoder has no fast tokenizer"):
        encode(CanineTokenizer(), ["short"], max_length=48, long_texts="head+tail")


def test_special_tokens_alone_leave_no_room_for_a_window() -> None:
    with pytest.raises(UsageError, match="leaves no room beside 4 special tokens"):
        windowed_tokens([None, 0, 0, None, None, 1, None], 4)
