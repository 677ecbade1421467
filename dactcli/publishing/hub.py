"""The way to the Hugging Face hub: what can be known beforehand is checked first, and every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dactcli.errors import ResourceError, UsageError
from dactcli.publishing.facts import is_hub_name

LOCALLY = "publish with `to` FOLDER for now"
LOGIN = "log in with: hf auth login (or set HF_TOKEN)"
# files of an earlier publication that this one may not have; in one commit with the new ones
STALE = ["calibration.json", "recipe.yaml"]


def check_hub(name: str) -> None:
    """Check a name, and that there is a token, before any work is done; no network is used.

    Args:
        name: `NAMESPACE/NAME`.

    Raises:
        UsageError: The name is malformed.
        ResourceError: There is no token, or the hub is switched off.
    """
    from huggingface_hub import constants, get_token

    place = f"`hub` {name}"
    if name.count("/") != 1:
        raise UsageError("is not of the form NAMESPACE/NAME", place=place, remedy="write for example jane/sst2-dact")
    if not is_hub_name(name):
        raise UsageError(
            "is not a valid name on the hub",
            place=place,
            remedy="use letters, digits, single dots and dashes, and underscores, at most 96 in all",
        )
    if constants.HF_HUB_OFFLINE:
        raise ResourceError("the hub is switched off by HF_HUB_OFFLINE", place=place, remedy=f"unset it, or {LOCALLY}")
    if get_token() is None:
        raise ResourceError("there is no token for the hub", place=place, remedy=LOGIN)


def push(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Make the repository where it is missing, and put the folder there as one commit.

    Args:
        folder: What `write_model` wrote.
        name: `NAMESPACE/NAME`.
        private: Whether only its owner may see it.
        message: Of the commit.

    Returns:
        The model's address.

    Raises:
        UsageError: The token may not write there, or a public model is there and a private one was asked for.
        ResourceError: The hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _told(name):
        address = str(api.create_repo(name, repo_type="model", private=private or None, exist_ok=True))
        if private and not api.model_info(name).private:
            raise UsageError(
                "already exists and is public",
                place=f"`hub` {name}",
                remedy="make it private in its settings, or leave out `private`",
            )
        api.upload_folder(
            repo_id=name, repo_type="model", folder_path=folder, commit_message=message, delete_patterns=STALE
        )
    return address


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    place = f"`hub` {name}"
    try:
        yield
    except UsageError:
        raise
    except HfHubHTTPError as error:
        raise _refusal(error, place) from None
    except ValueError as error:  # its own check of the card, before anything is sent
        raise UsageError(
            f"the hub does not take the card: {_line(error)}", place=place, remedy="fix README.md"
        ) from None
    except Exception as error:  # the HTTP library's own kinds, which are others with other versions of it
        raise ResourceError(
            f"the hub cannot be reached: {_line(error)}", place=place, remedy=f"check the network, or {LOCALLY}"
        ) from None


def _refusal(error: Any, place: str) -> UsageError | ResourceError:
    """What an answer of the hub means to the user."""
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return ResourceError("the hub does not accept the token", place=place, remedy=LOGIN)
    if status in (403, 404):
        return UsageError(
            "the token may not write there",
            place=place,
            remedy="name a namespace of yours, or take a token that writes",
        )
    if status == 400:
        return UsageError(f"the hub refuses: {_line(error)}", place=place, remedy="fix what it names")
    return ResourceError(f"the hub refuses: {_line(error)}", place=place, remedy=f"try again later, or {LOCALLY}")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
