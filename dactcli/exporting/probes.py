"""Compare an export with its model on rows of tokens that need no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dactcli.runtime.tokens import Tokens

if TYPE_CHECKING:
    from dactcli.runs.load import Run
    from dactcli.runtime import ExportedModel

LENGTHS = (1, 2, 3, 5, 8, 13)  # tokens of the rows; together they are padded


@torch.no_grad()
def largest_difference(run: Run, exported: ExportedModel) -> float:
    """How far the answers of an export's layers are from the model's at most.

    Args:
        run: The run.
        exported: Its export.

    Returns:
        Largest difference of a probability, or of a value in parts of its range.
    """
    vocabulary, longest = run.model.config.vocab_size, exported.manifest.tokenizer.max_length
    padding = exported.manifest.tokenizer.padding_id
    rows = [min(length, longest) for length in LENGTHS]
    ids = [
        [(padding + 1 + (7 * at + length) % max(vocabulary - 1, 1)) % vocabulary for at in range(length)]
        for length in rows
    ]
    tokens = Tokens(ids, [[0] * length for length in rows], padding)
    batch = {name: torch.from_numpy(values) for name, values in tokens.rows(range(len(rows))).items()}
    wanted, _, _ = run.model.layer_outputs(**batch)
    found = torch.from_numpy(exported.layer_outputs(tokens)["layer_answer"])
    bounds = run.model.answer_range
    width = 1.0 if bounds is None else bounds[1] - bounds[0]
    return float((found - wanted[:, : found.shape[1]]).abs().max()) / width
