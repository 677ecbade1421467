"""`dact publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dactcli.cli import options

if TYPE_CHECKING:
    from dactcli.results import Calibration, Comparison, EvalResult, PublishResult
    from dactcli.runs.load import Run

EXAMPLE = """Examples: dact publish runs/sst2-1 --to sst2-dact

dact publish runs/sst2-1 --hub jane/sst2-dact --private"""

TELLING = ("validation", "test")  # splits whose figures belong on a card


def publish(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder or saved model; runs/latest without.", metavar="[RUN]", autocompletion=options.runs
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Write the model folder here.", metavar="FOLDER")] = None,
    hub: Annotated[
        str | None, typer.Option(help="Push it to the Hugging Face hub under this name.", metavar="NAMESPACE/NAME")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Let only its owner see it on the hub.")] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit on the hub.", metavar="TEXT")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Write a run as a model folder with a model card, and push it to the hub."""
    _check_arguments(to, hub, private=private, message=message)
    from dactcli.publishing.folder import check_target
    from dactcli.publishing.hub import check_hub
    from dactcli.runs.load import find_run

    if to is not None:
        check_target(to, find_run(path), overwrite=overwrite)
    if hub is not None:
        check_hub(hub)
    run = options.open_run(path, device)
    done = _publish(run, to, hub, private=private, message=message or "Published by dact")
    options.emit(done.to_json(), as_json=as_json, output=None)
    if not as_json:
        from dactcli.report.console import show
        from dactcli.report.listings import render_publication

        show(render_publication(done))


def _check_arguments(to: Path | None, hub: str | None, *, private: bool, message: str | None) -> None:
    from dactcli.errors import UsageError

    if to is None and hub is None:
        raise UsageError(
            "nothing says where to", place="dact publish", remedy="add --to FOLDER or --hub NAMESPACE/NAME"
        )
    for option, given in (("--private", private), ("--message", message)):
        if given and hub is None:
            raise UsageError("is for the hub", place=option, remedy="add --hub NAMESPACE/NAME")


def _publish(run: Run, to: Path | None, hub: str | None, *, private: bool, message: str) -> PublishResult:
    """Everything is written beside its place, pushed, and named last, so that what fails leaves nothing behind."""
    from dataclasses import replace

    from dactcli.publishing.card import UNLICENSED
    from dactcli.publishing.folder import finish, staging, write_model
    from dactcli.publishing.hub import push
    from dactcli.recipe.schema import SPLITS
    from dactcli.report.console import print_notice
    from dactcli.results import PublishResult
    from dactcli.runs.calibration import ATTEMPTS, CALIBRATION, load_attempts, load_calibration

    rule = options.default_rule(run) or "full"  # tells where a calibration is void
    calibration, _ = load_calibration(run)
    documents: dict[str, dict[str, Any]] = {}
    if calibration is not None:
        # the name of a file tells of its owner
        split = calibration.split if calibration.split in SPLITS else "a file"
        calibration = replace(calibration, split=split, published=True)
        documents[CALIBRATION] = calibration.to_json()
    if attempts := load_attempts(run.folder):
        documents[ATTEMPTS] = {"attempts": attempts}
    name = hub or (to.resolve().name if to else run.folder.name)
    with staging(to) as fresh:
        card = _card(run, to, name, rule, calibration, on_hub=hub is not None)
        files = write_model(run, fresh, rule=rule, card=card, documents=documents, target=to)
        address = push(fresh, hub, private=private, message=message) if hub is not None else None
        if to is not None:
            finish(fresh, to)
    if UNLICENSED in card:
        print_notice("the card names no license yet; README.md has a line that says where")
    promise = calibration.promise if calibration else None
    return PublishResult(str(run.folder), str(to) if to else None, address, rule, promise, files)


def _card(run: Run, to: Path | None, name: str, rule: str, calibration: Calibration | None, *, on_hub: bool) -> str:
    """The card that stands with the run, or in the earlier publication if somebody edited it; else one of its facts."""
    from dactcli.publishing.card import write_card
    from dactcli.publishing.facts import gather
    from dactcli.publishing.folder import CARD, edited_card, sealed
    from dactcli.report.console import print_notice
    from dactcli.storage import SUMMARY, read_document

    own = run.folder / CARD
    if own.is_file():
        print_notice(f"the card is {own}, as it stands there")
        return own.read_text(encoding="utf-8")
    edited = edited_card(to)
    if edited is not None and to is not None:
        print_notice(f"{to / CARD} was edited and is kept, whatever figures it has; move it away for a new card")
        return edited
    summary = read_document(run.folder / SUMMARY)
    if not _is_of(summary, run):
        if summary:
            print_notice(f"{run.folder / SUMMARY} belongs to another model, so none of its figures is on the card")
        summary = {}
    judged, comparison = _judged_anew(run)
    return sealed(
        write_card(
            gather(
                run,
                name=name,
                on_hub=on_hub,
                rule=rule,
                summary=summary,
                judged=judged,
                comparison=comparison,
                calibration=calibration,
            )
        )
    )


def _is_of(summary: dict[str, Any], run: Run) -> bool:
    """Whether a summary belongs to the model as it is now; an older summary knows the weights alone."""
    from dactcli.runs.identity import identify

    now = identify(run)
    if "model_sha256" in summary:
        return bool(summary["model_sha256"] == now.digest)
    return bool(summary.get("weights_sha256") == now.weights_sha256)


def _judged_anew(run: Run) -> tuple[list[EvalResult], Comparison | None]:
    """What the kept outputs say of each split by all rules of the run, and the curve; nothing where data are gone."""
    from dactcli.cli.compare import entrant_of
    from dactcli.cli.evaluate import judged
    from dactcli.errors import DactError
    from dactcli.evaluation.comparison import compare
    from dactcli.report.console import print_notice

    kept = [split for split in TELLING if any((run.folder / "outputs").glob(f"{split}-*.safetensors"))]
    try:
        results = [judged(run, "", split, None, None, None) for split in kept]
        if "validation" not in kept or run.model.regression or run.model.config.objective == "last":
            return results, None
        one, metric = entrant_of(run, run.folder.name, split=kept[-1])
        return results, compare([one], metric=metric, split=kept[-1])
    except DactError as error:
        print_notice(f"the card has no curve: {error.sentence}")
        return [], None
