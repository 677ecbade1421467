"""From texts to padded batches of tokens, by the tokenizer of an export.

B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dactcli.characters import whole_characters
from dactcli.errors import ArtefactError, ResourceError, UsageError, first_line

if TYPE_CHECKING:
    from dactcli.runtime.manifest import TokenizerFacts

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
Rows = dict[str, NDArray[Any]]  # tensors by name, whose first axis is the rows


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts.

    Attributes:
        ids: Token ids of each text.
        types: Token types of each text.
        padding_id: Id of the padding token.
    """

    ids: list[list[int]]
    types: list[list[int]]
    padding_id: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.ids]

    def batches(self, most: int) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        """Batches of texts of like length, longest first.

        Args:
            most: Most tokens of a batch, padding included; one text may have more.

        Yields:
            The positions of the texts [B], and their tensors [B, T].
        """
        lengths = self.lengths
        order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
        start = 0
        while start < len(order):
            size = max(most // lengths[order[start]], 1)
            positions = order[start : start + size]
            yield np.array(positions), self.rows(positions)
            start += size

    def rows(self, positions: Sequence[int]) -> Rows:
        """The tensors of some texts, padded on the right [B, T]."""
        width = max(len(self.ids[position]) for position in positions)
        made = {
            IDS: np.full((len(positions), width), self.padding_id, dtype=np.int64),
            MASK: np.zeros((len(positions), width), dtype=np.int64),
            TYPES: np.zeros((len(positions), width), dtype=np.int64),
        }
        for row, position in enumerate(positions):
            length = len(self.ids[position])
            made[IDS][row, :length] = self.ids[position]
            made[TYPES][row, :length] = self.types[position]
            made[MASK][row, :length] = 1
        return made


class TextTokenizer:
    """The tokenizer of an export.

    Args:
        path: Its file.
        facts: What the manifest says of it.

    Raises:
        ResourceError: The library `tokenizers` is not installed.
        ArtefactError: The file is damaged.
    """

    def __init__(self, path: Path, facts: TokenizerFacts) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ResourceError("tokenizers is not installed", remedy="pip install tokenizers") from None
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain exceptions
            raise ArtefactError(
                f"cannot be read: {first_line(error)}", place=str(path), remedy="export the run again"
            ) from None
        self.tokenizer.no_padding()  # a batch is padded when its rows are known
        self.facts = facts

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        """Tokenise texts, and their second halves for models of pairs.

        A text without any token becomes one padding token, as in `dactcli.data.batches.encode`.

        Raises:
            UsageError: There are more or fewer second texts than texts.
        """
        if pairs is not None and len(pairs) != len(texts):
            raise UsageError(
                f"there are {len(pairs)} second texts for {len(texts)} texts", place="`pairs`", remedy="give one each"
            )
        whole: list[Any] = [whole_characters(text) for text in texts]
        if pairs is not None:
            whole = list(zip(whole, map(whole_characters, pairs), strict=True))
        found = self.tokenizer.encode_batch(whole)
        alone = [self.facts.padding_id]
        return Tokens([one.ids or alone for one in found], [one.type_ids or [0] for one in found], alone[0])
