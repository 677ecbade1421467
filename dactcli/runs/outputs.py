"""Outputs of all layers on a split: computed once, kept in the run folder, sufficient to evaluate any rule.

A kept file is named by its split and by a key: a digest of the model's identity (weights, configuration, tokenizer,
type), the tokenised examples, and the kind of device. When any of these changes, the encoder runs again. The file holds
the tensors alone; objective, kind of answer and class names come from the model, whose identity is part of the key.

E examples, N layers, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dactcli import distributed
from dactcli.data.batches import Encoded, shared_by_length
from dactcli.halting.agreement import AgreementFit, fit_agreement
from dactcli.halting.answers import CLASSES, Answers
from dactcli.halting.base import Rule
from dactcli.halting.decision import Decision, decide, score_layers
from dactcli.halting.rules import Full
from dactcli.model.finite import unfinite_error, unfinite_rows
from dactcli.runs.identity import identify

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.runs.load import Run

PART = 2**23  # entries of y that a rule processes at a time: 32 MiB


@dataclass(frozen=True)
class LayerOutputs:
    """Outputs of all layers, and what is needed to interpret them.

    Attributes:
        y: y_n [E, N, C], float32, on the CPU.
        h: h_n [E, N].
        certainty: Probability that y_n is right [E, N]; None without that head.
        objective: What the model was trained for: `dact`, `layers` or `last`.
        answers: What the answers are.
        names: Names of the classes or labels [C]; None for regression, or if they are unknown.
        exits: The layers after which an example may stop, beside the last; None for all.
    """

    y: Tensor
    h: Tensor
    certainty: Tensor | None = None
    objective: str = "dact"
    answers: Answers = CLASSES
    names: Sequence[str] | None = None
    exits: Sequence[int] | None = None

    @property
    def mixes(self) -> bool:
        """Whether answers accumulate over layers: only with the DACT loss."""
        return self.objective == "dact"

    @property
    def layers(self) -> int:
        """N."""
        return self.y.shape[1]

    @property
    def classes(self) -> int:
        """C; 1 for regression."""
        return self.y.shape[2]

    def decide(self, rule: Rule) -> Decision:
        """Where each example stops under a rule, and what it answers."""
        rule = rule.of(self.answers)
        parts = [decide(rule, *part, mixes=self.mixes, exits=self.exits) for part in self._parts()]
        return Decision(torch.cat([part.exit_layer for part in parts]), torch.cat([part.answer for part in parts]))

    def score(self, rule: Rule) -> tuple[Tensor, Tensor]:
        """A rule's score of every layer of every example, as in `Scored`, and what it would decide.

        Returns:
            Scores [E, N]; classes [E, N], or the labels of label sets as booleans [E, N, C].
        """
        rule = rule.of(self.answers)
        parts = [score_layers(rule, *part, mixes=self.mixes, exits=self.exits) for part in self._parts()]
        decided = [self.answers.decide(part.answers) for part in parts]
        return torch.cat([part.scores for part in parts]), torch.cat(decided)

    def fit_agreement(self) -> AgreementFit:
        """How likely each layer decides as full depth does, fitted to these outputs; needs no labels."""
        full = self.decide(Full()).answer
        same = [self.answers.same(layer, full) for layer in self.y.unbind(1)]
        return fit_agreement(self._sureness(), torch.stack(same, 1))

    def with_agreement(self, fit: AgreementFit) -> LayerOutputs:
        """The same with the h_n of a fit, for the rule `agreement`."""
        return replace(self, h=fit.changes(self._sureness()))

    def _sureness(self) -> Tensor:
        """How sure each layer's answer is, in log odds [E, N]."""
        return self.answers.sureness(self.answers.logits(self.answers.logs(self.y)))

    def _parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """The outputs in slices of the examples, because rules make several tensors of the size of y."""
        rows = max(PART // (self.layers * self.classes), 1)
        for start in range(0, len(self.y), rows):
            part = slice(start, start + rows)
            yield self.y[part], self.h[part], None if self.certainty is None else self.certainty[part]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, without a certainty where there is no such head."""
        named = {"y": self.y, "h": self.h, "certainty": self.certainty}
        return {name: value for name, value in named.items() if value is not None}


def collect(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    first: int = 1,
) -> LayerOutputs:
    """Run all layers on all examples; processes share the work, and each returns the whole.

    Args:
        model: The model; its mode (training or evaluation) is restored afterwards.
        tokenizer: Its tokenizer.
        encoded: The examples.
        batch_size: Examples per batch and process.
        progress: Called with the number of this process's examples done, and the total.
        first: Number of the first example, for errors.

    Returns:
        The outputs, in the order of the examples.

    Raises:
        ArtefactError: Some answers are not finite, for example because activations overflow.
    """
    was_training, lengths = model.training, encoded.lengths
    model.eval()
    # rows of other processes stay 0 here, so that the sum over processes is the whole
    own = len(distributed.share(lengths))
    y = torch.zeros(len(lengths), model.exit_heads.layers, model.classes)
    h = torch.zeros(len(lengths), model.exit_heads.layers)
    certainty = torch.zeros(len(lengths), model.exit_heads.layers) if model.config.certainty else None
    done = 0
    try:
        for positions, batch in shared_by_length(tokenizer, encoded, batch_size, model.device):
            answers, halting, sure = model.layer_outputs(**batch)
            y[positions], h[positions] = answers.float().cpu(), halting.float().cpu()
            if certainty is not None and sure is not None:
                certainty[positions] = sure.float().cpu()
            done += len(positions)
            if progress is not None:
                progress(done, own)
    finally:
        model.train(was_training)
    whole = None if certainty is None else distributed.all_reduce_sum(certainty)
    outputs = LayerOutputs(distributed.all_reduce_sum(y), distributed.all_reduce_sum(h), whole, **facts_of(model))
    if rows := unfinite_rows(*outputs.tensors().values()):
        raise unfinite_error([f"example {first + row:,}" for row in rows])
    return outputs


def collect_of_run(
    run: Run, encoded: Encoded, *, batch_size: int, progress: Callable[[int, int], None] | None, first: int = 1
) -> LayerOutputs:
    """`collect` for a run or an export.

    Args:
        run: The run.
        encoded: The examples.
        batch_size: Examples per batch and process.
        progress: As for `collect`, like `first`.
        first: Number of the first example.
    """
    if run.exported:
        # all examples at once: the runtime forms its own batches, on which the answers of int8 depend
        batch_size = len(encoded.lengths)
    return collect(run.model, run.tokenizer, encoded, batch_size=batch_size, progress=progress, first=first)


def cached_outputs(
    run: Run,
    encoded: Encoded,
    name: str,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    computed: Callable[..., LayerOutputs] = collect_of_run,
) -> LayerOutputs:
    """Outputs of all layers, read from the run folder, or computed and kept there; those of an export are not kept.

    Args:
        run: The run.
        encoded: The examples.
        name: Name of the split or file; the kept file's name begins with it.
        batch_size: Examples per batch, for outputs that have to be computed.
        progress: Called with the number of examples done, and the total.
        computed: Computes them, as `collect_of_run` does.
    """
    compute = partial(computed, run, encoded, batch_size=batch_size, progress=progress)
    if run.exported:
        return compute()
    path = run.folder / "outputs" / f"{name}-{outputs_key(run, encoded)[:16]}.safetensors"
    kept = _kept(run, encoded, path)
    # all processes compute, or none does
    if not distributed.all_reduce_max(kept is None) and kept is not None:
        return kept
    outputs = compute()
    distributed.on_main(lambda: _keep(outputs, path, name))
    return outputs


def facts_of(model: DactForSequenceClassification) -> dict[str, Any]:
    """The fields of `LayerOutputs` that the model knows."""
    config = model.config
    names = None if model.regression else [str(config.id2label[index]) for index in range(config.num_labels)]
    return {"objective": config.objective, "answers": model.answers, "names": names, "exits": model.exits}


def _kept(run: Run, encoded: Encoded, path: Path) -> LayerOutputs | None:
    """Outputs of this model on these examples from a kept file; None if the file is missing or does not match."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shape = (len(encoded.lengths), run.model.exit_heads.layers, run.model.classes)
    wanted = {"y": shape, "h": shape[:2]} | ({"certainty": shape[:2]} if run.model.config.certainty else {})
    try:
        kept = load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError):
        return None
    fits = {name: tuple(value.shape) for name, value in kept.items()} == wanted
    fits = fits and not unfinite_rows(*kept.values())
    return LayerOutputs(**kept, **facts_of(run.model)) if fits else None


def _keep(outputs: LayerOutputs, path: Path, name: str) -> None:
    """Write the outputs atomically and delete older ones of the same split; a failure to write is ignored."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    fresh = path.with_suffix(".part")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file({name: value.contiguous() for name, value in outputs.tensors().items()}, fresh)
        fresh.replace(path)
    except (OSError, SafetensorError):  # safetensors wraps errors of the system
        return
    digits = "[0-9a-f]" * 16
    for old in path.parent.glob(f"{name}-{digits}.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)


def outputs_key(run: Run, encoded: Encoded) -> str:
    """Digest of everything that kept outputs depend on, 64 hex digits."""
    parts = (identify(run).digest, examples_digest(encoded), run.model.device.type)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def examples_digest(encoded: Encoded) -> str:
    """SHA-256 of tokenised examples, in order, labels left out."""
    digest = hashlib.sha256()
    for name, rows in sorted(encoded.inputs.items()):
        digest.update(name.encode())
        digest.update(np.asarray([len(row) for row in rows], dtype="<i8").tobytes())
        digest.update(np.asarray([token for row in rows for token in row], dtype="<i8").tobytes())
    return digest.hexdigest()
