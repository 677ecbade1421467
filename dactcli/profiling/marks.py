"""Names for the layers in a profiler's trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.profiler import record_function


@contextmanager
def marked_layers(encoders: Sequence[Sequence[nn.Module]]) -> Iterator[Callable[[], None]]:
    """Mark every run of a layer in a trace as `dact.layer.N`.

    Args:
        encoders: The layers 1..N of each encoder; a module may stand for several of them.

    Yields:
        To be called before each batch, which begins at layer 1 again.
    """
    marks = _Marks()
    modules = {id(layer): layer for layers in encoders for layer in layers}.values()
    hooks = [module.register_forward_pre_hook(marks.begin) for module in modules]
    hooks += [module.register_forward_hook(marks.end) for module in modules]
    try:
        yield marks.restart
    finally:
        for hook in hooks:
            hook.remove()


class _Marks:
    """Counts the layers of a batch as they run: where layers share their weights, a module does not know its number."""

    def __init__(self) -> None:
        self.layer = 0
        self.open: record_function | None = None

    def restart(self) -> None:
        self.layer = 0

    def begin(self, *call: Any) -> None:
        self.layer += 1
        self.open = record_function(f"dact.layer.{self.layer}")
        self.open.__enter__()  # type: ignore[no-untyped-call]

    def end(self, *call: Any) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.open = None
