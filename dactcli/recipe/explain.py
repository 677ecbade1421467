"""The faults of a recipe, one sentence for each key: pydantic's errors, removed keys, and cross-checks of `data`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import isfinite
from typing import Any, NamedTuple

from pydantic import ValidationError

from dactcli.errors import did_you_mean
from dactcli.recipe.schema import SPLITS, Recipe
from dactcli.recipe.yaml12 import Key, dotted, is_number, shown, value_at


class Fault(NamedTuple):
    """What is wrong with the value of a key, and the remedy where one is known."""

    key: Key
    text: str
    remedy: str | None = None


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def explain(error: ValidationError, values: Any) -> list[Fault]:
    """One fault for each key: pydantic reports every branch of a union by itself.

    Args:
        error: What `Recipe.model_validate(values)` raised.
        values: The plain values of the recipe.
    """
    found: dict[Key, Fault] = {}
    # A validator's own message says more than "is not text" from the other branch of its union.
    for detail in sorted(error.errors(), key=lambda detail: detail["type"] != "value_error"):
        key, node = _locate(detail["loc"])
        found.setdefault(key, _translate(detail["type"], detail["msg"], key, node, value_at(values, key)))
    # A fault inside a value makes the complaint about the whole of it beside the point, and a misspelt key
    # accounts for the one that is missing.
    misspelt = {(*fault.key[:-1], fault.remedy) for fault in found.values()}
    return [
        fault
        for key, fault in found.items()
        if not any(other[: len(key)] == key != other for other in found)
        and (*key[:-1], f"did you mean {key[-1]}?") not in misspelt
    ]


def _locate(loc: Key) -> tuple[Key, dict[str, Any]]:
    """The key that pydantic means, and its JSON schema (that of its section, where the key is unknown)."""
    key: Key = ()
    node, rest = _schema(), list(loc)
    while rest:
        branches = _branches(node)
        if len(branches) > 1:
            del rest[0]  # pydantic's name for the branch of the union
            if not rest:
                break
        part = rest.pop(0)
        key = (*key, part)
        inner = next(branch for branch in branches if ("items" if isinstance(part, int) else "properties") in branch)
        node = inner["items"] if isinstance(part, int) else inner["properties"].get(part, inner)
    return key, node


def _branches(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a JSON schema with references followed, null aside."""
    named = _schema()["$defs"]
    branches = [named[n["$ref"].split("/")[-1]] if "$ref" in n else n for n in node.get("anyOf", [node])]
    return [branch for branch in branches if branch.get("type") != "null"]


def _translate(kind: str, message: str, key: Key, node: dict[str, Any], value: Any) -> Fault:
    """Plain words for one pydantic error: what stands there, what may stand there, what to type."""
    name = dotted(key)
    if kind == "extra_forbidden":
        return Fault(key, f"{name} is unknown", did_you_mean(str(key[-1]), node["properties"]))
    if kind == "value_error":
        text, _, remedy = message.removeprefix("Value error, ").partition("; ")
        return Fault(key, f"{name} {text}", remedy or None)
    branches = _branches(node)
    accepted = _words(branches, nullable={"type": "null"} in node.get("anyOf", []))
    if kind == "missing":
        return Fault(key, f"{name} is missing", f"it must be {accepted}")
    return Fault(key, f"{name} must be {accepted}, not {shown(value)}", _remedy(value, branches))


def _remedy(value: Any, branches: list[dict[str, Any]]) -> str | None:
    """What to type instead, where that can be told from the value."""
    types = {branch["type"] for branch in branches}
    choices = [choice for branch in branches for choice in branch.get("enum", [])]
    if isinstance(value, str):
        near = did_you_mean(value, choices)
        if near.startswith("did"):  # else it lists the choices, as the fault does already
            return near
        return "remove the quotes" if types & _NUMBERS and is_number(value) else None
    if isinstance(value, float) and types & _NUMBERS:
        if not isfinite(value):
            return "write a finite number"
        return f"write {int(value)}" if value.is_integer() and "number" not in types else None
    if isinstance(value, bool | int | float):
        return "put it in quotes" if types == {"string"} and not choices else None
    return "put keys under it or remove the heading" if value is None and types == {"object"} else None


# keys of the model section in earlier versions, with the default that every recipe was saved with
REMOVED: dict[str, Any] = {"share_units": False, "halting_bias": "auto"}


def removed_keys(values: Any) -> Iterable[Fault]:
    """Take keys of earlier versions out of the values of a recipe where they have their default.

    Args:
        values: The plain values of a recipe; changed in place.

    Yields:
        A fault for any other value of such a key, and for a value that no longer exists.
    """
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict):
        return
    for name, default in REMOVED.items():
        if name in model and (type(model[name]), model[name]) == (type(default), default):
            del model[name]
        elif name in model:
            yield Fault(("model", name), f"model.{name} no longer exists", "remove it, and train the model again")
    if model.get("halting_inputs") == "features+answer":
        fault = "model.halting_inputs no longer takes features+answer"
        yield Fault(("model", "halting_inputs"), fault, "write features or answer, and train the model again")


_NUMBERS = {"integer", "number"}
_NOUNS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_PLURALS = {"string": "text", "number": "numbers"}
_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _words(branches: list[dict[str, Any]], *, nullable: bool) -> str:
    """What a key accepts: `a number above 0 or null`."""
    words = [_noun(branch) for branch in branches] + ["null"] * nullable
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _noun(branch: dict[str, Any]) -> str:
    if "const" in branch or "enum" in branch:
        choices = branch.get("enum", [branch.get("const")])
        return ("one of " if len(choices) > 1 else "") + ", ".join(choices)
    if branch["type"] == "array":
        least, most = branch.get("minItems"), branch.get("maxItems")
        items = _PLURALS.get(branch["items"].get("type", ""), "mappings")
        return f"a {'non-empty ' if least and not most else ''}list of {f'{most} ' if most else ''}{items}"
    bounds = [f"{word} {branch[bound]}" for bound, word in _BOUNDS.items() if bound in branch]
    needs = [f"with {key}" for key in branch.get("required", [])]
    return " ".join([_NOUNS.get(branch["type"], "a mapping"), " and ".join(bounds or needs)]).strip()


def contradictions(recipe: Recipe) -> Iterable[Fault]:
    """Faults that only several keys together show."""
    data = recipe.data
    if recipe.training.patience is not None and recipe.training.keep == "last":
        yield Fault(("training", "patience"), "training.patience requires training.keep: best", "remove one of the two")
    if recipe.model.adapter is not None:
        yield from _unfit_adapter(recipe)
    if data.label is None:
        yield from _unfit_unlabelled(recipe)
    if recipe.model.agreement:
        yield from _unfit_agreement(recipe)
    if data.source == "files":
        for split in ("train", "validation"):
            if getattr(data, split) is None:
                share = ", or a fraction of train such as 0.1" if split == "validation" else ""
                yield Fault(
                    ("data", split),
                    f"data.{split} is missing",
                    f"name csv, tsv, jsonl or parquet files{share}",
                )
    shares = {s: getattr(data, s) for s in SPLITS if isinstance(getattr(data, s), float)}
    if sum(shares.values()) >= 1:
        yield Fault(
            ("data", list(shares)[-1]),
            f"{' and '.join(shares)} take {sum(shares.values()):.4g} of train",
            "keep their sum below 1",
        )


def _unfit_unlabelled(recipe: Recipe) -> Iterable[Fault]:
    """What cannot be learned from texts alone."""
    key = ("data", "label")
    if not recipe.model.keep_classifier:
        yield Fault(key, "texts without labels need a classifier to learn from", "set model.keep_classifier: true")
    elif any(recipe.stage_tau(stage) is not None for stage in recipe.training.stages):
        yield Fault(key, "the DACT loss needs labels", "set dact.tau: null, and model.agreement: true for the halting")
    elif recipe.training.class_weights is not None:
        yield Fault(key, "training.class_weights needs labels", "remove it")


def _unfit_agreement(recipe: Recipe) -> Iterable[Fault]:
    """What the halting units do already, or do not see."""
    key = ("model", "agreement")
    if recipe.dact is None or all(stage.name == "encoder" for stage in recipe.training.stages):
        yield Fault(key, "model.agreement requires an answer of every layer", "train them with a dact section")
    elif any(recipe.stage_tau(stage) is not None for stage in recipe.training.stages):
        yield Fault(key, "model.agreement and the DACT loss both train the halting units", "set dact.tau: null")
    elif recipe.model.halting_inputs != "answer":
        yield Fault(key, "model.agreement requires model.halting_inputs: answer", "leave model.halting_inputs out")


def _unfit_adapter(recipe: Recipe) -> Iterable[Fault]:
    """What leaves an adapter nothing to adapt, or untrained."""
    model, key = recipe.model, ("model", "adapter")
    if not isinstance(model.encoder, str):
        yield Fault(key, "model.adapter requires a pretrained encoder", "remove it: a geometry is trained from scratch")
    elif model.keep_classifier:
        yield Fault(key, "model.adapter and model.keep_classifier exclude each other", "remove one of the two")
    elif all(stage.name == "units" for stage in recipe.training.stages):
        yield Fault(key, "model.adapter has no stage that trains it", "add a stage joint or encoder, or remove it")
