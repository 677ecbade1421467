"""Curves as pictures, by matplotlib (the extra `plots`)."""

from __future__ import annotations

from pathlib import Path

from dactcli.errors import ResourceError
from dactcli.results import Comparison


def write_curves(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw metric against mean layers for every rule.

    Args:
        comparison: What `dact eval --compare` computed.
        folder: Where curves.png and curves.svg go; made if missing.

    Returns:
        The files.

    Raises:
        ResourceError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ResourceError(
            "matplotlib is not installed", place="--plots", remedy="pip install 'dactcli[plots]'"
        ) from None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, rule in comparison.rules.items():
        xs = [point.layers_mean for point in rule.points]
        ys = [point.metric for point in rule.points]
        axes.plot(xs, ys, marker=".", linewidth=1, label=f"{name} ({rule.area.median:.3f})")
    axes.axhline(comparison.reference_metric, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlim(1, comparison.layers)
    axes.set_xlabel(f"mean layers of {comparison.layers}")
    axes.set_ylabel(comparison.metric.replace("_", " "))
    axes.set_title(f"{comparison.split}, dashed: {comparison.reference_kind}; in brackets: area", fontsize=9)
    axes.legend(fontsize=7)
    files = [folder / "curves.png", folder / "curves.svg"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            figure.savefig(file, dpi=150)
    except OSError as error:
        raise ResourceError(
            f"cannot be written: {error.strerror}", place=str(folder), remedy="choose another --plots"
        ) from None
    return files
