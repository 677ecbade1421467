"""Checkpoints that were torn, flipped, deleted or replaced by something hostile, and what resuming makes of them."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import STEPS, TINY, Interrupt, Silence, train, weights_digest

from dactcli.errors import ArtefactError, DataError, RecipeError, ResourceError
from dactcli.runs import folders as runs
from dactcli.storage import MANIFEST, commit, faults
from dactcli.training.checkpoints import newest_valid

Resume = Callable[..., tuple[Path, list[str]]]


def stage(run: Path) -> Path:
    return run / "checkpoints" / "2-units"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def reseal(folder: Path) -> None:
    """Give a manipulated checkpoint a manifest that fits, as an attacker would."""
    (folder / MANIFEST).unlink()
    fresh = folder.with_name("fresh")
    folder.rename(fresh)
    commit(fresh, folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", truncate),
        ("model.safetensors", zero),
        ("model.safetensors", flip),
        ("model.safetensors", Path.unlink),
        ("optimizer.pt", flip),
        ("optimizer.pt", empty),
        ("scheduler.pt", zero),
        ("rng_state.pth", truncate),
        ("trainer_state.json", truncate),
        ("trainer_state.json", Path.unlink),
        (MANIFEST, truncate),
        (MANIFEST, Path.unlink),
        (MANIFEST, lambda path: path.write_text('["not", "ours"]')),
        (MANIFEST, lambda path: path.write_text("[" * 100_000)),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tiny_run: Path, broken: Path, resume: Resume, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(stage(broken) / "checkpoint-6" / name)
    run, notices = resume()
    assert any(f"checkpoint-6/{name} is" in text and "skipped" in text for text in notices)
    assert weights_digest(run) == weights_digest(tiny_run)


def test_without_a_sound_checkpoint_the_stage_begins_again(tiny_run: Path, broken: Path, resume: Resume) -> None:
    for checkpoint in stage(broken).glob("checkpoint-*"):
        zero(checkpoint / "model.safetensors")
    run, notices = resume()
    assert sum("skipped" in text for text in notices) == 2
    assert weights_digest(run) == weights_digest(tiny_run)


def test_a_damaged_finished_stage_is_trained_on_from_its_checkpoint(
    tiny_run: Path, broken: Path, resume: Resume
) -> None:
    flip(broken / "checkpoints" / "1-joint" / "done" / "model.safetensors")
    run, notices = resume()
    assert any("1-joint/done/model.safetensors is damaged" in text for text in notices)
    assert weights_digest(run) == weights_digest(tiny_run)


def test_what_a_kill_left_of_a_save_is_no_checkpoint(tiny_run: Path, broken: Path, resume: Resume) -> None:
    half = stage(broken) / ".writing" / "checkpoint-9"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    (stage(broken) / "checkpoint-9").mkdir()  # as transformers itself would have left it
    run, notices = resume()
    assert any("checkpoint-9/manifest.json is missing" in text for text in notices)
    assert weights_digest(run) == weights_digest(tiny_run)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_missing_state_is_an_error_unless_weights_are_enough(broken: Path, resume: Resume, name: str) -> None:
    (stage(broken) / "checkpoint-6" / name).unlink()
    with pytest.raises(
        ArtefactError,
        match=rf"{name}: is missing, and training cannot continue exactly without it; restore it, or add `weights_only`",
    ):
        resume()
    run, _ = resume(weights_only=True)
    assert runs.is_finished(run)


def test_weights_only_goes_on_at_the_same_place_of_the_schedule(tiny_run: Path, broken: Path, resume: Resume) -> None:
    (stage(broken) / "checkpoint-6" / "optimizer.pt").unlink()
    run, _ = resume(weights_only=True)
    assert weights_digest(run) != weights_digest(tiny_run)

    def rates(folder: Path) -> list[float]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [line["learning_rate"] for line in lines if line["stage"] == "2-units" and "loss" in line]

    assert rates(run) == pytest.approx(rates(tiny_run))


class Canary:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_manipulated_state_runs_nothing(tmp_path: Path, broken: Path, resume: Resume, name: str) -> None:
    canary = tmp_path / "canary"
    folder = stage(broken) / "checkpoint-6"
    (folder / name).write_bytes(pickle.dumps(Canary(canary), protocol=2))
    reseal(folder)
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        resume()
    assert not canary.exists()


def test_pickled_weights_are_never_looked_at(tmp_path: Path, tiny_run: Path, broken: Path, resume: Resume) -> None:
    canary = tmp_path / "canary"
    folder = stage(broken) / "checkpoint-6"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary), protocol=2))
    (folder / "model.safetensors").unlink()
    reseal(folder)
    run, notices = resume()
    assert any("model.safetensors is missing; the checkpoint is skipped" in text for text in notices)
    assert not canary.exists()
    assert weights_digest(run) == weights_digest(tiny_run)


class Limit(Silence):
    """Lets no file grow beyond a few bytes from a step of stage 1 on: what a full disk looks like."""

    def __init__(self, step: int, limit: int) -> None:
        super().__init__()
        self.step, self.limit = step, limit
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stepped(self, step: int) -> None:
        if step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.before[1]))


@pytest.mark.parametrize("limit", [1_500, 5_000, 100_000, 200_000])
def test_a_write_limit_in_the_middle_of_a_save_leaves_the_last_checkpoint(
    tmp_path: Path, tiny_run: Path, limit: int
) -> None:
    listener = Limit(5, limit)
    try:
        with pytest.raises(ResourceError, match=r"cannot be written: .*(File too large|took only a part)") as caught:
            train(tmp_path, TINY, STEPS, listener=listener)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, listener.before)
    assert caught.value.exit_code == 5
    run = tmp_path / "runs" / "tiny-1"
    folder = run / "checkpoints" / "1-joint"
    assert {path.name for path in folder.iterdir()} == {"checkpoint-3"}
    assert not faults(folder / "checkpoint-3")
    train(tmp_path, TINY, STEPS, resume=run)
    assert weights_digest(run) == weights_digest(tiny_run)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, tiny_run: Path) -> None:
    disk = tmp_path / "runs"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False, timeout=600
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:

        class Fill(Silence):
            def stepped(self, step: int) -> None:
                if step == 5:
                    free = shutil.disk_usage(disk).free
                    (disk / "filler").write_bytes(bytes(max(0, free - 200_000)))

        with pytest.raises(ResourceError, match="cannot be written"):
            train(tmp_path, TINY, STEPS, listener=Fill())
        (disk / "filler").unlink()
        run = disk / "tiny-1"
        assert newest_valid(run / "checkpoints" / "1-joint", weights_only=False, notice=print) is not None
        train(tmp_path, TINY, STEPS, resume=run)
        assert weights_digest(run) == weights_digest(tiny_run)
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=600)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, TINY, "training.save_steps=2", listener=Interrupt(1, 9))
    folder = tmp_path / "runs" / "tiny-1" / "checkpoints" / "1-joint"
    assert {path.name for path in folder.iterdir()} == {"checkpoint-6", "checkpoint-8"}


def test_a_changed_recipe_is_refused_with_the_difference(resume: Resume, broken: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"recipe\.yaml: the recipe has changed since this run began: "
        r"dact\.tau was 0\.05 and is 0\.1; training\.seed was 0 and is 7; restore it",
    ):
        resume("training.seed=7", "dact.tau=0.1")


def test_a_recipe_torn_by_a_power_cut_is_told_apart(broken: Path, resume: Resume) -> None:
    text = (broken / "recipe.yaml").read_text()
    (broken / "recipe.yaml").write_text(text[: len(text) // 2] + "\n  - [")
    with pytest.raises(RecipeError, match="since this run began: the kept one is damaged"):
        resume()


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_a_run_that_forgot_its_data_is_not_resumed(broken: Path, resume: Resume, damage: Callable[[Path], Any]) -> None:
    damage(broken / "begun.json")
    with pytest.raises(ArtefactError, match=r"begun\.json: is missing or damaged"):
        resume()


def test_changed_data_are_refused(tmp_path: Path) -> None:
    rows = [{"sentence": f"{word} {number}", "label": number % 2} for number in range(40) for word in ("a", "b")]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = TINY.replace(
        "source: builtin, max_length: 48, examples: 320", "source: files, train: train.jsonl, validation: 0.2"
    )
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, text, listener=Interrupt(1, 1))
    file.write_text(file.read_text().replace("a 7", "c 7"))
    with pytest.raises(DataError, match="the data have changed since this run began: "):
        train(tmp_path, text, resume=tmp_path / "runs" / "tiny-1")


HOLD = """
import sys
from pathlib import Path
from dactcli.runs.folders import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_train_in_one_folder(tiny_run: Path, broken: Path, resume: Resume) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(broken)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match="another process is training in this folder"):
            resume()
        other.kill()  # a lock goes with its process, however that ends
    run, _ = resume()
    assert weights_digest(run) == weights_digest(tiny_run)


def test_a_link_out_of_the_run_folder_is_not_followed(tmp_path: Path, broken: Path, resume: Resume) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (broken / "metrics.jsonl").unlink()
    (broken / "metrics.jsonl").symlink_to(precious)
    with pytest.raises(ArtefactError, match=r"metrics\.jsonl: is a link to .*precious, outside the run folder"):
        resume()
    assert precious.read_text() == "mine"


def test_latest_that_is_a_folder_stays_and_the_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    (tmp_path / "runs" / "latest" / "mine").write_text("mine")
    with pytest.raises(ResourceError, match="latest: cannot be replaced by a link to the run"):
        train(tmp_path)
    assert (tmp_path / "runs" / "latest" / "mine").read_text() == "mine"
    assert runs.is_finished(tmp_path / "runs" / "tiny-1")


def test_a_run_named_by_a_link_elsewhere_is_not_written(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny-1").symlink_to(elsewhere)
    assert Path(train(tmp_path).run).name == "tiny-2"
    assert not list(elsewhere.iterdir())


TRAIN = """
import sys
from pathlib import Path
from support import train
print(train(Path(sys.argv[1])).run)
"""


def test_two_simultaneous_runs_get_folders_of_their_own(tmp_path: Path, tiny_run: Path) -> None:
    tests = Path(__file__).parents[1]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(tests)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    found = {Path(process.communicate(timeout=300)[0].strip()) for process in both}
    assert {run.name for run in found} == {"tiny-1", "tiny-2"}
    assert {weights_digest(run) for run in found} == {weights_digest(tiny_run)}


AS_NOBODY = """
import os, sys
from pathlib import Path
from dactcli.errors import ResourceError
from dactcli.runs.folders import check_writable
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    check_writable(Path(sys.argv[1]) / "runs")
except ResourceError as error:
    print(error.exit_code, error.sentence)
"""


def test_a_folder_that_may_not_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(closed)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.startswith("5 "), done.stderr
    assert "the output folder cannot be written" in done.stdout
