"""Save and load a run: weights, configuration, tokenizer, and the recipe beside them; everything checked.

Only safetensors are read, remote code never runs, and a configuration is screened before transformers sees it
(`dactcli.runs.screen`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from dactcli.errors import ArtefactError, ResourceError, did_you_mean, first_line
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.tokenizers import check_fit, check_length, load_tokenizer, save_tokenizer
from dactcli.runs.identity import FileDigests, file_digests
from dactcli.runs.screen import placed, screen
from dactcli.runs.weights import load_weights, without_bars
from dactcli.storage import FORMAT, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.recipe.schema import Recipe

LATEST = Path("runs/latest")


@dataclass(frozen=True)
class Run:
    """A saved model.

    Attributes:
        folder: Where it stands.
        model: In evaluation mode, on the CPU.
        tokenizer: Its tokenizer; `model_max_length` is the length that it was trained with.
        recipe: What it was trained by; None for a model that was saved without one.
    """

    folder: Path
    model: DactForSequenceClassification
    tokenizer: Tokenizer
    recipe: Recipe | None

    @cached_property
    def file_digests(self) -> FileDigests:
        """The digests of the files; computed once, because that reads all weights."""
        return file_digests(self.folder)


def find_run(path: Path | None) -> Path:
    """The folder of a run.

    Args:
        path: A run folder or saved model; None for the newest finished run, `runs/latest`.

    Raises:
        ArtefactError: There is none; the sentence names the command that makes one.
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
        near = [str(p) for p in path.parent.glob("*") if p.is_dir()] if path.parent.is_dir() else []
        raise ArtefactError(
            "no such run",
            place=str(path),
            remedy=did_you_mean(str(path), near) if near else "give a run folder",
        )
    if not path.is_dir():
        raise ArtefactError("is a file", place=str(path), remedy="give the run's folder")
    return path


def load_run(path: Path | None) -> Run:
    """Load a run or saved model, refusing what is incomplete, damaged or not a DACT model.

    Args:
        path: As for `find_run`.

    Raises:
        ArtefactError: It cannot be used; the sentence names the file.
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
        folder: Where to; made if missing.

    Raises:
        ResourceError: The disk is full, or the folder cannot be written.
    """
    model.config.dact_format = FORMAT
    try:
        with without_bars():
            model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # the kinds of Python, torch and safetensors
        raise unsaved(folder, error) from None


def unsaved(folder: Path, error: Exception) -> ResourceError:
    """The error of a model or checkpoint that could not be written."""
    # torch's own words for a full disk are a line of its source
    reason = "the disk took only a part of it" if isinstance(error, RuntimeError) else first_line(error)
    return ResourceError(
        f"cannot be written: {reason}",
        place=str(folder),
        remedy="free the disk or its limit; what was saved before is untouched, and `resume` goes on from it",
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
