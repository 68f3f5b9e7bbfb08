"""Record: everything one run can know about itself; one JSON and one table of ranks per run, never edited."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from leaderboards.escape import has_control
from leaderboards.metrics import NAMES, UNSEEN_NAMES

# The rules that runs are graded by now, and the folder of their board in the project.
PROTOCOL = "v2"
BOARD = Path("leaderboards") / PROTOCOL

KEY_LENGTH = 12
# Classes of precision, which are part of a key, and the number formats that they stand for.
FORMATS = {"32": "32-true", "bf16": "bf16-mixed"}
# The commit where none is known.
UNKNOWN = "unknown"
# How the note of a row begins whose config a sweep has found.
TUNED = "tuned with"
# How is told who chose epochs, where they are not all users of the board.
VALIDATION = "validation during training on"
OWN_QUALITY = "its epoch was chosen by a quality of the model's own"
# The note of a row with sizes for small corpora.
SMALL_SIZES = "small sizes"
# How the notes begin on what a paper leaves open, and on item vectors that are not the paper's.
OPEN = "open in the paper:"
STAND_IN = "item vectors are a stand-in for sentence-t5:"
# Per user: rank of the test and of the validation target (1..50, 0 beyond), both again among the items that are not in
# the history (1..10, 0 beyond), how often the test target occurs in training, length of the test history, and whether
# some user's training part goes from its last item to the target.
RANKS_SCHEMA = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("rank", pa.uint8(), nullable=False),
        pa.field("valid_rank", pa.uint8(), nullable=False),
        pa.field("rank_unseen", pa.uint8(), nullable=False),
        pa.field("valid_rank_unseen", pa.uint8(), nullable=False),
        pa.field("target_count", pa.int32(), nullable=False),
        pa.field("history_length", pa.int32(), nullable=False),
        pa.field("transition_seen", pa.bool_(), nullable=False),
    ]
)
# Protocol v1 ranked among all items alone.
RANKS_SCHEMA_V1 = pa.schema([field for field in RANKS_SCHEMA if not field.name.endswith("_unseen")])


def canonical_json(value: object) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, tuples as lists; NaN is a ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def config_key(
    protocol: str,
    model: str,
    corpus_fingerprint: str,
    precision: str,
    config: dict[str, Any],
    inputs: Mapping[str, Any],
) -> str:
    """Name of a configuration: 12 hex digits of the SHA-256 of all that decides a run's numbers, but for its seed and
    the last digits that processors differ in.

    Args:
        protocol: version of the rules, `v2`.
        model: module name in `models/`.
        corpus_fingerprint: content hash of the corpus.
        precision: class of the number format of training, `32` or `bf16`.
        config: the complete config, defaults included, so that a changed default is a changed key.
        inputs: what the model was given beside the corpus, `vectors`, `collaborative`, `codes`: how each was made,
            never a hash of values that another processor computes in other last digits; None where there is none.

    Raises:
        ValueError: the config holds NaN or an infinity.
        TypeError: the config holds what JSON cannot express.
    """
    content = {
        "protocol": protocol,
        "model": model,
        "corpus": corpus_fingerprint,
        "precision": precision,
        "config": config,
        "inputs": {name: made for name, made in inputs.items() if made is not None},
    }
    return _short_hash(content)


def config_key_v1(
    corpus_fingerprint: str,
    config: dict[str, Any],
    vectors_sha256: str | None,
    collaborative_sha256: str | None = None,
) -> str:
    """The key under protocol v1, which knew item vectors by the hash of their values, and no model or precision."""
    content = ["v1", corpus_fingerprint, config, vectors_sha256]
    return _short_hash(content + ([collaborative_sha256] if collaborative_sha256 else []))


def _short_hash(content: object) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:KEY_LENGTH]


def _plain_json(value: object) -> object:
    return json.loads(canonical_json(value))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# Of an experiment: any text, for who reads it escapes it.
Title = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A whole hash: a branch's name would move on, and an option's would be one to git.
Commit = Annotated[str, Field(pattern=rf"^([0-9a-f]{{40}}|[0-9a-f]{{64}}|{UNKNOWN})$")]
Share = Annotated[float, Field(ge=0, le=1)]
Metrics = dict[str, Share]
# Bounds that no run reaches, and that all arithmetic here can bear.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Several = Annotated[int, Field(ge=1, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]
Json = Annotated[dict[str, JsonValue], BeforeValidator(_plain_json)]


class Section(BaseModel):
    """A part of a file that others may have written; no text in it commands a terminal."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, content: Any) -> Any:
        for text in _texts(content):
            if has_control(text):
                raise ValueError(f"{text!r:.200} holds a control character; expected plain text")
        return content


def _texts(content: Any) -> Iterator[str]:
    """All text in a JSON value."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from (*_texts(name), *_texts(value))
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _texts(value)


class CorpusInfo(Section):
    """What was ranked.

    Attributes:
        fingerprint: content hash; only rows with the same one are ranked together.
        source: where the interactions came from, for a reader (hub revision, official files, local folder).
        ceiling: the best possible metrics where the corpus was generated by a known law, else None.
    """

    name: Name
    fingerprint: Sha256
    users: Several
    items: Several
    interactions: Several
    source: str
    ceiling: dict[str, Share] | None = None


class VectorsInfo(Section):
    """Which item vectors the model was given.

    Attributes:
        sha256: hash of their values, which processors may compute in other last digits; under v1 part of the key.
        stand_in: they take the place of the papers' text embeddings.
        recipe: how they are made, part of the key; None under protocol v1.
    """

    kind: str
    name: str
    sha256: Sha256
    stand_in: bool
    recipe: Json | None = None

    def __str__(self) -> str:
        return f"{self.kind} (stand-in)" if self.stand_in else self.kind


class CodesInfo(Section):
    """The item codes that the model was given instead of training a tokenizer; `sha256`: of their file."""

    name: str
    sha256: Sha256


class Search(Section):
    """How exact the ranking was.

    Attributes:
        certified_share: share of test users whose target's rank is proven to be that in the full ranking.
        mean_expansions: prefixes expanded per user to find it, None for a model that scores every item.
        max_expansions: the same for the most expensive user.
    """

    certified_share: Share
    mean_expansions: NonNegativeFloat | None
    max_expansions: Count | None


class Stage(Section, frozen=False):
    """What one training stage cost and how its loss and quality went; it grows while the stage trains.

    Attributes:
        quality: the value it selects by, after each epoch in `checked`.
        reused: trained by an earlier run.
        losses: mean training loss of each epoch, from the first; none in records from before they were kept.
        checked: epochs, from 1, after which `quality` was asked for; none in the same records.
        weights_sha256: hash of the file of its best weights; None in records from before it was kept.
    """

    name: str
    epochs: Count
    best_epoch: Count
    seconds: Seconds
    quality: list[float]
    reused: bool
    losses: list[float] = []
    checked: list[Several] = []
    weights_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _curve_fits(self) -> Stage:
        if self.losses and (len(self.losses) != self.epochs or len(self.checked) != len(self.quality)):
            raise ValueError(
                f"stage {self.name} has {len(self.losses)} losses of {self.epochs} epochs and {len(self.quality)} "
                f"qualities of {len(self.checked)} checked epochs; expected one of each"
            )
        in_order = self.checked == sorted(set(self.checked)) and max(self.checked, default=0) <= self.epochs
        if self.best_epoch > self.epochs or not in_order:
            raise ValueError(
                f"stage {self.name} of {self.epochs} epochs has {self.best_epoch} as its best and checked "
                f"{self.checked}; expected epochs that it had, in order"
            )
        return self

    @classmethod
    def begun(cls, name: str, **known: Any) -> Stage:
        """A stage of which nothing is trained yet, but for what is `known`."""
        nothing = {"epochs": 0, "best_epoch": 0, "seconds": 0.0, "quality": [], "reused": False}
        return cls(name=name, **nothing | known)


class Cost(Section):
    """What the run took. `energy_joules` is None where no counter was read, never 0."""

    train_seconds: Seconds
    stages: list[Stage]
    evaluate_users_per_second: Annotated[float, Field(gt=1e-6, lt=1e12)]
    peak_memory_bytes: Several
    parameters: Count
    energy_joules: PositiveFloat | None


class Provenance(Section):
    """What ran where.

    Attributes:
        git_commit: of the checkout, `unknown` outside git.
        git_commit_told: whoever started the run named the commit; there was no checkout to read it from.
        git_dirty_sha256: hash of what differs from that commit, None when nothing does or there is no checkout;
            `source_sha256` can be held against the commit even then.
        lock_sha256: hash of `requirements.lock`, `unknown` where the project is installed without it.
        source_sha256: hash of the packages' Python files.
        threads: CPU threads of one operation.
        precision: number format of training; evaluation is in float32 always.
        evaluation_batch: users ranked at once.
        command: as typed, absolute paths cut to their last part.
    """

    git_commit: Commit
    git_commit_told: bool = False
    git_dirty_sha256: Sha256 | None
    lock_sha256: str
    source_sha256: Sha256
    versions: dict[str, str]
    python: str
    platform: str
    device: str
    threads: Several
    precision: Literal["32-true", "bf16-mixed"]
    evaluation_batch: Several
    started_at: AwareDatetime
    command: str

    @property
    def processes(self) -> int:
        """That trained together: a device is stated as `2 x` its name then."""
        several = re.match(r"(\d+) x ", self.device)
        return int(several[1]) if several else 1


class Record(Section):
    """One run: one configuration under one seed.

    Attributes:
        schema_version: 1 of records under protocol v1, 2 since.
        protocol: version of the rules it was graded by, `v2`.
        model: module name in `models/`.
        experiment: name of the experiment, the row's title.
        key: `config_key` of the content; a record whose key does not fit its content is refused.
        precision: class of the number format of training, `32` or `bf16`; None under protocol v1.
        config: every field of the model's config.
        vectors: the item vectors it was given.
        collaborative: those it was given beside them, trained on the training part (LETTER).
        codes: the item codes it was given, in place of a tokenizer's.
        notes: stand-ins and reconstructions a reader of the row must know of.
        valid: metrics of the chosen epoch on the validation items of all users.
        test: metrics on the test items of all users, graded once.
        valid_users: how many users validation used during training, all or a sample.
        diagnostics: by name (`beam20/trie`, `beam50/free`), metrics and shares from the same checkpoint.
        code_card: facts about the item codes, None for a model without codes.
        ranks_sha256: `content_sha256` of the per-user ranks beside the record.
    """

    schema_version: Literal[1, 2] = 2
    protocol: Name
    corpus: CorpusInfo
    model: Name
    experiment: Title
    seed: Count
    key: str
    precision: Literal["32", "bf16"] | None = None
    config: Json
    vectors: VectorsInfo | None
    collaborative: VectorsInfo | None = None
    codes: CodesInfo | None = None
    notes: list[str]
    valid: Metrics
    test: Metrics
    valid_users: Several
    diagnostics: dict[str, Metrics]
    search: Search
    code_card: Json | None
    cost: Cost
    provenance: Provenance
    ranks_sha256: Sha256

    @property
    def is_trained(self) -> bool:
        """Whether anything was trained for the run. What was not is a floor, which trained models have to beat."""
        return bool(self.cost.stages)

    @property
    def ranks_schema(self) -> pa.Schema:
        """Columns of its ranks."""
        return RANKS_SCHEMA_V1 if self.schema_version == 1 else RANKS_SCHEMA

    @model_validator(mode="after")
    def _schema_fits(self) -> Record:
        if (self.schema_version == 1) != (self.protocol == "v1"):
            raise ValueError(f"schema version {self.schema_version} is not that of protocol {self.protocol}")
        expected = {*NAMES, *(UNSEEN_NAMES if self.schema_version > 1 else ())}
        for part in (self.valid, self.test):
            if set(part) != expected:
                raise ValueError(f"metrics are {sorted(part)}; expected {sorted(expected)}")
        names = [stage.name for stage in self.cost.stages]
        if self.schema_version > 1 and len(set(names)) < len(names):
            raise ValueError(f"stages are {', '.join(names)}; expected each name once")
        return self

    @model_validator(mode="after")
    def _precision_fits(self) -> Record:
        if self.precision is not None and self.provenance.precision != FORMATS[self.precision]:
            raise ValueError(f"precision is {self.precision}, but what ran was in {self.provenance.precision}")
        return self

    @model_validator(mode="after")
    def _key_fits(self) -> Record:
        expected = self._expected_key()
        if self.key != expected:
            raise ValueError(f"key is {self.key!r}, but what it is the hash of gives {expected!r}")
        return self

    @property
    def inputs(self) -> dict[str, Any]:
        """How what the model was given beside the corpus was made, as `config_key` has it."""
        given = {"vectors": self.vectors, "collaborative": self.collaborative}
        made = {name: info.recipe if info else None for name, info in given.items()}
        return made | {"codes": {"sha256": self.codes.sha256} if self.codes else None}

    def _expected_key(self) -> str:
        given = (self.vectors, self.collaborative)
        if self.schema_version == 1:
            hashes = (info.sha256 if info else None for info in given)
            return config_key_v1(self.corpus.fingerprint, self.config, *hashes)
        if self.precision is None or any(info and info.recipe is None for info in given):
            raise ValueError("precision, or the recipe of its vectors, is missing; both are part of the key")
        return config_key(self.protocol, self.model, self.corpus.fingerprint, self.precision, self.config, self.inputs)

    def result(self) -> dict[str, Any]:
        """What must come out again when the run is repeated: all but its cost and its provenance."""
        return self.model_dump(mode="json", exclude={"cost", "provenance"})
