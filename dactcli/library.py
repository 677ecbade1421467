"""What the commands do, as functions: plain values in, results out, nothing printed.

    from dactcli import fit, predict

    run = fit("recipes/quickstart.yaml").run
    for answer in predict(["the key to the cabinets is rusty ."], run=run):
        print(answer.label, answer.exit_layer)

`run` is a run folder or saved model, None for `runs/latest` under the current folder, or a run that `open_run` loaded,
so that several calls load it once. Texts, rules and splits are as the command line takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dactcli.evaluation import examples
from dactcli.evaluation.calibrate import calibrate as calibrate_run
from dactcli.evaluation.calibrate import rules_of
from dactcli.evaluation.evaluate import EvalSplit, judge, validator
from dactcli.evaluation.requests import BudgetRequest, RiskRequest
from dactcli.evaluation.sample import calibration_sample
from dactcli.halting.base import Rule
from dactcli.inspection.trace import trace
from dactcli.model.device import find_device
from dactcli.prediction.predict import check, predict_texts
from dactcli.profiling.environment import environment
from dactcli.profiling.profile import Effort, profile_latency, profile_throughput, sample
from dactcli.profiling.ways import Subject, stock_classifier
from dactcli.recipe.load import load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.recipe.tasks import complete
from dactcli.results import Calibration, EvalResult, ExitTrace, Prediction, ProfileResult, TrainResult
from dactcli.runs.load import Run, load_run
from dactcli.runs.outputs import cached_outputs
from dactcli.training.callbacks import Listener, Quiet
from dactcli.training.fit import fit as fit_recipe

AnyRun = Run | Path | str | None
Notice = Callable[[str], None]


def ignore(text: str) -> None:
    """What is done with notices when nobody wants them."""


def open_run(run: AnyRun = None, *, device: str = "auto") -> Run:
    """Load a run or saved model, checked, in evaluation mode.

    Args:
        run: Its folder; None for `runs/latest`; one that is loaded stays as it is.
        device: auto, cpu, cuda or mps.

    Raises:
        ArtefactError: It is missing, damaged or no DACT model.
        ResourceError: There is no such device.
    """
    if isinstance(run, Run):
        return run
    where = find_device(device)
    opened = load_run(Path(run) if run is not None else None)
    opened.model.to(where)
    return opened


def fit(
    recipe: Recipe | Path | str,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    listener: Listener | None = None,
) -> TrainResult:
    """Fine-tune as a recipe says, in a run folder of its own; `dact finetune`.

    Args:
        recipe: A recipe, or the file of one.
        overrides: `KEY=VALUE`, as `--set` takes them; for a file.
        device: auto, cpu, cuda or mps.
        listener: Hears how it goes.

    Raises:
        DactError: As `dactcli.training.fit.fit` does.
    """
    full = complete(recipe) if isinstance(recipe, Recipe) else load_recipe(Path(recipe), overrides)
    where = find_device(device)
    return fit_recipe(full, evaluate=validator(full), listener=listener or Quiet(), device=where)


def evaluate(
    run: AnyRun = None,
    *,
    split: str = "validation",
    data: Path | str | None = None,
    rules: Sequence[str] | None = None,
    device: str = "auto",
    notice: Notice = ignore,
) -> EvalResult:
    """Metric, layers and agreement with full depth by rule; `dact eval`.

    Args:
        run: Which run.
        split: One of its own splits.
        data: A labelled file instead.
        rules: Halting rules; the recipe's when None.
        device: auto, cpu, cuda or mps.
        notice: Told of texts that were cut, and the like.

    Raises:
        DactError: The split, file or a rule does not serve.
    """
    opened = open_run(run, device=device)
    calibration = examples.valid_calibration(opened, notice)
    chosen = [opened.model.rule(rule, place="rules") for rule in rules or examples.rules_to_judge(opened, calibration)]
    encoded, difficulty = examples.run_examples(opened, split, Path(data) if data else None, notice)
    outputs = cached_outputs(
        opened, encoded, Path(data).stem if data else split, batch_size=examples.batch_size(opened)
    )
    about = EvalSplit(examples.metric_name(opened), str(opened.folder), str(data or split), difficulty)
    return judge(outputs, chosen, encoded.labels, about, calibration=calibration)


def calibrate(
    run: AnyRun = None,
    request: RiskRequest | BudgetRequest | None = None,
    *,
    split: str | None = None,
    data: Path | str | None = None,
    replace: bool = False,
    device: str = "auto",
    notice: Notice = ignore,
) -> Calibration:
    """Choose a threshold on examples that served nothing else, and make it the run's rule; `dact eval --calibrate`.

    Args:
        run: Which run.
        request: A risk to certify, or a budget of layers; a risk of 1% at delta 0.05 when None.
        split: `calibration`, the default.
        data: A file of fresh examples instead.
        replace: Whether the result may replace a certificate that promises more.
        device: auto, cpu, cuda or mps.
        notice: Told of examples that were left out, and the like.

    Raises:
        DactError: The examples or the rules do not serve, or the result promises less than the one in force.
    """
    opened, wanted = open_run(run, device=device), request or RiskRequest(0.01)
    rules_of(opened, wanted)
    file = Path(data) if data else None
    sample = calibration_sample(opened, wanted, split=split, data=file, notice=notice)
    name = file.stem if file else sample.name
    outputs = cached_outputs(opened, sample.encoded, name, batch_size=examples.batch_size(opened))
    return calibrate_run(opened, wanted, sample, outputs, replace=replace)


def inspect(
    texts: Sequence[str],
    *,
    pairs: Sequence[str] | None = None,
    run: AnyRun = None,
    rule: str | None = None,
    verify: bool = False,
    device: str = "auto",
    notice: Notice = ignore,
) -> list[ExitTrace]:
    """Which layers ran for each text, and what each said; `dact inspect`.

    Args:
        texts: The texts.
        pairs: Their second halves, for models of pairs.
        run: Which run.
        rule: When to stop; the calibrated rule or the model's own when None.
        verify: Whether full depth is run as well.
        device: auto, cpu, cuda or mps.
        notice: Told when a calibration is void.

    Raises:
        DactError: The run or the rule does not serve.
    """
    opened = open_run(run, device=device)
    chosen = _rule(opened, rule, notice)
    return trace(opened.model, opened.tokenizer, texts, pairs, rule=chosen, verify=verify)


def predict(
    texts: Sequence[str],
    *,
    pairs: Sequence[str] | None = None,
    run: AnyRun = None,
    rule: str | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    device: str = "auto",
    notice: Notice = ignore,
) -> list[Prediction]:
    """Answer texts, each with no more layers than it needs; `dact predict`.

    Args:
        texts: The texts, as many as fit into memory.
        pairs: Their second halves, for models of pairs.
        run: Which run.
        rule: When to stop; the calibrated rule or the model's own when None.
        on_error: What happens where an answer is not finite: `stop` raises, `skip` leaves `label` None and says why in
            `error`.
        device: auto, cpu, cuda or mps.
        notice: Told when a calibration is void.

    Raises:
        DactError: The run or the rule does not serve, or an answer is not finite.
    """
    opened = open_run(run, device=device)
    answers = predict_texts(opened.model, opened.tokenizer, texts, pairs, rule=_rule(opened, rule, notice))
    if on_error == "stop":
        check(answers, lambda position: f"text {position + 1}")
    return answers


def profile(
    run: AnyRun = None,
    *,
    split: str = "validation",
    rule: str | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    examples_most: int = 256,
    repeats: int = 10,
    device: str = "auto",
    notice: Notice = ignore,
) -> ProfileResult:
    """Time adaptive inference beside full depth and the stock encoder, in turn; `dact profile`.

    Args:
        run: Which run.
        split: One of its own splits.
        rule: When to stop; the calibrated rule or the model's own when None.
        batch_sizes: Each is a case.
        examples_most: At most so many examples, spread over the lengths.
        repeats: Rounds that are timed.
        device: auto, cpu, cuda or mps.
        notice: Told of texts that were cut, and the like.

    Raises:
        DactError: The run, the split or the rule does not serve.
    """
    opened = open_run(run, device=device)
    encoded, _ = examples.run_examples(opened, split, None, notice)
    available = len(encoded.lengths)
    encoded, effort = sample(encoded, examples_most), Effort(repeats=repeats)
    subject = Subject(opened.model, stock_classifier(opened.model), _rule(opened, rule, notice))
    cases = profile_latency(subject, encoded, batch_sizes=batch_sizes, sequence_length=None, effort=effort)
    whole = profile_throughput(subject, encoded, sequence_length=None, effort=effort)
    place = environment(opened.model, compiled=False)
    return ProfileResult(place, cases, [whole], examples=len(encoded.lengths), available=available)


def _rule(run: Run, rule: str | None, notice: Notice) -> Rule:
    return run.model.rule(rule or examples.default_rule(run, notice), place="rule")
