"""What the terminal may be: closed, narrow, without colour, without Unicode, or none at all."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "help": ["--help"],
    "inspect": ["inspect", "the keys are old .", "the key to the cabinets is rusty ."],
    "inspect-json": ["inspect", "the keys \u00e9\u4e2d are old .", "--json"],
    "eval": ["eval", "--split", "test"],
    "profile": ["profile", "--examples", "4", "--repeats", "2", "--warmup", "0", "--batch-size", "2"],
    "error": ["eval", "runs/nothing"],
}


@pytest.fixture(scope="session")
def home(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, to be a command's current folder."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(trained_run.parent, folder / "runs", symlinks=True)
    return folder


def call(home: Path, name: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "HF_HUB_OFFLINE") if key in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "dactcli", *COMMANDS[name]],
        cwd=home,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )


def well(done: subprocess.CompletedProcess[bytes], name: str) -> None:
    assert done.returncode == (3 if name == "error" else 0), done.stderr.decode()
    assert b"Traceback" not in done.stderr + done.stdout


PLACES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "20 columns": {"COLUMNS": "20"},
    "1 column": {"COLUMNS": "1"},
    "no colour": {"NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm"},
    "dumb": {"TERM": "dumb"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["help", "error"])
def test_what_needs_no_model_is_shown_anywhere(home: Path, name: str, place: str) -> None:
    well(call(home, name, **PLACES[place]), name)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["inspect", "inspect-json", "eval", "profile"])
def test_every_view_is_shown_anywhere(home: Path, name: str, place: str) -> None:
    done = call(home, name, **PLACES[place])
    well(done, name)
    if place == "ascii":
        done.stdout.decode("ascii")
    if place == "no colour":
        assert not re.search(rb"\x1b\[[\d;]*\b(3[0-7]|38;|9[0-7])", done.stdout)  # bold and italics may stay


def test_ascii_terminals_get_ascii(home: Path) -> None:
    done = call(home, "inspect", **PLACES["ascii"])
    well(done, "inspect")
    text = done.stdout.decode("ascii")
    assert "layer" in text
    assert text.count("?") < 5  # bars and lines have their own plain forms, and are not question marks


@pytest.mark.parametrize("name", ["help", "inspect-json"])
def test_a_closed_pipe_ends_quietly(home: Path, name: str) -> None:
    """As in `dact ... | head -1`: the reader goes before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "dactcli", *COMMANDS[name]],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=300,
            check=False,
        )
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_terminal_gets_colours_and_a_pipe_none(home: Path) -> None:
    assert b"\x1b[" not in call(home, "error").stderr
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dactcli", *COMMANDS["error"]],
        cwd=home,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stderr=slave,
    ) as process:
        process.wait(timeout=300)
    os.close(slave)
    assert b"\x1b[" in os.read(master, 10_000)
    os.close(master)
