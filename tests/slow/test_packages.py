"""Wheel and sdist: built without network, installed into an empty environment, and used from elsewhere.

The environment borrows this one's dependencies by a path file, so that only dact itself is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
GENERATED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def left_out(folder: str, names: list[str]) -> set[str]:
    """What of a folder is not copied: generated files, and the run folders of the checkout (not the package's runs/)."""
    return GENERATED(folder, names) | ({"runs", "shared"} & set(names) if Path(folder) == ROOT else set())


def run(*command: object, folder: Path) -> str:
    """A command's output; this checkout is not on its path."""
    words = [str(word) for word in command]
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, the wheel that was made from it, and in `direct` the wheel from the checkout."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("packages")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=left_out)
    for arguments in (["--outdir", folder], ["--wheel", "--outdir", folder / "direct"]):
        run(sys.executable, "-m", "build", "--no-isolation", *arguments, folder=checkout)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_has_the_package_and_the_recipes_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dactcli").rglob("*.py")}
    recipes = {path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dactcli").rglob("*.html")}
    wanted = {*package, *templates, "dactcli/py.typed", *(f"dactcli/bundled/{name}" for name in recipes)}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_makes_the_same_wheel(built: Path, wheel: Path) -> None:
    (direct,) = (built / "direct").glob("*.whl")
    contents = []
    for path in (wheel, direct):
        with zipfile.ZipFile(path) as file:
            contents.append({name: file.read(name) for name in file.namelist() if not name.endswith("/RECORD")})
    assert contents[0] == contents[1]
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "recipes/sst2.yaml"} <= names


def test_an_export_predicts_where_nothing_but_its_runtime_is_installed(wheel: Path, tmp_path: Path) -> None:
    """The wheel alone, with onnxruntime, tokenizers and numpy from the index: no torch, transformers or pydantic."""
    pytest.importorskip("onnxscript", reason="needs dactcli[onnx]")
    from exports import TEXTS, exported, saved

    model = exported(saved(tmp_path / "run", layers=2), tmp_path / "out")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*install, "--no-deps", wheel, folder=tmp_path)
    run(*install, "-c", ROOT / "constraints.txt", "onnxruntime", "tokenizers", "numpy", folder=tmp_path)
    script = (
        "import importlib.util, json, sys; from dactcli.runtime import load; "
        "assert not any(importlib.util.find_spec(name) for name in ('torch', 'transformers', 'pydantic')); "
        "print(json.dumps([[one.label, one.exit_layer] for one in load('out', threads=1).predict(json.loads(sys.argv[1]))]))"
    )
    found = json.loads(run(python, "-c", script, json.dumps(TEXTS), folder=tmp_path))
    assert found == [[one.label, one.exit_layer] for one in model.predict(TEXTS)]


def test_an_empty_environment_has_dact_after_the_install(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    home = tmp_path / "env" / "bin"
    run(sys.executable, "-m", "pip", "--python", home / "python", "install", "--no-deps", wheel, folder=tmp_path)
    (site,) = (tmp_path / "env" / "lib").glob("*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(home / "python", "-c", "import dactcli; print(dactcli.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    assert run(home / "dact", "--version", folder=tmp_path).startswith("dact 0.1.0\n")
    assert "peers/pabee" in run(home / "dact", "recipes", folder=tmp_path)
    run(home / "dact", "recipes", "copy", "quickstart", "mine.yaml", folder=tmp_path)
    assert "encoder" in (tmp_path / "mine.yaml").read_text()
    script = "from dactcli import DactConfig; from transformers import AutoConfig; print(AutoConfig.for_model('dact'))"
    assert "DactConfig" in run(home / "python", "-c", script, folder=tmp_path)
