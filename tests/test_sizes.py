"""scripts/sizes.py: what counts as a line, a parameter and a Typer command, and when it fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "sizes.py"
COMMAND = (
    "def command(a: Annotated[int, typer.Option()], b: int, c: int, d: int, e: int, f: int, g: int):\n    return a\n"
)


@pytest.fixture(scope="module")
def sizes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sizes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sizes"] = module
    spec.loader.exec_module(module)
    return module


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_sizes_of_functions_and_files(sizes: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "dactcli/one.py", "class A:\n    def f(self, a, *, b):\n        x = 1\n        return x\n")
    found = sizes.measure(tmp_path)
    assert [(one.place, one.value) for one in found.lines] == [("dactcli/one.py:2 f", 3)]
    assert [one.value for one in found.parameters] == [2]
    assert [(one.place, one.value) for one in found.files] == [("dactcli/one.py", 4)]


def test_of_a_typer_command_only_the_body_counts(sizes: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "dactcli/cli/one.py", COMMAND)
    write(tmp_path, "dactcli/two.py", COMMAND)
    found = sizes.measure(tmp_path)
    assert [one.value for one in found.lines] == [1, 2]
    assert [(one.place, one.value) for one in found.parameters] == [("dactcli/two.py:1 command", 7)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f():\n" + "    pass\n" * 60, "61 dactcli/one.py:1 f  above the limit"),
        ("def f(a, b, c, d, e, f, g): ...\n", "7 dactcli/one.py:1 f  above the limit"),
        ("x = 1\n" * 401, "401 dactcli/one.py  above the limit"),
    ],
)
def test_what_is_too_large_is_named_and_fails(
    sizes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    text: str, fault: str,
) -> None:  # fmt: skip
    write(tmp_path, "dactcli/one.py", text)
    monkeypatch.setattr(sizes, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="1 above the limits"):
        sizes.main()
    assert fault in capsys.readouterr().out


def test_what_is_at_the_limits_passes(sizes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def f(a, b, c, d, e, f):\n" + "    pass\n" * 59
    write(tmp_path, "dactcli/one.py", body + "x = 1\n" * 340)
    monkeypatch.setattr(sizes, "ROOT", tmp_path)
    sizes.main()
