"""Several processes that are stopped, resumed, or lose one of them, and what else takes a launch of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import TORCHRUN, codes, environment, launch, sentences, write_data
from support import weights_digest

from dactcli.storage import faults

pytestmark = pytest.mark.slow
TRAIN = ["-m", "dactcli", "finetune", "words.yaml", "--device", "cpu"]
# each process draws its own dropout and hidden tokens, which a checkpoint keeps
RANDOM = ["--set", "training.mask_tokens=0.2", "--set", "model.encoder.dropout=0.2"]


def run(folder: Path, *words: str, launcher: list[str] = TORCHRUN, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, *TRAIN, *words], cwd=folder, env=environment() | extra, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    write_data(folder)
    done = run(folder, *RANDOM)
    assert done.returncode == 0, done.stderr
    return weights_digest(folder / "runs" / "words-1")


def workers(launcher: int) -> dict[str, int]:
    """The processes that a launcher started, by their number."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) != launcher:
                continue
            pairs = (one.partition("=") for one in (process / "environ").read_text().split("\0"))
            found[{name: value for name, _, value in pairs}["RANK"]] = int(process.name)
        except (OSError, KeyError):
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize(("number", "to"), [(signal.SIGTERM, "launcher"), (signal.SIGINT, "1"), (signal.SIGTERM, "0")])
def test_a_signal_stops_all_after_the_same_step(tmp_path: Path, whole: str, number: signal.Signals, to: str) -> None:
    write_data(tmp_path)
    process = subprocess.Popen(
        [*TORCHRUN, *TRAIN, *RANDOM], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "runs" / "words-1" / "metrics.jsonl"
    while not log.is_file() or log.read_text().count("\n") < 3:
        time.sleep(0.02)
        assert process.poll() is None
    os.kill(process.pid if to == "launcher" else workers(process.pid)[to], number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    assert sentences(stderr) == []  # a stop that was asked for is no error
    said = f"stopped by {number.name}; the same command with --resume continues"
    (sentence,) = [line for line in stderr.splitlines() if said in line]
    run_folder = tmp_path / "runs" / "words-1"
    (checkpoint, *_) = sorted((run_folder / "checkpoints").glob("*/checkpoint-*"), key=os.path.getmtime)[::-1]
    assert f"saved after step {checkpoint.name.rpartition('-')[2]} of" in sentence
    assert not faults(checkpoint)
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
    done = run(tmp_path, *RANDOM, "--resume")
    assert done.returncode == 0, done.stderr
    assert weights_digest(run_folder) == whole


@pytest.mark.parametrize("number", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(number: int, tmp_path: Path) -> None:
    write_data(tmp_path)
    keys = ["--set", "training.save_steps=2", "--set", "model.encoder.dropout=0.2"]
    launch(tmp_path, ["finetune", "words.yaml", "--device", "cpu", *keys], fault=("lost_in_step", 4))
    launcher = [sys.executable] if number == 1 else [*TORCHRUN[:-1], str(number)]
    done = run(tmp_path, *keys, "--resume", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert f"was written by 2 processes, now there are {number}: batches stay the same" in done.stderr


def test_a_process_that_is_killed_ends_all(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = launch(tmp_path, ["finetune", "words.yaml", "--device", "cpu"], fault=("lost_in_step", 2))
    assert codes(tmp_path) == [[5]]
    assert sentences(done.stderr) == [
        "error: another process of the group has ended; see the launcher's message about it"
    ]


def test_a_loss_that_is_not_finite_on_one_process_ends_all(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = launch(tmp_path, ["finetune", "words.yaml", "--device", "cpu"], fault=("not_finite_in_step", 2))
    assert codes(tmp_path) == [[4], [4]]
    (sentence,) = sentences(done.stderr)
    assert sentence.startswith("error: stage 1-joint, step 3: the loss on rows ")
    assert len(sentence.partition(" of train")[0].split(", ")) <= 6 + 2  # the part of the process that met it


def test_a_sweep(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = run(tmp_path, "--sweep", "training.seed=0,1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [one["values"] for one in document["runs"]] == [{"training.seed": "0"}, {"training.seed": "1"}]
    again = run(tmp_path, "--sweep", "training.seed=0,1", "--json")
    assert again.stderr.count("is finished, and skipped") == 2


ACCELERATE = [
    str(Path(sys.executable).with_name("accelerate")),
    "launch",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
]
ACCELERATE += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]


def summary(folder: Path) -> Any:
    return json.loads((folder / "runs" / "words-1" / "summary.json").read_text())


def test_accelerate_launch(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = run(tmp_path, launcher=[*ACCELERATE, "--multi_gpu"])
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path)["processes"] == 2


def test_engines_that_split_the_model_are_refused(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = run(tmp_path, launcher=[*ACCELERATE, "--use_fsdp"])
    assert sentences(done.stderr) == [
        "error: accelerate launch: accelerate is configured for FSDP, but every process of dact holds the whole model; "
        "use --multi_gpu"
    ]


def test_torchrun_of_one_process(tmp_path: Path) -> None:
    write_data(tmp_path)
    done = run(tmp_path, launcher=[*TORCHRUN[:-1], "1"])
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path)["processes"] == 1


def test_two_machines(tmp_path: Path) -> None:
    write_data(tmp_path)
    launcher = [part for part in TORCHRUN[:-1] if part != "--standalone"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    nodes = [
        subprocess.Popen(
            [*launcher, "1", "--nnodes", "2", "--node_rank", str(node), "--master_addr", "localhost",
             "--master_port", port, *TRAIN],
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        )
        for node in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "stage 1/4 joint" in said[0]
    assert "stage" not in said[1]
    assert summary(tmp_path)["processes"] == 2
