"""Give a fine-tuned classifier exit heads, from texts without labels; `dact convert`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import build_request, check_lists
from dactcli.errors import DataError, UsageError
from dactcli.listening import Listener
from dactcli.results import TrainResult

if TYPE_CHECKING:
    from dactcli.data.rows import Table
    from dactcli.recipe.conversion import Conversion

EPOCHS = 10
RISK, DELTA = 0.01, 0.05
FACTOR, LARGEST = 10, 0.3  # texts to certify on: this many times 1 / risk, and at most this share of all


@dataclass(frozen=True)
class ConvertRequest:
    """Which texts to learn from, and what to certify.

    Attributes:
        texts: Files of texts (csv, tsv, jsonl, json or parquet), such as a log; labels are not read.
        text: Column of the text. Default: `text`, else the only column of texts.
        pair_column: Column of the second text, for classifiers of text pairs.
        calibration: A file of other texts to certify on. Default: a part of `texts` is held back for it.
        risk: How often a fresh text may be answered otherwise than by the classifier.
        delta: Probability that the certificate fails.
        epochs: Passes over the texts that train the exit heads.
        overrides: `KEY=VALUE` each, with the dotted keys of the recipe that the conversion is.
        recipe_out: Where to write that recipe; `fit` of it does the same again.
        resume: Whether to resume the newest unfinished conversion of this classifier's name.
        device: auto, cpu, cuda or mps.
    """

    texts: Sequence[Path | str] = ()
    text: str | None = None
    pair_column: str | None = None
    calibration: Path | str | None = None
    risk: float = RISK
    delta: float = DELTA
    epochs: float = EPOCHS
    overrides: Sequence[str] = ()
    recipe_out: Path | str | None = None
    resume: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_lists(self, "texts", "overrides")
        if not self.epochs > 0:
            raise UsageError(f"is {self.epochs:g}", place="`epochs`", remedy="give a number above 0")
        if not self.texts:
            raise UsageError("is missing", place="`texts`", remedy="name a file of texts, such as a log of requests")
        for name in ("risk", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"is {getattr(self, name)}", place=f"`{name}`", remedy="give a number between 0 and 1")


def convert(
    classifier: Path | str,
    request: ConvertRequest | None = None,
    *,
    listener: Listener | None = None,
    **fields: Any,
) -> TrainResult:
    """Give a fine-tuned classifier exit heads, from texts without labels, and certify how often its answers change.

    Encoder and classifier stay as they are, bit for bit. The exit heads learn what the classifier answers to the texts;
    a part of them is held back to fit the halting, another for the certificate.

    Args:
        classifier: Folder or hub name of a classifier that was fine-tuned with transformers.
        request: The texts, the risk and the columns.
        listener: Hears how it goes.
        **fields: Fields of `ConvertRequest`; they override those of `request`.

    Returns:
        As `fit` does; agreement and certificate refer to the classifier's own answers, and metrics are None.

    Raises:
        UsageError: A field does not fit.
        DataError: The texts cannot serve, or are too few for the certificate.
        ArtefactError: The classifier is missing, damaged, of another kind, or of an unsupported family; or there is
            nothing to resume.
        ResourceError: The output folder cannot be written, or memory ran out.
        StoppedError: SIGINT or SIGTERM came; what was learned is saved.
    """
    from dactcli.api.fit import go_on, train
    from dactcli.api.validate import resolved
    from dactcli.recipe.load import dump_recipe
    from dactcli.recipe.yaml12 import dump_yaml
    from dactcli.staging import staging
    from dactcli.storage import write_whole

    wanted, hears = build_request(ConvertRequest, request, fields, listener)
    with hears.working(f"reading {classifier} and the texts"):
        found = _conversion(str(classifier), wanted)
    with staging(None) as folder:
        path = folder / "conversion.yaml"
        path.write_text(dump_yaml(found.recipe()), encoding="utf-8")
        recipe = resolved(path, wanted.overrides)
    if wanted.recipe_out is not None:
        write_whole(Path(wanted.recipe_out), dump_recipe(recipe))
    _tell(found, hears)
    return (go_on if wanted.resume else train)(recipe, device=wanted.device, listener=hears)


def _conversion(classifier: str, wanted: ConvertRequest) -> Conversion:
    """What to convert, from the classifier's configuration and the columns and number of the texts."""
    from dactcli.data.rows import read_tables
    from dactcli.model.tokenizers import load_tokenizer
    from dactcli.recipe.conversion import Conversion
    from dactcli.runs.pretrained import answers_of_classifier, pretrained_config

    place = _address(classifier)
    answers_of_classifier(place)
    config, family = pretrained_config(place)
    tables = read_tables([str(path) for path in wanted.texts])
    text = wanted.text or _text_column(tables[0])
    inputs = [row for table in tables for row in _inputs(table, text, wanted.pair_column)]
    once = sum(number == 1 for number in Counter(inputs).values())
    return Conversion(
        classifier=place,
        name=_name(classifier),
        texts=[_address(str(path)) for path in wanted.texts],
        examples=len(inputs),
        text=text,
        pair=wanted.pair_column,
        calibration=_address(str(wanted.calibration)) if wanted.calibration is not None else None,
        held_back=0 if wanted.calibration is not None else _held_back(len(inputs), once, wanted),
        max_length=min(load_tokenizer(place).model_max_length, family.longest(config)),
        risk=wanted.risk,
        delta=wanted.delta,
        epochs=wanted.epochs,
    )


def _address(name: str) -> str:
    """A path from the root; a hub name or an address as it is."""
    from dactcli.data.inputs import is_address

    if is_address(name):
        return name
    path = os.path.abspath(os.path.expanduser(name))
    return path if os.path.exists(path) or "*" in name else name


def _name(classifier: str) -> str:
    """The name of the run: that of the classifier's folder, in letters that a folder may have."""
    last = Path(classifier).expanduser().resolve().name if os.path.isdir(os.path.expanduser(classifier)) else classifier
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last.rpartition("/")[2]).lstrip("._-")[:100] or "classifier"


def _text_column(table: Table) -> str:
    """`text`, or else the only column that holds texts alone.

    Raises:
        DataError: There is none, or there are several.
    """
    kinds = {name: {type(value) for value in values} for name, values in table.columns.items()}
    names = [name for name, found in kinds.items() if found <= {str, type(None)} and str in found]
    if "text" in names or len(names) == 1:
        return "text" if "text" in names else names[0]
    there = f"{len(names)} columns of texts, {', '.join(names)}" if names else "no column of texts"
    raise DataError(f"has {there}", place=table.head, remedy="name the one to read: `text` COLUMN")


def _inputs(table: Table, text: str, pair: str | None) -> Iterator[tuple[Any, ...]]:
    """What stands in the columns that are read, row by row; the training says what is wrong with it."""
    columns = [table.columns.get(name, [None] * len(table.numbers)) for name in (text, pair) if name is not None]
    for row in zip(*columns, strict=True):
        yield tuple(map(str, row))


def _held_back(examples: int, once: int, wanted: ConvertRequest) -> int:
    """How many of the texts are held back, so that enough of them certify.

    A text that stands there several times is mostly among those that train as well, and then certifies nothing.

    Args:
        examples: All texts.
        once: Those that stand there once.
        wanted: The risk.

    Raises:
        DataError: They are too few to certify this risk.
    """
    from dactcli.evaluation.certificate import smallest_sample

    fewest = smallest_sample(epsilon=wanted.risk, delta=wanted.delta / 2)
    share = min(max(FACTOR / wanted.risk, fewest) / max(once, 1), LARGEST)
    if int(share * once) >= fewest:
        return int(share * examples)
    repeated = "" if once == examples else f", of which {once:,} stand there once,"
    raise DataError(
        f"{examples:,} texts{repeated} are too few to certify a risk of {wanted.risk:g}: {fewest:,} have to be held "
        f"back, and at most {LARGEST:.0%} are",
        place=", ".join(map(str, wanted.texts)),
        remedy=f"give at least {ceil(fewest / LARGEST):,} texts, name a file as `calibration`, or raise `risk`",
    )


def _tell(found: Conversion, listener: Listener) -> None:
    """How the texts are divided, and what the promise rests on."""
    parts = [f"{found.learned:,} train the exit heads", f"{found.validated:,} fit the halting"]
    if found.held_back:
        parts.append(f"{found.held_back:,} certify it")
    listener.notice(f"of {found.examples:,} texts {', '.join(parts[:-1])} and {parts[-1]}")
    certified = "the texts that certify" if found.held_back else f"the texts of {found.calibration}"
    listener.notice(f"the promise holds if {found.classifier} was not trained on {certified}; dact cannot check that")
