"""Save and load runs: weights, configuration, tokenizer and recipe, all of them checked.

Only safetensors are read, remote code never runs, and a configuration is screened before transformers sees it
(`dactcli.runs.screen`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from dactcli.errors import ArtefactError, ResourceError, did_you_mean, first_line
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.tokenizers import check_fit, check_length, load_tokenizer, save_tokenizer
from dactcli.runs.screen import placed, screen
from dactcli.runs.weights import load_weights, without_bars
from dactcli.storage import FORMAT, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.recipe.schema import Recipe

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
LATEST = Path("runs/latest")


@dataclass(frozen=True)
class Run:
    """A saved model.

    Attributes:
        folder: The run folder.
        model: In evaluation mode, on the CPU.
        tokenizer: Its tokenizer; `model_max_length` is the length that it was trained with.
        recipe: The recipe; None if the model was saved without one.
    """

    folder: Path
    model: DactForSequenceClassification
    tokenizer: Tokenizer
    recipe: Recipe | None


def find_run(path: Path | None) -> Path:
    """The folder of a run.

    Args:
        path: A run folder or saved model; None for the newest finished run, `runs/latest`.

    Raises:
        ArtefactError: No such run exists; the message names the command that makes one.
    """
    if path is None:
        if not LATEST.exists():
            others = sorted(str(summary.parent) for summary in LATEST.parent.glob("*/summary.json"))
            if others:
                remedy = f"name a run: {', '.join(others[:5])}"
                raise ArtefactError("is not there", place=str(LATEST), remedy=remedy)
            raise ArtefactError(
                "there is no finished run in this folder",
                place=str(LATEST),
                remedy="name one, or make one with: dact finetune recipes/quickstart.yaml",
            )
        return LATEST.resolve()
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        raise ArtefactError(
            "is a file, and no run", place=str(path), remedy=_instead(path.parent, "give a run's folder")
        )
    if not any((path / name).is_file() for name in ("config.json", "recipe.yaml")):
        remedy = _instead(path, "give a run's folder, or that of a saved model")
        raise ArtefactError("is no run: it holds no config.json", place=str(path), remedy=remedy)
    return path


def _missing(path: Path) -> ArtefactError:
    """The error of a path at which nothing is."""
    if match := ADDRESS.fullmatch(str(path)):  # a path takes one slash away
        fault, remedy = "is an address, and runs are read from folders", "download it, and give its folder"
        return ArtefactError(fault, place=f"{match[1]}://{match[2]}", remedy=remedy)
    known = [*_runs_in(path.parent), *_runs_in(LATEST.parent)]
    named = [run for run in known if Path(run).name == path.name]
    remedy = f"did you mean {named[0]}?" if named else did_you_mean(str(path), list(dict.fromkeys(known)))
    return ArtefactError("no such run", place=str(path), remedy=remedy if known else "give a run folder")


def _runs_in(folder: Path) -> list[str]:
    """The folders in a folder that hold a model or a training."""
    found = {path.parent for name in ("config.json", "recipe.yaml") for path in folder.glob(f"*/{name}")}
    return sorted(str(path) for path in found if not path.is_symlink())


def _instead(folder: Path, otherwise: str) -> str:
    """The run that a folder is or holds, for an error."""
    runs = [str(folder)] if (folder / "config.json").is_file() else _runs_in(folder)
    return f"give a run: {', '.join(runs[:5])}" if runs else otherwise


def load_run(path: Path | None) -> Run:
    """Load a run or saved model; refuse incomplete or damaged folders and models of another kind.

    Args:
        path: See `find_run`.

    Raises:
        ArtefactError: The run cannot be used; the message names the file.
    """
    folder = find_run(path)
    screen(folder)
    model = load_weights(folder, DactForSequenceClassification)
    tokenizer = load_tokenizer(folder)
    check_fit(tokenizer, model.config.encoder_config, str(folder))
    check_length(tokenizer, model.config.encoder_config, folder)
    return Run(folder, model.eval(), tokenizer, _recipe(folder))


def save_model(model: DactForSequenceClassification, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: The folder; created if missing.

    Raises:
        ResourceError: The disk is full, or the folder cannot be written.
    """
    model.config.dact_format = FORMAT
    try:
        with without_bars():
            model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # raised by Python, torch and safetensors
        raise unsaved(folder, error) from None


def unsaved(folder: Path, error: Exception) -> ResourceError:
    """The error to raise if a model or checkpoint cannot be written."""
    # for a full disk, torch reports only a line of its own source
    reason = "the disk took only a part of it" if isinstance(error, RuntimeError) else first_line(error)
    return ResourceError(
        f"cannot be written: {reason}",
        place=str(folder),
        remedy="free the disk or its limit; earlier checkpoints are untouched, and `resume` continues from them",
    )


def weights_digest(folder: Path) -> str:
    """SHA-256 of a saved model's weights."""
    return sha256(folder / "model.safetensors")


def _recipe(folder: Path) -> Recipe | None:
    from dactcli.recipe.load import load_recipe

    path = folder / "recipe.yaml"
    if not path.is_file():
        return None
    with placed(str(path)):
        return load_recipe(path)
