"""Sweeps: combinations, names, and the front."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dactcli.errors import UsageError
from dactcli.recipe.load import dump_recipe, load_recipe
from dactcli.recipe.schema import Recipe
from dactcli.results import Spread
from dactcli.storage import SUMMARY
from dactcli.training.combinations import axes_of, grid
from dactcli.training.sweeps import expand, finished_run, front, over_seeds, shared_rule, unfinished_run


def test_all_combinations_with_names_of_their_own() -> None:
    axes = axes_of(["dact.tau=0.01,0.1", "training.stages=[{name: joint, tau: 0.1}],[{name: encoder}]"])
    variants = expand(grid(axes), "sst2")
    assert [one.overrides for one in variants] == [
        ["dact.tau=0.01", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.01", "training.stages=[{name: encoder}]"],
        ["dact.tau=0.1", "training.stages=[{name: joint, tau: 0.1}]"],
        ["dact.tau=0.1", "training.stages=[{name: encoder}]"],
    ]
    assert variants[1].name.startswith("sst2-tau-0.01-stages--name-encoder-")
    assert len({one.name for one in variants}) == 4


def test_every_combination_gets_every_seed() -> None:
    variants = expand(grid(axes_of(["dact.tau=0.01,0.1"])), "sst2", [3, 4, 3])
    assert [one.values for one in variants] == [
        {"dact.tau": tau, "training.seed": seed} for tau in ("0.01", "0.1") for seed in ("3", "4")
    ]
    assert [one.name for one in expand([{}], "sst2", [0, 1])] == ["sst2-seed-0", "sst2-seed-1"]
    with pytest.raises(UsageError, match=r"`seeds`: training.seed is swept as well"):
        expand([{"training.seed": "1"}], "sst2", [0])


def judged(run: str, values: dict[str, str], metric: float | None, layers: float) -> dict[str, object]:
    figures = {"metric": metric, "layers_mean": layers, "agreement_with_full": 1.0}
    return {"run": run, "values": values, "rules": {"exact": figures}}


def test_mean_and_sample_deviation_over_the_seeds_of_a_combination() -> None:
    runs = [
        judged(f"{tau}-{seed}", {"dact.tau": tau, "training.seed": str(seed)}, metric, layers)
        for tau, figures in (
            ("low", [(0.80, 4.0), (0.90, 5.0)]),
            ("high", [(0.70, 3.0), (0.70, 3.0)]),
            ("middle", [(0.60, 3.0), (0.90, 4.0)]),
        )
        for seed, (metric, layers) in enumerate(figures)
    ]
    found = over_seeds([*runs, judged("alone", {"dact.tau": "x", "training.seed": "0"}, 0.5, 1.0)], "exact")
    assert [(one.values["dact.tau"], one.seeds, one.on_front) for one in found] == [
        ("low", ["0", "1"], True),
        ("high", ["0", "1"], True),
        ("middle", ["0", "1"], True),
    ]
    assert found[0].rules["exact"]["metric"].mean == pytest.approx(0.85)
    assert found[0].rules["exact"]["metric"].sd == pytest.approx(0.1 / 2**0.5)
    assert found[0].rules["exact"]["layers_mean"].sd == pytest.approx(0.5**0.5)
    assert found[1].rules["exact"]["metric"].sd == 0


def test_the_front_of_the_means_is_not_that_of_the_luckiest_seeds() -> None:
    runs = [
        judged(f"{tau}-{seed}", {"dact.tau": tau, "training.seed": str(seed)}, metric, layers)
        for tau, layers, metrics in (("steady", 3.0, (0.8, 0.8)), ("lucky", 3.5, (0.9, 0.6)))
        for seed, metric in enumerate(metrics)
    ]
    assert "lucky-0" in front(runs, "exact")
    assert [one.on_front for one in over_seeds(runs, "exact")] == [True, False]


def test_certified_rules_are_summarised_together_whatever_their_thresholds() -> None:
    runs = [judged(str(seed), {"training.seed": str(seed)}, 0.8, 3.0) for seed in range(2)]
    certified = {"metric": 0.8, "agreement_with_full": 0.99}
    for run, layers in zip(runs, (1.0, 2.0), strict=True):
        run["certified"] = {"rule": f"settled:0.{layers}", "layers_mean": layers, **certified}
    (found,) = over_seeds(runs, "exact")
    middle = found.rules["certified"]["layers_mean"]
    assert middle.mean == 1.5
    assert middle.sd == pytest.approx(0.5**0.5)
    del runs[1]["certified"]
    assert list(over_seeds(runs, "exact")[0].rules) == ["exact"]


def test_an_undefined_metric_has_no_mean() -> None:
    runs = [judged(str(seed), {"training.seed": str(seed)}, metric, 3.0) for seed, metric in enumerate((0.5, None))]
    (found,) = over_seeds(runs, "exact")
    assert found.values == {}
    assert found.rules["exact"]["metric"] == Spread(None, None)
    assert found.rules["exact"]["layers_mean"] == Spread(3.0, 0.0)


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
    return [one.name for one in expand(grid(axes_of(sweeps)), base)]


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
    path.write_text(
        "data: {source: files, train: t.csv, validation: v.csv, text: text, label: label}\nmodel: {encoder: some/encoder}\n"
    )
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


def test_runs_are_compared_by_a_rule_that_all_have() -> None:
    assert shared_rule([["full", "paper", "exact"]] * 2) == "exact"
    assert shared_rule([["full", "paper", "exact"], ["full"]]) == "full"
    with pytest.raises(UsageError, match=r"`sweeps`: the runs would share no rule .*; add full to evaluation.rules"):
        shared_rule([["exact"], ["entropy:0.1"]])
