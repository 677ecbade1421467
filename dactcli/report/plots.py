"""Results as pictures, by matplotlib (the extra `plots`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dactcli.errors import ResourceError
from dactcli.report.console import visible
from dactcli.results import REFERENCES, Comparison, EvalResult, ProfileResult

COLOURS = {"stock": "tab:grey", "full depth": "tab:blue", "adaptive": "tab:green"}


def write_curves(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw metric against mean layers for every rule, as curves.png and curves.svg.

    Args:
        comparison: What `dact eval --compare` computed.
        folder: Where they go; made if missing.

    Returns:
        The files.

    Raises:
        ResourceError: matplotlib is not installed, or the folder cannot be written.
    """
    figure, axes = _figure()
    for name, rule in comparison.rules.items():
        xs = [point.layers_mean for point in rule.points]
        ys = [point.metric for point in rule.points]
        area = "" if rule.area is None else f" ({rule.area.value:.3f})"
        axes.plot(xs, ys, marker=".", linewidth=1, label=f"{name}{area}")
    axes.axhline(comparison.reference_metric, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlim(1, comparison.layers)
    axes.set_xlabel(f"mean layers of {comparison.layers}")
    axes.set_ylabel(comparison.metric.replace("_", " "))
    constant = "" if comparison.majority_metric is None else f"; majority class: {comparison.majority_metric:.3f}"
    title = f"{comparison.split}, dashed: {comparison.reference_kind}; in brackets: area{constant}"
    _set_title(axes, title)
    return _save(figure, axes, folder, "curves")


def write_depths(result: EvalResult, folder: Path) -> list[Path]:
    """Draw the share of examples that stopped after each layer under every rule, as depths.png and depths.svg.

    Args:
        result: What `dact eval` computed.
        folder: Where they go; made if missing.

    Returns:
        The files.

    Raises:
        ResourceError: matplotlib is not installed, or the folder cannot be written.
    """
    figure, axes = _figure()
    width = 0.8 / len(result.rules)
    for number, (name, judged) in enumerate(result.rules.items()):
        at = [layer + (number - (len(result.rules) - 1) / 2) * width for layer in range(1, result.layers + 1)]
        shares = [count / result.examples for count in judged.depths]
        metric = "" if judged.metric is None else f", {result.metric.replace('_', ' ')} {judged.metric:.3f}"
        axes.bar(at, shares, width, label=f"{name}: {judged.layers_mean:.2f} layers{metric}")
    axes.set_xticks(range(1, result.layers + 1))
    axes.set_xlabel("stopped after layer")
    axes.set_ylabel("share of examples")
    beside = [f", {REFERENCES[name]}: {found.metric:.3f}" for name, found in result.beside.items() if found.metric]
    _set_title(axes, f"{result.run}, {result.split}, {result.examples:,} examples{''.join(beside)}")
    return _save(figure, axes, folder, "depths")


def write_times(result: ProfileResult, folder: Path) -> list[Path]:
    """Draw the time of full depth and adaptive inference beside the stock encoder's, as times.png and times.svg.

    Args:
        result: What `dact profile` measured.
        folder: Where they go; made if missing.

    Returns:
        The files.

    Raises:
        ResourceError: matplotlib is not installed, or the folder cannot be written.
    """
    figure, axes = _figure()
    cases = [*result.cases, *result.throughput]
    names = [f"batch {case.batch_size}" for case in result.cases] + ["pooled"] * len(result.throughput)
    for offset, way in ((-0.2, "full depth"), (0.2, "adaptive")):
        ratios = [case.full_ratio_to_stock if way == "full depth" else case.time_ratio_to_stock for case in cases]
        heights = [ratio.value for ratio in ratios]
        low = [max(ratio.value - ratio.low, 0.0) for ratio in ratios]
        high = [max(ratio.high - ratio.value, 0.0) for ratio in ratios]
        at = [index + offset for index in range(len(cases))]
        axes.bar(at, heights, 0.4, yerr=[low, high], capsize=3, color=COLOURS[way], label=way)
    axes.axhline(1, color=COLOURS["stock"], linewidth=0.8, linestyle="--", label="stock encoder")
    axes.set_xticks(range(len(cases)), names)
    axes.set_ylabel("time / stock encoder")
    place = result.environment
    _set_title(axes, f"{place['device_name']}, {place['threads']} threads, {place['dtype']}; 95 % intervals")
    return _save(figure, axes, folder, "times")


def check_matplotlib(place: str = "`plots`") -> Any:
    """Matplotlib's figures.

    Args:
        place: What needs it, for the error message.

    Raises:
        ResourceError: It is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ResourceError("matplotlib is not installed", place=place, remedy="pip install 'dactcli[plots]'") from None
    return Figure


def _figure() -> tuple[Any, Any]:
    figure = check_matplotlib()(figsize=(7, 4.5), layout="constrained")
    return figure, figure.add_subplot()


def _set_title(axes: Any, text: str) -> None:
    """A title whose dollar signs are no formulas."""
    axes.set_title(visible(text), fontsize=9, parse_math=False)


def _save(figure: Any, axes: Any, folder: Path, name: str) -> list[Path]:
    axes.legend(fontsize=7)
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            figure.savefig(file, dpi=150)
    except OSError as error:
        raise ResourceError(
            f"cannot be written: {error.strerror}", place=str(folder), remedy="choose another `plots`"
        ) from None
    return files
