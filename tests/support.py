"""Small random models, and trainings by a recipe text, shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from dactcli.halting.answers import CLASSES
from dactcli.listening import Listener
from dactcli.model.encoders.base import Encoder, EncoderState
from dactcli.model.heads import ExitOutput
from dactcli.storage import sha256

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
NO_POSITIONS = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
# by transformers' model_type, what a small configuration says besides SIZES
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "distilbert": {"hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "mpnet": {"pad_token_id": 1},
    "albert": {"embedding_size": 16, "num_hidden_groups": 2},
    "deberta-v2": {**NO_POSITIONS, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
    "modernbert": {"pad_token_id": 0, "local_attention": 6, "global_attn_every_n_layers": 2},
}


def small_config(family: str, *, layers: int, **extra: Any) -> Any:
    """A small configuration of an encoder."""
    from transformers import AutoConfig

    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)
    values = {"vocab_size": 120, "max_position_embeddings": 64, "num_hidden_layers": layers, **SIZES, **special}
    return AutoConfig.for_model(family, **{**values, **FAMILIES[family], **extra})


def words(name: str) -> Any:
    """A tokenizer of the built-in task whose padding has the id that the family's encoder takes for it."""
    from transformers import BertTokenizerFast

    from dactcli.data.agreement import vocabulary

    tokens, padding = vocabulary(), small_config(name, layers=1).pad_token_id
    tokens.insert(padding, tokens.pop(tokens.index("[PAD]")))
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=True)


def pretrained(name: str, folder: Path) -> Path:
    """The folder of an encoder of 4 layers, as one would come from a hub."""
    from transformers import AutoModel

    torch.manual_seed(0)
    tokenizer = words(name)
    AutoModel.from_config(small_config(name, layers=4, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved_classifier(folder: Path, **settings: Any) -> Path:
    """The folder of a fine-tuned classifier of the built-in task, as one would come from a hub."""
    pretrained("bert", folder)
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(folder)
    config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    for key, value in settings.items():
        setattr(config, key, value)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def small_model(family: str = "bert", *, layers: int = 4, labels: int = 3, seed: int = 0, **settings: Any) -> Any:
    """A random model whose exit heads disagree and halt at different layers, in the papers' form unless told."""
    from dactcli.model import DactConfig, DactForSequenceClassification
    from dactcli.model.config import HALTING_KEYS

    torch.manual_seed(seed)
    encoder = small_config(family, layers=layers)
    halting = {"tau": 0.05, "ponder": "sum_h", "answer_loss": "nll"}
    halting |= {key: settings.pop(key) for key in HALTING_KEYS & settings.keys()}
    settings = {"pooling": "mean", "halting_inputs": "features", "halting": halting, **settings}
    model = DactForSequenceClassification(DactConfig(encoder_config=encoder.to_dict(), num_labels=labels, **settings))
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
        model.units.dense_weight.normal_(std=0.4)
        model.units.classifier_weight.normal_(std=0.8)
        model.units.halting_weight.normal_(std=1.0)
        model.units.halting_bias.fill_(-1.0)
        if model.units.query_weight is not None:
            model.units.query_weight.normal_()
    return model.eval()


def random_batch(model: Any, lengths: list[int], *, seed: int = 0, left: bool = False) -> dict[str, Any]:
    """Token ids of the given lengths, padded on the right, or on the left."""
    generator = torch.Generator().manual_seed(seed)
    padding = model.encoder.config.pad_token_id
    width = max(lengths)
    ids = torch.full((len(lengths), width), padding)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        real = slice(width - length, width) if left else slice(length)
        ids[row, real], mask[row, real] = torch.randint(5, 120, (length,), generator=generator), 1
    return {"input_ids": ids, "attention_mask": mask}


class Scripted:
    """Stands for a model in the engine: its layers say what they are told, row by row.

    A row's hidden state is its number, which `input_ids` [B, 1] gives.

    Args:
        logits: Of y_n [E, N, C].
        halting_logits: s_n [E, N].
    """

    reads_first_token = False
    mixes = True

    def __init__(self, logits: torch.Tensor, halting_logits: torch.Tensor) -> None:
        self.logits, self.halting_logits = logits, halting_logits
        self.classes = logits.shape[-1]
        self.exit_heads: Any = SimpleNamespace(layers=logits.shape[1], dense_weight=logits)
        self.adapter = _Numbers(torch.nn.Identity())
        self.asked = 0

    def exit_outputs(
        self,
        layer: int,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None,
        texts: torch.Tensor | None = None,
    ) -> ExitOutput:
        self.asked += 1
        rows = hidden[:, 0, 0].long()
        return ExitOutput(self.logits[rows, layer - 1], self.halting_logits[rows, layer - 1])

    answers = CLASSES


class _Numbers(Encoder):
    """Hidden states that hold a row's number and stay as they are."""

    layers = ()
    positions = None

    def embeddings(
        self, words: Any, attention_mask: torch.Tensor | None, token_type_ids: torch.Tensor | None
    ) -> torch.Tensor:
        ids: torch.Tensor = words["input_ids"]
        return ids.double().unsqueeze(-1)

    def run(self, layer: int, state: EncoderState) -> EncoderState:
        return state

    def context(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
        return {}


TINY = """
task: {name: agreement}
data: {source: builtin, max_length: 48, examples: 320}
model:
  encoder: {hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48, dropout: 0.0}
  pooling: first
  halting_inputs: features  # as the papers have it, so that there are halting units to train in a stage
training:
  batch_size: 32
  mask_tokens: 0
  log_steps: 2
  learning_rate: 1e-3
  stages:
    - {name: joint, tau: null, epochs: 1}
    - {name: units, epochs: 1, unit_learning_rate: 1e-2}
dact: {tau: 0.05, ponder: sum_h, answer_loss: nll}
output: {name: tiny}
"""


class Silence:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.heard.append((name, values[0] if values else None))


STEPS = "training.save_steps=3"


class Interrupt(Silence):
    """Ends a training at a step of a stage, as a kill would."""

    def __init__(self, stage: int, step: int) -> None:
        super().__init__()
        self.stage, self.step, self.now = stage, step, 0

    def stage_started(self, name: str, number: int, stages: int, steps: int) -> None:
        self.now = number

    def stepped(self, step: int) -> None:
        if (self.now, step) == (self.stage, self.step):
            raise KeyboardInterrupt


def train(folder: Path, text: str = TINY, *overrides: str, **options: Any) -> Any:
    """Fine-tune by a recipe text, quietly; the output goes into `folder / 'runs'`."""
    from dactcli.evaluation.evaluate import validator
    from dactcli.recipe.load import load_recipe
    from dactcli.training.fit import fit

    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path, [f"output.dir={folder / 'runs'}", *overrides])
    listener, device = options.pop("listener", Silence()), torch.device(options.pop("device", "cpu"))
    return fit(recipe, evaluate=validator(recipe), listener=listener, device=device, **options)


SHARED: list[Path] = []


def shared(folder: Path) -> Path:
    """Register a folder that several tests read; conftest.py fails the test that changes it."""
    SHARED.append(folder)
    return folder


def contents(folder: Path) -> set[tuple[Path, tuple[int, int]]]:
    """The files of a folder, each with its modification time in nanoseconds and its size in bytes."""
    found = {path.relative_to(folder): path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {(path, (now.st_mtime_ns, now.st_size)) for path, now in found.items()}


def recursion(y: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """a_n [B, N, C] and p_n [B, N], by the steps that rules and engine take."""
    from dactcli.halting.state import HaltingState

    state = HaltingState.start(len(y), y.shape[-1], layers=y.shape[1], mixes=True, like=y)
    after, left = [], []
    for n in range(y.shape[1]):
        state.step(y[:, n], h[:, n])
        after.append(state.answer)
        left.append(state.remaining)
    return torch.stack(after, 1), torch.stack(left, 1)


def adversaries(layers: int, classes: int, rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows that a rule may only just let stop at some layer, after which everything speaks for another class.

    Returns:
        Logits of y_n [B, N, C], y_n [B, N, C] and h_n [B, N], all float32. Up to the layer, answers are near a tie or
        near the edge of `exact`; p is tiny, exactly 0 or 1, or anything between.
    """
    draw = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw)

    start = torch.randint(0, layers, (rows, 1), generator=draw) * (rand(rows, 1) < 0.5)  # half of them at layer 1
    after = torch.arange(layers) > start  # [B, N]
    logits = torch.randn(rows, layers, classes, generator=draw) * 10 ** (3 * rand(rows, 1, 1) - 1)
    h = torch.sigmoid(torch.randn(rows, layers, generator=draw) * 3)
    # p at the start: tiny, by powers of ten, or 0 or 1; then what `exact` allows for the lead that there is
    p = 10 ** (-9 * rand(rows))
    lead = 10 ** (-8 + 8 * rand(rows)) + (1 - p.double()) ** (1 - layers) - 1
    kind = torch.randint(0, 8, (rows,), generator=draw)
    p = torch.where(kind == 0, torch.zeros(()), torch.where(kind == 1, torch.ones(()), p))
    lead = torch.where(kind == 2, layers * 2.0**-20 * (2 * rand(rows) - 0.2), lead).clamp(0, 1)
    lead = torch.where(kind == 3, torch.zeros(()), lead)  # a tie
    at = torch.arange(layers) == start  # [B, N]
    h = torch.where(at, p.unsqueeze(-1), torch.where(after, 1 - 2.0**-24 * (rand(rows, layers) < 0.2), h))
    # the answer at the start: the top class leads the last one by `lead`, the others have nothing or little
    near = torch.full((rows, classes), -60.0)
    near[:, 0], near[:, -1] = ((1 + lead) / 2).log(), ((1 - lead) / 2).clamp_min(1e-30).log()
    logits = torch.where(at.unsqueeze(-1) & (kind < 6)[:, None, None], near.float().unsqueeze(1), logits)
    y = logits.softmax(-1)
    a, _ = recursion(y, h)
    second = a[torch.arange(rows), start[:, 0]].topk(2).indices[:, 1]
    worst = torch.nn.functional.one_hot(second, classes).float().unsqueeze(1)
    later = after.unsqueeze(-1)
    logits = torch.where(later, worst * 200, logits)
    return logits, torch.where(later, worst, y), h


def dact(*arguments: object, text: str | None = None) -> Any:
    """Run the command line in this process; `text` is its standard input."""
    from typer.testing import CliRunner

    from dactcli.cli.app import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text, catch_exceptions=False)


class Told(Listener):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def tiny_on_files(calibration: str) -> str:
    """The tiny recipe on files in the current folder, with a calibration split of its own: a file, or null."""
    from dactcli.data.agreement import generate

    for name, split in generate(train=64, validation=40, calibration=500, test=10).items():
        rows = [json.dumps({"sentence": one.sentence, "label": one.label}) + "\n" for one in split]
        Path(f"{name}.jsonl").write_text("".join(rows))
    Path("few.jsonl").write_text("".join(Path("calibration.jsonl").read_text().splitlines(keepends=True)[:50]))
    data = f"{{source: files, train: train.jsonl, validation: validation.jsonl, calibration: {calibration}}}"
    return TINY.replace("{source: builtin, max_length: 48, examples: 320}", data)


def weights_digest(folder: Path) -> str:
    """SHA-256 of a saved model's weights."""
    return sha256(folder / "model.safetensors")
