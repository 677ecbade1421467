"""The built-in task: does the verb agree with its subject, whatever nouns stand between and before them?

`near the old boats , the keys to the cabinet are rusty .` is acceptable; with `is` it is not. Every sentence
is made from a seed, so nothing is downloaded, and the number of distracting nouns (0 to 4) is a known
difficulty. Distractors stand on both sides of the subject, because one layer learns "the first noun" or "the
nearest noun" alone. Every plural is stem + s, and so is the third person of every regular verb: WordPiece
splits both into a stem and `##s`.

The idea of counting "attractors" is Linzen, Dupoux and Goldberg (2016), https://aclanthology.org/Q16-1037/.
"""

from __future__ import annotations

import string
from random import Random
from typing import NamedTuple

MAX_DISTRACTORS = 4
MAX_IN_FRONT = 2


def _words(text: str) -> list[str]:
    return text.split()


NOUNS = _words("""
    actor album apple artist author badge baker banker barrel basket bell bird boat book bottle bridge
    bucket building button cabinet camera candle captain carpet castle chair clerk cloud coat colonel cousin
    curtain dancer desk diamond doctor dog door dragon drawer driver drum eagle engine farmer feather fence
    field film flag flower fork forest friend garden gate ghost gift girl glove goat guitar hammer hat
    helmet hill hotel house island jacket jar judge kettle key king kitten ladder lake lamp lantern lawyer
    lemon letter lion machine magnet manager map market medal mirror model monkey mountain museum nail
    neighbour novel nurse ocean office onion oven owl painter palace parrot pencil picture pillow pilot
    pirate planet plate poem pond potter prince puppet rabbit report river road robot rocket roof rope
    sailor school senator ship shop singer skater soldier song spoon statue stone student table tailor
    teacher temple tenant tiger tower train tree truck tunnel turtle uncle valley vase village violin
    visitor wagon waiter wall wheel window wizard writer
""")
ADJECTIVES = _words("""
    ancient beautiful big black blue bright broken cheap clean cold curious dark dirty dusty elegant
    expensive famous fragile gentle golden gray green heavy huge invisible large little lonely loud modern
    new noisy old ordinary pale pink plain popular precious pretty quiet rare red round rusty shabby silent
    silver small strange sturdy tall tiny ugly unusual useful valuable warm white wild wooden yellow young
""")
PARTICIPLES = _words("""
    aged appeared arrived changed collapsed disappeared drifted fallen gone grown improved moved recovered
    remained returned rotted shrunk stayed survived vanished
""")
VERBS = _words("""
    age appear arrive bother burn change charm collapse disappear drift fall float glow help improve matter
    move puzzle recover remain return rot scare shine shrink smell spin stay survive swing tremble wait
    wobble work
""")
ADVERBS = _words("again already always clearly never now often rarely really soon still then usually")
FRONT = _words("above behind below beside beyond inside near outside under")
AFTER = _words("above behind beside by for from near of on to under with")
AUXILIARIES = (("is", "are", ADJECTIVES), ("was", "were", ADJECTIVES), ("has", "have", PARTICIPLES))


class Example(NamedTuple):
    """A sentence, its label (0 unacceptable, 1 acceptable), and how many nouns distract from the subject."""

    sentence: str
    label: int
    difficulty: int


def generate(
    *, train: int = 30_000, validation: int = 1500, calibration: int = 1500, test: int = 3000, seed: int = 0
) -> dict[str, list[Example]]:
    """Write the sentences of all splits, no two alike, labels and difficulties in equal shares.

    The test split is written first and train last, so that asking for more training sentences leaves the
    others as they are.

    Args:
        train: Sentences to train on.
        validation: Sentences to watch the training with.
        calibration: Sentences to choose halting thresholds on.
        test: Sentences to report on.
        seed: Equal seeds and sizes give equal sentences, on every platform.

    Returns:
        The examples by split.
    """
    rng, seen = Random(seed), set[str]()
    sizes = {"test": test, "calibration": calibration, "validation": validation, "train": train}
    written = {split: _split(rng, size, seen) for split, size in sizes.items()}
    return {split: written[split] for split in ("train", "validation", "calibration", "test")}


def vocabulary() -> list[str]:
    """The WordPiece vocabulary of the task, in the order of its ids.

    Stems and function words are whole; plurals and third persons are a stem and `##s`; any other word of
    letters falls into single letters.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    auxiliaries = [form for singular, plural, _ in AUXILIARIES for form in (singular, plural)]
    words = sorted({"the", *auxiliaries, *NOUNS, *ADJECTIVES, *PARTICIPLES, *VERBS, *ADVERBS, *FRONT, *AFTER})
    letters = string.ascii_lowercase
    pieces = ["##s", *",.!?'-", *letters, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys([*special, *words, *pieces]))


def _split(rng: Random, size: int, seen: set[str]) -> list[Example]:
    examples = []
    for index in range(size):
        label, difficulty = index % 2, index // 2 % (MAX_DISTRACTORS + 1)
        while (sentence := _sentence(rng, label, difficulty)) in seen:
            pass
        seen.add(sentence)
        examples.append(Example(sentence, label, difficulty))
    rng.shuffle(examples)
    return examples


def _sentence(rng: Random, label: int, difficulty: int) -> str:
    plural = rng.random() < 0.5
    in_front = rng.randint(max(0, difficulty - 3), min(MAX_IN_FRONT, difficulty))
    words: list[str] = []
    for place in range(in_front):
        words += [rng.choice(AFTER if place else FRONT), *_noun(rng, rng.random() < 0.5)]
    if in_front:
        words.append(",")
    words += _noun(rng, plural)
    for _ in range(difficulty - in_front):
        words += [rng.choice(AFTER), *_noun(rng, rng.random() < 0.5)]
    words += _predicate(rng, plural if label else not plural)
    return " ".join([*words, "."])


def _noun(rng: Random, plural: bool) -> list[str]:
    noun = rng.choice(NOUNS) + ("s" if plural else "")
    return ["the", rng.choice(ADJECTIVES), noun] if rng.random() < 0.1 else ["the", noun]


def _predicate(rng: Random, plural: bool) -> list[str]:
    adverb = [rng.choice(ADVERBS)] if rng.random() < 0.15 else []
    if rng.random() < 0.4:
        return [*adverb, rng.choice(VERBS) + ("" if plural else "s")]
    singular, several, complements = rng.choice(AUXILIARIES)
    return [several if plural else singular, *adverb, rng.choice(complements)]
