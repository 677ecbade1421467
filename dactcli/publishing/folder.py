"""The folder that is given away: the model and what tells of it, and nothing that tells of this machine or the data.

It is written beside its place and gets its name when it is whole; what went wrong before leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.errors import ArtefactError, ResourceError, UsageError
from dactcli.publishing.facts import is_hub_name
from dactcli.recipe.load import dump_recipe
from dactcli.runs.identity import ORIGINS, TOKENIZER_FILES
from dactcli.storage import check_folder, files_below, put, to_json, write_json, write_whole

if TYPE_CHECKING:
    from dactcli.recipe.schema import Recipe
    from dactcli.runs.load import Run

CARD, RECIPE = "README.md", "recipe.yaml"
SEAL = "<!-- written by dact, {} -->"
OF_A_RUN = ("summary.json", "metrics.jsonl", "checkpoints")


def check_target(target: Path, run: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be written, before any work is done.

    Args:
        target: Where the model is to stand.
        run: The run that is published.
        overwrite: Whether an earlier publication may be replaced.

    Raises:
        UsageError: Something is there that this would destroy.
        ResourceError: The folder that it is to stand in cannot be made or written.
    """
    place = f"`to` {target}"
    here, inside = target.resolve(), run.resolve()
    if here == inside or inside.is_relative_to(here):
        raise UsageError("is where the run itself stands", place=place, remedy="name another folder")
    if here.is_relative_to(inside):
        raise UsageError("is inside the run's own folder", place=place, remedy="name another folder")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError("is not a folder", place=place, remedy="name another one, or move it away")
    try:
        check_folder(here.parent, option="`to`")
    except ResourceError as error:
        raise ResourceError(error.fault, place=str(target), remedy="name another folder") from None
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise UsageError("already exists", place=place, remedy="name another folder, or add `overwrite`")
    published = (target / CARD).is_file() and (target / "config.json").is_file()
    if not published or any((target / name).exists() for name in OF_A_RUN):
        raise UsageError("is not a published model and is not replaced", place=place, remedy="name another folder")


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


@contextmanager
def staging(target: Path | None) -> Iterator[Path]:
    """A new folder to write in; it is gone afterwards, unless `finish` gave it its name.

    Args:
        target: Where it is to stand, so that it is on the same disk; None for a temporary place.

    Raises:
        ResourceError: It cannot be made or written.
    """
    if target is None:
        with tempfile.TemporaryDirectory(prefix="dact-") as folder:
            yield Path(folder)
        return
    fresh = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(target, error) from None
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def finish(fresh: Path, target: Path) -> None:
    """Give the folder its name.

    Args:
        fresh: As `staging` gave it.
        target: Its name; what had it is gone after.

    Raises:
        ResourceError: The disk does not take it.
    """
    try:
        put(fresh, target)
    except OSError as error:
        raise _unwritable(target, error) from None


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
        raise _unwritable(target or folder, error) from None
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


def _unwritable(target: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"cannot be written: {error.strerror or error}",
        place=str(target),
        remedy="free the disk, or name another folder",
    )
