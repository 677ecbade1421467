"""What pyproject.toml says of the package, and the files that stand beside it for contributors and users."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dactcli.cli.app import app

ROOT = Path(__file__).parents[1]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def project() -> Any:
    """The table of pyproject.toml; pytest brings the reader to Python 3.10."""
    reader = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return reader.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(texts: list[str]) -> set[str]:
    return {Requirement(text).name for text in texts}


def test_the_metadata() -> None:
    found = project()
    assert found["requires-python"] == ">=3.10"
    assert [one.rpartition(" ")[2] for one in found["classifiers"] if re.search(r":: 3\.\d+$", one)] == PYTHONS
    assert {"torch", "transformers", "huggingface-hub", "torch-tb-profiler"} <= names(found["dependencies"])
    extras = found["optional-dependencies"]
    assert set(extras) == {"plots", "docs", "onnx", "peft", "ray", "dev"}
    assert names(extras["plots"]) == {"matplotlib"}
    assert names(extras["docs"]) == {"mkdocs-material"}
    assert names(extras["onnx"]) == {"onnx", "onnxruntime", "onnxscript"}
    assert names(extras["peft"]) == {"peft"}
    assert names(extras["ray"]) == {"ray"}
    assert {one for extra in extras if extra != "dev" for one in extras[extra]} < set(extras["dev"])
    assert {"pytest", "ruff", "mypy", "build"} <= names(extras["dev"])


def test_every_dependency_has_a_tested_version_on_every_python() -> None:
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
    wanted = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    for python in PYTHONS:
        here = [one for one in pins if one.marker is None or one.marker.evaluate({"python_version": python})]
        fixed = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}
        assert len(fixed) == len(here), f"two pins of one package on {python}"
        for one in map(Requirement, wanted):
            assert fixed[canonicalize_name(one.name)] in one.specifier, f"{one} on {python}"


@pytest.mark.parametrize("folder", ["dactcli", "scripts", "benchmarks", "tests"])
def test_the_oldest_python_can_read_the_code(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def test_the_workflow_runs_what_a_contributor_runs() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert set(jobs) == {"lint", "test", "docs", "build"}
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS
    steps = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert "scripts/check" in steps["lint"]
    assert any(run.startswith("scripts/test") for run in steps["test"])
    assert any("mkdocs build --strict" in run for run in steps["docs"])
    assert any("-m build" in run for run in steps["build"])
    for job in jobs.values():
        setup = next(step for step in job["steps"] if "setup-python" in step.get("uses", ""))
        assert setup["with"]["cache"] == "pip"
    called = re.findall(r"scripts/[\w-]+", (ROOT / ".github/workflows/ci.yml").read_text())
    assert all((ROOT / name).is_file() for name in called)


def test_the_citation() -> None:
    found = read("CITATION.cff")
    assert (found["cff-version"], found["title"], found["version"]) == ("1.2.0", "dact", project()["version"])
    assert found["authors"] == [{"name": "The dact authors"}]
    papers = {one["identifiers"][0]["value"]: one for one in found["references"]}
    assert set(papers) == {"arXiv:2109.11745", "arXiv:2004.12770"}
    families = {key: [one["family-names"] for one in paper["authors"]] for key, paper in papers.items()}
    assert families["arXiv:2109.11745"] == ["Eyzaguirre", "del Río", "Araujo", "Soto"]
    assert families["arXiv:2004.12770"] == ["Eyzaguirre", "Soto"]


def test_a_contributor_needs_five_commands() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block, *release = re.findall(r"^ *```bash\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    commands = [line.partition("#")[0].split() for line in block.strip().splitlines()]
    called = re.findall(r"scripts/[\w-]+", " ".join(release))
    assert {"scripts/check", "scripts/test"} <= set(called)
    assert all((ROOT / script).is_file() for script in called)
    assert len(commands) == 5
    for head, *words in commands:
        if head.startswith("scripts/"):
            assert (ROOT / head).is_file()
        elif head == ".venv/bin/dact":
            known = {one.name for one in app.registered_commands} | {one.name for one in app.registered_groups}
            assert words[0] in known
            assert all((ROOT / word).is_file() for word in words[1:] if "/" in word)
        else:
            assert head == ".venv/bin/python"
            assert (ROOT / words[0]).is_file()


def test_what_the_pages_name_is_there() -> None:
    for page in ("CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (ROOT / target).exists(), f"{page} names {target}"
