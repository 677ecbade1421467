"""Sweeps: combinations, names, and the front."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dactcli.errors import UsageError
from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.storage import SUMMARY
from dactcli.training.sweeps import expand, finished_run, front, unfinished_run


def test_all_combinations_with_names_of_their_own() -> None:
    variants = expand(["dact.tau=0.01,0.1", "training.stages=[{name: joint, tau: 0.1}],[{name: encoder}]"], "sst2")
    assert [one.overrides for one in variants] == [
        ["dact.tau=0.01", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.01", "training.stages=[{name: encoder}]"],
        ["dact.tau=0.1", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.1", "training.stages=[{name: encoder}]"],
    ]
    assert variants[1].name.startswith("sst2-tau-0.01-stages--name-encoder-")
    assert len({one.name for one in variants}) == 4


def test_a_key_is_swept_once() -> None:
    with pytest.raises(UsageError, match=r"`sweeps`: dact.tau is swept twice"):
        expand(["dact.tau=1", "dact.tau=2"], "sst2")


def test_the_front_holds_what_no_other_run_beats() -> None:
    runs = [
        {"run": name, "rules": {"exact": {"layers_mean": layers, "metric": metric}}}
        for name, layers, metric in (
            ("deep", 5.0, 0.9),
            ("worse", 5.5, 0.89),
            ("shallow", 2.0, 0.8),
            ("same", 2.5, 0.8),
        )
    ]
    assert front(runs, "exact") == ["shallow", "deep"]


def names(*sweeps: str, base: str = "a") -> list[str]:
    return [one.name for one in expand(sweeps, base)]


def test_values_that_read_alike_have_names_of_their_own() -> None:
    found = names("model.encoder=a/b,a-b,a b")
    assert len(set(found)) == 3
    assert found[1] == "a-encoder-a-b"
    assert all(name.startswith("a-encoder-a-b-") for name in (found[0], found[2]))


def test_long_names_are_cut_and_stay_apart() -> None:
    found = names(f"model.encoder={'x' * 200}1,{'x' * 200}2")
    assert len(set(found)) == 2
    assert all(len(name) == 100 for name in found)


def test_a_dash_in_a_value_cannot_pass_for_the_next_key() -> None:
    found = names("m.a=1,1-b-2", "m.b=3,2-b-3")
    assert len(set(found)) == 4


def kept(folder: Path, recipe: Recipe, *, number: int = 1, finished: bool = True) -> Path:
    run = folder / f"a-{number}"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    if finished:
        (run / SUMMARY).write_text("{}")
    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {source: files, train: t.csv, validation: v.csv, text: text, label: label}\nmodel: {encoder: some/encoder}\n")
    return lambda *overrides: load_recipe(path, overrides)


def found(recipe: Recipe, **task: object) -> Recipe:
    return recipe.model_copy(update={"task": recipe.task.model_copy(update=task)})


def test_a_run_is_that_of_its_recipe_and_of_what_it_found(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    plain = recipe()
    run = kept(tmp_path, found(plain, kind="multilabel", metric="micro_f1", labels=["x", "y"]))
    assert finished_run(plain, tmp_path, "a") == run
    assert finished_run(recipe("training.seed=7"), tmp_path, "a") is None


@pytest.mark.parametrize("override", ["task.labels=[y, x]", "task.metric=f1", "task.kind=multilabel"])
def test_what_the_recipe_sets_is_no_finding(override: str, tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    kept(tmp_path, found(recipe(), kind="classes", labels=["x", "y"]))
    assert finished_run(recipe(), tmp_path, "a") is not None
    assert finished_run(recipe(override), tmp_path, "a") is None


def test_the_run_to_resume_is_of_the_same_recipe(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    mine = kept(tmp_path, recipe(), number=1, finished=False)
    kept(tmp_path, recipe("training.seed=7"), number=2, finished=False)
    kept(tmp_path, recipe(), number=3)
    assert unfinished_run(recipe(), tmp_path, "a") == mine
    assert unfinished_run(recipe("training.seed=8"), tmp_path, "a") is None
