"""Save and load runs: weights, configuration, tokenizer and recipe, all of them checked.

Only safetensors are read, remote code never runs, and a configuration is screened before transformers sees it
(`dactcli.runs.screen`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from dactcli.errors import ResourceError, first_line
from dactcli.model.dact import DactForSequenceClassification
from dactcli.model.tokenizers import check_fit, check_length, load_tokenizer, save_tokenizer
from dactcli.runs.folders import find_run
from dactcli.runs.identity import FileDigests, file_digests
from dactcli.runs.screen import placed, screen
from dactcli.runs.weights import load_weights, without_bars
from dactcli.storage import FORMAT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.recipe.schema import Recipe
    from dactcli.results import Calibration


@dataclass(frozen=True)
class Run:
    """A saved model.

    Attributes:
        folder: The run folder.
        model: In evaluation mode, on the CPU.
        tokenizer: Its tokenizer; `model_max_length` is the length that it was trained with.
        recipe: The recipe; None if the model was saved without one.
        exported: Whether it is an export. Its model then gives answers alone (`dactcli.exporting.opened`), and nothing
            is kept in its folder.
        certificate: The certificate of an export; that of a run lies in its folder.
    """

    folder: Path
    model: DactForSequenceClassification
    tokenizer: Tokenizer
    recipe: Recipe | None
    exported: bool = False
    certificate: Calibration | None = None

    @cached_property
    def file_digests(self) -> FileDigests:
        """The digests of the files; computed once, because that reads all weights."""
        return file_digests(self.folder)


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
    return Run(folder, model.eval(), tokenizer, read_recipe(folder))


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


def read_recipe(folder: Path) -> Recipe | None:
    """The recipe in a folder; None if there is none."""
    from dactcli.recipe.load import load_recipe

    path = folder / "recipe.yaml"
    if not path.is_file():
        return None
    with placed(str(path)):
        return load_recipe(path)
