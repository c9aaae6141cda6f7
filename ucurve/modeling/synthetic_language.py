"""A synthetic English of 330 words, endless and fast, on which built-in suites are pre-trained.

    >>> language = SyntheticLanguage(0)
    >>> language.text(language.documents(1, seed=1).rows[0, :12])
    '<bos> ...'

One row is one document: `<bos>`, then sentences. Its features, from strong to weak:

- syntax;
- number agreement across attractors ("the dog near the cats sees");
- Zipf-distributed nouns in 16 Zipf-distributed topics, one topic per document;
- preferences noun->verb, noun->adjective, noun->preposition, verb->object and verb->adverb, each a
  bilinear form whose spectrum falls as a power law;
- facts: with probability 0.8 the object is a fixed function of (subject, verb), 2,880 facts with
  Zipf-distributed frequencies;
- a polarity per document that selects positive or negative adjectives, a quarter of them negated.

`SyntheticLanguage(seed)` keeps words and syntax and redraws every table. Rows come from a counter
(Philox): the same (split, seed, step) gives the same rows everywhere, and "held-out" rows have
another key than "train" rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int16]
Draws = NDArray[np.uint16]

VERSION = 1
CONTEXT = 64
NUM_TOPICS = 16
NUM_FEATURES = 16  # of each preference; feature k has strength 1.5 / k
BITS = 11  # a categorical draw looks up one of 2^11 equally likely entries
SHORTEST_SENTENCE = 5  # "the dog is good ."
NUM_DRAWS = 28  # of 16 random bits each, for one sentence
# Probabilities of the features of a sentence.
PLURAL, FACT, ADJECTIVE, ATTRACTOR = 0.4, 0.8, 0.3, 0.25
EVALUATION, NEGATED, VERY, ADVERB, CONNECTED = 0.3, 0.25, 0.2, 0.2, 0.2


def _words(text: str) -> list[str]:
    return text.split()


SINGULAR_DETERMINERS = _words("the a this that every")
PLURAL_DETERMINERS = _words("the some these those many")
CONNECTIVES = _words("and but because while")
PREPOSITIONS = _words(
    "near behind beside with under above below inside against beyond around opposite"
)
NOUNS = _words(
    "dog cat bird horse cow farmer teacher doctor singer king queen boy girl sailor baker "
    "painter poet soldier nurse judge lawyer driver hunter miner student professor neighbor "
    "friend stranger guest house tower bridge garden river forest mountain lake island road "
    "market school temple castle village window door table chair lamp book letter song picture "
    "clock coin ring hat coat boat wagon train engine hammer needle apple egg cake onion flower "
    "tree cloud"
)
VERBS = _words(
    "see hear find help follow hold love hate want need know remember visit paint build break "
    "move lift hide steal sell buy make take give bring show draw clean open close cook kick "
    "trust fear admire ignore answer meet call"
)
NEUTRAL = _words(
    "red green blue white black yellow small large tall short old young new round square wooden "
    "golden heavy light thin thick wide narrow wet dry warm cold loud quiet distant"
)
POSITIVE = _words(
    "good great lovely kind happy brave wise gentle bright honest charming perfect pleasant "
    "noble clever proud"
)
NEGATIVE = _words(
    "bad awful ugly cruel sad weak foolish rude dull false boring broken nasty mean stupid ashamed"
)
ADVERBS = _words(
    "often never always slowly quickly sometimes again today here quietly gladly rarely soon"
)
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            "<bos>",
            ".",
            "is",
            "are",
            "not",
            "very",
            *SINGULAR_DETERMINERS,
            *PLURAL_DETERMINERS,
            *CONNECTIVES,
            *PREPOSITIONS,
        ]
        + [form for noun in NOUNS for form in (noun, noun + "s")]
        + [form for verb in VERBS for form in (verb + "s", verb)]
        + NEUTRAL
        + POSITIVE
        + NEGATIVE
        + ADVERBS
    )
)
TOKEN = {word: index for index, word in enumerate(WORDS)}
LABEL_WORDS = (NEGATIVE[0], POSITIVE[0])  # label words of the sentiment task, by polarity


class Documents(NamedTuple):
    """Tokens `rows`, int16 [num_rows, context]; `polarity` [num_rows], 1 positive, 0 negative."""

    rows: Ints
    polarity: Ints


def _key(purpose: str) -> int:
    """Return the Philox key (128 bits) of a purpose."""
    return int.from_bytes(
        hashlib.sha256(f"language/{VERSION}/{purpose}".encode()).digest()[:16], "little"
    )


def _uniforms(purpose: str) -> Callable[[int], NDArray[np.float64]]:
    """Return a sampler of uniforms in [0, 1) from raw bits, which no NumPy release changes."""
    bits = np.random.Philox(key=_key(purpose))

    def draw(size: int) -> NDArray[np.float64]:
        return np.asarray(bits.random_raw(size) >> 11, np.float64) * 2.0**-53

    return draw


def _zipf(size: int) -> NDArray[np.float64]:
    return 1 / np.arange(1, size + 1)


def _preferences(
    uniform: Callable[[int], NDArray[np.float64]], conditions: int, outcomes: int
) -> NDArray[np.float64]:
    """Return exp(sum_k 1.5/k a_k(condition) b_k(outcome)), signs a, b: [conditions, outcomes]."""
    a, b = (
        np.where(uniform(size * NUM_FEATURES) < 0.5, -1.0, 1.0).reshape(size, -1)
        for size in (conditions, outcomes)
    )
    return np.exp((a * 1.5 / np.arange(1, NUM_FEATURES + 1)) @ b.T)


def _lookup(weights: NDArray[np.float64]) -> Ints:
    """Return a table of equally likely outcomes, proportional to `weights` per condition.

    [conditions, outcomes] -> [conditions, 2^BITS].
    """
    upper = np.cumsum(weights, axis=1)
    middle = (np.arange(2**BITS) + 0.5) / 2**BITS
    return np.stack([np.searchsorted(row / row[-1], middle) for row in upper]).astype(np.int16)


_FIRST = {  # token of each part of speech's first word
    "copula": TOKEN["is"],
    "noun": TOKEN[NOUNS[0]],
    "verb": TOKEN[VERBS[0] + "s"],
    "adjective": TOKEN[NEUTRAL[0]],
    "evaluation": TOKEN[POSITIVE[0]],
    "adverb": TOKEN[ADVERBS[0]],
    "preposition": TOKEN[PREPOSITIONS[0]],
    "connective": TOKEN[CONNECTIVES[0]],
}
_DETERMINER = np.array(
    [[TOKEN[word] for word in words] for words in (SINGULAR_DETERMINERS, PLURAL_DETERMINERS)],
    np.int16,
)[:, _lookup(_zipf(len(SINGULAR_DETERMINERS))[None])[0]]
_CONNECTIVE = _lookup(_zipf(len(CONNECTIVES))[None])


class SyntheticLanguage:
    """The language with all tables drawn from `seed`: table[condition, 11 random bits] = index."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        uniform = _uniforms(f"tables/{seed}")
        nouns, verbs = len(NOUNS), len(VERBS)
        self.topic = _lookup(_zipf(NUM_TOPICS)[None])
        self.noun = _lookup(
            np.stack([_zipf(nouns)[np.argsort(uniform(nouns))] for _ in range(NUM_TOPICS)])
        )
        self.verb = _lookup(_preferences(uniform, nouns, verbs))
        self.adjective = _lookup(_preferences(uniform, nouns, len(NEUTRAL)))
        self.preposition = _lookup(_preferences(uniform, nouns, len(PREPOSITIONS)))
        self.object = _lookup(_preferences(uniform, verbs, nouns))
        self.adverb = _lookup(_preferences(uniform, verbs, len(ADVERBS)))
        self.evaluation = _lookup(
            np.stack([_zipf(len(POSITIVE))[np.argsort(uniform(len(POSITIVE)))] for _ in range(2)])
        )
        self.fact = (uniform(nouns * verbs) * nouns).astype(np.int16).reshape(nouns, verbs)

    def documents(
        self,
        num_rows: int,
        context: int = CONTEXT,
        *,
        split: str = "train",
        seed: int = 0,
        step: int = 0,
    ) -> Documents:
        """Return documents of `context` tokens each, determined by the arguments alone."""
        sentences = -(-(context - 1) // SHORTEST_SENTENCE)
        bits = np.random.Philox(
            key=_key(f"rows/{self.seed}/{split}/{seed}"), counter=[0, 0, 0, step]
        )
        shape = (num_rows, sentences, NUM_DRAWS)
        raw: Draws = (
            bits.random_raw(-(-np.prod(shape) // 4))
            .astype("<u8")
            .view("<u2")[: np.prod(shape)]
            .reshape(shape)
        )
        document = raw[:, 0, -2:]
        topic = self.topic[0, document[:, 0] >> (16 - BITS)]
        polarity = (document[:, 1] & 1).astype(np.int16)
        words = self._sentences(raw, topic[:, None], polarity[:, None]).reshape(num_rows, -1)
        present = words >= 0
        present &= np.cumsum(present, axis=1, dtype=np.int16) < context
        rows = np.empty((num_rows, context), np.int16)
        rows[:, 0] = TOKEN["<bos>"]
        rows[:, 1:] = words[present].reshape(num_rows, context - 1)
        return Documents(rows, polarity)

    def labelled_documents(
        self,
        num_rows: int,
        context: int = CONTEXT,
        *,
        split: str = "train",
        seed: int = 0,
        step: int = 0,
    ) -> Documents:
        """Return documents that end in ". this is good" or ". this is bad", by their polarity."""
        rows, polarity = self.documents(num_rows, context - 4, split=split, seed=seed, step=step)
        ends = np.array(
            [[TOKEN[word] for word in (".", "this", "is", last)] for last in LABEL_WORDS], np.int16
        )
        return Documents(np.concatenate([rows, ends[polarity]], axis=1), polarity)

    def _sentences(self, raw: Draws, topic: Ints, polarity: Ints) -> Ints:
        """Return tokens by part of speech, -1 where absent: [rows, sentences, slots]."""
        draw = iter(np.moveaxis(raw, -1, 0))

        def chance(probability: float) -> NDArray[np.bool_]:
            return np.asarray(next(draw) < probability * 65536, np.bool_)

        def pick(table: Ints, condition: Ints | int = 0) -> Ints:
            return np.asarray(table[condition, next(draw) >> (16 - BITS)], np.int16)

        def maybe(condition: NDArray[np.bool_], token: Ints | int) -> Ints:
            return np.where(condition, token, -1).astype(np.int16)

        evaluates = chance(EVALUATION)
        plural = chance(PLURAL)
        subject = pick(self.noun, topic)
        attracted = chance(ATTRACTOR)
        other_plural = chance(PLURAL)
        verb = pick(self.verb, subject)
        preferred = pick(self.object, verb)
        objects = np.where(chance(FACT), self.fact[subject, verb], preferred)
        object_plural = chance(PLURAL)
        negated = evaluates & chance(NEGATED)
        negative = (polarity == negated).astype(np.int16)
        acts = ~evaluates
        slots = [
            pick(_DETERMINER, plural.astype(np.int16)),
            maybe(chance(ADJECTIVE), _FIRST["adjective"] + pick(self.adjective, subject)),
            _FIRST["noun"] + 2 * subject + plural,
            maybe(attracted, _FIRST["preposition"] + pick(self.preposition, subject)),
            maybe(attracted, pick(_DETERMINER, other_plural.astype(np.int16))),
            maybe(attracted, _FIRST["noun"] + 2 * pick(self.noun, topic) + other_plural),
            np.where(evaluates, _FIRST["copula"] + plural, _FIRST["verb"] + 2 * verb + plural),
            maybe(negated, TOKEN["not"]),
            maybe(evaluates & chance(VERY), TOKEN["very"]),
            maybe(
                evaluates,
                _FIRST["evaluation"] + len(POSITIVE) * negative + pick(self.evaluation, negative),
            ),
            maybe(acts, pick(_DETERMINER, object_plural.astype(np.int16))),
            maybe(acts & chance(ADJECTIVE), _FIRST["adjective"] + pick(self.adjective, objects)),
            maybe(acts, _FIRST["noun"] + 2 * objects + object_plural),
            maybe(acts & chance(ADVERB), _FIRST["adverb"] + pick(self.adverb, verb)),
            np.where(chance(CONNECTED), _FIRST["connective"] + pick(_CONNECTIVE), TOKEN["."]),
        ]
        return np.stack([slot.astype(np.int16) for slot in slots], axis=-1)

    def text(self, row: Ints) -> str:
        """Return the row's tokens as text."""
        return " ".join(WORDS[token] for token in row)
