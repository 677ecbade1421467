"""Profile a model on examples at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dactcli.data.batches import Encoded, by_length
from dactcli.errors import DataError, ResourceError
from dactcli.model.rules import Rule
from dactcli.profiling.latency import environment, is_wide, make_ways, measure, write_trace
from dactcli.results import ProfileResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from dactcli.model.dact import DactForSequenceClassification

TRACED_BATCHES = 3


def profile_run(
    model: DactForSequenceClassification,
    tokenizer: Tokenizer,
    encoded: Encoded,
    *,
    rule: Rule,
    batch_sizes: Sequence[int],
    examples: int,
    warmup: int,
    repeats: int,
    trace: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ProfileResult:
    """Time the stock encoder, full depth and adaptive inference on real examples.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        encoded: The examples; evenly spaced ones are taken when there are more than `examples`.
        rule: What adaptive inference halts by.
        batch_sizes: Batch sizes, each a case of its own.
        examples: Most examples per case.
        warmup: Rounds that are not counted.
        repeats: Rounds that are.
        trace: Where to write a torch.profiler trace.
        progress: Called with rounds done and rounds in all, for each case.

    Raises:
        DataError: There is no example.
        ResourceError: Memory ran out, or the trace cannot be written.
    """
    device = model.device
    chosen = _sample(encoded, examples)
    ways = make_ways(model.eval(), rule)
    cases, notices, written = [], [], None
    for size in batch_sizes:
        batches = [batch for _, batch in by_length(tokenizer, chosen, size, device)]
        case = measure(
            ways,
            batches,
            device=device,
            layers=model.units.layers,
            rule=str(rule),
            sequence_length=None,
            warmup=warmup,
            repeats=repeats,
            progress=progress,
        )
        cases.append(case)
        if is_wide(case):
            notices.append(f"batch {size}: the rounds differ widely; close other programs or raise --repeats")
    if trace is not None:
        try:
            trace.mkdir(parents=True, exist_ok=True)
            written = str(write_trace(ways, batches[:TRACED_BATCHES], trace, device))
        except OSError as error:
            raise ResourceError(
                f"the trace cannot be written: {error.strerror}",
                place=str(trace),
                remedy="choose another --trace",
            ) from None
        notices.append(
            f"trace written to {written}; open it with: tensorboard --logdir {trace} (tab PyTorch Profiler), "
            "or drop the file on ui.perfetto.dev"
        )
    return ProfileResult(environment(model), cases, notices, written)


def _sample(encoded: Encoded, examples: int) -> Encoded:
    total = len(encoded.lengths)
    if not total:
        raise DataError("there is no example to measure on", remedy="give a split or file with texts")
    step = max(total / examples, 1.0)
    positions = sorted({int(index * step) for index in range(min(examples, total))})
    return Encoded({name: [rows[p] for p in positions] for name, rows in encoded.inputs.items()}, None, [])
