"""One stage on the transformers Trainer: two learning rates, frozen parts, and an end when the loss is not finite."""

from __future__ import annotations

import pickle
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import Trainer, TrainingArguments

from dactcli.data.batches import BucketSampler, pad
from dactcli.errors import ArtefactError, DivergedError
from dactcli.model.checkpoint import unsaved
from dactcli.model.decide import decide
from dactcli.model.halting import halting_weights
from dactcli.model.rules import Rule
from dactcli.storage import commit
from dactcli.training.checkpoints import WRITING, retain
from dactcli.training.stages import Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer
    from transformers import TrainerCallback

    from dactcli.data.batches import Encoded
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.recipe.schema import Recipe

POSITIONS = "position"  # column of the training set: where an example stands in it
# what torch's reader of states, and what takes the states, raise for files that are none of ours
UNREADABLE = (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError)
NAMED = 8  # most rows that an error names
RECENT = 8  # batches from which the mean layers on screen are taken


def stage_arguments(recipe: Recipe, stage: Stage, folder: Path, device: torch.device) -> TrainingArguments:
    """The Trainer's arguments for a stage.

    Args:
        recipe: A complete recipe.
        stage: The stage.
        folder: Where its checkpoints go.
        device: Where it runs.
    """
    keys, every = stage.keys, recipe.training.save_steps
    seed = (recipe.training.seed + stage.number) % 2**32
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=keys.epochs,
        max_steps=keys.max_steps or -1,
        per_device_train_batch_size=keys.batch_size,
        gradient_accumulation_steps=keys.accumulate,
        learning_rate=keys.learning_rate,
        lr_scheduler_type=keys.schedule,
        warmup_steps=min(keys.warmup, 0.999),
        weight_decay=keys.weight_decay,
        max_grad_norm=keys.clip,
        bf16=recipe.model.dtype == "bfloat16",
        fp16=recipe.model.dtype == "float16",
        seed=seed,
        data_seed=seed,
        full_determinism=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        logging_steps=recipe.training.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if every else "epoch",
        save_steps=every or 500,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
    )


class DactTrainer(Trainer):  # type: ignore[misc]
    """The Trainer for one stage.

    Args:
        model: The model; the stage's loss and frozen parts are set on it.
        stage: The stage.
        args: Its arguments.
        encoded: The training examples.
        tokenizer: Pads them.
        callbacks: What listens.
        rows: Where each training example stands in its source, for the error of a run that diverges.
        weights_only: Whether a resumed stage begins with a fresh optimizer and random state.
    """

    def __init__(
        self,
        model: DactForSequenceClassification,
        stage: Stage,
        args: TrainingArguments,
        encoded: Encoded,
        tokenizer: Tokenizer,
        callbacks: list[TrainerCallback],
        *,
        rows: Sequence[int],
        weights_only: bool = False,
    ) -> None:
        model.encoder.requires_grad_(stage.name != "units")
        if model.kept is not None:
            model.kept.requires_grad_(False)
        self.stage = stage
        self.lengths, self.rows, self.weights_only = encoded.lengths, rows, weights_only
        self.mask_token, self.special = tokenizer.mask_token_id, torch.tensor(tokenizer.all_special_ids)
        self.positions: list[int] = []
        self.staging: Path | None = None
        self.saved = -1
        self.recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=RECENT)

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            batch = pad(tokenizer, {name: [row[name] for row in rows] for name in encoded.inputs})
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
            batch[POSITIONS] = torch.tensor([row[POSITIONS] for row in rows])
            return batch

        super().__init__(
            model=model,
            args=args,
            train_dataset=encoded.to_dataset().add_column(POSITIONS, list(range(len(encoded.lengths)))),
            data_collator=collate,
            callbacks=callbacks,
        )
        # forward() averages over its batch, so accumulation has to divide by the number of batches
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> BucketSampler:
        """Batches of like length, in random order."""
        keys = self.stage.keys
        return BucketSampler(self.lengths, keys.batch_size * keys.accumulate, self.args.data_seed)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a rate of its own for the units; no decay on biases and norms."""
        target: Any = model if model is not None else self.model
        decayed = set(self.get_decay_parameter_names(target))
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for name, parameter in target.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(("units." in name, name in decayed), []).append(parameter)
        keys = self.stage.keys
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": keys.unit_learning_rate if unit else keys.learning_rate,
                    "weight_decay": keys.weight_decay if decay else 0.0,
                }
                for (unit, decay), parameters in groups.items()
            ],
            lr=keys.learning_rate,
            fused=True,
        )
        return self.optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's own loss; keeps the last outputs for `depth`."""
        out = model(**inputs)
        if out.halting is not None and self.stage.loss.objective == "dact":
            answers = self.model.layer_answer(out.layer_logits.detach())
            self.recent.append((answers, out.halting.detach()))
        return (out.loss, out) if return_outputs else out.loss

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """One step, which ends the run when the loss is not finite."""
        self.positions = inputs.pop(POSITIONS).tolist()
        self._hide_tokens(inputs["input_ids"])
        self.model.loss_settings = self.stage.loss_at(self.state.global_step, self.state.max_steps)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            guilty = self._not_finite(inputs)
            raise diverged(self.stage, self.state.global_step + 1, f"the loss on {guilty}", loss.item())
        return loss

    def _hide_tokens(self, input_ids: Tensor) -> None:
        """Put the mask token in place of some tokens, in place [B, T]; never of special ones, padding among them."""
        share = self.stage.keys.mask_tokens
        if share == 0:
            return
        # drawn on the CPU, whose random state a checkpoint keeps whatever the device
        drawn = (torch.rand(input_ids.shape) < share).to(input_ids.device)
        special = torch.isin(input_ids, self.special.to(input_ids.device))
        input_ids[drawn & ~special] = self.mask_token

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and end the run when a gradient is not finite; fp16's scaler expects some and skips the step."""
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16 and not torch.isfinite(norm):
            what = f"the gradient on {self._named(self.positions)}"
            raise diverged(self.stage, self.state.global_step + 1, what, float(norm))
        return norm

    @torch.no_grad()
    def _not_finite(self, inputs: dict[str, Tensor]) -> str:
        """Which examples of a batch have no finite loss by themselves; all where none has alone."""
        inputs = self._prepare_inputs(inputs)
        singles = [{name: value[row : row + 1] for name, value in inputs.items()} for row in range(len(self.positions))]
        finite = [bool(torch.isfinite(self.model(**single).loss)) for single in singles]
        guilty = [position for position, fine in zip(self.positions, finite, strict=True) if not fine]
        return self._named(guilty or self.positions)

    def _named(self, positions: Sequence[int]) -> str:
        rows = sorted(self.rows[position] for position in positions)
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows[:NAMED]))}{more} of train"

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint that is whole or not there, and holds finite weights only."""
        check_weights(self.model, self.stage, self.state.global_step)
        folder = Path(self.args.output_dir)
        final = folder / f"checkpoint-{self.state.global_step}"
        if self.saved == self.state.global_step:
            return  # the last step of an epoch, saved already as a step
        self.staging = folder / WRITING
        fresh = self.staging / final.name
        if self.args.should_save:
            shutil.rmtree(self.staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(*args, **kwargs)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                commit(fresh, final)
                retain(folder)
        except (OSError, RuntimeError, SafetensorError) as error:  # the kinds of Python, torch and safetensors
            raise unsaved(final, error) from None
        finally:
            self.staging = None
            if self.args.should_save:
                shutil.rmtree(folder / WRITING, ignore_errors=True)
        self.saved = self.state.global_step

    def _get_output_dir(self, *args: Any, **kwargs: Any) -> str:
        """Where transformers writes a checkpoint."""
        return str(self.staging) if self.staging is not None else super()._get_output_dir(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restore both, or go on with a fresh optimizer from the place in the schedule."""
        if checkpoint is not None and self.weights_only:
            state = self.lr_scheduler.state_dict()
            self.lr_scheduler.load_state_dict({**state, "last_epoch": self.state.global_step})
            for group, base, factor in zip(
                self.optimizer.param_groups, self.lr_scheduler.base_lrs, self.lr_scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * factor(self.state.global_step)
            return
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except UNREADABLE as error:
            raise _unloadable(checkpoint, "optimizer.pt", error) from None

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore the random state, or go on with a fresh one."""
        if self.weights_only:
            return
        try:
            super()._load_rng_state(checkpoint)
        except UNREADABLE as error:
            raise _unloadable(checkpoint, "rng_state.pth", error) from None

    def depth(self, rule: Rule | None) -> tuple[float, list[float]] | None:
        """Mean layers under a rule, and mean halting weights [N], of the last few batches.

        Returns:
            None before any batch, and without the DACT loss.
        """
        if rule is None or not self.recent:
            return None
        exits = torch.cat([decide(rule, y, h).exit_layer for y, h in self.recent])
        weights = torch.cat([halting_weights(h) for _, h in self.recent])
        return float(exits.double().mean()), weights.mean(0).tolist()


def _unloadable(checkpoint: str | None, name: str, error: Exception) -> ArtefactError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ArtefactError(
        f"cannot be loaded: {lines[0].rstrip('.')}",
        place=str(Path(checkpoint or "") / name),
        remedy="restore it, or add --weights-only to go on with a fresh optimizer",
    )


def check_weights(model: torch.nn.Module, stage: Stage, step: int) -> None:
    """Raise DivergedError when a weight is not finite after a step of a stage."""
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise diverged(stage, step, name, float("nan"))


def diverged(stage: Stage, step: int, what: str, value: float) -> DivergedError:
    """The error of a run that left the finite numbers."""
    return DivergedError(
        f"{what} became {value}",
        place=f"stage {stage.label}, step {step}",
        remedy="lower training.learning_rate or training.unit_learning_rate, or raise training.warmup",
    )
