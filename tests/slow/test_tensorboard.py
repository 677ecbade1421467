"""TensorBoard with its profiler plugin reads the trace that `dact profile --trace` writes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PATIENCE = 120  # seconds until the plugin must have read the trace
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def tensorboard(folder: Path, log: Path) -> Iterator[str]:
    """TensorBoard on loopback, by the address of the plugin's data."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=out, stderr=out)
        try:
            yield f"http://127.0.0.1:{port}/data/plugin/pytorch_profiler"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(20)


def ask(base: str, page: str, **values: str) -> Any:
    with OPENER.open(f"{base}/{page}?{urllib.parse.urlencode(values)}", timeout=30) as answer:
        return json.loads(answer.read())


def first_run(base: str, log: Path) -> str:
    """The name of the run, once the plugin has read it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            runs = ask(base, "runs")
            if runs["runs"] and not runs["loading"]:
                return str(runs["runs"][0])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"the plugin read no trace: {log.read_text()}")


def test_the_overview_and_operator_pages_show_the_trace(tiny_run: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "trace", tmp_path / "tensorboard.log"
    command = [sys.executable, "-m", "dactcli", "profile", str(tiny_run), "--trace", str(folder)]
    limits = ["--batch-size", "2", "--examples", "4", "--warmup", "0", "--repeats", "2"]
    subprocess.run([*command, *limits], check=True, capture_output=True, timeout=600)
    with tensorboard(folder, log) as base:
        run = first_run(base, log)
        (worker, *_) = ask(base, "workers", run=run, view="Overview")
        assert {"Overview", "Operator", "Trace", "Memory"} <= set(ask(base, "views", run=run))
        (span,) = ask(base, "spans", run=run, worker=worker)
        here = {"run": run, "worker": worker, "span": span}
        overview = ask(base, "overview", **here, view="Overview")
        times = {row["name"]: row["value"] for row in overview["performance"][0]["children"]}
        assert times["CPU Exec"] > 0
        table = ask(base, "operation/table", **here, view="Operator", group_by="Operation")
        names = {row["name"]: row["calls"] for row in table["data"]}
        assert names["aten::addmm"] > 0
        assert any("scaled_dot_product" in name for name in names)
