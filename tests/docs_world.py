"""Where the commands of the documentation are run: a folder in which what they name is there, and small.

`bash` blocks, indented blocks and `python` blocks of README.md and docs/ are collected from the text. The data sets and
encoders that recipes take from the hub stand in the folder under the same names, which is how transformers and
datasets look for them first; the built-in task is cut to a few sentences, and profiles are to a few rounds.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import TINY

ROOT = Path(__file__).parents[1]
WORDS = ["good", "bad", "fine", "poor", "film", "story", "plot", "the", "a", "is", "was", "very", "not", "and", "."]
# what a profile is cut to; the last mention of an option counts
SHORT = {"profile": ["--examples", "2", "--repeats", "2", "--warmup", "0"]}


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    text: str


def blocks(path: Path) -> Iterator[Block]:
    """The code blocks of a Markdown page, fenced ones with their language, indented ones as `bash`."""
    page, lines = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = re.match(r"( *)```(\w*)", lines[number])
        if fence:
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            yield Block(
                page, number + 1, fence[2], "\n".join(line[len(fence[1]) :] for line in lines[number + 1 : end])
            )
            number = end
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(page, number + 1, "bash", "\n".join(line[4:] for line in lines[number:end]))
            number = end
        number += 1


@dataclass(frozen=True)
class Command:
    """A command line of a page, its variables filled in."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """Split as a shell does, without the comment."""
        return shlex.split(self.text, comments=True)


def commands(path: Path, heads: tuple[str, ...]) -> Iterator[Command]:
    """Lines of code blocks that begin with one of these words; `NAME="..."` lines set what `$NAME` stands for."""
    known: dict[str, str] = {}
    for block in blocks(path):
        if block.language not in ("bash", ""):
            continue
        joined = block.text.replace("\\\n", " ")
        for number, line in enumerate(joined.splitlines(), start=block.line):
            for name in sorted(known, key=len, reverse=True):
                line = line.replace(f"${name}", known[name])
            if setting := re.fullmatch(r'(\w+)="(.*)"', line.strip()):
                known[setting[1]] = setting[2]
            elif line.split() and line.split()[0] in heads:
                yield Command(block.page, number, line.strip())


def pages() -> list[Path]:
    """README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def sentence(number: int) -> str:
    """One of many different short texts."""
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7, 2, 5)) + f" {number}"


def rows(count: int, columns: tuple[str, ...], label: str | None, classes: int) -> list[dict[str, Any]]:
    """Examples with texts of their own."""
    made = []
    for number in range(count):
        row: dict[str, Any] = {name: sentence(number * len(columns) + at) for at, name in enumerate(columns)}
        if label is not None:
            row[label] = number % classes
        made.append(row)
    return made


def write_encoder(folder: Path) -> None:
    """A tiny BERT with its tokenizer, as the hub would keep it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizerFast(vocab={word: at for at, word in enumerate(dict.fromkeys(pieces))}, do_lower_case=True)
    tokenizer.model_max_length = 512
    sizes = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_classifier(folder: Path, names: tuple[str, ...]) -> None:
    """A tiny fine-tuned classifier, as transformers saves one."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    write_encoder(folder)
    config = AutoConfig.from_pretrained(folder)
    config.id2label = dict(enumerate(names))
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def write_world(folder: Path, run: Path) -> None:
    """Fill a folder with what the documentation names.

    Args:
        folder: An empty one.
        run: A finished run of the built-in task.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
    quick = folder / "recipes" / "quickstart.yaml"
    quick.write_text(TINY.replace("name: tiny", "name: quickstart"))
    for name in ("bert-base-uncased", "roberta-base", "ENCODER"):
        write_encoder(folder / name)
    write_classifier(folder / "path" / "to" / "classifier", ("negative", "positive"))
    for task, counts in {"sst2": (120, 20, 20), "cola": (120, 20, 20)}.items():
        hub = folder / "nyu-mll" / "glue" / task
        hub.mkdir(parents=True)
        files = folder / task.upper()
        files.mkdir()
        for split, count in zip(("train", "validation", "test"), counts, strict=True):
            made = rows(count, ("sentence",), "label", 2)
            pq.write_table(pa.Table.from_pylist(made), hub / f"{split}-00000-of-00001.parquet")
            write_lines(files / f"{split}.jsonl", made)
        shutil.copytree(files, folder / task)
    configs = "".join(
        f"- config_name: {task}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {task}/{split}-*\n" for split in ("train", "validation", "test"))
        for task in ("sst2", "cola")
    )
    (folder / "nyu-mll" / "glue" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name in ("quickstart-1", "sst2-1", "sst2-plain-1", "cola-1"):
        shutil.copytree(run, folder / "runs" / name)
    (folder / "runs" / "latest").symlink_to("quickstart-1")
    write_lines(folder / "test.jsonl", rows(30, ("sentence",), "label", 2))
    write_lines(folder / "fresh.jsonl", rows(350, ("sentence",), "label", 2))
    write_table(folder / "fresh.csv", rows(350, ("sentence",), "label", 2))
    write_table(folder / "reviews.csv", rows(30, ("review",), "stars", 2))
    write_table(folder / "new.csv", rows(30, ("subject",), None, 2))
    write_table(folder / "texts.csv", rows(120, ("text",), "label", 2))
    tickets = rows(120, ("subject",), "queue", 2)
    write_table(folder / "tickets.csv", tickets)
    write_table(folder / "tickets-test.csv", tickets[:40])
    write_lines(folder / "log.jsonl", rows(1300, ("text",), None, 2))
    write_lines(folder / "calibration.jsonl", rows(400, ("text",), None, 2))
    shutil.copytree(run, folder / "runs" / "classifier-1")
    for name, count in (("topics", 150), ("topics-fresh", 350)):
        topics = rows(count, ("text",), "topics", 3)
        for row in topics:
            row["topics"] = [["card"], ["new", "card"], []][row["topics"]]
        write_lines(folder / f"{name}.jsonl", topics)
    write_table(folder / "topics-new.csv", rows(20, ("text",), None, 2))
    (folder / "sentences.txt").write_text("".join(f"{sentence(number)}\n" for number in range(20)))


def write_lines(path: Path, made: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


def write_table(path: Path, made: list[dict[str, Any]]) -> None:
    """Comma-separated values."""
    lines = [",".join(made[0]), *(",".join(str(value) for value in row.values()) for row in made)]
    path.write_text("\n".join(lines) + "\n")
