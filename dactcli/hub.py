"""Check once whether the Hugging Face hub is reachable, because its library retries for most of a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path

SECONDS = 5.0  # timeout of the check


@contextmanager
def reachable(names: Iterable[str | None], notice: Callable[[str], None]) -> Iterator[None]:
    """Use the hub inside this context if it answers; otherwise use its local cache only, without waiting.

    Args:
        names: Names of encoders and data sets. Folders and None need no hub.
        notice: Called if the hub cannot be reached.
    """
    if not any(name is not None and not Path(name).expanduser().exists() for name in names):
        yield
        return
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # it prints two lines per retry
    offline = constants.HF_HUB_OFFLINE
    try:
        if not offline and not _answers(constants.ENDPOINT):
            notice(f"{constants.ENDPOINT} cannot be reached; only its local cache is used")
            _switch(offline=True)
        yield
    finally:
        _switch(offline=offline)
        logging.set_verbosity(before)


def _answers(address: str) -> bool:
    """Whether a server answers with any status."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=SECONDS)
    except Exception:  # the HTTP library's exception types differ between versions
        return False
    return True


def _switch(*, offline: bool) -> None:
    """Switch huggingface_hub, and datasets if it is loaded, between online and offline."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline
