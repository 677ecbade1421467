"""`dact publish`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dactcli.api.common import AnyRun, build_request, locate, open_run, optional_path
from dactcli.errors import DactError, UsageError
from dactcli.listening import Listener
from dactcli.results import PublishResult

if TYPE_CHECKING:
    from dactcli.results import Calibration, Comparison, EvalResult
    from dactcli.runs.load import Run

TELLING = ("validation", "test")  # splits whose figures belong on a card


@dataclass(frozen=True)
class PublishRequest:
    """Where to publish a run.

    Attributes:
        to: The model folder to write.
        hub: The name on the Hugging Face hub, `NAMESPACE/NAME`.
        private: Whether only its owner sees it on the hub.
        message: The message of the commit on the hub.
        overwrite: Whether to replace what an earlier call wrote.
        device: auto, cpu, cuda or mps; figures that are not kept yet are computed there.
    """

    to: Path | str | None = None
    hub: str | None = None
    private: bool = False
    message: str | None = None
    overwrite: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.to is None and self.hub is None:
            raise UsageError(
                "nothing says where to", place="dact publish", remedy="add `to` FOLDER or `hub` NAMESPACE/NAME"
            )
        for name in ("private", "message"):
            if getattr(self, name) and self.hub is None:
                raise UsageError("is for the hub", place=f"`{name}`", remedy="add `hub` NAMESPACE/NAME")


@dataclass(frozen=True)
class _Publication:
    """What the parts of a publication share.

    Attributes:
        run: The run.
        request: Where to.
        rule: The rule that it halts by.
        calibration: Its valid calibration.
        listener: Hears notices.
    """

    run: Run
    request: PublishRequest
    rule: str
    calibration: Calibration | None
    listener: Listener

    @property
    def to(self) -> Path | None:
        """The folder to write."""
        return optional_path(self.request.to)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.request.hub or (self.to.resolve().name if self.to else self.run.folder.name)


def publish(
    run: AnyRun = None, request: PublishRequest | None = None, *, listener: Listener | None = None, **fields: Any
) -> PublishResult:
    """Write a run as a model folder with a model card, and push it to the hub; `dact publish`.

    Files are written beside their place, pushed, and renamed last, so that a failure leaves nothing behind.

    Args:
        run: A run folder or saved model, a run from `open_run`, or None for `runs/latest`.
        request: Where to publish.
        listener: Hears notices.
        **fields: Fields of `PublishRequest`; they override those of `request`.

    Raises:
        UsageError: Neither a folder nor a name is given, or the folder holds something else.
        ArtefactError: The run is missing or damaged.
        ResourceError: The folder cannot be written, or the hub cannot be reached.
    """
    wanted, hears = build_request(PublishRequest, request, fields, listener)
    run = locate(run)
    from dactcli.evaluation.examples import default_rule
    from dactcli.publishing.folder import check_target
    from dactcli.publishing.hub import check_hub
    from dactcli.runs.calibration import load_calibration

    if wanted.to is not None:
        folder = run if isinstance(run, Path) else run.folder
        check_target(Path(wanted.to), folder, overwrite=wanted.overwrite)
    if wanted.hub is not None:
        check_hub(wanted.hub)
    opened = open_run(run, device=wanted.device)
    rule = default_rule(opened, hears.notice) or "full"  # gives notice of a void calibration
    calibration, _ = load_calibration(opened)
    return _publish(_Publication(opened, wanted, rule, calibration and _public(calibration), hears))


def _public(calibration: Calibration) -> Calibration:
    """A calibration as it is published; the name of a file tells of its owner."""
    from dactcli.recipe.schema import SPLITS

    split = calibration.split if calibration.split in SPLITS else "a file"
    return replace(calibration, split=split, published=True)


def _publish(job: _Publication) -> PublishResult:
    from dactcli.publishing.card import UNLICENSED
    from dactcli.publishing.folder import write_model
    from dactcli.publishing.hub import push
    from dactcli.runs.calibration import ATTEMPTS, CALIBRATION, load_attempts
    from dactcli.staging import finish, staging

    run, request, calibration = job.run, job.request, job.calibration
    documents: dict[str, dict[str, Any]] = {}
    if calibration is not None:
        documents[CALIBRATION] = calibration.to_json()
    if attempts := load_attempts(run.folder):
        documents[ATTEMPTS] = {"attempts": attempts}
    address = None
    with staging(job.to) as fresh:
        card = _card(job)
        files = write_model(run, fresh, rule=job.rule, card=card, documents=documents, target=job.to)
        if request.hub is not None:
            message = request.message or "Published by dact"
            address = push(fresh, request.hub, private=request.private, message=message)
        if job.to is not None:
            finish(fresh, job.to)
    if UNLICENSED in card:
        job.listener.notice("the card names no license yet; README.md has a line that says where")
    promise = calibration.promise if calibration else None
    return PublishResult(str(run.folder), str(job.to) if job.to else None, address, job.rule, promise, files)


def _card(job: _Publication) -> str:
    """The card in the run folder, or of the earlier publication if somebody edited it; else a new one."""
    from dactcli.publishing.card import write_card
    from dactcli.publishing.facts import Figures, PublishedModel, gather
    from dactcli.publishing.folder import CARD, edited_card, sealed
    from dactcli.storage import SUMMARY, read_document

    run, to = job.run, job.to
    own = run.folder / CARD
    if own.is_file():
        job.listener.notice(f"the card is {own}, as it stands there")
        return own.read_text(encoding="utf-8")
    edited = edited_card(to)
    if edited is not None and to is not None:
        job.listener.notice(f"{to / CARD} was edited and is kept, whatever figures it has; move it away for a new card")
        return edited
    summary = read_document(run.folder / SUMMARY)
    if not _is_of(summary, run):
        if summary:
            text = f"{run.folder / SUMMARY} belongs to another model, so none of its figures is on the card"
            job.listener.notice(text)
        summary = {}
    judged, comparison = _judged_anew(job)
    published = PublishedModel(job.name, job.request.hub is not None, job.rule, job.calibration)
    return sealed(write_card(gather(run, published, Figures(summary, judged, comparison))))


def _is_of(summary: dict[str, Any], run: Run) -> bool:
    """Whether a summary belongs to the model as it is now; an older summary knows the weights alone."""
    from dactcli.runs.identity import identify

    now = identify(run)
    if "model_sha256" in summary:
        return bool(summary["model_sha256"] == now.digest)
    return bool(summary.get("weights_sha256") == now.weights_sha256)


def _judged_anew(job: _Publication) -> tuple[list[EvalResult], Comparison | None]:
    """Figures of the kept splits by all rules of the run, and the curve; nothing where the data are gone."""
    from dactcli.api.compare import compare
    from dactcli.api.evaluate import EvaluateRequest, judge_run

    run, listener = job.run, job.listener
    kept = [split for split in TELLING if any((run.folder / "outputs").glob(f"{split}-*.safetensors"))]
    try:
        results = [judge_run(run, EvaluateRequest(split=split), listener) for split in kept]
        if "validation" not in kept or run.model.regression or run.model.config.objective == "last":
            return results, None
        return results, compare(run, split=kept[-1], listener=listener)
    except DactError as error:
        listener.notice(f"the card has no curve: {error.sentence}")
        return [], None
