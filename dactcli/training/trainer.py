"""One stage on the transformers Trainer: two learning rates, frozen parts, and a stop when the loss is not finite."""

from __future__ import annotations

import pickle
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import prepare_data_loader  # type: ignore[import-untyped]
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.training_args import ParallelMode

from dactcli import distributed
from dactcli.data.batches import BucketSampler, padded, single
from dactcli.errors import ArtefactError, DactError, DivergedError
from dactcli.halting.base import Rule
from dactcli.halting.decision import decide
from dactcli.halting.recursion import halting_weights
from dactcli.runs.load import unsaved
from dactcli.storage import commit
from dactcli.training.checkpoints import WRITING, retain
from dactcli.training.determinism import compute_deterministically
from dactcli.training.frozen import freeze_for
from dactcli.training.stages import Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer
    from transformers import TrainerCallback

    from dactcli.data.batches import Encoded
    from dactcli.model.dact import DactForSequenceClassification, DactOutput
    from dactcli.recipe.schema import Recipe
    from dactcli.training.hidden import HiddenStates

HIDDEN = "layer_hidden"  # argument of the model's forward
POSITIONS = "position"  # column of the training set: where an example stands in it
# what torch's reader of states, and what takes the states, raise for files that are none of ours
UNREADABLE = (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError)
APART = 1_000_003  # between the seeds of processes
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
    arguments = TrainingArguments(
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
        # all processes take their parts of the same batches, and draw dropout and hidden tokens each for itself
        seed=(seed + APART * distributed.rank()) % 2**32,
        data_seed=seed,
        use_cpu=device.type == "cpu",
        ddp_backend="gloo" if device.type == "cpu" and distributed.world_size() > 1 else None,
        ddp_find_unused_parameters=True,  # a stage need not train all units
        dataloader_pin_memory=device.type == "cuda",
        logging_steps=recipe.training.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if every else "epoch",
        save_steps=every or 500,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
    )
    if not distributed.launched():
        arguments._n_gpu = min(arguments.n_gpu, 1)  # or a process alone would put a whole batch on each GPU it sees
    return arguments


@dataclass(frozen=True)
class TrainingSet:
    """The training examples, ready for batches.

    Attributes:
        encoded: The examples.
        rows: Row of each example in its source, for the error of a run that diverges.
        tokenizer: Pads the batches.
        hidden: The outputs of the layers of an encoder that stays as it is; None where it runs for every batch.
    """

    encoded: Encoded
    rows: Sequence[int]
    tokenizer: Tokenizer
    hidden: HiddenStates | None = None


class DactTrainer(Trainer):  # type: ignore[misc]
    """The Trainer for one stage.

    Of several processes each reads the same batches as one process would, and takes its part of every one. A part's
    mean loss is weighted by its share of the batch times the number of processes, so that the gradient that DDP
    averages is that of the mean over the whole batch, also where the parts are uneven. A process that finds no row
    left for it computes the batch's first one with weight 0.

    Args:
        model: The model; the stage's loss and frozen parts are set on it.
        stage: The stage.
        args: Its arguments.
        data: The training examples.
        callbacks: Callbacks of the Trainer.
        weights_only: Whether a resumed stage starts with a new optimizer and random state.
    """

    def __init__(
        self,
        model: DactForSequenceClassification,
        stage: Stage,
        args: TrainingArguments,
        data: TrainingSet,
        callbacks: list[TrainerCallback],
        *,
        weights_only: bool = False,
    ) -> None:
        freeze_for(model, stage)
        self.stage = stage
        encoded, tokenizer = data.encoded, data.tokenizer
        self.lengths, self.rows, self.weights_only = encoded.lengths, data.rows, weights_only
        self.mask_token, self.special = tokenizer.mask_token_id, torch.tensor(tokenizer.all_special_ids)
        self.positions: list[int] = []  # of the whole batch
        self.weight = 1.0
        self.staging: Path | None = None
        self.saved = -1
        self.recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=RECENT)

        def collate(positions: list[int]) -> dict[str, Tensor]:
            part = distributed.share(positions) or positions[:1]
            batch = padded(tokenizer, encoded, part)
            if data.hidden is not None:
                batch[HIDDEN] = data.hidden.batch(part)
            labels = encoded.targets(part, model.answers.kind, model.classes)
            return {**batch, "labels": labels, POSITIONS: torch.tensor(positions)}

        compute_deterministically()
        positions = range(len(encoded.lengths))  # `collate` looks the examples up
        super().__init__(model=model, args=args, train_dataset=positions, data_collator=collate, callbacks=callbacks)
        # forward() averages over its batch, so accumulation has to divide by the number of batches
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> BucketSampler:
        """Batches of like length, in random order."""
        keys = self.stage.keys
        return BucketSampler(self.lengths, keys.batch_size * keys.accumulate, self.args.data_seed)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Whole batches, the same for every process: `collate` takes the part, and accelerate is kept from sharing."""
        loader = DataLoader(
            self.train_dataset,
            self._train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        placed: DataLoader[Any] = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return placed

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; under DDP only the loss keeps its gradient graph.

        DDP waits for the gradients of all weights that any output depends on, and those of outputs which the loss
        leaves out never come.
        """
        if self.args.parallel_mode is not ParallelMode.DISTRIBUTED:
            return super().train(*args, **kwargs)
        hook = self.model.register_forward_hook(_cut_off_but_loss)
        try:
            return super().train(*args, **kwargs)
        finally:
            hook.remove()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a second learning rate for the exit heads; no decay on biases and norms."""
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
            rows = len(distributed.share(self.positions))  # a row that is computed with weight 0 is another process's
            answers = self.model.layer_answer(out.layer_logits[:rows].detach())
            self.recent.append((answers, out.halting[:rows].detach()))
        loss = out.loss if self.weight == 1 else out.loss * self.weight
        return (loss, out) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """One step, which stops all processes when the loss of any of them is not finite."""
        self.positions = inputs.pop(POSITIONS).tolist()
        self.weight = len(distributed.share(self.positions)) * distributed.world_size() / len(self.positions)
        self._hide_tokens(inputs["input_ids"])
        self.model.loss_settings = self.stage.loss_at(self.state.global_step, self.state.max_steps)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        finite = bool(torch.isfinite(loss))
        if distributed.all_reduce_max(not finite):
            found = [
                one for one in distributed.gather(None if finite else (loss.item(), self._not_finite(inputs))) if one
            ]
            guilty = self._named([position for _, positions in found for position in positions])
            raise diverged(self.stage, self.state.global_step + 1, f"the loss on {guilty}", found[0][0])
        return loss

    def _hide_tokens(self, input_ids: Tensor) -> None:
        """Replace some tokens by the mask token, in place [B, T]; special tokens and padding stay."""
        share = self.stage.keys.mask_tokens
        if share == 0:
            return
        # drawn on the CPU, whose random state a checkpoint keeps whatever the device
        drawn = (torch.rand(input_ids.shape) < share).to(input_ids.device)
        special = torch.isin(input_ids, self.special.to(input_ids.device))
        input_ids[drawn & ~special] = self.mask_token

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and stop when a gradient is not finite; the fp16 scaler expects some and skips the step."""
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16 and not torch.isfinite(norm):
            what = f"the gradient on {self._named(self.positions)}"
            raise diverged(self.stage, self.state.global_step + 1, what, float(norm))
        return norm

    @torch.no_grad()
    def _not_finite(self, inputs: dict[str, Tensor]) -> list[int]:
        """Positions of this process's examples whose own loss is not finite; all of them if each is finite alone."""
        inputs = self._prepare_inputs(inputs)
        mine = distributed.share(self.positions) or self.positions[:1]
        singles = [single(inputs, number) for number in range(len(mine))]
        finite = [bool(torch.isfinite(self.model(**single).loss)) for single in singles]
        return [position for position, fine in zip(mine, finite, strict=True) if not fine] or list(mine)

    def _named(self, positions: Sequence[int]) -> str:
        rows = sorted({self.rows[position] for position in positions})
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows[:NAMED]))}{more} of train"

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint atomically, with finite weights only.

        Each process writes its random state into the folder, process 0 all the rest.
        """
        check_weights(self.model, self.stage, self.state.global_step)
        folder = Path(self.args.output_dir)
        final = folder / f"checkpoint-{self.state.global_step}"
        if self.saved == self.state.global_step:
            return  # the last step of an epoch, saved already as a step
        self.staging = folder / WRITING
        if distributed.is_main():
            shutil.rmtree(self.staging, ignore_errors=True)
        distributed.barrier()
        try:
            written = partial(super()._save_checkpoint, *args, **kwargs)
            distributed.raise_everywhere(_unsaved(final, written))
            committed = partial(_commit, folder / WRITING / final.name, final)
            distributed.raise_everywhere(_unsaved(final, committed) if distributed.is_main() else None)
        finally:
            self.staging = None
            if distributed.is_main():
                shutil.rmtree(folder / WRITING, ignore_errors=True)
        self.saved = self.state.global_step

    def _get_output_dir(self, *args: Any, **kwargs: Any) -> str:
        """Where transformers writes a checkpoint."""
        return str(self.staging) if self.staging is not None else super()._get_output_dir(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restore both, or continue the schedule with a new optimizer."""
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
        """Restore the random state, or continue with a new one."""
        if self.weights_only:
            return
        try:
            super()._load_rng_state(checkpoint)
        except UNREADABLE as error:
            raise _unloadable(checkpoint, "rng_state.pth", error) from None

    def depth(self, rule: Rule | None) -> tuple[float, list[float]] | None:
        """Mean layers under a rule, and mean halting weights [N], of the last few batches of all processes.

        Returns:
            None before any batch, and without the DACT loss.
        """
        if rule is None:
            return None
        totals = torch.zeros(2 + self.model.exit_heads.layers, dtype=torch.float64)  # examples, layers, weights
        for y, h in (batch for batch in self.recent if len(batch[0])):
            exits, weights_sum = decide(rule, y, h).exit_layer.sum(), halting_weights(h).cpu().double().sum(0)
            totals += torch.cat([torch.tensor([len(h), float(exits)]), weights_sum])
        examples, layers, *weights = distributed.all_reduce_sum(totals).tolist()
        return (layers / examples, [weight / examples for weight in weights]) if examples else None


def _cut_off_but_loss(model: torch.nn.Module, inputs: Any, out: DactOutput) -> DactOutput:
    """The outputs, detached but for the loss."""
    return type(out)(**{name: value if name == "loss" else value.detach() for name, value in out.items()})


def _unsaved(final: Path, write: Callable[[], None]) -> DactError | None:
    """Write a part of a checkpoint, and return the error if that fails."""
    try:
        write()
    except (OSError, RuntimeError, SafetensorError) as error:  # the kinds of Python, torch and safetensors
        return unsaved(final, error)
    return None


def _commit(fresh: Path, final: Path) -> None:
    commit(fresh, final)
    retain(final.parent)


def _unloadable(checkpoint: str | None, name: str, error: Exception) -> ArtefactError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ArtefactError(
        f"cannot be loaded: {lines[0].rstrip('.')}",
        place=str(Path(checkpoint or "") / name),
        remedy="restore it, or add `weights_only` to continue with a fresh optimizer",
    )


def check_weights(model: torch.nn.Module, stage: Stage, step: int) -> None:
    """Raise DivergedError when a weight is not finite after a step of a stage."""
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise diverged(stage, step, name, float("nan"))


def diverged(stage: Stage, step: int, what: str, value: float) -> DivergedError:
    """The error of a run whose loss, gradient or weights are not finite."""
    return DivergedError(
        f"{what} became {value}",
        place=f"stage {stage.label}, step {step}",
        remedy="lower training.learning_rate or training.unit_learning_rate, or raise training.warmup",
    )
