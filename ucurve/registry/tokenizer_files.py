"""Which files make the tokenizer of a checkpoint, and what to do where there are none.

tokenizer.json is complete. Older GPT-2 style folders have vocab.json and merges.txt instead, from
which the same tokenizer is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ucurve.registry.suites import BEYOND, NO_TEXTS, combined_sha256
from ucurve.registry.tensors.stored_tensor import RegistrationError

COMPLETE = "tokenizer.json"
PAIR = ("merges.txt", "vocab.json")
SETTINGS = ("added_tokens.json", "tokenizer_config.json")  # beside the pair, where present
OF_TOKENIZERS = (COMPLETE, *PAIR, *SETTINGS)
BYTE_LEVEL = ("GPT2", "CodeGen", "Roberta", "Bart", "OPT", "GPTNeoX", "Longformer")
CONVERT = "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json"
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
OTHERS = ("vocab.txt", "vocab.json", "tekken.json", "qwen.tiktoken", "tokenizer.tiktoken")


def tokenizer_names(names: Collection[str]) -> tuple[str, ...]:
    """Return the names of the files that make the tokenizer, sorted; none where there is none."""
    if COMPLETE in names:
        return (COMPLETE,)
    if all(name in names for name in PAIR):
        return tuple(sorted((*PAIR, *(name for name in SETTINGS if name in names))))
    return ()


def is_byte_level(config: bytes | None) -> bool:
    """Return whether vocab.json and merges.txt are those of a GPT-2 style tokenizer.

    config: content of tokenizer_config.json, where there is one.
    """
    name = settings_of(config).get("tokenizer_class")
    return name is None or any(
        name in (f"{start}Tokenizer", f"{start}TokenizerFast") for start in BYTE_LEVEL
    )


def settings_of(config: bytes | None) -> dict[str, Any]:
    """Return the fields of a tokenizer_config.json; none where it is missing or odd."""
    try:
        fields = json.loads(config or b"{}")
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def missing_tokenizer(names: Collection[str]) -> str:
    """Return what a checkpoint without a usable tokenizer lacks, and what to do."""
    other = next((name for name in (*SENTENCEPIECE, *OTHERS) if name in names), None)
    if other in SENTENCEPIECE:
        return (
            f"no tokenizer.json, and {other} is read only by its own library: where sentencepiece "
            f"is installed, {CONVERT}; {NO_TEXTS}"
        )
    if other:
        return f"no tokenizer.json beside {other}: {CONVERT}; {NO_TEXTS}"
    return (
        "no tokenizer: copy tokenizer.json of the tokenizer that the model was trained with into "
        "its folder, or into the one above, and register the suite again; "
        f"{NO_TEXTS}"
    )


class DescribedTokenizer(NamedTuple):
    """The hashes of a tokenizer, or why there is none."""

    sha256: str | None  # of its files
    content: str | None  # of what decides how a text is cut
    remarks: list[str]
    highest: int = -1  # number of a token


def beyond_model(highest: int, config: Mapping[str, Any]) -> list[str]:
    """Return the remark on a tokenizer with tokens that the model of a config does not know."""
    text = config.get("text_config")
    known = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    if type(known) is not int or highest < known:
        return []
    return [
        f"its tokenizer has tokens up to {highest:,}, and its model knows {known:,} (vocab_size): "
        "if it is another model's, copy the right tokenizer.json and register the suite again; "
        f"{BEYOND}"
    ]


def described_tokenizer(
    files: Mapping[str, bytes], missing: str, remark: str | None = None
) -> DescribedTokenizer:
    """Return the hashes of a tokenizer from the content of its files.

    Args:
        files: by name; none where there is no tokenizer.
        missing: what to say then.
        remark: what to say of a tokenizer that can be used.
    """
    if not files or ("vocab.json" in files and not is_byte_level(files.get(SETTINGS[1]))):
        return DescribedTokenizer(None, None, [missing])
    try:
        cut = _how_texts_are_cut(files)
    except RegistrationError as error:
        return DescribedTokenizer(None, None, [f"{error}; {NO_TEXTS}"])
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    remarks = [remark] if remark else []
    return DescribedTokenizer(combined_sha256(hashes), _sha256(cut), remarks, _highest(cut))


def content_sha256(files: Mapping[str, bytes]) -> str:
    """Return a hash of what decides how a text is cut into tokens.

    The same tokenizer is saved with other bytes by another version of its library: merges as pairs
    or as lines, fields with their default or without. Raises RegistrationError.
    """
    return _sha256(_how_texts_are_cut(files))


def _sha256(cut: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(cut, sort_keys=True).encode()).hexdigest()


def _how_texts_are_cut(files: Mapping[str, bytes]) -> dict[str, Any]:
    if COMPLETE in files:
        return _of_complete(_parsed(files[COMPLETE], COMPLETE))
    return _of_pair(files)


def _highest(cut: Mapping[str, Any]) -> int:
    """Return the greatest number of a token; -1 without any."""
    vocab = cut["vocab"]
    numbers = vocab.values() if isinstance(vocab, dict) else [len(vocab) - 1]
    added = [number for entry in cut["added"] for number in entry]
    return max((n for n in (*numbers, *added) if type(n) is int), default=-1)


def _of_complete(fields: dict[str, Any]) -> dict[str, Any]:
    model = fields.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise RegistrationError(f"{COMPLETE} is damaged: it has no vocabulary; copy it again")
    rest = {key: value for key, value in model.items() if key not in ("vocab", "merges", "type")}
    added = fields.get("added_tokens") or []
    return {
        "vocab": model["vocab"],
        "merges": [
            pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or []
        ],
        "model": _without_defaults(rest),
        "normalizer": fields.get("normalizer"),
        "pre_tokenizer": _without_defaults(fields.get("pre_tokenizer")),
        "added": sorted((token["id"], token["content"]) for token in added),
    }


def _of_pair(files: Mapping[str, bytes]) -> dict[str, Any]:
    vocab, merges = vocabulary(files)
    prefix = bool(settings_of(files.get("tokenizer_config.json")).get("add_prefix_space"))
    added = _parsed(files.get("added_tokens.json", b"{}"), "added_tokens.json")
    special = {word: vocab[word] for word in special_tokens(files) if word in vocab}
    return {
        "vocab": vocab,
        "merges": [" ".join(pair) for pair in merges],
        "model": {},
        "normalizer": None,
        "pre_tokenizer": _without_defaults({"type": "ByteLevel", "add_prefix_space": prefix}),
        "added": sorted((number, word) for word, number in {**special, **added}.items()),
    }


def vocabulary(files: Mapping[str, bytes]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the numbers of tokens and the merges of vocab.json and merges.txt.

    Raises RegistrationError.
    """
    vocab = _parsed(files["vocab.json"], "vocab.json")
    if not vocab or not all(type(number) is int for number in vocab.values()):
        raise RegistrationError("vocab.json does not give the number of each token")
    try:
        lines = files["merges.txt"].decode().split("\n")
    except UnicodeDecodeError as error:
        raise RegistrationError("merges.txt is not UTF-8 text") from error
    merges = []
    for line in (line.rstrip("\r") for line in lines):
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not all(part in vocab for part in (left, right, left + right)):
            raise RegistrationError(f"merges.txt merges {line[:40]!r}, which vocab.json lacks")
        merges.append((left, right))
    return vocab, merges


def special_tokens(files: Mapping[str, bytes]) -> list[str]:
    """Return the words that are tokens of their own in any text."""
    settings = settings_of(files.get("tokenizer_config.json"))
    words = []
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        word = settings.get(name, "<|endoftext|>" if name != "pad_token" else None)
        words.append(word.get("content") if isinstance(word, dict) else word)
    return [word for word in dict.fromkeys(words) if isinstance(word, str)]


def _without_defaults(fields: Any) -> Any:
    """Return the description of a part, without fields at their default or about offsets only."""
    if isinstance(fields, list):
        return [_without_defaults(field) for field in fields]
    if not isinstance(fields, dict):
        return fields
    return {
        name: _without_defaults(value)
        for name, value in fields.items()
        if name != "trim_offsets"
        and value not in (None, False, "")
        and not (name == "use_regex" and value is True)
    }


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RegistrationError(f"{name} is damaged: it is not JSON; copy it again") from error
    if not isinstance(fields, dict):
        raise RegistrationError(f"{name} is damaged: it is not a JSON object; copy it again")
    return fields
