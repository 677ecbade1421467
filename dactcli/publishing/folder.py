"""The folder that is given away: the model and what tells of it, nothing that tells of this machine or the data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli import staging
from dactcli.errors import ArtefactError
from dactcli.publishing.facts import is_hub_name
from dactcli.recipe.load import dump_recipe
from dactcli.runs.identity import ORIGINS, TOKENIZER_FILES
from dactcli.staging import unwritable
from dactcli.storage import files_below, to_json, write_json, write_whole

if TYPE_CHECKING:
    from dactcli.recipe.schema import Recipe
    from dactcli.runs.load import Run

CARD, RECIPE = "README.md", "recipe.yaml"
SEAL = "<!-- written by dact, {} -->"
OF_A_RUN = ("summary.json", "metrics.jsonl", "checkpoints")


def check_target(target: Path, run: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be written; the arguments are those of `dactcli.staging.check_target`."""
    staging.check_target(target, run, overwrite=overwrite, noun="a published model", ours=_is_published)


def _is_published(folder: Path) -> bool:
    model = (folder / CARD).is_file() and (folder / "config.json").is_file()
    return model and not any((folder / name).exists() for name in OF_A_RUN)


def sealed(card: str) -> str:
    """A card that tells later whether somebody edited it: its last line holds its own digest."""
    return f"{card}\n{SEAL.format(_digest(card))}\n"


def edited_card(folder: Path | None) -> str | None:
    """The card of an earlier publication, if somebody edited it.

    Args:
        folder: Where the publication stands; None for nowhere.

    Raises:
        ArtefactError: It cannot be read.
    """
    if folder is None or not (folder / CARD).is_file():
        return None
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"cannot be read: {error}", place=str(folder / CARD), remedy="fix it, or move it away"
        ) from None
    card, _, seal = text.rstrip("\n").rpartition("\n")
    return None if seal == SEAL.format(_digest(card)) else text


def _digest(card: str) -> str:
    return hashlib.sha256(card.encode()).hexdigest()[:16]


def write_model(
    run: Run, folder: Path, *, rule: str, card: str, documents: dict[str, dict[str, Any]], target: Path | None
) -> list[str]:
    """Write what is published.

    Args:
        run: The run.
        folder: Where to; it is there and empty.
        rule: What the model halts by.
        card: The model card.
        documents: Further JSON files, by name.
        target: Where it will stand, for errors.

    Returns:
        The names of the files.

    Raises:
        ArtefactError: The weights are not in one file.
        ResourceError: The disk does not take them.
    """
    weights = run.folder / "model.safetensors"
    if not weights.is_file():
        raise ArtefactError("is missing", place=str(weights), remedy="save the model in one file again")
    from dactcli.model.tokenizers import save_tokenizer

    try:
        # copied, not saved again: a certificate is bound to the file's digest
        shutil.copyfile(weights, folder / weights.name)
        save_tokenizer(run.tokenizer, folder)
        for name in TOKENIZER_FILES:  # likewise to the contents of these
            if (run.folder / name).is_file():
                shutil.copyfile(run.folder / name, folder / name)
        tokenizer = folder / "tokenizer_config.json"
        if tokenizer.is_file():
            _rewrite(tokenizer, tokenizer)
        _rewrite(run.folder / "config.json", folder / "config.json", rule=rule)
    except OSError as error:
        raise unwritable(target or folder, error) from None
    for name, document in documents.items():
        write_json(folder / name, document)
    if run.recipe is not None:
        write_whole(folder / RECIPE, dump_recipe(shareable(run.recipe)))
    write_whole(folder / CARD, card)
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def _rewrite(source: Path, target: Path, **changed: Any) -> None:
    """A configuration with some values changed, and without the places that its parts were loaded from."""
    document = json.loads(source.read_text(encoding="utf-8"))
    for part in (document, document.get("encoder_config", {})):
        for name in ORIGINS:
            part.pop(name, None)
    write_whole(target, to_json({**document, **changed}, indent=2, sort_keys=True) + "\n")


def shareable(recipe: Recipe) -> Recipe:
    """A recipe without the places of this machine: of paths, the last part stays.

    Args:
        recipe: A complete recipe.

    Returns:
        One that says the same of task, columns, metric and training; files and encoders are to be put beside it.
    """
    data, encoder = recipe.data, recipe.model.encoder
    places: dict[str, Any] = {}
    if data.source == "files":
        for split in ("train", "validation", "calibration", "test"):
            value = getattr(data, split)
            if isinstance(value, str):
                places[split] = _last(value)
            elif isinstance(value, list):
                places[split] = [_last(file) for file in value]
    if data.name is not None and not is_hub_name(data.name):
        places["name"] = _last(data.name)
    if isinstance(encoder, str) and not is_hub_name(encoder):
        encoder = _last(encoder)
    return recipe.model_copy(
        update={
            "data": data.model_copy(update=places),
            "model": recipe.model.model_copy(update={"encoder": encoder}),
            "output": recipe.output.model_copy(update={"dir": "runs"}),
        }
    )


def _last(path: str) -> str:
    return os.path.basename(path.rstrip("/\\")) or path
