"""Every command and every Python block of README and documentation is run, in the order of the page."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from docs_world import ROOT, SHORT, Command, blocks, commands, pages, write_world
from fake_hub import pretend
from support import dact

from dactcli.exporting.plan import NEEDED
from dactcli.profiling.geometry import GEOMETRIES

# commands that are run elsewhere, because they make environments, train for minutes or serve until they are stopped
ELSEWHERE = {
    "scripts/install": ".ci/run",
    "scripts/check": ".ci/run",
    "scripts/test": ".ci/run",
    "scripts/quickstart": "tests/slow/test_quickstart.py",
    "tensorboard": "tests/slow/test_tensorboard.py",
    "torchrun": "tests/distributed/test_processes.py",
    "accelerate": "tests/distributed/test_stopping.py",
}
SHELL = ("source", "cd", "git", "pip")  # the reader's own shell; nothing of ours to run
PYTHON = ("python", ".venv/bin/python")
EXPORT_PAGE = "docs/how-to/export.md"
EXPORTS = all(find_spec(name) for name in NEEDED)  # whether the extra `onnx` is installed
LONG = ("docs/reference/commands.md",)  # minutes, of examples like those of the other pages
HEADS = ("dact", "cat", "echo", *PYTHON, *ELSEWHERE, *SHELL)


@pytest.fixture
def world(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_world(tmp_path, tiny_run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(GEOMETRIES, "bert-base", ("bert", 12, 32, 2))  # of its depth, and small
    pretend(monkeypatch)
    return tmp_path


def run(command: Command) -> None:
    """Run a command line of the documentation in the current folder."""
    before, _, last = command.text.rpartition("| dact ")
    text = None
    if before:
        text = subprocess.run(before, shell=True, capture_output=True, text=True, check=True, timeout=600).stdout
        command = Command(command.page, command.line, f"dact {last}")
    words = command.words
    if words[0] != "dact":
        subprocess.run(command.text, shell=True, check=True, capture_output=True, timeout=600)
        return
    if not EXPORTS and words[1] != "export" and {"sst2-onnx", "sst2-int8"} & set(words):
        return  # nothing was exported
    result = dact(*words[1:], *SHORT.get(words[1], []), text=text)
    # then the command says so, and how to go on
    lacking = ("cuda" in words and not torch.cuda.is_available()) or (words[1] == "export" and not EXPORTS)
    assert result.exit_code == (5 if lacking else 0), f"{command.page}:{command.line}: {command.text}\n{result.stderr}"


def test_the_documentation_has_commands() -> None:
    """What is collected is what stands there: none of the commands that a page certainly has is missed."""
    found = {command.text for command in commands(ROOT / "README.md", HEADS)}
    assert any(text.startswith("scripts/quickstart") for text in found)
    assert any(text.startswith("dact finetune recipes/cola.yaml") for text in found)
    for page in pages():
        lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines()]
        typed = {line for line in lines if line.startswith("dact ") and "--" in line and not line.endswith("\\")}
        texts = {command.text for command in commands(page, HEADS)}
        lost = {line for line in typed if "$" not in line} - texts
        assert lost <= {line for line in typed if line.startswith("dact ") and line.endswith(".")}, (page, lost)


def having(found: Callable[[Path], object]) -> list[str]:
    """The pages on which something is found, by name."""
    return [str(page.relative_to(ROOT)) for page in pages() if found(page)]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow) if page in LONG else page
        for page in having(lambda page: list(commands(page, HEADS)))
    ],
)
def test_commands(page: str, world: Path) -> None:
    if page == EXPORT_PAGE and not EXPORTS:
        pytest.skip("needs dactcli[onnx]")
    for command in commands(ROOT / page, HEADS):
        head = command.words[0]
        if head in PYTHON:
            python(command)
        elif head in ELSEWHERE:
            assert (ROOT / ELSEWHERE[head]).is_file()
        elif head not in SHELL:
            run(command)


def python(command: Command) -> None:
    """A script of the project: examples are run, benchmarks must know their arguments."""
    _, script, *arguments = command.words
    assert (ROOT / script).is_file(), f"{command.page}:{command.line}: there is no {script}"
    if script.startswith("docs/examples"):
        subprocess.run([sys.executable, script], check=True, capture_output=True, timeout=600)
    elif script.startswith("benchmarks"):
        parser = importlib.import_module(Path(script).stem).parser()
        parser.parse_args(arguments)


@pytest.mark.parametrize("page", having(lambda page: "```python" in page.read_text(encoding="utf-8")))
def test_python_blocks(page: str, world: Path) -> None:
    if page == EXPORT_PAGE:
        if not EXPORTS:
            pytest.skip("needs dactcli[onnx]")
        assert dact("export", "runs/sst2-1", "--to", "sst2-onnx").exit_code == 0
    for block in blocks(ROOT / page):
        if block.language == "python":
            script = world / "block.py"
            script.write_text(block.text)
            runpy.run_path(str(script))


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference.py", "--check"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_paths_of_code_that_pages_name_exist() -> None:
    """The architecture names files of the package; none of them may be gone."""
    named = {
        (page.name, path)
        for page in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
        if page.name != "LOG.md"
        for path in re.findall(
            r"`((?:dactcli|tests|scripts|recipes|benchmarks)/[\w/.-]*)`", page.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 40
    assert {(page, path) for page, path in named if not (ROOT / path).exists()} == set()


def test_the_defaults_in_the_readme_are_those_of_the_schema() -> None:
    row = re.compile(r"^\| `([a-z_.]+)` \|(?: [^|]*\|)? `?\"?([\w.]+)\"?`? \| ", re.MULTILINE)
    reference = dict(row.findall((ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")))
    told = re.findall(
        r"^\| `([a-z_.]+)` \| ([\w.]+) \| ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(told) >= 5
    assert {key: reference[key] for key, _ in told} == dict(told)


def test_the_pages_fit_together(tmp_path: Path) -> None:
    """Strictly built: no link without its target."""
    if shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("mkdocs is not installed: pip install 'dactcli[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "commands" / "index.html").is_file()
