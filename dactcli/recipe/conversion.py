"""The recipe by which a fine-tuned classifier gets exit heads from texts without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

VALIDATION, FEWEST, MOST = 0.1, 200, 2000  # share of the texts that the halting units are fitted on, and its bounds
RATE = 2e-3  # for exit heads alone, which the encoder's training need not wait for (docs/LOG.md)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What is converted, and by which texts.

    Attributes:
        classifier: Folder or hub name of the classifier.
        name: Of the run.
        texts: Files of texts.
        examples: How many texts they hold.
        text: Column of the text.
        pair: Column of the second text; None for single texts.
        calibration: File of other texts to certify on; None to hold a part back.
        held_back: How many of the texts are held back for the certificate; 0 with a file of its own.
        max_length: Most tokens that the classifier reads.
        risk: How often a fresh text may be answered differently.
        delta: Probability that the certificate fails.
        epochs: Passes over the texts that train the exit heads.
    """

    classifier: str
    name: str
    texts: Sequence[str]
    examples: int
    text: str
    pair: str | None
    calibration: str | None
    held_back: int
    max_length: int
    risk: float
    delta: float
    epochs: float

    @property
    def validated(self) -> int:
        """How many of the texts the halting units are fitted on."""
        return min(max(int(VALIDATION * self.examples), FEWEST), MOST, self.examples // 3)

    @property
    def learned(self) -> int:
        """How many of the texts train the exit heads."""
        return self.examples - self.validated - self.held_back

    def recipe(self) -> dict[str, Any]:
        """The keys of the recipe; the others have their defaults."""
        texts = list(self.texts)
        return {
            "task": {"name": self.name},
            "data": {
                "source": "files",
                "train": texts if len(texts) > 1 else texts[0],
                "validation": _share(self.validated, self.examples),
                "calibration": self.calibration or _share(self.held_back, self.examples),
                "text": self.text,
                "text_pair": self.pair,
                "label": None,
                "max_length": self.max_length,
            },
            "model": {"encoder": self.classifier, "keep_classifier": True, "agreement": True},
            "dact": {"tau": None},
            "training": {"epochs": self.epochs, "unit_learning_rate": RATE},
            "evaluation": {"risk": self.risk, "delta": self.delta},
            "output": {"name": self.name},
        }


def _share(part: int, whole: int) -> float:
    """A share of all texts, in six digits."""
    return float(f"{part / whole:.6g}")
