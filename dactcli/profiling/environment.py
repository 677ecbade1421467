"""Where a measurement was taken, and how it compares with an earlier one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dactcli.errors import UsageError
from dactcli.results import ProfileCase, ProfileResult
from dactcli.storage import check_format

if TYPE_CHECKING:
    from dactcli.model.dact import DactForSequenceClassification


def environment(model: DactForSequenceClassification, *, compiled: bool = False) -> dict[str, Any]:
    """Device, threads, type and versions.

    Args:
        model: The model that is measured.
        compiled: Whether its layers were compiled.
    """
    import platform
    from importlib.metadata import version

    device = model.device
    found: dict[str, Any] = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(model.encoder.dtype).removeprefix("torch."),
        "compiled": compiled,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return {**found, **{name: version(name) for name in ("dactcli", "torch", "transformers")}}


def _processor() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def read_baseline(path: Path) -> dict[str, Any]:
    """An earlier document of `dact profile --json` or `--output`.

    Args:
        path: The file.

    Raises:
        UsageError: It cannot be read, or is no such document.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check_format(found.get("format"), f"`baseline` {path}")
        for case in found["cases"]:
            case["time_ratio_to_stock"]["median"], case["adaptive"]["latency_ms_p50"], case["batch_size"]
        found["environment"]["device"]
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", place=f"`baseline` {path}", remedy="check the name"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            "is not a profile", place=f"`baseline` {path}", remedy="give a file that dact profile --output wrote"
        ) from None
    return found


def against(result: ProfileResult, earlier: dict[str, Any]) -> ProfileResult:
    """The result with each case set against the same case of an earlier profile.

    Args:
        result: The new one.
        earlier: As `read_baseline` gives it.
    """
    notices = list(result.notices)
    here, there = result.environment, earlier["environment"]
    changed = [name for name in here if name != "dactcli" and here[name] != there.get(name)]
    if changed:
        notices.append(f"the baseline was taken elsewhere ({', '.join(changed)} differ): trust its ratios only")
    before = {_key(case): case for case in earlier["cases"]}
    cases = [_set_against(case, before.get(_key(vars(case)))) for case in result.cases]
    if all(case.baseline is None for case in cases):
        notices.append("the baseline has no case of the same batch size, length and rule")
    return replace(result, cases=cases, notices=notices)


def _key(case: dict[str, Any]) -> tuple[Any, ...]:
    return case["batch_size"], case.get("sequence_length"), case.get("rule")


def _set_against(case: ProfileCase, earlier: dict[str, Any] | None) -> ProfileCase:
    if earlier is None:
        return case
    ratio, latency = earlier["time_ratio_to_stock"]["median"], earlier["adaptive"]["latency_ms_p50"]
    found = {
        "time_ratio_to_stock": case.time_ratio_to_stock.value / ratio,
        "latency_ms_p50": case.adaptive.latency_ms_p50 / latency,
    }
    return replace(case, baseline=found)
