"""Code cards: what a tokenizer makes of a corpus's items, kept and tabled beside the board's rows.

A card needs no recommender, so tokenizers of paper size can be compared where training the rest would take days.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from tabulate import tabulate

from data_prep.atomic import write_text
from leaderboards import escape, ledger
from leaderboards.record import CorpusInfo, Json, Name, Provenance, Section, Share, Stage, Title, VectorsInfo
from leaderboards.rows import titled
from leaderboards.store import parse

FOLDER = "codes"
HEADER = "<!-- Rendered from the cards by `make board`. Do not edit: the next rendering replaces it. -->"
LEGEND = (
    "Duplicates: share of items that have all their codes in common with another, before and after the method's "
    "repair. Distinct: number of code sequences before it. Error: of the item vectors as reconstructed from the codes, "
    "as a share of their variance. Codes in use and entropy of their use (nats; at most the log of the codebook's "
    "size) per level; a fourth level of TIGER is its suffix. Most items: that one sequence names. Epochs: trained, and "
    "the one that was kept."
)


class Facts(Section):
    """What the codes look like, as `ItemIndex.card` describes it."""

    levels: PositiveInt
    sizes: list[PositiveInt]
    duplicates_before: Share
    duplicates_after: Share
    shared_prefix: list[Share]
    utilisation: list[Share]
    entropy: list[NonNegativeFloat]
    mean_fan_out: list[PositiveFloat]
    largest_fan_out: list[PositiveInt]
    sequences_per_item: PositiveFloat | None = None  # None in cards from before these three were counted
    items_per_sequence: PositiveFloat | None = None
    most_items_per_sequence: PositiveInt | None = None
    distinct_before: PositiveInt | None = None  # None in older cards
    reconstruction_error: NonNegativeFloat | None = None  # None in these, too, and where codes reconstruct nothing

    @model_validator(mode="after")
    def _one_of_each_level(self) -> Facts:
        of_levels = (self.sizes, self.utilisation, self.entropy)
        if any(len(values) != self.levels for values in of_levels):
            told = ", ".join(str(len(values)) for values in of_levels)
            raise ValueError(
                f"{self.levels} levels have {told} sizes, utilisations and entropies; expected one of each"
            )
        return self


class CodeCard(Section):
    """One tokenizer: one configuration under one seed.

    Attributes:
        key: the key that a row of the whole model would have under this configuration.
        card: of the finished tokenizer.
        stages: its trainings, those of collaborative vectors included.
    """

    schema_version: Literal[1] = 1
    corpus: CorpusInfo
    model: Name
    experiment: Title
    seed: NonNegativeInt
    key: str
    config: Json
    vectors: VectorsInfo | None
    collaborative: VectorsInfo | None
    notes: list[str]
    card: Facts
    stages: list[Stage]
    provenance: Provenance


def path(board: Path, corpus: str, experiment: str, key: str, seed: int) -> Path:
    """Where a card lies."""
    return board / corpus / FOLDER / f"{experiment}-{key}-seed-{seed}.json"


def write(board: Path, card: CodeCard) -> Path:
    """Stores a card.

    Raises:
        FileExistsError: there is one already; a card is never rewritten.
    """
    target = path(board, card.corpus.name, card.experiment, card.key, card.seed)
    if target.exists():
        raise FileExistsError(f"code card {target} exists; a card is never rewritten")
    write_text(target, card.model_dump_json(indent=2) + "\n")
    return target


def read_all(board: Path, corpus: str) -> list[CodeCard]:
    """All cards of a corpus, in order of experiment.

    Raises:
        ValueError: a card does not fit the schema, lies where another's place is, or is a link.
    """
    ledger.check_regular(board / corpus / FOLDER)
    return [_read(board, file) for file in ledger.matching(board, f"{corpus}/{FOLDER}/*.json")]


def _read(board: Path, file: Path) -> CodeCard:
    card = parse(CodeCard, file)
    if file != path(board, card.corpus.name, card.experiment, card.key, card.seed):
        raise ValueError(
            f"{file} is the code card of {card.corpus.name}/{card.experiment}-{card.key}, seed {card.seed}"
        )
    return card


def corpora(board: Path) -> list[str]:
    """Names of the corpora that the board has cards of."""
    return sorted({file.parent.parent.name for file in ledger.matching(board, f"*/{FOLDER}/*.json")})


def table(cards: list[CodeCard], style: str) -> str:
    """One row per card."""
    rows = [_row(card) for card in cards]
    if style == "github":
        rows = [{title: escape.markdown(text) for title, text in row.items()} for row in rows]
    return tabulate(rows, headers="keys", tablefmt=style, disable_numparse=True)


def markdown(cards: list[CodeCard]) -> str:
    """The `table` for the repository."""
    notes = dict.fromkeys(escape.markdown(f"{_title(card)}: {note}") for card in cards for note in card.notes)
    listed = ["\n".join(f"- {note}" for note in notes)] if notes else []
    parts = [HEADER, f"# Codes of {cards[0].corpus.name}", table(cards, "github"), *listed, LEGEND]
    return "\n\n".join(parts) + "\n"


def _title(card: CodeCard) -> str:
    return titled(card.experiment, card.notes)


def _row(card: CodeCard) -> dict[str, str]:
    facts, trained = card.card, card.stages[-1:]  # clusters alone take no training
    error = facts.reconstruction_error
    in_use = [f"{share * size:.0f}" for share, size in zip(facts.utilisation, facts.sizes, strict=True)]
    return {
        "Experiment": _title(card),
        "Key": card.key,
        "Seed": str(card.seed),
        "Vectors": ", ".join(str(info) for info in (card.vectors, card.collaborative) if info),
        "Epochs": "".join(f"{stage.epochs}, {stage.best_epoch}" for stage in trained),
        "Duplicates": f"{facts.duplicates_before:.1%}, {facts.duplicates_after:.1%}",
        "Distinct": f"{facts.distinct_before:,}" if facts.distinct_before else "",
        "Error": "" if error is None else f"{error:.3f}",
        "Codes in use": f"{', '.join(in_use)} of {', '.join(map(str, facts.sizes))}",
        "Entropy": ", ".join(f"{nats:.2f}" for nats in facts.entropy),
        "Most items": str(facts.most_items_per_sequence or ""),
    }
