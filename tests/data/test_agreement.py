from collections import Counter
from itertools import chain

import pytest

from dactcli.data import agreement
from dactcli.data.agreement import Example, generate, vocabulary

PLURAL = {"are": True, "were": True, "have": True, "is": False, "was": False, "has": False}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Example]]:
    return generate(train=2000, validation=200, calibration=100, test=300)


def subject_and_verb(sentence: str) -> tuple[bool, bool]:
    """Whether the subject and the verb are plural, read off the sentence as a person would."""
    words = sentence.rpartition(",")[2].split()
    singular = set(agreement.NOUNS)
    subject = next(word for word in words if word in singular or word.removesuffix("s") in singular)
    verbs = {verb: True for verb in agreement.VERBS} | {f"{verb}s": False for verb in agreement.VERBS} | PLURAL
    verb = next(word for word in words if word in verbs)
    return subject not in singular, verbs[verb]


def test_first_sentences() -> None:
    assert generate(train=3, validation=0, calibration=0, test=0)["train"] == [
        Example("the bell were yellow .", 0, 0),
        Example("the senators were already white .", 1, 0),
        Example("the blue lantern under the temples are yellow .", 0, 1),
    ]


def test_sizes_and_shares(splits: dict[str, list[Example]]) -> None:
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 2000,
        "validation": 200,
        "calibration": 100,
        "test": 300,
    }
    for examples in splits.values():
        shares = Counter((example.label, example.difficulty) for example in examples)
        assert len(shares) == 10
        assert set(shares.values()) == {len(examples) // 10}


def test_no_sentence_twice(splits: dict[str, list[Example]]) -> None:
    sentences = [example.sentence for example in chain.from_iterable(splits.values())]
    assert len(set(sentences)) == len(sentences)


def test_label_says_whether_subject_and_verb_agree(splits: dict[str, list[Example]]) -> None:
    for example in splits["train"]:
        subject, verb = subject_and_verb(example.sentence)
        assert (subject == verb) == bool(example.label), example


def test_difficulty_counts_the_other_nouns_on_both_sides(splits: dict[str, list[Example]]) -> None:
    nouns = {*agreement.NOUNS, *(f"{noun}s" for noun in agreement.NOUNS)}
    in_front: Counter[int] = Counter()
    for example in splits["train"]:
        assert sum(word in nouns for word in example.sentence.split()) == example.difficulty + 1
        front = example.sentence.rpartition(",")[0]
        in_front[sum(word in nouns for word in front.split())] += 1
    assert set(in_front) == {0, 1, 2}
    assert min(in_front.values()) > 200


def test_distractors_do_not_tell_the_label(splits: dict[str, list[Example]]) -> None:
    """The last noun in front of the subject has the number of the verb in about half of the sentences."""
    hits = [
        example.sentence.split(",")[0].rstrip().endswith("s") == subject_and_verb(example.sentence)[1]
        for example in splits["train"]
        if "," in example.sentence
    ]
    assert 0.45 < sum(hits) / len(hits) < 0.55


def test_same_seed_same_sentences(splits: dict[str, list[Example]]) -> None:
    assert generate(train=2000, validation=200, calibration=100, test=300) == splits
    assert generate(train=20, seed=1)["train"] != generate(train=20, seed=2)["train"]


def test_more_training_sentences_leave_the_other_splits_alone(splits: dict[str, list[Example]]) -> None:
    more = generate(train=2500, validation=200, calibration=100, test=300)
    assert {split: more[split] for split in ("validation", "calibration", "test")} == {
        split: splits[split] for split in ("validation", "calibration", "test")
    }


def test_sentences_are_short(splits: dict[str, list[Example]]) -> None:
    known = set(vocabulary())
    pieces = [
        2 - (word in known) for example in chain.from_iterable(splits.values()) for word in example.sentence.split()
    ]
    assert sum(pieces) / sum(map(len, splits.values())) < 14


def test_every_word_is_known_or_a_stem_with_s(splits: dict[str, list[Example]]) -> None:
    known = set(vocabulary())
    for example in chain.from_iterable(splits.values()):
        for word in example.sentence.split():
            assert word in known or word.removesuffix("s") in known


def test_vocabulary() -> None:
    pieces = vocabulary()
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(pieces)) == len(pieces)
    assert not {f"{stem}s" for stem in agreement.NOUNS + agreement.VERBS} & set(pieces)
    assert {"the", "is", "has", "##s", ",", ".", "a", "z", "##a", "##z"} <= set(pieces)


def test_stems_take_a_plain_s() -> None:
    for stem in agreement.NOUNS + agreement.VERBS:
        consonant_y = stem.endswith("y") and stem[-2] not in "aeiou"
        assert not consonant_y, stem
        assert not stem.endswith(("s", "x", "z", "ch", "sh")), stem


def test_word_classes_share_no_word() -> None:
    classes = (
        agreement.NOUNS,
        agreement.VERBS,
        agreement.ADJECTIVES,
        agreement.PARTICIPLES,
        agreement.ADVERBS,
    )
    words = Counter(chain.from_iterable(classes))
    assert max(words.values()) == 1


def test_wordpiece_splits_plurals_into_stem_and_s() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    pieces = {piece: index for index, piece in enumerate(vocabulary())}
    tokenizer = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))
    assert tokenizer.encode("keys").tokens == ["key", "##s"]
    assert tokenizer.encode("qat").tokens == ["q", "##a", "##t"]
