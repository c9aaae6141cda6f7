"""Suites, checkpoints and datasets as records.

A suite is one model at many checkpoints of its pre-training. `unresolved` says why a checkpoint or
dataset cannot be used; while it is being hashed in the background, the reason is temporary
(`is_pending`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from ucurve.bounds import FilePath, Name, Prose
from ucurve.registry.names.training_phases import phase_order
from ucurve.registry.tensors.tensor_layout import Layout

NO_TEXTS = "texts cannot be evaluated before"  # end of a remark about a missing tokenizer
# End of a remark about an imported model that was not tried.
UNTRIED = "make the files available there and import again"
BEYOND = "a plan refuses texts with the others"  # end of a remark about a larger tokenizer
AT_THE_SUITE = (
    NO_TEXTS,
    UNTRIED,
    BEYOND,
)  # remarks that a suite tells, and not each of its numbers
TOKENS_FOR = "tokens of "  # prefix of a text's parameters: its tokens for a suite's tokenizer
PENDING = "hashing"  # prefix of `unresolved` while the files are being hashed
TRYING = "being tried"  # prefix of `unresolved` until a worker has built and run the model once


class Location(BaseModel):
    """Where a worker finds a checkpoint or a text."""

    model_config = ConfigDict(frozen=True)

    scheme: Literal["builtin", "artefacts", "path", "hub"] = Field(
        description="builtin: in the package; artefacts: below UCURVE_ARTEFACTS; path: absolute; "
        "hub: a repository."
    )
    path: FilePath = Field(description="Folder or file; for a hub the repository owner/name.")
    commit: Name | None = Field(None, description="Commit of the hub, resolved at registration.")


class Checkpoint(BaseModel):
    """One saved state of the model's weights."""

    model_config = ConfigDict(frozen=True)

    suite: Name = Field(description="Name of the suite.")
    revision: Name = Field(description="Name of the revision, unique in its suite.")
    location: Location = Field(description="Where its files are.")
    step: int | None = Field(None, description="Optimiser step; null when unknown.")
    tokens: int | None = Field(None, description="Pre-training tokens seen; null when unknown.")
    replicate: int = Field(0, description="Pre-training seed: one curve is drawn per seed.")
    phase: Name | None = Field(
        None, description="Learning-rate phase: warm-up, constant, decay or annealed."
    )
    words: int | None = Field(
        None, description="Words of text seen, where names count these; null otherwise."
    )
    training_phase: Name | None = Field(
        None,
        description="Training after pre-training that it belongs to, such as extension or sft, "
        "which counts its own steps; null: pre-training.",
    )
    replicate_name: Name | None = Field(
        None, description="Name of the pre-training seed, where it is more than a number."
    )
    position_source: Prose | None = Field(
        None, description="Where its position is from: parts of its name, suite.json, a table."
    )
    num_parameters: int | None = Field(None, description="Number of weights.")
    context: int | None = Field(None, description="Maximum input length in tokens.")
    weights_sha256: Name | None = Field(None, description="SHA-256 of the weights.")
    config_sha256: Name | None = Field(None, description="SHA-256 of the model's config.")
    tokenizer_sha256: Name | None = Field(None, description="SHA-256 of the tokenizer.")
    tokenizer_content: Name | None = Field(
        None, description="SHA-256 of how the tokenizer cuts texts, however it was saved."
    )
    size_bytes: int | None = Field(None, description="Size of the weights in bytes.")
    structure: Name | None = Field(
        None,
        description="SHA-256 of config, tokenizer, names and shapes of tensors: a worker tries it "
        "once before anything is planned; null where nothing is tried.",
    )
    architecture: Name | None = Field(
        None, description="Class of the model, as the worker that tried it knows it."
    )
    initializer_std: float | None = Field(
        None,
        description="Standard deviation of matrices at initialisation; null where the config does "
        "not state it or nothing was tried.",
    )
    layout_sha256: Name | None = Field(
        None,
        description="SHA-256 of the names and shapes of its tensors; null until they are read, "
        "empty where the files do not tell them.",
    )
    unresolved: Prose | None = Field(
        None, description="Why it cannot be used yet; null when it can."
    )

    remarks: list[Prose] = Field(
        [], max_length=100, description="What its files show and one should know."
    )

    @property
    def is_pending(self) -> bool:
        """Whether the files are still being hashed, or the model waits to be tried."""
        return (self.unresolved or "").startswith((PENDING, TRYING))

    @property
    def is_read(self) -> bool:
        """Whether its files are read and it can be used, or will be once the model is tried."""
        return self.unresolved is None or self.unresolved.startswith(TRYING)


class Remark(BaseModel):
    """What the files of some revisions say against their names, or say at all; it travels with
    every number.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal[
        "same_weights",
        "shared_tensors",
        "main",
        "initialisation",
        "files",
        "tokenizers",
        "contexts",
    ] = Field(
        description="same_weights: several revisions are one model; shared_tensors: some tensors "
        "of several are the same; main: the branch is not the last step; initialisation: a step 0 "
        "that is not used for init_std; files: what their folders lack or hold besides; "
        "tokenizers, contexts: they differ within the suite."
    )
    revisions: list[str] = Field(description="Revisions that it is about.")
    message: str = Field(description="What was found.")


class Suite(BaseModel):
    """A named list of checkpoints, sorted by replicate and tokens."""

    name: str = Field(description="Name of the suite, unique in the lab.")
    description: str = Field("", description="What the model is.")
    checkpoints: list[Checkpoint] = Field([], description="Checkpoints in order of pre-training.")
    evaluation: str | None = Field(None, description="Default evaluation set of experiments.")
    recipe: str | None = Field(
        None, description="Hash of the pre-training spec that produced it in this lab."
    )
    warnings: list[str] = Field([], description="What to know before using it.")
    remarks: list[Remark] = Field(
        [], description="Those warnings that compare the weights of revisions."
    )
    # Names and shapes of tensors by `layout_sha256`, for plan(); not part of the record.
    _layouts: Mapping[str, Layout] = PrivateAttr(default_factory=dict)
    # What the library calls the parameters, by `structure`, where a worker has tried it.
    _parameters: Mapping[str, Sequence[str]] = PrivateAttr(default_factory=dict)

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """The layouts of the checkpoints by hash; those that are not known are missing."""
        return self._layouts

    @property
    def unexplained(self) -> str | None:
        """A parameter of the library that is no tensor of the files; None without any."""
        pairs = {(c.layout_sha256 or "", c.structure or "") for c in self.checkpoints}
        unknown = (
            self._layouts[layout].unexplained(self._parameters[structure])
            for layout, structure in sorted(pairs)
            if layout in self._layouts and structure in self._parameters
        )
        return next(filter(None, unknown), None)

    def with_layouts(
        self,
        layouts: Mapping[str, Layout],
        parameters: Mapping[str, Sequence[str]] | None = None,
    ) -> Suite:
        """Return the suite with the layouts of its checkpoints, and what the library calls them."""
        copy = self.model_copy()
        copy._layouts, copy._parameters = layouts, parameters or {}
        return copy


class Dataset(BaseModel):
    """An evaluation set, a training text, or examples to fine-tune on."""

    name: Name = Field(description="Name of the dataset, unique in the lab.")
    description: Prose = Field("", description="What it contains.")
    kind: Literal["language", "text", "examples"] = Field(
        description="language: the built-in synthetic language; text: a text file; examples: a "
        "train and a validation file."
    )
    parameters: dict[str, Prose | int | float] = Field(
        {}, max_length=1000, description="Of the generator; of examples: their files and columns."
    )
    location: Location | None = Field(None, description="Where its files are.")
    sha256: Name | None = Field(
        None, description="SHA-256 of its files, or of the generator and its parameters."
    )
    size_bytes: int | None = Field(None, description="Size in bytes.")
    unresolved: Prose | None = Field(
        None, description="Why it cannot be used yet; null when it can."
    )

    @property
    def is_pending(self) -> bool:
        """Whether the files are still being hashed."""
        return (self.unresolved or "").startswith(PENDING)


def dataset_facts(dataset: Dataset) -> list[str]:
    """Return what was understood of a dataset's files: sizes, documents or examples, the start."""
    facts, parameters = [], dataset.parameters
    if dataset.kind == "text" and dataset.size_bytes is not None:
        facts.append(f"{dataset.size_bytes:,} bytes of text")
    for name, value in parameters.items():
        if name.startswith(TOKENS_FOR) and dataset.size_bytes and isinstance(value, int):
            per_byte, suite = value / dataset.size_bytes, name.removeprefix(TOKENS_FOR)
            facts.append(f"{value:,} tokens for the tokenizer of {suite}, {per_byte:.3f} per byte")
    if "documents" in parameters:
        facts.append(
            f"{_count(parameters['documents'])} documents of {parameters.get('source')}, column "
            f"{parameters.get('column')}, joined by {parameters.get('joined')}"
        )
    elif "source" in parameters:
        facts.append(f"unpacked from {parameters['source']}")
    if "train_rows" in parameters:
        classes = f" of {parameters['classes']} classes" if parameters.get("classes") else ""
        facts.append(
            f"{_count(parameters['train_rows'])} examples{classes} to train on, "
            f"{_count(parameters.get('validation_rows', 0))} to validate"
        )
    if "empty_completions" in parameters:
        facts.append(f"{_count(parameters['empty_completions'])} examples have nothing to learn")
    if "preview" in parameters:
        facts.append(f"starts with: {parameters['preview']}")
    return facts


def _count(value: str | float) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def sort_checkpoints(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Sort by replicate, then training phase, tokens, step and words; unknown ones last."""

    def key(c: Checkpoint) -> tuple[Any, ...]:
        counts = (c.tokens, c.step, c.words)
        known = [(count is None, count or 0) for count in counts]
        return (c.replicate, phase_order(c.training_phase), known, c.revision)

    return sorted(checkpoints, key=key)


def is_initial(checkpoint: Checkpoint) -> bool:
    """Return whether the checkpoint was saved before the first step of pre-training."""
    if checkpoint.training_phase is not None:
        return False  # its step 0 has all of pre-training behind it
    return checkpoint.tokens == 0 if checkpoint.tokens is not None else checkpoint.step == 0


def enumerated(names: Sequence[str]) -> str:
    """Return "a, b and c", or the first five and how many more."""
    listed = [*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


FOLDER_FORMAT = """\
DIR/step1000/config.json, model.safetensors, tokenizer.json
DIR/step2000/...
DIR/suite.json     optional: positions of revisions whose names do not give them

One sub-folder per revision, as save_pretrained writes it. Names give steps (step1000, step-10k,
iter_0058000, ckpt_010), tokens (step-001000-2BT, 240b_tokens), stages (stage2-step500),
pre-training seeds (seed-1-step1000, step1250-seed-default), and phases after pre-training
(extension_step250, sft-step100), which have no tokens. Names that are numbers (1000, 10B) count
where most of them are. suite.json, in the format of GET /v1/suites/NAME, has at least
  {"name": "mine", "checkpoints": [{"suite": "mine", "revision": "early",
    "tokens": 2000000000, "replicate": 0, "location": {"scheme": "path", "path": "early"}}]}"""


def weights_files(names: Iterable[str]) -> list[str]:
    """Return the names of the weights files, sorted: safetensors if there are any, else pickles."""
    names = [name for name in names if "/" not in name]
    for start, end in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if start + end in names:
            return [start + end]
        shards = sorted(n for n in names if n.startswith(f"{start}-") and n.endswith(end))
        if shards:
            return shards
    return []


def combined_sha256(hashes: Mapping[str, str]) -> str:
    """Return one hash for {file name: hash}.

    The hash of a single file is its own; of several, that of the lines "name hash", sorted by name.
    """
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
