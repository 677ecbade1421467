"""The mathematics of halting: the recursion, the state after a layer, the rules, and where they stop.

    from dactcli.halting import decide, make_rule

    decision = decide(make_rule("exact"), y, h)    # y_n [B, N, C], h_n [B, N]

Needs torch alone. Importing this package imports nothing; its public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dactcli.halting.base import Rule
    from dactcli.halting.decision import Decision, decide
    from dactcli.halting.rules import make_rule

__all__ = ["Decision", "Rule", "decide", "make_rule"]

_HOMES = {"Decision": "decision", "decide": "decision", "Rule": "base", "make_rule": "rules"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dactcli.halting.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dactcli.halting' has no attribute {name!r}")
