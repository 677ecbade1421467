"""The table of rules: it knows what the classes do, and imports no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dactcli.errors import UsageError
from dactcli.halting import Decision, decide, make_rule
from dactcli.halting.names import (
    RULE_FACTS,
    RULE_NAMES,
    calibrated_rule,
    facts_of,
    proven_promise,
    sound_rule,
    standard_rules,
)
from dactcli.halting.rules import RULES
from dactcli.recipe.load import load_recipe

RANGES = (None, (0.0, 5.0))


def test_the_table_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from dactcli.halting.names import RULE_FACTS\n"
        "from dactcli.cli.options import rules\n"
        "assert rules('exa') == [('exact', RULE_FACTS['exact'].text)]\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_table_and_the_classes_agree() -> None:
    assert tuple(RULES) == RULE_NAMES
    for name, kind in RULES.items():
        facts = RULE_FACTS[name]
        assert (kind.name, kind.facts) == (facts.name, facts)
        assert facts.text
        assert len(f"{name} {facts.text}") < 80


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_rule_needs_a_threshold_exactly_where_the_table_says_so(name: str) -> None:
    facts = RULE_FACTS[name]
    answers = (0.0, 5.0) if name == "tolerance" else None
    if facts.needs_threshold:
        with pytest.raises(UsageError, match=f"rule {name} needs a threshold"):
            make_rule(name, answer_range=answers)
    else:
        assert make_rule(name, answer_range=answers).name == name
    if facts.threshold is None:
        with pytest.raises(UsageError, match=f"rule {name} takes no value"):
            make_rule(f"{name}:1", answer_range=answers)


@pytest.mark.parametrize(
    ("text", "promise", "sentence"),
    [
        ("full", "class", "the class is that of full depth"),
        ("paper", "class", "the class is that of full depth"),
        ("exact", "class", "the class is that of full depth"),
        ("slack:0", "class", "the class is that of full depth"),
        ("slack:0.0", "class", "the class is that of full depth"),
        ("slack:0.1", None, None),
        ("confidence:0.999999", None, None),
        ("answer_entropy:0", None, None),
        ("max_prob:1", None, None),
        ("patience:2", None, None),
        ("learned:0.5", None, None),
        ("layer:3", None, None),
    ],
)
def test_what_a_rule_promises(text: str, promise: str | None, sentence: str | None) -> None:
    rule = make_rule(text)
    assert proven_promise(text) == promise
    assert (rule.sound, rule.promise) == (promise == "class", sentence)


def test_a_tolerance_promises_the_value_and_not_the_class() -> None:
    rule = make_rule("tolerance:0.25", answer_range=(0.0, 5.0))
    assert proven_promise("tolerance") == proven_promise("tolerance:0.25") == "value"
    assert (rule.sound, rule.promise) == (False, "the value is within 0.25 of full depth")


def test_what_is_no_rule_promises_nothing() -> None:
    assert facts_of("exakt") is None
    assert [proven_promise(text) for text in ("exakt", "", "slack", "slack:", "slack:x", "slack:nan", ":0")] == [
        None
    ] * 7


@pytest.mark.parametrize("answers", RANGES)
@pytest.mark.parametrize("objective", ["dact", "layers", "last"])
def test_the_standard_rules_are_served_and_the_sound_one_is_sound(
    objective: str, answers: tuple[float, float] | None
) -> None:
    model = {"mixes": objective == "dact", "regression": answers is not None}
    for name in (sound_rule(**model), *standard_rules(**model)):
        made = make_rule(name, objective=objective, answer_range=answers)
        assert made.promise is not None
    if answers is None and objective != "last":
        name = calibrated_rule(mixes=objective == "dact")
        assert make_rule(f"{name}:0.5", objective=objective).grid(6, 2)


@pytest.mark.parametrize(
    ("override", "model"),
    [
        ("dact.tau=0.01", {"mixes": True, "regression": False}),
        ("dact.tau=null", {"mixes": False, "regression": False}),
    ],
)
def test_a_recipe_is_judged_by_the_same_rules_as_a_model_without_one(override: str, model: dict[str, bool]) -> None:
    recipe = load_recipe(Path("recipes/quickstart.yaml"), [override])
    assert recipe.evaluation.rules == standard_rules(**model)


def old_grid(name: str, layers: int, classes: int) -> list[float]:
    """The grids as they were first written, with NumPy."""

    def short(step: float) -> float:
        return float(f"{step:.3g}")

    if name in ("settled", "confidence", "max_prob", "learned", "agreement"):
        floor = 1 / classes if name not in ("learned", "agreement") else 0.0
        return [round(1 - short(step), 9) for step in np.logspace(-6, np.log10(1 - floor), 400)]
    if name in ("entropy", "answer_entropy"):
        return [short(step) for step in np.logspace(-6, 0, 400)]
    if name == "slack":
        return [0.0, *(short(step) for step in np.logspace(-4, 2, 400))]
    last = layers - 1 if name == "patience" else layers
    return [float(value) for value in range(last, 0, -1)]


@pytest.mark.parametrize("name", [name for name, facts in RULE_FACTS.items() if facts.needs_threshold])
def test_grids_depend_on_layers_and_classes_alone_and_stay_as_they_are(name: str) -> None:
    for classes in (2, 3, 5, 16, 77, 150, 3000):
        assert make_rule(f"{name}:1").grid(6, classes) == old_grid(name, 6, classes)
        assert make_rule(f"{name}:2").grid(12, classes) == old_grid(name, 12, classes)


@pytest.mark.parametrize("name", [name for name, facts in RULE_FACTS.items() if facts.needs_threshold])
@pytest.mark.parametrize(("layers", "classes"), [(1, 2), (1, 1), (2, 1)])
def test_the_smallest_models_have_a_grid_too(name: str, layers: int, classes: int) -> None:
    grid = make_rule(f"{name}:1").grid(layers, classes)
    assert grid
    assert np.isfinite(grid).all()


@pytest.mark.parametrize("name", ["full", "paper", "exact"])
def test_a_rule_without_a_threshold_has_no_grid(name: str) -> None:
    with pytest.raises(UsageError, match=f"rule {name} has no threshold to choose"):
        make_rule(name).grid(6, 2)


def test_deciding_takes_three_tensors_and_two_names() -> None:
    y = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.6, 0.4]]])
    h = torch.tensor([[0.0, 0.5], [1.0, 0.5]])
    found = decide(make_rule("exact"), y, h)
    assert isinstance(found, Decision)
    assert found.exit_layer.tolist() == [1, 2]
    torch.testing.assert_close(found.answer, torch.tensor([[0.9, 0.1], [0.6, 0.4]]))
