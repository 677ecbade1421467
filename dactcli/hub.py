"""Whether the Hugging Face hub can be reached, asked once, before its library tries and waits for most of a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path

SECONDS = 5.0  # to wait for an answer


@contextmanager
def reachable(names: Iterable[str | None], notice: Callable[[str], None]) -> Iterator[None]:
    """Use the hub inside if it answers; if not, only what was fetched from it before, without waiting.

    Args:
        names: Of encoders and data sets; those that are folders or None come from nowhere else.
        notice: Told when the hub cannot be reached.
    """
    if not any(name is not None and not Path(name).expanduser().exists() for name in names):
        yield
        return
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # each of its retries would be two lines
    offline = constants.HF_HUB_OFFLINE
    try:
        if not offline and not _answers(constants.ENDPOINT):
            notice(f"{constants.ENDPOINT} cannot be reached; only what was fetched from it before is used")
            _switch(offline=True)
        yield
    finally:
        _switch(offline=offline)
        logging.set_verbosity(before)


def _answers(address: str) -> bool:
    """Whether a server answers at all, whatever it says."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=SECONDS)
    except Exception:  # the HTTP library's own kinds, which are others with other versions of it
        return False
    return True


def _switch(*, offline: bool) -> None:
    """Tell the hub's library, and datasets where it is loaded, whether there is a network."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline
