"""Fine-tune: from a complete recipe to a finished run folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dactcli import distributed, hub
from dactcli.data.sources import Splits, load_splits
from dactcli.errors import ArtefactError, DataError, RecipeError, ResourceError
from dactcli.listening import Listener
from dactcli.model.dact import DactForSequenceClassification
from dactcli.recipe.load import difference, dump_recipe
from dactcli.recipe.schema import Recipe
from dactcli.results import KeptEpoch, TrainResult
from dactcli.runs import folders as runs
from dactcli.runs.identity import identify
from dactcli.runs.load import Run, save_model, unsaved
from dactcli.runs.outputs import collect
from dactcli.runs.weights import saved_weights, without_bars
from dactcli.storage import commit, write_json, write_whole
from dactcli.training.best import RECORD, BestEpoch, read_kept
from dactcli.training.build import build, from_hub, named_by_classifier, with_labels
from dactcli.training.callbacks import StageCallback
from dactcli.training.checkpoints import DONE, WRITING, is_done, newest_valid
from dactcli.training.classes import class_notices
from dactcli.training.frozen import count_parameters
from dactcli.training.hidden import HiddenStates, keeps_hidden, room_for, run_once, size_of
from dactcli.training.job import Evaluate, Job
from dactcli.training.lora import merge, save_adapter
from dactcli.training.plan import check_plan
from dactcli.training.revision import git_revision
from dactcli.training.signals import Stopper
from dactcli.training.stages import Stage, final_settings, resolve_stages
from dactcli.training.thresholds import fit_all_thresholds
from dactcli.training.trackers import reporting
from dactcli.training.trainer import DactTrainer, TrainingSet, check_weights, stage_arguments

BEGUN = "begun.json"  # what a run began with, checked when it is resumed


def fit(
    recipe: Recipe,
    *,
    evaluate: Evaluate,
    listener: Listener,
    device: torch.device,
    resume: Path | None = None,
    weights_only: bool = False,
) -> TrainResult:
    """Train a model by a recipe, in a new run folder.

    Under `torchrun` all processes call this and share every batch and evaluation; process 0 writes.

    Args:
        recipe: A complete recipe (`dactcli.recipe.tasks.complete`).
        evaluate: Evaluates the validation split.
        listener: Receives progress, in process 0.
        device: Where to train.
        resume: The run to resume (`runs.unfinished`); None for a new run.
        weights_only: Whether to resume without the states of optimizer and random numbers.

    Returns:
        How it ended.

    Raises:
        RecipeError: The recipe asks for what this machine or encoder does not do.
        DataError: The data cannot serve.
        ArtefactError: The encoder cannot be loaded, or a checkpoint lacks what is needed to go on with it.
        DivergedError: A loss, gradient or weight is not finite.
        ResourceError: The output folder cannot be written, another process trains in it, or memory ran out.
        StoppedError: SIGINT or SIGTERM came; what was learned is saved.
    """
    with distributed.process_group():
        heard = listener if distributed.is_main() else Listener()
        with hub.reachable(from_hub(recipe), heard.notice):
            return _fit(
                recipe,
                evaluate=evaluate,
                listener=heard,
                device=device,
                resume=resume,
                weights_only=weights_only,
            )


def _fit(
    recipe: Recipe,
    *,
    evaluate: Evaluate,
    listener: Listener,
    device: torch.device,
    resume: Path | None,
    weights_only: bool,
) -> TrainResult:
    if recipe.model.dtype == "float16" and device.type != "cuda":
        raise RecipeError(
            "is float16, which trains on CUDA only", place="model.dtype", remedy="use bfloat16 or float32"
        )
    output = Path(recipe.output.dir).expanduser()
    name = recipe.output.name or recipe.task.name
    distributed.on_main(lambda: runs.check_writable(output))
    recipe = named_by_classifier(recipe)
    splits = load_splits(recipe)
    recipe = with_labels(recipe, splits)
    check_plan(recipe)
    for text in [*splits.notices, *class_notices(splits, recipe)]:
        listener.notice(text)
    if resume is not None:
        _check_same(resume, recipe, splits)
    with ExitStack() as stack:
        stack.enter_context(without_bars())
        stopper = stack.enter_context(Stopper(str(resume or output / name), listener.notice))
        run = resume
        if run is not None:
            run = _taken(stack, run, stopper, runs.refuse_links)
        made = build(recipe, splits, listener.notice, only=("train", "validation"))
        model = made.model.to(device)
        if run is None:  # only now, so that what cannot be built leaves no folder
            run = _taken(
                stack, distributed.on_main(lambda: runs.new_run(output, name)), stopper, partial(_begin, recipe, splits)
            )
        job = Job(
            recipe=recipe,
            run=run,
            model=model,
            tokenizer=made.tokenizer,
            train=made.encoded["train"],
            validation=made.encoded["validation"],
            difficulty=splits.splits["validation"].difficulty,
            evaluate=evaluate,
            listener=listener,
            device=device,
            rows=splits.splits["train"].rows,
            stopper=stopper,
            weights_only=weights_only,
            adapter=made.adapter,
        )
        return _train(job, splits, resumed=resume is not None)


def _with_answers(job: Job, hidden: HiddenStates | None) -> Job:
    """The job with what texts without labels teach: the answers of the classifier that the model keeps."""
    if job.train.labels is not None:
        return job
    if hidden is not None:
        answers = hidden.answers
    else:
        answers = collect(job.model, job.tokenizer, job.train, batch_size=job.recipe.evaluation.batch_size).y[:, -1]
    return replace(job, train=replace(job.train, answers=answers))


def _taken(stack: ExitStack, run: Path, stopper: Stopper, begin: Callable[[Path], None]) -> Path:
    """Take a run folder for this training, on process 0."""

    def take() -> None:
        stack.enter_context(runs.locked(run))
        begin(run)

    distributed.on_main(take)
    stopper.place, stopper.resumable = str(run), True
    return run


def _begin(recipe: Recipe, splits: Splits, run: Path) -> None:
    """Record the recipe and the data fingerprint of a new run."""
    write_json(run / BEGUN, {"data_fingerprint": splits.fingerprint})
    write_whole(run / "recipe.yaml", dump_recipe(recipe))


def _train(job: Job, splits: Splits, *, resumed: bool) -> TrainResult:
    found = job.model.config.halting
    stages = resolve_stages(job.recipe, found.class_weights, found.tau_unit)
    parameters, trainable = count_parameters(job.model, stages)
    started, steps, kept = time.perf_counter(), 0, None
    try:
        for stage in stages:
            taken, chosen = _run_stage(job, stage, len(stages) + job.recipe.fits_halting)
            steps, kept = steps + taken, chosen or kept
        _merge_adapter(job)  # before anything is fitted: the answers are those of the saved weights
        fit_all_thresholds(job, stages)
    except torch.OutOfMemoryError:
        raise ResourceError(
            "memory ran out",
            place=str(job.run),
            remedy="lower training.batch_size (and raise training.accumulate), or data.max_length",
        ) from None
    except OSError as error:
        raise unsaved(job.run, error) from None
    seconds = time.perf_counter() - started
    _dress(job.model, job.recipe, stages)
    distributed.on_main(lambda: save_model(job.model, job.tokenizer, job.run))
    result = replace(job.evaluation(), run=str(job.run))
    trained = TrainResult(
        run=str(job.run),
        steps=steps,
        seconds=seconds,
        evaluation={"validation": result},
        resumed=resumed,
        halting_fitted=job.recipe.fits_halting,
        kept=kept,
        parameters=parameters,
        trainable_parameters=trainable,
        splits=tuple(job.recipe.data.splits),
    )
    distributed.on_main(lambda: _finish(job, trained, {**trained.to_json(), **_circumstances(job, splits, stages)}))
    return trained


def _merge_adapter(job: Job) -> None:
    """Keep the adapter by itself, and merge it into the encoder."""
    if job.adapter is None:
        return
    distributed.on_main(lambda: save_adapter(job.adapter, job.run))
    merge(job.adapter)
    job.model.requires_grad_(True)


def _finish(job: Job, trained: TrainResult, summary: dict[str, Any]) -> None:
    """Write the results and remove what only a resume needs."""
    write_json(job.run / "eval.json", trained.evaluation["validation"].to_json())
    runs.finish(job.run, summary)
    shutil.rmtree(job.run / "checkpoints", ignore_errors=True)
    (job.run / BEGUN).unlink(missing_ok=True)  # the summary says as much


def _run_stage(job: Job, stage: Stage, stages: int) -> tuple[int, KeptEpoch | None]:
    """Train a stage, or load it when an earlier process finished it; returns its steps and the epoch kept as best."""
    folder = job.run / "checkpoints" / stage.label
    done = folder / DONE
    job.model.config.halting = stage.loss
    if distributed.on_main(lambda: is_done(folder, job.listener.notice)):
        job.model.load_state_dict(saved_weights(done))
        return int((done / "steps").read_text()), read_kept(done / RECORD)
    hidden = _hidden(job, stage, folder)
    job = _with_answers(job, hidden)
    best = _best(job, stage, folder)
    callback = StageCallback(
        stage,
        stages=stages,
        listener=job.listener,
        log=job.run / "metrics.jsonl",
        evaluate=partial(job.evaluation, full=best is not None),
        stopper=job.stopper,
    )
    trackers = job.recipe.training.report_to
    last = distributed.on_main(lambda: _last(job, folder))
    begun = int(last.name.rpartition("-")[2]) if last is not None else 0
    tensorboard = job.run / "tensorboard" / stage.label
    with reporting(trackers, tensorboard, job.listener.notice, after=begun) as logs:
        trainer = DactTrainer(
            job.model,
            stage,
            stage_arguments(job.recipe, stage, folder, job.device),
            TrainingSet(job.train, job.rows, job.tokenizer, hidden),
            [callback, *logs],
            weights_only=job.weights_only,
        )
        rule = job.model.rule(job.model.sound_rule) if job.model.mixes else None
        callback.attach(trainer, lambda: trainer.depth(rule), best)
        job.stopper.stepping = True
        trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
        job.stopper.stepping = False
    ended = callback.ended_at >= 0
    steps, stopped = callback.ended_at if ended else int(trainer.state.global_step), job.stopper.agree()
    if stopped is not None and steps < trainer.state.max_steps and not ended:
        raise job.stopper.error(stopped, f"saved after step {steps} of stage {stage.label} and stopped by")
    check_weights(job.model, stage, steps)
    job.model.requires_grad_(True)
    kept = best.restore(job.model, steps) if best is not None else None
    distributed.on_main(lambda: _keep_stage(job, folder, steps, kept))
    if stopped is not None:
        raise job.stopper.error(stopped, f"stage {stage.label} is finished and saved; stopped by")
    return steps, kept


def _hidden(job: Job, stage: Stage, folder: Path) -> HiddenStates | None:
    """The outputs of an encoder that the stage leaves as it is; None where it runs for every batch."""
    if not keeps_hidden(job.model, stage, job.train):
        return None
    size = size_of(job.model, job.train)
    place = room_for(size, job.run)
    if place is None:
        job.listener.notice(
            f"the encoder runs in every epoch: what its layers give for train takes {size / 2**30:.1f} GiB, too much "
            "to keep in memory or on disk"
        )
        return None
    file = folder / "hidden.bin" if place == "disk" else None
    return run_once(job.model, job.tokenizer, job.train, file, batch_size=job.recipe.evaluation.batch_size)


def _best(job: Job, stage: Stage, folder: Path) -> BestEpoch | None:
    """Keeps the best epoch of a stage; None where its last step is kept."""
    if job.recipe.best_epoch_stage != stage.number:
        return None
    return BestEpoch(
        stage,
        folder=folder,
        patience=job.recipe.training.patience,
        save=lambda fresh: save_model(job.model, job.tokenizer, fresh),
        notice=job.listener.notice,
    )


def _last(job: Job, folder: Path) -> Path | None:
    """The checkpoint to go on from, if there is one; told where random numbers will not go on as they were."""
    last = newest_valid(folder, weights_only=job.weights_only, notice=job.listener.notice)
    if last is not None and not job.weights_only:
        saved = max(len(list(last.glob("rng_state*.pth"))), 1)
        if saved != distributed.world_size():
            job.listener.notice(
                f"{last} was written by {saved} processes, now there are {distributed.world_size()}: "
                "batches stay the same, but dropout and masked tokens are drawn again"
            )
    return last


def _keep_stage(job: Job, folder: Path, steps: int, kept: KeptEpoch | None) -> None:
    """Save a finished stage's model."""
    fresh = folder / WRITING
    shutil.rmtree(fresh, ignore_errors=True)
    save_model(job.model, job.tokenizer, fresh)
    (fresh / "steps").write_text(str(steps))
    if kept is not None:
        write_json(fresh / RECORD, asdict(kept))
    commit(fresh, folder / DONE)


def _dress(model: DactForSequenceClassification, recipe: Recipe, stages: list[Stage]) -> None:
    """Write the settings and the halting rule of the finished model into its configuration."""
    model.config.halting = model.loss_settings = final_settings(recipe, stages)
    model.config.rule = None if model.sound_rule == "full" else model.sound_rule


def _check_same(run: Path, recipe: Recipe, splits: Splits) -> None:
    """Refuse to resume a run with another recipe or other data."""
    path, now = run / "recipe.yaml", dump_recipe(recipe)
    then = path.read_text(encoding="utf-8")
    if then != now and (changed := difference(then, now)) is not None:
        raise RecipeError(
            f"the recipe has changed since this run began: {changed}",
            place=str(path),
            remedy="restore it, or leave out `resume` to start a new run",
        )
    try:
        fingerprint = json.loads((run / BEGUN).read_text(encoding="utf-8"))["data_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtefactError(
            "is missing or damaged", place=str(run / BEGUN), remedy="leave out `resume` to start a new run"
        ) from None
    differing = [split for split, digest in splits.fingerprint.items() if fingerprint.get(split) != digest]
    if differing:
        raise DataError(
            f"the data have changed since this run began: {', '.join(differing)}",
            place=str(run),
            remedy="restore the files, or leave out `resume` to start a new run",
        )


def _circumstances(job: Job, splits: Splits, stages: list[Stage]) -> dict[str, Any]:
    """Versions, seed, device, data and settings that a result depends on."""
    import platform
    from importlib.metadata import version

    saved = Run(job.run, job.model, job.tokenizer, job.recipe)
    packages = ("dactcli", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "seed": job.recipe.training.seed,
        "device": str(job.device),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "git_revision": git_revision(),
        "data_fingerprint": splits.fingerprint,
        "weights_sha256": saved.file_digests.weights_sha256,
        "model_sha256": identify(saved).digest,
        "stages": [stage.loss.model_dump(mode="json") | {"stage": stage.label} for stage in stages],
    }
