"""An answer is a number or an error: which rows are neither, and the error that names them.

B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dactcli.errors import ArtefactError

MOST_ROWS = 5  # that a sentence names


def unfinite_rows(*tensors: Tensor) -> list[int]:
    """Positions of the rows that hold NaN or infinity in any of the tensors.

    Args:
        *tensors: Each [B, ...], all of one batch, on one device.

    Returns:
        Positions along B, ascending.
    """
    finite = torch.stack(
        [torch.isfinite(tensor.flatten(1) if tensor.dim() > 1 else tensor.unsqueeze(-1)).all(-1) for tensor in tensors]
    ).all(0)
    rows: list[int] = (~finite).nonzero()[:, 0].tolist()
    return rows


def unfinite_error(places: Sequence[str]) -> ArtefactError:
    """The error of a model whose answers to some rows are not finite.

    Args:
        places: Where each such row stands: `reviews.csv:17`, `text 3`.
    """
    named = ", ".join(places[:MOST_ROWS])
    more = f" and {len(places) - MOST_ROWS:,} more" if len(places) > MOST_ROWS else ""
    return ArtefactError(
        "the model's answer is not a finite number",
        place=f"{named}{more}",
        remedy="its activations overflow on this text: run it in float32, or train it again",
    )
