"""One stage on the transformers Trainer: two learning rates, frozen parts, and an end when the loss is not finite."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from dactcli.data.batches import BucketSampler, pad
from dactcli.errors import DivergedError
from dactcli.model.decide import decide
from dactcli.model.rules import Rule
from dactcli.training.stages import Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer
    from transformers import TrainerCallback

    from dactcli.data.batches import Encoded
    from dactcli.model.dact import DactForSequenceClassification
    from dactcli.recipe.schema import Recipe

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
        save_total_limit=2,
        disable_tqdm=True,
        report_to=[],
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
    """

    def __init__(
        self,
        model: DactForSequenceClassification,
        stage: Stage,
        args: TrainingArguments,
        encoded: Encoded,
        tokenizer: Tokenizer,
        callbacks: list[TrainerCallback],
    ) -> None:
        model.encoder.requires_grad_(stage.name != "units")
        self.stage = stage
        self.lengths = encoded.lengths
        self.recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=RECENT)

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            batch = pad(tokenizer, {name: [row[name] for row in rows] for name in encoded.inputs})
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
            return batch

        super().__init__(
            model=model,
            args=args,
            train_dataset=encoded.to_dataset(),
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
        """The model's own loss; keeps the last outputs for `layers_mean`."""
        out = model(**inputs)
        if out.halting is not None and self.stage.loss.objective == "dact":
            answers = self.model.layer_answer(out.layer_logits.detach())
            self.recent.append((answers, out.halting.detach()))
        return (out.loss, out) if return_outputs else out.loss

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """One step, which ends the run when the loss is not finite."""
        self.model.loss_settings = self.stage.loss_at(self.state.global_step / self.state.max_steps)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise diverged(self.stage, self.state.global_step + 1, "the loss", loss.item())
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint, unless the weights went wrong in the step that it would keep."""
        check_weights(self.model, self.stage, self.state.global_step)
        super()._save_checkpoint(*args, **kwargs)

    def layers_mean(self, rule: Rule | None) -> float | None:
        """Mean layers of the last few batches under a rule; None before any, and without the DACT loss."""
        if rule is None or not self.recent:
            return None
        depths = [decide(rule, y, h).exit_layer for y, h in self.recent]
        return float(torch.cat(depths).double().mean())


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
