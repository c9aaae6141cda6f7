"""The tokenizer of vocab.json and merges.txt, as folders of GPT-2's time have it."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ucurve.registry.tokenizer_files import settings_of, special_tokens, vocabulary


def byte_level_tokenizer(files: Mapping[str, bytes]) -> Tokenizer:
    """Return the tokenizer from the content of its files. Raises RegistrationError."""
    vocab, merges = vocabulary(files)
    added = settings_of(files.get("added_tokens.json"))
    prefix = bool(settings_of(files.get("tokenizer_config.json")).get("add_prefix_space"))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    special = [word for word in special_tokens(files) if word in vocab]
    ordered = sorted(added, key=lambda word: int(added[word]))
    for word in dict.fromkeys([*special, *ordered]):
        tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False)])
    return tokenizer
