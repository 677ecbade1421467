"""From a recipe to a model and its tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import set_seed

from dactcli.data.agreement import vocabulary
from dactcli.data.batches import Encoded, encode_split
from dactcli.data.long_texts import long_notice
from dactcli.data.sources import Splits
from dactcli.errors import ArtefactError, DataError, RecipeError, listed
from dactcli.model.config import MULTILABEL
from dactcli.model.construction import from_encoder
from dactcli.model.dact import DactConfig, DactForSequenceClassification
from dactcli.model.encoders import family
from dactcli.model.kept import KeptClassifier
from dactcli.model.tokenizers import check_fit, load_tokenizer
from dactcli.recipe.schema import Geometry, Recipe
from dactcli.recipe.tasks import with_kind
from dactcli.runs.pretrained import answers_of_classifier, load_classifier, load_encoder, pretrained_config
from dactcli.training.lora import add_lora
from dactcli.training.stages import resolve_stages

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

UNKNOWN = 0.1  # share of unknown tokens from which on the user is told
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class Built:
    """The model, tokenizer and examples that a training starts from.

    Attributes:
        model: Untrained, on the CPU.
        tokenizer: Its tokenizer.
        encoded: The examples of each split.
        adapter: The `peft.PeftModel` around the encoder; None without an adapter.
    """

    model: DactForSequenceClassification
    tokenizer: Tokenizer
    encoded: dict[str, Encoded]
    adapter: Any = None


def with_labels(recipe: Recipe, splits: Splits) -> Recipe:
    """The recipe with the kind of answer, and the class names or the range, that were found in the data.

    Raises:
        RecipeError: A key is for another kind of answer.
    """
    found = {"range": list(splits.range)} if splits.range is not None else {"labels": splits.labels}
    recipe = with_kind(recipe, splits.kind)
    return recipe.model_copy(update={"task": recipe.task.model_copy(update=found)})


def named_by_classifier(recipe: Recipe) -> Recipe:
    """The recipe of texts without labels, with the kind of answer and the class names of the classifier that it keeps.

    Raises:
        ArtefactError: The classifier is missing or damaged, or answers with a value.
    """
    if recipe.data.label is not None or not isinstance(recipe.model.encoder, str):
        return recipe
    labels, kind = answers_of_classifier(recipe.model.encoder)
    task = {"labels": recipe.task.labels or labels, "kind": kind}
    return recipe.model_copy(update={"task": recipe.task.model_copy(update=task)})


def from_hub(recipe: Recipe) -> list[str]:
    """Names of data sets and encoders that a recipe loads from the hub, unless folders have these names."""
    named = [recipe.data.name] if recipe.data.source == "hub" else []
    return [name for name in [*named, recipe.model.encoder] if isinstance(name, str)]


def build(recipe: Recipe, splits: Splits, notice: Callable[[str], None], *, only: Collection[str]) -> Built:
    """Build tokenizer, examples and model with the seed of the recipe.

    Args:
        recipe: A recipe with its labels.
        splits: Its data.
        notice: Called with each notice, for example of truncated texts.
        only: The splits to encode.

    Raises:
        RecipeError: The encoder takes no texts that long.
        UsageError: Its tokenizer cannot shorten texts as `data.long` says.
        ArtefactError: The pretrained encoder cannot be loaded, or its tokenizer does not fit it.
    """
    set_seed(recipe.training.seed)
    tokenizer = build_tokenizer(recipe, splits.splits["train"].texts)
    encoded = {}
    for split in only:
        encoded[split] = found = encode_split(splits.splits[split], tokenizer, recipe.data.max_length, recipe.data.long)
        if text := long_notice(found, recipe.data.max_length, recipe.data.long):
            notice(f"{split}: {text}")
        _notice_unknown(split, found, tokenizer, notice)
    if tokenizer.mask_token_id is None and any(stage.keys.mask_tokens for stage in resolve_stages(recipe)):
        raise RecipeError(
            "masks tokens, but this encoder's tokenizer has no mask token",
            place="training.mask_tokens",
            remedy="set it to 0",
        )
    known = splits.splits["train"].labels
    model = build_model(
        recipe,
        tokenizer,
        labels=splits.labels,
        answer_range=splits.range,
        class_weights=class_weights(recipe, known or [], classes=len(splits.labels)),
        tau_unit=tau_unit(known, classes=len(splits.labels)) if known and splits.kind == "multilabel" else 1.0,
    )
    _check_token_types(recipe, model.config.encoder_config, encoded)
    return Built(model, tokenizer, encoded, add_lora(model, recipe))


def _notice_unknown(split: str, encoded: Encoded, tokenizer: Tokenizer, notice: Callable[[str], None]) -> None:
    """Report a split whose texts have many unknown tokens, as those of another language have."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    special = set(tokenizer.all_special_ids) - {unknown}
    words = sum(token not in special for row in encoded.inputs["input_ids"] for token in row)
    strange = sum(row.count(unknown) for row in encoded.inputs["input_ids"])
    if words and strange / words >= UNKNOWN:
        notice(
            f"{split}: the tokenizer does not know {strange / words:.0%} of the tokens ({tokenizer.unk_token}); check "
            "that the encoder and its tokenizer are made for these texts"
        )


def _check_token_types(recipe: Recipe, config: Any, encoded: dict[str, Encoded]) -> None:
    """Refuse token types that the encoder has no embedding for."""
    types = getattr(config, "type_vocab_size", 0)  # 0: this family takes none
    rows = [row for found in encoded.values() for row in found.inputs.get("token_type_ids", ())]
    most = max((max(row, default=0) for row in rows), default=0)
    if types and most >= types:
        raise ArtefactError(
            f"the tokenizer gives token types up to {most}, and the encoder has embeddings for {types}",
            place=str(recipe.model.encoder),
            remedy="use the tokenizer that belongs to it",
        )


def class_weights(recipe: Recipe, labels: Sequence[int], *, classes: int) -> list[float] | None:
    """The class weights of the loss, scaled to a mean of 1 over the train split.

    This keeps the scale of the loss, and so the meaning of tau, whatever the class frequencies. A class without
    examples is weighted as if it had one.

    Args:
        recipe: A complete recipe.
        labels: The classes of the examples of train.
        classes: C.

    Returns:
        A weight for each class; None where the recipe has no class weights.
    """
    wish = recipe.training.class_weights
    if wish is None:
        return None
    counts = Counter(labels)
    given = [1 / max(counts[number], 1) for number in range(classes)] if wish == "balanced" else wish
    total = sum(given[number] * count for number, count in counts.items())
    return [weight * len(labels) / total for weight in given]


def tau_unit(labels: Sequence[Sequence[int]], *, classes: int) -> float:
    """The answer loss of label sets that stands for a micro F1 of 0.

    Errors are counted over all C labels, and 1 - F1 is the errors divided by the labels that are there and those that
    are predicted, about twice the labels of an example.

    Args:
        labels: The label indices of each example of train.
        classes: C.
    """
    return 2 * sum(map(len, labels)) / len(labels) / classes


def build_tokenizer(recipe: Recipe, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of the recipe's encoder.

    A pretrained encoder brings its own; for a geometry the built-in task has a fixed vocabulary, and other data get
    a WordPiece vocabulary learned from the training texts.

    Args:
        recipe: A complete recipe.
        texts: The training texts.

    Raises:
        ArtefactError: A pretrained tokenizer cannot be loaded, or does not fit its encoder.
        DataError: The texts hold no word to learn from.
    """
    if isinstance(recipe.model.encoder, str):
        tokenizer = load_tokenizer(recipe.model.encoder)
        check_fit(tokenizer, pretrained_config(recipe.model.encoder)[0], recipe.model.encoder)
        _check_length(recipe, tokenizer)
    else:
        from transformers import BertTokenizerFast

        words = vocabulary() if recipe.data.source == "builtin" else _learn_words(recipe.model.encoder, texts)
        tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}, do_lower_case=True)
    tokenizer.model_max_length = recipe.data.max_length
    return tokenizer


def _check_length(recipe: Recipe, tokenizer: Tokenizer) -> None:
    longest = tokenizer.model_max_length
    if recipe.data.max_length > longest:
        raise RecipeError(
            f"is {recipe.data.max_length}, and this encoder takes at most {longest} tokens",
            place="data.max_length",
            remedy=f"set it to {longest} or less",
        )


def _learn_words(geometry: Geometry, texts: Iterable[str]) -> list[str]:
    """A vocabulary of the most frequent words and all letters, from which WordPiece spells the other words.

    (The WordPiece trainer of `tokenizers` gives another vocabulary in every process; a run would not repeat.)
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalise, split = BertNormalizer(lowercase=True), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
    if not counts:
        raise DataError("the training texts hold no words", place="data.train", remedy="check data.text")
    letters = sorted({letter for word in counts for letter in word})
    pieces = list(dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    return list(dict.fromkeys([*pieces, *frequent]))[: max(geometry.vocab_size, len(pieces))]


def build_model(
    recipe: Recipe,
    tokenizer: Tokenizer,
    *,
    labels: list[str],
    answer_range: tuple[float, float] | None,
    class_weights: list[float] | None,
    tau_unit: float = 1.0,
) -> DactForSequenceClassification:
    """The untrained model: a pretrained or a new encoder, with new exit heads.

    Args:
        recipe: A complete recipe.
        tokenizer: Its tokenizer.
        labels: Class names in order; empty for regression.
        answer_range: Lowest and highest answer of a regression, None for classes.
        class_weights: Factor of an example's loss by its class; None for 1.
        tau_unit: The answer loss that counts as 1 for tau.

    Raises:
        ArtefactError: The pretrained encoder cannot be loaded.
    """
    halting = resolve_stages(recipe, class_weights, tau_unit)[0].loss
    settings = _settings(recipe, labels, answer_range) | {"halting": halting}
    if isinstance(recipe.model.encoder, str):
        encoder, kept = _pretrained(recipe, recipe.model.encoder, labels)
        longest = family(encoder.config.model_type).longest(encoder.config)
        if recipe.data.max_length > longest:
            raise RecipeError(
                f"is {recipe.data.max_length}, and this encoder has {longest} positions",
                place="data.max_length",
                remedy=f"set it to {longest} or less",
            )
        return from_encoder(encoder, kept=kept, **settings)
    return DactForSequenceClassification(
        DactConfig(encoder_config=_fresh_config(recipe, recipe.model.encoder, tokenizer), **settings)
    )


def _pretrained(recipe: Recipe, name: str, labels: list[str]) -> tuple[PreTrainedModel, KeptClassifier | None]:
    """The pretrained encoder, and its classifier where the recipe keeps it."""
    if not recipe.model.keep_classifier:
        return load_encoder(name, recipe.model.layers), None
    classifier = load_classifier(name)
    if (classifier.config.problem_type == MULTILABEL) != (recipe.task.kind == "multilabel"):
        raise RecipeError(
            f"the classifier is made for {classifier.config.problem_type or 'one of several classes'}, and this task "
            f"is {recipe.task.kind or 'classes'}",
            place="model.keep_classifier",
            remedy="name a classifier of this task",
        )
    encoder: PreTrainedModel = classifier.base_model
    _check_labels([classifier.config.id2label[index] for index in range(classifier.config.num_labels)], labels)
    return encoder, KeptClassifier(classifier)


def _check_labels(known: list[str], labels: list[str]) -> None:
    """Refuse a classifier whose class names differ from the task's. Default names (LABEL_0) are accepted."""
    if len(known) != len(labels):
        raise RecipeError(
            f"the classifier knows {len(known)} classes and the data {len(labels)}",
            place="model.keep_classifier",
            remedy="name a classifier of this task",
        )
    nameless = all(name == f"LABEL_{index}" for index, name in enumerate(known))
    if not nameless and [name.lower() for name in known] != [name.lower() for name in labels]:
        raise RecipeError(
            f"the classifier's classes are {listed(known)}, and the data's {listed(labels)}",
            place="model.keep_classifier",
            remedy=f"set task.labels: [{', '.join(known)}] if these are the same, or name a classifier of this task",
        )


def _fresh_config(recipe: Recipe, geometry: Geometry, tokenizer: Tokenizer) -> dict[str, Any]:
    padding: int = tokenizer.convert_tokens_to_ids("[PAD]")
    return {
        "model_type": geometry.model_type,
        "vocab_size": len(tokenizer),
        "hidden_size": geometry.hidden_size,
        "num_hidden_layers": recipe.model.layers or geometry.num_hidden_layers,
        "num_attention_heads": geometry.num_attention_heads,
        "intermediate_size": geometry.intermediate_size,
        "hidden_dropout_prob": geometry.dropout,
        "attention_probs_dropout_prob": geometry.dropout,
        "max_position_embeddings": recipe.data.max_length + padding + 1,
        "type_vocab_size": 2,
        "pad_token_id": padding,
    }


def _settings(recipe: Recipe, labels: list[str], answer_range: tuple[float, float] | None) -> dict[str, Any]:
    """Keywords of `DactConfig` from a recipe, without the halting settings."""
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }
    return {
        **(names if labels else {"num_labels": 1}),
        "answer_range": list(answer_range) if answer_range else None,
        **({"problem_type": MULTILABEL} if recipe.task.kind == "multilabel" else {}),
        "pooling": recipe.model.pooling,
        "halting_inputs": recipe.model.halting_inputs,
        "certainty": recipe.model.certainty,
        "agreement": recipe.model.agreement,
        "long_texts": recipe.data.long,
    }
