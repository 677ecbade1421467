"""Predictions by Ray workers on one machine: the same answers as the local engine, how fast, and with workers killed.

    python benchmarks/cluster.py RUN OUT --texts 1000000 --workers 1,2
    python benchmarks/cluster.py RUN OUT --texts 100000 --workers 2 --kill 10

RUN is a run of the built-in task (recipes/quickstart.yaml). The texts are its sentences, repeated under running numbers.
Everything runs through `dact predict` in processes of its own, each worker with one thread: the local engine first, then
Ray with each number of workers. Answers are compared row for row: the same label and exit layer, but for rows whose
probabilities differ by less than 1e-4. `--kill` kills a worker that many times at random moments, in one prediction each,
and demands the same files each time. Printed are seconds, texts per second, and the most memory that all processes of a
prediction held at one time (proportional set size, sampled every half second).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# internals: writes the sentences of the built-in task
from dactcli.data.agreement import generate

SENTENCES = 40_000  # distinct ones
GROUP = 50_000  # rows of a row group
CLOSE = 1e-4
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Taken:
    """What a prediction took."""

    seconds: float
    mebibytes: float
    killed: int = 0


def write_texts(path: Path, count: int) -> None:
    """A parquet file of numbered sentences."""
    sentences = [one.sentence for one in generate(train=min(SENTENCES, count))["train"]]
    numbered = enumerate(itertools.islice(itertools.cycle(sentences), count))
    schema = pa.schema([("id", pa.int64()), ("sentence", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        while rows := list(itertools.islice(numbered, GROUP)):
            columns = [[number for number, _ in rows], [text for _, text in rows]]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP)


def below(parent: int) -> dict[int, str]:
    """The processes below a process, and what they call themselves."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    known, grew = {parent}, True
    while grew:
        more = {int(row[0]) for row in rows if int(row[1]) in known} - known
        known, grew = known | more, bool(more)
    return {int(row[0]): row[2] for row in rows if int(row[0]) in known}


def held(processes: dict[int, str]) -> float:
    """Mebibytes that processes hold, shared ones counted once."""
    total = 0.0
    for pid in processes:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


def predict(words: list[str], *, kills: int = 0, seed: int = 0) -> Taken:
    """Run `dact predict`, maybe killing workers."""
    chance, killed, most, began = random.Random(seed), 0, 0.0, time.perf_counter()
    command = [sys.executable, "-m", "dactcli", "predict", *words]
    process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stderr=subprocess.PIPE, text=True)
    wait = chance.uniform(0.5, 4)
    while process.poll() is None:
        time.sleep(0.5)
        processes = below(process.pid)
        most = max(most, held(processes))
        workers = [pid for pid, text in processes.items() if "AnswersWorker" in text and "submit" in text]
        wait -= 0.5 * bool(workers)
        if killed < kills and workers and wait <= 0:
            os.kill(chance.choice(workers), signal.SIGKILL)
            killed, wait = killed + 1, chance.uniform(0.5, 4)
    _, told = process.communicate()
    if process.returncode:
        raise SystemExit(told)
    return Taken(time.perf_counter() - began, most, killed)


def rows_of(place: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file or a folder of predictions, in order."""
    for path in [place] if place.is_file() else sorted(place.glob("part-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(65_536):
            yield from batch.to_pylist()


def compare(local: Path, folder: Path) -> str:
    """How two predictions of the same texts agree; an error where they do not."""
    count = close = 0
    for one, other in zip(rows_of(local), rows_of(folder), strict=True):
        apart = max(abs(a - b) for a, b in zip(one["probabilities"], other["probabilities"], strict=True))
        same = (one["label"], one["exit_layer"]) == (other["label"], other["exit_layer"])
        if one["id"] != other["id"] or one["id"] != count or (not same and apart >= CLOSE):
            raise SystemExit(f"row {count} differs: {one} and {other}")
        count, close = count + 1, close + (not same)
    return f"{count:,} rows the same" + (f", {close} of them within {CLOSE:g}" if close else "")


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("--texts", type=int, default=100_000)
    made.add_argument("--workers", default="1,2")
    made.add_argument("--kill", type=int, default=0, help="predictions in which a worker is killed")
    return made


def main() -> None:
    """Write the texts, predict, compare."""
    wanted = parser().parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    texts, local = wanted.out / f"texts-{wanted.texts}.parquet", wanted.out / f"local-{wanted.texts}.parquet"
    if not texts.is_file():
        write_texts(texts, wanted.texts)
    words = [str(texts), "--run", str(wanted.run), "--overwrite"]
    print("| way | seconds | texts per second | MiB | |\n| --- | --- | --- | --- | --- |")

    def row(way: str, taken: Taken, note: str) -> None:
        rate = wanted.texts / taken.seconds
        print(f"| {way} | {taken.seconds:.0f} | {rate:,.0f} | {taken.mebibytes:,.0f} | {note} |", flush=True)

    row("local, one thread", predict([*words, "--output", str(local)]), "")
    numbers = [int(number) for number in wanted.workers.split(",")]
    for number in numbers:
        folder = wanted.out / f"ray-{number}"
        taken = predict([*words, "--engine", "ray", "--workers", str(number), "--output", str(folder)])
        row(f"Ray, {number} {'worker' if number == 1 else 'workers'}", taken, compare(local, folder))
    folder = wanted.out / "ray-killed"
    for attempt in range(wanted.kill):
        shutil.rmtree(folder, ignore_errors=True)
        ray = ["--engine", "ray", "--workers", str(numbers[-1]), "--output", str(folder)]
        taken = predict([*words, *ray], kills=1, seed=attempt)
        row(f"the same, {taken.killed} killed", taken, compare(local, folder))
    (wanted.out / "done.json").write_text(json.dumps({"texts": wanted.texts, "workers": numbers}))


if __name__ == "__main__":
    main()
