"""From text to label on a processor: exports against the PyTorch pipeline and ONNX Runtime without early exit.

All ways take turns. "Stock" in ONNX Runtime is the same encoder at full depth with one classifier, by the same optimiser,
the same int8 and our batches of like length. The share of the ideal is the time of stock of the same precision times
the layers that ran, over the layers that there are, over the time of the export. With openvino installed, its float32
model is timed as well.

    dact export runs/sst2-1 --to sst2-onnx --risk 0.01
    dact export runs/sst2-1 --to sst2-int8 --int8 --rule confidence:0.95
    taskset -c 1 python benchmarks/deploy.py runs/sst2-1 sst2-onnx sst2-int8 --examples 600 --rounds 7
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dactcli import open_run
from dactcli.api.common import quieten_libraries

# internals: builds ONNX Runtime's stock model with the parts of an export, and measures with the clock of `dact profile`
from dactcli.data.sources import load_splits
from dactcli.exporting.stock import StockOnnx, write_stock
from dactcli.prediction.predict import predict_texts
from dactcli.profiling.latency import Effort, Way, ratio, round_totals, take_turns
from dactcli.profiling.ways import stock_classifier
from dactcli.results import Interval
from dactcli.runs.load import Run
from dactcli.runtime import ExportedModel, load

SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


class Measured(NamedTuple):
    """An export's name, precision, mean layers and number of layers."""

    name: str
    precision: str
    layers: float
    of: int


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("exports", type=Path, nargs="+")
    made.add_argument("--split", default="test")
    made.add_argument("--examples", type=int, default=600)
    made.add_argument("--singles", type=int, default=60, help="examples of the measurement at batch 1")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=1)
    return made


def processor() -> str:
    """Its name and the instruction sets that matter."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)
    known = [one for one in SETS if flags and one in flags[1].split()]
    return f"{name[1] if name else 'an unknown processor'} ({', '.join(known)})"


class Stock:
    """ONNX Runtime at full depth, from text to label.

    Args:
        run: The run.
        like: An export, whose tokenizer and precision it takes.
        threads: Threads.
    """

    def __init__(self, run: Run, like: ExportedModel, threads: int) -> None:
        self.like, self.model = like, StockOnnx(run, like.manifest, threads)

    def predict(self, texts: list[str]) -> list[int]:
        """Classes."""
        tokens, found = self.like.tokenizer(texts), np.zeros(len(texts), dtype=np.int64)
        for positions, rows in tokens.batches(1024):
            found[positions] = self.model(rows).argmax(1)
        return [int(label) for label in found]


class OpenVino:
    """OpenVINO at full depth, from text to label; the same graph as ONNX Runtime's stock.

    Args:
        run: The run.
        like: An export in float32, whose tokenizer it takes. OpenVINO does not know the int8 attention of ONNX Runtime.
        threads: Threads.
    """

    def __init__(self, run: Run, like: ExportedModel, threads: int) -> None:
        import openvino

        self.like = like
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stock.onnx"
            write_stock(run, like.manifest, path)
            # without a hint of the precision, it computes in bfloat16 where the processor can
            settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
            self.model: Any = openvino.Core().compile_model(str(path), "CPU", settings)
        self.inputs = [one.any_name for one in self.model.inputs]

    def predict(self, texts: list[str]) -> list[int]:
        """Classes."""
        tokens, found = self.like.tokenizer(texts), np.zeros(len(texts), dtype=np.int64)
        for positions, rows in tokens.batches(1024):
            found[positions] = self.model({name: rows[name] for name in self.inputs})[0].argmax(1)
        return [int(label) for label in found]


def main() -> None:
    options = parser().parse_args()
    quieten_libraries()
    torch.set_num_threads(options.threads)
    run = open_run(options.run, device="cpu")
    assert run.recipe is not None
    split = load_splits(run.recipe, only=(options.split,)).splits[options.split]
    texts, labels = split.texts[: options.examples], split.labels
    exports = {path.name: load(path, threads=options.threads) for path in options.exports}
    stocks: dict[str, Stock] = {one.manifest.precision: Stock(run, one, options.threads) for one in exports.values()}
    ways = everything(run, exports, stocks, options.threads)
    print(f"{processor()}, {options.threads} threads, {options.run.name}, {options.split}, {len(texts)} examples")
    told = {name: answer(texts) for name, answer in ways.items()}
    if labels is not None:
        for name, found in told.items():
            if name == "pipeline":  # its classifier has random weights
                continue
            right = np.mean([a == b for a, b in zip(found, labels[: len(texts)], strict=True)])
            print(f"  {name:24} accuracy {100 * right:.2f}%")
    for name, model in exports.items():
        if model.manifest.precision == "float32":
            print(f"  {name:24} {same_as_pytorch(run, model, texts)} of {len(texts)} as PyTorch: class and exit layer")
    whole = {name: on(answer, texts) for name, answer in ways.items()}
    measure("all texts, from text to label", whole, options.rounds, depths(exports, texts))
    few = texts[: options.singles]
    each = {name: each_of(answer, few) for name, answer in ways.items()}
    measure("one text at a time, from text to label", each, options.rounds, depths(exports, few))


def same_as_pytorch(run: Run, model: ExportedModel, texts: list[str]) -> int:
    """How many texts an export gives the class and the exit layer that the run gives under the same rule."""
    wanted = predict_texts(run, texts, rule=run.model.rule(model.manifest.rule.text))
    pairs = zip(model.predict(texts), wanted, strict=True)
    return sum((one.label, one.exit_layer) == (other.label, other.exit_layer) for one, other in pairs)


def everything(
    run: Run, exports: dict[str, ExportedModel], stocks: dict[str, Stock], threads: int
) -> dict[str, Callable[[list[str]], list[Any]]]:
    """All ways from texts to class numbers, by name."""
    from transformers import pipeline

    piped = pipeline("text-classification", model=stock_classifier(run.model), tokenizer=run.tokenizer, batch_size=32)
    longest = run.tokenizer.model_max_length
    rule = run.model.rule(next(iter(exports.values())).manifest.rule.text)
    ways: dict[str, Callable[[list[str]], list[Any]]] = {
        "pipeline": lambda texts: piped(texts, truncation=True, max_length=longest),
        "dact engine": lambda texts: [one.label_id for one in predict_texts(run, texts, rule=rule)],
    }
    for precision, stock in stocks.items():
        ways[f"stock {precision}"] = stock.predict
    whole = [one for one in exports.values() if one.manifest.precision == "float32"]
    if whole and find_spec("openvino") is not None:
        ways["openvino float32"] = OpenVino(run, whole[0], threads).predict
    for name, model in exports.items():
        ways[name] = lambda texts, model=model: [one.label_id for one in model.predict(texts)]  # type: ignore[misc]
    return ways


def on(answer: Callable[[list[str]], list[Any]], texts: list[str]) -> Way:
    """A way that answers all texts at once."""
    return lambda _: answer(texts)


def each_of(answer: Callable[[list[str]], list[Any]], texts: list[str]) -> Way:
    """A way that answers one text after the other."""
    return lambda _: [answer([text]) for text in texts]


def depths(exports: dict[str, ExportedModel], texts: list[str]) -> list[Measured]:
    """The layers that the exports run on texts."""
    found = []
    for name, model in exports.items():
        layers = float(np.mean([one.exit_layer or 0 for one in model.predict(texts)]))
        found.append(Measured(name, model.manifest.precision, layers, model.manifest.layers))
    return found


def measure(title: str, ways: dict[str, Way], rounds: int, exports: list[Measured]) -> None:
    """Time all ways in turn, and print rates, ratios to the first way, and shares of the ideal."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        samples = take_turns(ways, 1, device=torch.device("cpu"), effort=Effort(1, rounds))
    times = {name: round_totals(found) for name, found in samples.items()}
    first = next(iter(times))
    print(title)
    for name, spent in times.items():
        found = ratio(times[first], spent)
        print(f"  {name:24} {statistics.median(spent):8.0f} ms   {found.value:5.2f} x {first} ({spread(found)})")
    for one in exports:
        stock = times[f"stock {one.precision}"]
        faster, share = ratio(stock, times[one.name]), ratio(stock, times[one.name], one.layers / one.of)
        print(
            f"  {one.name}: {one.layers:.2f} of {one.of} layers, {faster.value:.2f} x stock {one.precision} "
            f"({spread(faster)}), share of the ideal {share.value:.3f} ({spread(share)})",
            flush=True,
        )


def spread(found: Interval) -> str:
    """The interval."""
    return f"{found.low:.2f}-{found.high:.2f}"


if __name__ == "__main__":
    main()
