"""The one place that knows which option of the command line sets which field of a request.

The library names fields in backticks, `` `rule` ``; the command line shows them as its options, `--rule`.
"""

from __future__ import annotations

import re

from dactcli.errors import DactError

# fields whose option has another name; every other field has its own, with dashes
RENAMED = {
    "rules": "--rule",
    "pairs": "--pair",
    "batch_sizes": "--batch-size",
    "overrides": "--set",
    "sweeps": "--sweep",
    "compiled": "--compile",
    "goal": "--calibrate",
    "pair_column": "--pair",
}
# fmt: off
FIELDS = frozenset((
    "address", "baseline", "batch_size", "batch_tokens", "block_rows", "calibrate", "calibration", "columns", "compare",
    "data", "delta", "depths", "device", "dtype", "engine", "epochs", "examples", "file", "float_layers", "format",
    "gpus_per_worker", "html", "hub", "int8", "label", "layers", "limit", "max_layers", "message", "on_error", "only",
    "opset", "output", "overwrite", "plan", "plots", "private", "random", "recipe_out", "repeats", "replace", "resume",
    "risk", "rule",
    "seeds", "sequence_length", "sort", "split", "stages", "svg", "sweep_random", "text", "texts", "threads", "to",
    "top", "trace", "train", "verify", "weights_only", "workers",
))
# fmt: on
FIELD = re.compile(r"`(\w+)`")


def with_flags(text: str) -> str:
    """A sentence of the library with its fields as options of the command line."""

    def option(match: re.Match[str]) -> str:
        name = match.group(1)
        return RENAMED.get(name) or (f"--{name.replace('_', '-')}" if name in FIELDS else match.group())

    return FIELD.sub(option, text)


def flagged(error: DactError) -> DactError:
    """An error whose place, fault and remedy name options of the command line."""
    error.fault = with_flags(error.fault)
    error.place = error.place and with_flags(error.place)
    error.remedy = error.remedy and with_flags(error.remedy)
    return error
