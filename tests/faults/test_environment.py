"""What the surroundings may do: hostile texts and names, places that cannot be written, stops, no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TINY, dact

HOSTILE = "x\x1b[31m\x07\x9b1m\u202ey\u2066[red]z[/red]:smile:"
SHOWN = r"x\x1b[31m\x07\x9b1m\u202ey\u2066[red]z[/red]:smile:"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def worked(*_: Any, **__: Any) -> Any:
    raise AssertionError("the work was begun")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command gets to its work."""
    for name in ("runs.load.load_run", "data.sources.load_splits", "training.fit.load_splits",
                 "training.examine.load_splits", "runs.listing.list_runs"):  # fmt: skip
        monkeypatch.setattr(f"dactcli.{name}", worked)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a recipe."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return tmp_path


def harmless(text: str) -> None:
    """Nothing in it steers a terminal, and it holds the text as it is."""
    assert not STEERING.search(text), text
    assert SHOWN in text.replace("\n", ""), text


# ---- texts and names ----


def test_hostile_texts_are_shown_and_not_obeyed(tiny_run: Path, here: Path) -> None:
    """A text, a pair, and what a notice or an error quotes."""
    shown = dact("inspect", HOSTILE, "fine .", "--run", tiny_run)
    assert shown.exit_code == 0
    harmless(shown.stdout.replace("│", "").replace(" ", ""))
    for arguments in (["eval", HOSTILE], ["finetune", HOSTILE], ["runs", HOSTILE], ["eval", "--split", HOSTILE],
                      ["finetune", "tiny.yaml", "--set", f"{HOSTILE}=1"]):  # fmt: skip
        done = dact(*arguments)
        assert not STEERING.search(done.stdout + done.stderr)
        assert "[red]z[/red]:smile:" in done.stderr


def test_hostile_labels_columns_and_paths_are_shown_and_not_obeyed(here: Path) -> None:
    """Through data that train: the plan, the training, the list of runs, the evaluation and the errors."""
    folder = here / HOSTILE.replace("/", "")
    folder.mkdir()
    named = SHOWN.replace("/", "")
    rows = [{"text": f"word {HOSTILE} {n}", "label": HOSTILE if n % 2 else "other"} for n in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = TINY.replace("task: {name: agreement}", "task: {name: own}").replace(
        "{source: builtin, max_length: 48, examples: 320}",
        "{source: files, train: train.jsonl, validation: 0.5, text: text, max_length: 9}",
    )
    recipe = folder / "own.yaml"
    recipe.write_text(text)
    plan = dact("validate", recipe)
    assert plan.exit_code == 0, plan.stderr
    harmless(plan.stdout)
    trained = dact(
        "finetune", recipe, "--set", "training.max_steps=1", "--set", f"output.dir={json.dumps(str(folder))}"
    )
    assert trained.exit_code == 0, trained.stderr
    listed = dact("runs", folder)
    wrong = dact("eval", folder / "nothing")
    lacking = dact("validate", recipe, "--set", "data.text=nothing")
    (run,) = (path for path in folder.iterdir() if path.name.endswith("-1"))
    judged = dact("eval", run)
    assert judged.exit_code == 0
    inspected = dact("inspect", "word", "--run", run)
    for done in (trained, listed, wrong, lacking, judged):
        assert not STEERING.search(done.stdout + done.stderr)
        assert named in (done.stdout + done.stderr).replace("\n", "").replace("│", "").replace(" ", "")
    assert not STEERING.search(inspected.stdout)
    assert SHOWN in inspected.stdout or "other" in inspected.stdout


def test_an_ascii_locale_prints_a_recipe(here: Path) -> None:
    Path("tiny.yaml").write_text(TINY.replace("name: agreement", "name: agreement, labels: [né, 中]"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dactcli", "finetune", "tiny.yaml", "--dry-run"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")


# ---- places ----

WRITING = {
    "finetune": ["finetune", "tiny.yaml", "--output"],
    "validate": ["validate", "tiny.yaml", "--output"],
    "runs": ["runs", "--output"],
    "eval": ["eval", "RUN", "--output"],
    "compare": ["eval", "RUN", "--compare", "--output"],
    "profile": ["profile", "RUN", "--output"],
    "inspect": ["inspect", "a text", "--run", "RUN", "--output"],
    "inspect-html": ["inspect", "a text", "--run", "RUN", "--html"],
    "inspect-svg": ["inspect", "a text", "--run", "RUN", "--svg"],
}


def places(home: Path) -> dict[str, tuple[Path, int, str]]:
    (home / "file").write_text("kept")
    (home / "folder").mkdir()
    return {
        "a folder": (home / "folder", 2, "is a folder; name a file"),
        "there already": (home / "file", 2, "already exists; name another file, or add --overwrite"),
        "below a file": (home / "file" / "out.json", 5, "cannot be written"),
        "a name too long": (home / ("n" * 300), 5, "cannot be written: File name too long"),
        "no such device": (Path("/proc/nothing/out.json"), 5, "cannot be written"),
        "a zero byte": (home / "a\0b", 5, "cannot be written"),
    }


@pytest.mark.parametrize("place", ["a folder", "there already", "below a file", "a name too long", "no such device"])
@pytest.mark.parametrize("command", WRITING)
def test_what_cannot_be_written_is_found_before_any_work(
    tiny_run: Path, here: Path, idle: None, command: str, place: str
) -> None:
    target, code, sentence = places(here)[place]
    before = sorted(here.rglob("*"))
    arguments = [str(tiny_run) if part == "RUN" else part for part in WRITING[command]]
    done = dact(*arguments, target)
    assert done.exit_code == code, done.stderr
    assert f"{arguments[-1]} {target}: " in done.stderr
    assert sentence in done.stderr
    assert (here / "file").read_text() == "kept"
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("option", [("eval", "RUN", "--plots"), ("profile", "RUN", "--plots"),
                                    ("profile", "RUN", "--trace"), ("eval", "RUN", "--compare", "--plots")])  # fmt: skip
def test_a_folder_that_cannot_be_made_is_found_before_any_work(
    tiny_run: Path, here: Path, idle: None, option: tuple[str, ...]
) -> None:
    target = places(here)["below a file"][0]
    done = dact(*(tiny_run if part == "RUN" else part for part in option), target)
    assert (done.exit_code, f"{option[-1]} {target}: cannot be written" in done.stderr) == (5, True), done.stderr


@pytest.mark.parametrize("command", [("eval", "--plots"), ("eval", "--compare", "--plots"), ("profile", "--plots")])
def test_pictures_without_matplotlib_are_refused_before_any_work(
    tiny_run: Path, here: Path, idle: None, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = dact(*command, "pictures", tiny_run)
    assert done.exit_code == 5
    assert "--plots: matplotlib is not installed; pip install 'dactcli[plots]'" in done.stderr
    assert not Path("pictures").exists()


def test_the_folder_of_an_output_is_made_and_a_file_replaced_on_demand(tiny_run: Path, here: Path) -> None:
    target = here / "new" / "folder" / "runs.json"
    call = ("runs", tiny_run.parent, "--output", target)
    assert dact(*call).exit_code == 0
    first = target.read_text()
    assert json.loads(first)["runs"]
    assert dact(*call).exit_code == 2
    assert target.read_text() == first
    target.write_text("old")
    assert dact(*call, "--overwrite").exit_code == 0
    assert target.read_text() == first
    assert [path.name for path in target.parent.iterdir()] == ["runs.json"]
    assert dact("runs", tiny_run.parent, "--output", "/dev/null").exit_code == 0
    same = dact("inspect", "a", "--run", tiny_run, "--html", "view", "--svg", "view")
    assert (same.exit_code, "is the file of --html" in same.stderr) == (2, True)
    assert not Path("view").exists()


@pytest.mark.parametrize("where", ["inside", "inside/deeper"])
def test_a_run_is_not_published_into_itself(tiny_run: Path, here: Path, where: str) -> None:
    run = here / "run"
    shutil.copytree(tiny_run, run)
    before = sorted(run.rglob("*"))
    done = dact("publish", run, "--to", run / where)
    assert (done.exit_code, "is inside the run's own folder; name another folder" in done.stderr) == (2, True)
    assert sorted(run.rglob("*")) == before


def test_a_card_that_somebody_edited_is_kept(tiny_run: Path, here: Path) -> None:
    assert dact("publish", tiny_run, "--to", "model").exit_code == 0
    card = Path("model/README.md")
    first = card.read_text()
    again = dact("publish", tiny_run, "--to", "model", "--overwrite")
    assert "was edited" not in again.stderr
    assert card.read_text() == first
    card.write_text(first.replace("#", "# Mine,", 1))
    kept = dact("publish", tiny_run, "--to", "model", "--overwrite")
    assert kept.exit_code == 0
    assert "model/README.md was edited and is kept" in kept.stderr
    assert "# Mine," in card.read_text()


def test_a_run_that_never_began_leaves_no_folder(here: Path) -> None:
    """Its encoder cannot be loaded, whatever the reason."""
    Path("encoder").mkdir()
    Path("encoder/config.json").write_text("{}")
    done = dact("finetune", "tiny.yaml", "--set", "model.encoder=encoder")
    assert done.exit_code in (2, 3), done.stderr
    assert list(Path("runs").iterdir()) == []
    again = dact("finetune", "tiny.yaml", "--resume")
    assert "there is no run to resume" in again.stderr


# ---- surroundings ----

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"RANK": "0"}, "RANK is set and WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK is set and"),
        ({**WHOLE, "MASTER_ADDR": None}, "are set and MASTER_ADDR is not"),
        ({**WHOLE, "WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc', not a number"),
        ({**WHOLE, "WORLD_SIZE": ""}, "WORLD_SIZE is '', not a number"),
        ({**WHOLE, "WORLD_SIZE": "0"}, "WORLD_SIZE is '0', not a number"),
        ({**WHOLE, "RANK": "-1"}, "RANK is '-1', not a number"),
        ({**WHOLE, "RANK": "2"}, "RANK is 2 and WORLD_SIZE 2"),
        ({**WHOLE, "MASTER_PORT": "x"}, "MASTER_PORT is 'x', not a number"),
    ],
)
@pytest.mark.parametrize("command", [["runs"], ["eval", "nothing"], ["finetune", "tiny.yaml"]])
def test_half_set_launcher_variables_are_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], variables: dict[str, str | None], sentence: str
) -> None:
    for name, value in variables.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    done = dact(*command)
    assert done.exit_code == 2
    assert "environment: " in done.stderr
    assert sentence in done.stderr
    assert "torchrun" in done.stderr
    assert done.stderr.count("\n") == 1


def test_launcher_variables_of_one_process_alone_change_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert dact("runs").exit_code == 0


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_terminal_without_a_width_is_one_of_unknown_width(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    done = dact("runs", tiny_run.parent)
    assert done.exit_code == 0
    assert str(tiny_run) in done.stdout
    assert "Usage" in dact("--help").stdout


@pytest.mark.parametrize("columns", ["20", "1"])
def test_a_pipe_gets_whole_tables(tiny_run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    run = here / ("runs-" + "of-a-long-name-" * 8) / "tiny-1"
    shutil.copytree(tiny_run, run)
    (line,) = (line for line in dact("runs", run.parent).stdout.splitlines() if "tiny-1" in line)
    assert line.startswith(str(run))
    assert re.search(r"0\.\d{4} \d\.\d\d of 3 ", line)
    shown = dact("eval", run, "--rule", "full").stdout
    assert re.search(r"^full +0\.\d{4} +3\.00 +100% +100\.00% +··█ *$", shown, re.MULTILINE), shown


def stop_in(monkeypatch: pytest.MonkeyPatch, place: str, stop: Callable[[], Any]) -> None:
    monkeypatch.setattr(place, lambda *_, **__: stop())


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    raise AssertionError("the signal went by")


STOPPED = {
    "inspect": (["inspect", "a", "--run", "RUN"], "dactcli.inspection.trace.trace"),
    "eval": (["eval", "RUN"], "dactcli.evaluation.evaluate.judge"),
    "compare": (["eval", "RUN", "--compare"], "dactcli.evaluation.comparison.compare"),
    "profile": (["profile", "RUN"], "dactcli.profiling.profile.profile_latency"),
    "validate": (["validate", "tiny.yaml"], "dactcli.training.examine.load_splits"),
    "finetune": (["finetune", "tiny.yaml"], "dactcli.training.fit.load_splits"),
    "runs": (["runs"], "dactcli.runs.listing.list_runs"),
    "publish": (["publish", "RUN", "--to", "out"], "dactcli.publishing.folder.write_model"),
}


@pytest.mark.parametrize("way", [(interrupt, 130, "SIGINT"), (terminate, 143, "SIGTERM")])
@pytest.mark.parametrize("command", STOPPED)
def test_a_stop_that_was_asked_for_is_no_error(
    tiny_run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, command: str, way: tuple[Any, int, str]
) -> None:
    (arguments, place), (stop, code, name) = STOPPED[command], way
    import importlib

    importlib.import_module(place.rpartition(".")[0])
    before = signal.getsignal(signal.SIGTERM)
    stop_in(monkeypatch, place, stop)
    done = dact(*(tiny_run if part == "RUN" else part for part in arguments))
    assert done.exit_code == code
    assert f"stopped by {name}" in done.stderr
    assert "error" not in done.stderr
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [path for path in here.rglob("*") if path.name.endswith(".part")]
    assert not Path("out").exists()


SWALLOWS = """
import time
import dactcli.cli.app as app
import dactcli.runs.listing as listing
app.PATIENCE = 1.0
def list_runs(folder):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
listing.list_runs = list_runs
app.app(["runs"])
"""


def test_a_sigterm_that_is_lost_in_a_library_ends_the_command_all_the_same(here: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SWALLOWS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.terminate()
        assert process.wait(timeout=40) == -signal.SIGTERM


def test_without_a_network_one_sentence_comes_soon(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line for each retry, and no waiting for them; nothing of the run is left."""
    from huggingface_hub import constants

    waited: list[float] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waited.append)
    done = dact("finetune", "tiny.yaml", "--set", "model.encoder=jane/encoder")
    assert done.exit_code == 3, done.stderr
    assert sum(waited) == 0
    assert "Retry" not in done.stderr
    assert "note: http://127.0.0.1:9 cannot be reached; only its local cache is used" in done.stderr
    assert done.stderr.count("\n") == 2
    assert list(Path("runs").iterdir()) == []
    assert constants.HF_HUB_OFFLINE is False
