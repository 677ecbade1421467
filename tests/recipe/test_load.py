"""Every fault of a recipe is one sentence with its place, and what is written is what is read."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dactcli.errors import RecipeError
from dactcli.recipe.load import difference, dump_recipe, load_recipe
from dactcli.recipe.schema import DataSection, Geometry, ModelSection, Recipe, StageSection, TrainingSection

BASE = """\
task:
  name: cola
data:
  source: files
  train: [a.csv, more/b.csv]
  validation: 0.1
model:
  encoder: bert-base-uncased
dact:
  tau: 5e-2
training:
  stages:
    - name: encoder
      epochs: 3
    - {name: joint, tau: null}
  batch_size: 16
"""
SMALL = "data: {source: builtin}\nmodel: {encoder: bert}\n"

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a recipe to sst2.yaml in an otherwise empty current folder, and loads it by that name."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str | bytes, *overrides: str) -> Recipe:
        Path("sst2.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(Path("sst2.yaml"), overrides)

    return write_and_load


def sentence(load: Load, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    assert caught.value.exit_code == 2
    return caught.value.sentence


# ---- what is read


def test_a_recipe_is_read_with_its_defaults(load: Load) -> None:
    recipe = load(BASE)
    assert recipe.dact is not None
    assert recipe.dact.tau == 0.05
    assert recipe.training.stages[0].epochs == 3.0
    assert recipe.training.learning_rate == 5e-5
    assert recipe.output.name == "cola"
    assert recipe.output.dir == "runs"


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2e-5", 2e-5),
        ("3E-5", 3e-5),
        (".5", 0.5),
        ("1.", 1.0),
        ("+1.5", 1.5),
        ("3", 3.0),
        ("1_0", None),
        ("1:30", None),
    ],
)
def test_floats_follow_yaml_1_2(load: Load, written: str, number: float | None) -> None:
    text = SMALL + f"training: {{epochs: {written}}}\n"
    if number is None:
        assert "must be a number above 0, not" in sentence(load, text)
    else:
        epochs = load(text).training.epochs
        assert (epochs, type(epochs)) == (number, float)


@pytest.mark.parametrize(
    ("written", "number"), [("017", 17), ("0o17", 15), ("0x1F", 31), ("+7", 7), ("0", 0), ("!!int '7'", 7)]
)
def test_ints_follow_yaml_1_2(load: Load, written: str, number: int) -> None:
    assert load(SMALL + f"training: {{seed: {written}}}\n").training.seed == number


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "Y", "2024-01-01", "1:30", "1_000", "=", "nULL"])
def test_words_stay_text(load: Load, word: str) -> None:
    assert load(SMALL + f"task: {{labels: [{word}, other]}}\n").task.labels == [word, "other"]


@pytest.mark.parametrize("written", ["null", "Null", "NULL", "~", ""])
def test_dact_may_be_null(load: Load, written: str) -> None:
    assert load(SMALL + f"dact: {written}\n").dact is None


@pytest.mark.parametrize(("written", "truth"), [("true", True), ("TRUE", True), ("False", False)])
def test_booleans(load: Load, written: str, truth: bool) -> None:
    recipe = load(f"data: {{source: builtin}}\nmodel: {{encoder: x, certainty: {written}}}\n")
    assert recipe.model.certainty is truth


def test_keys_of_earlier_recipes_are_dropped_where_they_say_the_default(load: Load) -> None:
    earlier = "data: {source: builtin}\nmodel: {encoder: x, share_units: false, halting_bias: auto}\n"
    recipe = load(earlier)
    assert recipe == load("data: {source: builtin}\nmodel: {encoder: x}\n")
    now = dump_recipe(recipe)
    assert "share_units" not in now
    then = now.replace("  pooling:", "  share_units: false\n  halting_bias: auto\n  pooling:")
    assert difference(then, now) is None  # an earlier run that was cut short can be resumed
    assert difference(then.replace("seed: 0", "seed: 1"), now) == "training.seed was 1 and is 0"


def test_anchors_and_aliases_are_copies(load: Load) -> None:
    text = SMALL + "training: {stages: [&s {name: joint}, *s]}\n"
    recipe = load(text, "training.stages.1.epochs=2")
    assert [stage.epochs for stage in recipe.training.stages] == [None, 2.0]


def test_a_byte_order_mark_is_skipped(load: Load) -> None:
    assert load(b"\xef\xbb\xbf" + SMALL.encode()).data.source == "builtin"


# ---- overrides


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dact.tau=0.1", lambda r: r.dact.tau == 0.1),
        ("dact.tau=null", lambda r: r.dact.tau is None),
        ("dact=null", lambda r: r.dact is None),
        ("training.stages=[{name: joint}]", lambda r: [s.name for s in r.training.stages] == ["joint"]),
        ("training.stages.0.epochs=2", lambda r: r.training.stages[0].epochs == 2.0),
        ("training.stages.1={name: units}", lambda r: r.training.stages[1].name == "units"),
        ("model.encoder={hidden_size: 64}", lambda r: r.model.encoder.hidden_size == 64),
        ("task.labels=[no, yes]", lambda r: r.task.labels == ["no", "yes"]),
        ("evaluation.rules=[full]", lambda r: r.evaluation.rules == ["full"]),
        (" output.name = a.b", lambda r: r.output.name == "a.b"),
        ("data.label=a=b", lambda r: r.data.label == "a=b"),
    ],
)
def test_overrides(load: Load, override: str, expected: Callable[[Any], bool]) -> None:
    assert expected(load(BASE, override))


def test_overrides_apply_in_order(load: Load) -> None:
    recipe = load(BASE, "dact=null", "dact.tau=1", "dact.tau=2", "model.encoder={}", "model.encoder.hidden_size=8")
    assert recipe.dact is not None
    assert recipe.dact.tau == 2
    assert isinstance(recipe.model.encoder, Geometry)
    assert recipe.model.encoder.hidden_size == 8


def test_an_override_cures_the_fault_it_replaces(load: Load) -> None:
    assert load(SMALL + "dact: {tua: 1}\n", "dact={tau: 1}").dact is not None


# ---- paths and names


def test_paths_are_relative_to_what_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes" / "encoder").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(BASE.replace("bert-base-uncased", "encoder"))
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(Path("../recipes/r.yaml"), ["data.train.1=c.csv", "data.test=[d.csv, ../e.csv]"])
    assert recipe.data.train == [str(tmp_path / "recipes/a.csv"), str(tmp_path / "here/c.csv")]
    assert recipe.data.test == [str(tmp_path / "here/d.csv"), str(tmp_path / "e.csv")]
    assert recipe.data.validation == 0.1
    assert recipe.model.encoder == str(tmp_path / "recipes/encoder")


@pytest.mark.parametrize(
    ("encoder", "path"),
    [
        ("org/name", None),
        ("./x", "x"),
        ("../x", "../x"),
        ("here", "here"),
        ("/x", "/x"),
        (".", "."),
        ("~/x", "~/x"),
    ],
)
def test_an_encoder_that_is_a_path_becomes_absolute(load: Load, encoder: str, path: str | None) -> None:
    Path("here").mkdir()
    expected = encoder if path is None else os.path.abspath(os.path.expanduser(path))
    assert load(f"data: {{source: builtin}}\nmodel: {{encoder: {encoder}}}\n").model.encoder == expected


def test_names_of_hub_splits_are_no_paths(load: Load) -> None:
    recipe = load("data: {source: hub, name: glue, train: train, validation: dev}\nmodel: {encoder: x}\n")
    assert (recipe.data.train, recipe.data.validation) == ("train", "dev")


@pytest.mark.parametrize(
    ("text", "file", "name"),
    [
        (SMALL, "my recipe.v2.yaml", "my-recipe.v2"),
        (SMALL, "é.yaml", "run"),
        (SMALL.replace("builtin", "hub, name: some/data") + "task: {name: 'a/b'}\n", "r.yaml", "a-b"),
        (SMALL + "task: {metric: f1}\n", "r.yaml", "r"),
        (SMALL + "output: {name: given}\n", "r.yaml", "given"),
        (SMALL + "output: {name: null, dir: x/y}\n", "r.yaml", "r"),
    ],
)
def test_the_output_is_named_by_recipe_task_or_file(tmp_path: Path, text: str, file: str, name: str) -> None:
    (tmp_path / file).write_text(text)
    recipe = load_recipe(tmp_path / file)
    assert recipe.output.name == name
    assert not os.path.isabs(recipe.output.dir)


# ---- faults of the file and of its YAML

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcd", "bcde", strict=True)
)
SYNTAX = "check the indentation, brackets and quotes up to here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "sst2.yaml:1: the file is empty"),
        ("# nothing\n", "sst2.yaml:1: the file is empty"),
        ("- a", 'sst2.yaml:1: a recipe is a mapping of sections, not ["a"]; begin with data: and model:'),
        ("\n\nabc", 'sst2.yaml:3: a recipe is a mapping of sections, not "abc"; begin with data: and model:'),
        (
            "a: 1\n---\nb: 2",
            "sst2.yaml:2: a second document begins here; a recipe is one document: remove the --- line",
        ),
        ("a: 1\n1: 2", "sst2.yaml:2: the key 1 is not text; keys are plain names"),
        ("? [a]\n: 2", "sst2.yaml:1: the key a list or mapping is not text; keys are plain names"),
        ("null: 2", "sst2.yaml:1: the key null is not text; keys are plain names"),
        ("data:\n\tsource: x", "sst2.yaml:2: a tab stands where YAML wants spaces; indent with spaces"),
        (b"a: 1\nb: \xff", "sst2.yaml:2: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \0", "sst2.yaml:2: character 0x00 does not belong in a recipe; remove it"),
        ("a: \x1b", "sst2.yaml:1: character 0x1b does not belong in a recipe; remove it"),
        ('a: "\\0"', "sst2.yaml:1: this text holds a character that no file or label can"),
        ('a: "\\ud800"', "sst2.yaml:1: this text holds a character that no file or label can"),
        ("[" * 5000, "sst2.yaml:1: this is nested too deeply"),
        ("a: " + "[" * 30 + "]" * 30, "sst2.yaml:1: this is over 20 levels deep with its aliases expanded"),
        ("a: &a [*a]", "sst2.yaml:1: this is over 20 levels deep with its aliases expanded"),
        ("a: &a {b: *a}", "sst2.yaml:1: this is over 20 levels deep with its aliases expanded"),
        ("a: &a [*a, *a, *a]", "sst2.yaml:1: this is over 20 levels deep with its aliases expanded"),
        (BOMB, "sst2.yaml:1: this is more than 30000 values with its aliases expanded"),
        ("a: 1\na: 2", "sst2.yaml:2: a is given twice, first on line 1; keep one of them"),
        (
            SMALL + "dact:\n  tau: 1\n\n  'tau': 2",
            "sst2.yaml:6: dact.tau is given twice, first on line 4; keep one of them",
        ),
        ("a: &a {}\nb:\n  <<: *a", "sst2.yaml:3: merge keys (<<) are not read; write the keys out"),
        (
            "a: !!python/object:os.x 1",
            "sst2.yaml:1: the tag !!python/object:os.x is not understood here; write the plain value",
        ),
        ("a: !!int abc", "sst2.yaml:1: the tag !!int is not understood here; write the plain value"),
        ("a: !!set {b}", "sst2.yaml:1: the tag !!set is not understood here; write the plain value"),
        ("a: !x [b]", "sst2.yaml:1: the tag !x is not understood here; write the plain value"),
        ("a: " + "1" * 5000, "sst2.yaml:1: a number of 5000 characters is too long"),
        ("a: 1\nb: *c", f"sst2.yaml:2: this is not valid YAML: found undefined alias 'c'; {SYNTAX}"),
        ("a: b: c", f"sst2.yaml:1: this is not valid YAML: mapping values are not allowed here; {SYNTAX}"),
        (
            b"x" * ((2 << 20) + 1),
            "sst2.yaml: the file is larger than 2 MiB; name a recipe, not a data file",
        ),
        (
            "a:\n" + "- b\n" * 60_000,
            "sst2.yaml:59999: this is more than 30000 values; name a recipe, not a data file",
        ),
    ],
)
def test_yaml_faults(load: Load, text: str | bytes, expected: str) -> None:
    assert sentence(load, text) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".", ".: this is a folder; name the YAML file in it"),
        ("sst.yaml", "sst.yaml: there is no such file; did you mean sst2.yaml?"),
        ("sst2", "sst2: there is no such file; did you mean sst2.yaml?"),
        ("zzz", "zzz: there is no such file; known: sst2.yaml"),
        ("no/sst2.yaml", "no/sst2.yaml: there is no such file; check the path"),
        ("sst2.yaml/x", "sst2.yaml/x: the file cannot be read: Not a directory"),
        ("a\0b", "a\\x00b: the file cannot be read: embedded null byte"),
    ],
)
def test_a_file_that_cannot_be_read(load: Load, path: str, expected: str) -> None:
    load(SMALL)
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path(path))
    assert caught.value.sentence == expected


# ---- faults of the values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            BASE.replace("batch_size", "batchsize"),
            "sst2.yaml:16: training.batchsize is unknown; did you mean batch_size?",
        ),
        (BASE + "dtaa: 1\n", "sst2.yaml:17: dtaa is unknown; did you mean data?"),
        (BASE + "'a b': 1\n", None),
        (
            BASE.replace("epochs: 3", "epohcs: 3"),
            "sst2.yaml:14: training.stages.0.epohcs is unknown; did you mean epochs?",
        ),
        (
            BASE.replace("  encoder: bert", "  encodr: bert"),
            "sst2.yaml:8: model.encodr is unknown; did you mean encoder?",
        ),
        (
            BASE.replace("  encoder: bert-base-uncased", "  layers: 2"),
            "sst2.yaml:7: model.encoder is missing; it must be text or a mapping",
        ),
        (
            BASE.replace("  source: files\n", ""),
            "sst2.yaml:3: data.source is missing; it must be one of builtin, hub, files",
        ),
        (
            "\ntask: {name: x}\ndata: {source: builtin}",
            "sst2.yaml:2: model is missing; it must be a mapping with encoder",
        ),
        (
            "model: {encoder: 3}\ntraining:\n  foo: 1\n  epochs: x\ndata: {source: builtin}\n",
            "sst2.yaml:1: model.encoder must be text or a mapping, not 3 (and 2 more)",
        ),
        (BASE.replace("0.1", "1.0"), None),
        (
            BASE.replace("  name: cola", "# name: cola"),
            "sst2.yaml:1: task must be a mapping, not null; put keys under it or remove the heading",
        ),
        (
            BASE.replace("[a.csv, more/b.csv]", "\n    - a.csv\n    - 3"),
            "sst2.yaml:7: data.train.1 must be text, not 3; put it in quotes",
        ),
        (
            BASE.replace("  train: [a.csv, more/b.csv]\n", ""),
            "sst2.yaml:3: data.train is missing; name csv, tsv, jsonl or parquet files",
        ),
        (
            BASE.replace("  validation: 0.1\n", ""),
            "sst2.yaml:3: data.validation is missing; name csv, tsv, jsonl or parquet files, "
            "or a fraction of train such as 0.1",
        ),
        (
            BASE.replace("0.1", "0.1\n  calibration: 0.4\n  test: .5"),
            "sst2.yaml:8: validation and calibration and test take 1 of train; keep their sum below 1",
        ),
    ],
)
def test_faults_in_the_file(load: Load, text: str, expected: str | None) -> None:
    said = sentence(load, text)
    assert expected is None or said == expected
    assert said.startswith("sst2.yaml:")
    assert "\n" not in said


FILES = "text, a non-empty list of text"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dact.tau=abc", 'dact.tau must be a number of at least 0 or null, not "abc"'),
        ("dact.tau='1'", 'dact.tau must be a number of at least 0 or null, not "1"; remove the quotes'),
        ("dact.tau=-1", "dact.tau must be a number of at least 0 or null, not -1"),
        ("dact.tau=true", "dact.tau must be a number of at least 0 or null, not true"),
        ("dact.tau=[1]", "dact.tau must be a number of at least 0 or null, not [1]"),
        ("dact=5", "dact must be a mapping or null, not 5"),
        ("dact.ponder=sum-h", 'dact.ponder must be one of sum_p, sum_h, not "sum-h"; did you mean sum_h?'),
        ("dact.detach=on", 'dact.detach must be true or false, not "on"'),
        ("dct.tau=1", "dct is unknown; did you mean dact?"),
        (
            "dact={layer_loss: none}",
            "dact leaves the layers' answers untrained: no layer loss, and the DACT loss is kept from them; "
            "choose a layer_loss with a weight, or set detach to false and tau to a number",
        ),
        (
            "training.batch_size=3.0",
            "training.batch_size must be a whole number of at least 1 and at most 1000000, not 3.0; write 3",
        ),
        (
            "training.batch_size=3.5",
            "training.batch_size must be a whole number of at least 1 and at most 1000000, not 3.5",
        ),
        (
            "training.batch_size=true",
            "training.batch_size must be a whole number of at least 1 and at most 1000000, not true",
        ),
        (
            "training.batch_size=0",
            "training.batch_size must be a whole number of at least 1 and at most 1000000, not 0",
        ),
        ("training.epochs=.nan", "training.epochs must be a number above 0, not NaN; write a finite number"),
        (
            "training.epochs=1e999",
            "training.epochs must be a number above 0, not Infinity; write a finite number",
        ),
        ("training.warmup=2", "training.warmup must be a number of at least 0 and at most 1, not 2"),
        ("training.warmup=null", "training.warmup must be a number of at least 0 and at most 1, not null"),
        (
            "training.seed=-1",
            "training.seed must be a whole number of at least 0 and below 4294967296, not -1",
        ),
        ("training.stages=[]", "training.stages must be a non-empty list of mappings, not []"),
        ("training.stages=joint", 'training.stages must be a non-empty list of mappings, not "joint"'),
        (
            "training.stages.0.name=jont",
            'training.stages.0.name must be one of joint, units, encoder, not "jont"; did you mean joint?',
        ),
        ("training.stages.1.seed=1", None),
        (
            "training.stages.0={}",
            "training.stages.0.name is missing; it must be one of joint, units, encoder",
        ),
        (
            "training.stages.2.epochs=1",
            "training.stages is a list with 2 entries and none is 2; count from 0: training.stages.0 is the first",
        ),
        (
            "training.stages.x=1",
            "training.stages is a list with 2 entries and none is x; count from 0: training.stages.0 is the first",
        ),
        ("task=null", "task must be a mapping, not null; put keys under it or remove the heading"),
        ("task.labels=[0,1]", "task.labels.0 must be text, not 0 (and 1 more); put it in quotes"),
        ("task.labels=[a, a]", "task.labels needs at least two names, all different"),
        (
            "task.metric=f2",
            "task.metric must be one of accuracy, f1, matthews_correlation, pearson, spearman, micro_f1, macro_f1, "
            'subset_accuracy, label_ranking_average_precision or null, not "f2"',
        ),
        ("task.range=[2,1]", "task.range needs the lowest value first, then the highest"),
        ("task.range=[1]", "task.range must be a list of 2 numbers or null, not [1]"),
        ("task.range=[0,.inf]", "task.range.1 must be a number, not Infinity; write a finite number"),
        (
            "data.validation=1.5",
            f"data.validation must be {FILES}, a number above 0 and below 1 or null, not 1.5",
        ),
        (
            "data.validation={}",
            f"data.validation must be {FILES}, a number above 0 and below 1 or null, not {{}}",
        ),
        ("data.train=3", f"data.train must be {FILES} or null, not 3"),
        ("data.train=[]", f"data.train must be {FILES} or null, not []"),
        ("data.train=[a, 1]", "data.train.1 must be text, not 1; put it in quotes"),
        (
            "data.source=fils",
            'data.source must be one of builtin, hub, files, not "fils"; did you mean files?',
        ),
        (
            "model=null",
            "model must be a mapping with encoder, not null; put keys under it or remove the heading",
        ),
        ("model.halting_bias=aut", "model.halting_bias no longer exists; remove it, and train the model again"),
        ("model.share_units=true", "model.share_units no longer exists; remove it, and train the model again"),
        (
            "model.halting_inputs=features+answer",
            "model.halting_inputs no longer takes features+answer; write features or answer, and train the model again",
        ),
        (
            "training.learning_rate=.inf",
            "training.learning_rate must be a number of at least 0, not Infinity; write a finite number",
        ),
        ("model.encoder=3", "model.encoder must be text or a mapping, not 3"),
        (
            "training.class_weights=even",
            'training.class_weights must be balanced, a non-empty list of numbers or null, not "even"',
        ),
        ("training.class_weights=[1, 0]", "training.class_weights.1 must be a number above 0, not 0"),
        ("training.report_to=wandb", 'training.report_to must be a list of text, not "wandb"'),
        ("model.encoder={hiden_size: 3}", "model.encoder.hiden_size is unknown; did you mean hidden_size?"),
        (
            "model.encoder={hidden_size: a, dropout: 1}",
            'model.encoder.hidden_size must be a whole number of at least 1, not "a" (and 1 more)',
        ),
        (
            "model.encoder={hidden_size: 5}",
            "model.encoder needs a hidden_size that is a multiple of num_attention_heads",
        ),
        (
            "model.encoder.hidden_size=64",
            'model.encoder is "bert-base-uncased" and has no keys; set model.encoder={hidden_size: ...}',
        ),
        (
            "output.name=../x",
            "output.name needs letters, digits, dots, dashes and underscores only, a letter or digit first",
        ),
        ("dact.tau", "this is not KEY=VALUE; write for example dact.tau=0.1"),
        ("=1", "this is not KEY=VALUE; write for example dact.tau=0.1"),
        ("dact..tau=1", "this is not KEY=VALUE; write for example dact.tau=0.1"),
        ("dact.tau=", "the value is empty; write null to unset it"),
        ("dact.tau=1\n---\n2", None),
        ("dact={tau: 1, tau: 2}", "tau is given twice; keep one of them"),
    ],
)
def test_faults_in_an_override(load: Load, override: str, expected: str | None) -> None:
    said = sentence(load, BASE, override)
    assert said.startswith(f"`overrides` {override}: ")
    assert expected is None or said == f"`overrides` {override}: {expected}"


def test_faults_in_the_file_are_told_before_those_of_overrides(load: Load) -> None:
    said = sentence(load, BASE + "foo: 1\nbar: 2\n", "dact.tau=x")
    assert said.startswith("sst2.yaml:17: foo is unknown (and 2 more); known: format, task, data,")


# ---- writing


@pytest.mark.parametrize("text", [BASE, SMALL, SMALL + "dact: null\n", SMALL + "dact: {tau: null}\n"])
def test_a_dumped_recipe_reads_back_equal(load: Load, text: str) -> None:
    recipe = load(text)
    again = load(dump_recipe(recipe))
    assert again == recipe
    assert dump_recipe(again) == dump_recipe(recipe)


def test_a_stage_keeps_only_what_was_set(load: Load) -> None:
    again = load(dump_recipe(load(BASE)))
    assert [stage.model_fields_set for stage in again.training.stages] == [
        {"name", "epochs"},
        {"name", "tau"},
    ]


def test_a_dump_is_complete() -> None:
    recipe = Recipe(data=DataSection(source="builtin"), model=ModelSection(encoder="x"))
    written = yaml.safe_load(dump_recipe(recipe))
    assert written["training"].keys() == set(TrainingSection.model_fields)
    assert written.keys() == set(Recipe.model_fields)
    assert written["training"]["stages"] == [{"name": "joint"}]


TRICKY = [
    "on",
    "017",
    "0o17",
    "null",
    "~",
    "",
    "2e-5",
    "1e5",
    ".5",
    "1.",
    "1:30",
    "2024-01-01",
    "<<",
    "=",
    " a ",
    "# x",
    "é\n",
]


@pytest.mark.parametrize("word", TRICKY)
def test_tricky_text_is_quoted(load: Load, word: str) -> None:
    recipe = Recipe(
        data=DataSection(source="hub", name="some/data", label=word),
        model=ModelSection(encoder=Geometry(dropout=1e-7)),
        training=TrainingSection(
            keep="best", learning_rate=5e-05, weight_decay=1e-300, stages=[StageSection(name="units", clip=1e22)]
        ),
    )
    again = load(dump_recipe(recipe))
    assert again.data.label == word
    assert (again.model, again.training) == (recipe.model, recipe.training)
    assert yaml.safe_load(dump_recipe(recipe))["data"]["label"] == word  # for readers of YAML 1.1 too


# ---- fuzzing: whatever is written, a recipe or a RecipeError comes out

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(QUIET, max_examples=2_000)


def survive(load: Load, text: str | bytes, *overrides: str) -> None:
    try:
        recipe = load(text, *overrides)
    except RecipeError:
        return
    assert load(dump_recipe(recipe)) == recipe


random_texts = given(text=st.one_of(st.binary(max_size=60), st.text("ab:-[]{}&*!|>'\"\\%@#,? \n\t01.~é", max_size=60)))


@QUIET
@random_texts
def test_random_texts(load: Load, text: str | bytes) -> None:
    survive(load, text)


@pytest.mark.slow
@LONG
@random_texts
def test_many_random_texts(load: Load, text: str | bytes) -> None:
    survive(load, text)


TOKENS = [
    "",
    "null",
    "[",
    "{}",
    "[1, a]",
    "*a",
    "&a",
    "!!int",
    "1e999",
    ".nan",
    "-1",
    "0x" + "f" * 90,
    "true",
    '"\\x00"',
    "<<",
    "? ",
    "---",
    "\t",
    "9" * 90,
]


def mutated(seed: int, cuts: int) -> str:
    draw = random.Random(seed)
    text = draw.choice([BASE, SMALL + "model: &a {encoder: {hidden_size: 8}}\n"])
    for _ in range(cuts):
        start = draw.randrange(len(text) + 1)
        text = text[:start] + draw.choice(TOKENS) + text[start + draw.randrange(8) :]
    return text


mutated_recipes = given(text=st.builds(mutated, st.integers(0, 2**32), st.integers(1, 4)))


@QUIET
@mutated_recipes
def test_mutated_recipes(load: Load, text: str) -> None:
    survive(load, text)


@pytest.mark.slow
@LONG
@mutated_recipes
def test_many_mutated_recipes(load: Load, text: str) -> None:
    survive(load, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "tau", "0", "str", "x.y"]), inner)
    ),
    max_leaves=6,
)
KEYS = [
    f"{section}.{key}"
    for section, field in Recipe.model_json_schema()["$defs"].items()
    for key in field["properties"]
    for section in [section.removesuffix("Section").lower()]
] + [
    "data",
    "model",
    "training.stages.0",
    "training.stages.1.tau",
    "model.encoder.dropout",
    "a" + ".a" * 2000,
]


def override(key: str, value: Any) -> str:
    return f"{key}={yaml.safe_dump(value, default_flow_style=True)}"


random_overrides = given(overrides=st.lists(st.builds(override, st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))


@QUIET
@random_overrides
def test_random_overrides(load: Load, overrides: list[str]) -> None:
    survive(load, BASE, *overrides)


@pytest.mark.slow
@LONG
@random_overrides
def test_many_random_overrides(load: Load, overrides: list[str]) -> None:
    survive(load, BASE, *overrides)
