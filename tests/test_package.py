"""The package as a library: nothing heavy on import, public names on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# what benchmarks and scripts use beside the API; each file says why, in a comment line that begins with `# internals:`
INTERNALS: dict[str, list[str]] = {
    "certificate.py": [
        "dactcli.evaluation.certificate",
        "dactcli.evaluation.certified_layers",
        "dactcli.evaluation.sample",
        "dactcli.evaluation.threshold_sweep",
        "dactcli.runtime",
    ],
    "cluster.py": ["dactcli.data.agreement"],
    "conversion.py": [
        "dactcli.data.batches",
        "dactcli.data.sources",
        "dactcli.evaluation.certified_layers",
        "dactcli.evaluation.threshold_sweep",
        "dactcli.halting.rules",
        "dactcli.recipe.load",
    ],
    "dataset.py": [
        "dactcli.data.batches",
        "dactcli.data.sources",
        "dactcli.model.engine",
        "dactcli.profiling.latency",
        "dactcli.profiling.profile",
        "dactcli.profiling.ways",
    ],
    "deploy.py": [
        "dactcli.data.sources",
        "dactcli.exporting.stock",
        "dactcli.prediction.predict",
        "dactcli.profiling.latency",
        "dactcli.profiling.ways",
        "dactcli.runs.load",
        "dactcli.runtime",
    ],
    "lora.py": [
        "dactcli.data.sources",
        "dactcli.profiling.latency",
        "dactcli.recipe.schema",
        "dactcli.recipe.tasks",
        "dactcli.training.build",
        "dactcli.training.frozen",
        "dactcli.training.stages",
        "dactcli.training.trainer",
    ],
    "multilabel.py": ["dactcli.recipe.load", "dactcli.storage"],
    "papers.py": ["dactcli.evaluation.comparison"],
    "peers.py": [
        "dactcli.data.sources",
        "dactcli.evaluation.certified_layers",
        "dactcli.evaluation.comparison",
        "dactcli.evaluation.metrics",
        "dactcli.evaluation.threshold_sweep",
        "dactcli.halting.rules",
        "dactcli.recipe.load",
        "dactcli.runs.outputs",
    ],
    "prices.py": [
        "dactcli.evaluation.comparison",
        "dactcli.halting.answers",
        "dactcli.model.loss",
        "dactcli.recipe.settings",
        "dactcli.runs.outputs",
        "dactcli.training.thresholds",
    ],
    "pictures.py": [
        "dactcli.report.console",
        "dactcli.report.evaluation",
        "dactcli.report.inspection",
        "dactcli.report.profiling",
        "dactcli.report.training",
        "dactcli.runs.load",
        "dactcli.storage",
    ],
    "realised_share.py": [
        "dactcli.data.batches",
        "dactcli.halting.limits",
        "dactcli.model.engine",
        "dactcli.profiling.flops",
        "dactcli.profiling.geometry",
        "dactcli.profiling.latency",
        "dactcli.profiling.ways",
    ],
    "reference.py": ["dactcli.cli.app", "dactcli.halting.names", "dactcli.recipe"],
    "startup.py": ["dactcli.profiling.latency", "dactcli.profiling.ways"],
    "training.py": [
        "dactcli.data.batches",
        "dactcli.profiling.latency",
        "dactcli.profiling.ways",
        "dactcli.training.stages",
        "dactcli.training.trainer",
    ],
}


def test_importing_the_package_is_light_and_its_names_load_on_first_use() -> None:
    script = (
        "import sys, dactcli\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "from dactcli import DactConfig, DactForSequenceClassification\n"
        "from transformers import AutoConfig\n"
        "assert AutoConfig.for_model('dact').__class__ is DactConfig\n"
        "try:\n    dactcli.nonsense\nexcept AttributeError as error:\n    assert 'nonsense' in str(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ("predict nosuch.csv", "nosuch.csv"),
        ("predict texts.txt --run nosuch", "nosuch"),
        ("predict texts.txt --on-error never", "--on-error"),
        ("inspect text --run nosuch", "nosuch"),
        ("eval nosuch", "nosuch"),
        ("eval nosuch --calibrate risk=0.01", "nosuch"),
        ("profile nosuch", "nosuch"),
        ("publish nosuch --to folder", "nosuch"),
    ],
)
def test_a_refusal_does_not_wait_for_heavy_libraries(tmp_path: Path, arguments: str, refused: str) -> None:
    (tmp_path / "texts.txt").write_text("a text\n")
    script = (
        "import sys\n"
        "from dactcli.cli.app import main\n"
        f"sys.argv = {['dact', *arguments.split()]!r}\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stdout
    assert f"error: {refused}: " in done.stderr
    assert done.returncode in (2, 3)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")], ids=lambda path: path.name
)
def test_benchmarks_and_scripts_use_the_api(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    modules = {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    internal = {name for name in modules if name.startswith("dactcli.") and not name.startswith("dactcli.api.")}
    internal -= {"dactcli.halting", "dactcli.results"}
    assert sorted(internal) == INTERNALS.get(path.name, [])
    assert ("# internals: " in text) == bool(internal)
