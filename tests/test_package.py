"""The package as a library: nothing heavy on import, public names on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_importing_the_package_is_light_and_its_names_load_on_first_use() -> None:
    script = (
        "import sys, dactcli\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "from dactcli import DactConfig, DactForSequenceClassification\n"
        "from transformers import AutoConfig\n"
        "assert AutoConfig.for_model('dact').__class__ is DactConfig\n"
        "try:\n    dactcli.nonsense\nexcept AttributeError as error:\n    assert 'nonsense' in str(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
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
