"""A corpus from a file of a user's own: named by the file, prepared as the others are, found again by its content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep import corpus_files
from data_prep.amazon2023 import OFFICIAL_K, names
from data_prep.corpus import SHORTEST, Corpus, source_name
from data_prep.files import check_file, sha256_of
from data_prep.filtering import USERS_OF, k_core_sequences
from data_prep.item_text import TEMPLATE_SHA256, read_item_text
from data_prep.own_files import ROLES, Seen, columns_of, item_records, look, read_interactions
from data_prep.prepare import PREPARATION_VERSION

logger = logging.getLogger(__name__)

# Origin of these corpora on their cards, and the folder of the prepared ones.
OWN = "own"
# Begins the source by which another process finds a prepared one, before some of its fingerprint.
SOURCE = f"{OWN}-"
SHOWN = 16
# The page over all corpora of a board has this name, so no corpus has it.
INDEX = "index"
# Goes up when files of items are read in another way.
ITEMS_VERSION = 3


@dataclass(frozen=True)
class OwnFile:
    """What a user says of a file of interactions.

    Attributes:
        columns: `user`, `item`, `time` -> the file's name for it, where that is none of the usual ones.
        items: a file that tells of the items.
        core: users and items with fewer interactions are left out; None for 5, or 1 of sequences, which have mostly
            been filtered.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    items: Path | None = None
    core: int | None = None

    @property
    def name(self) -> str:
        """The corpus's name: the file's, without its ending, in lower case, with `_` for all but letters and digits.

        Raises:
            ValueError: nothing is left of it, or it is the name of one of our corpora.
        """
        stem = Path(self.path.name.removesuffix(".gz")).stem
        name = re.sub("[^a-z0-9]+", "_", stem.lower()).strip("_")
        if not name or name in {*names(), INDEX} or source_name(name) != name:
            taken = f"would name its corpus {name}, which is a name of ours" if name else "names no corpus"
            raise ValueError(f"{self.path} {taken}; expected another file name, with letters a-z or digits")
        return name


def given(
    corpus: str,
    columns: Iterable[str] = (),
    items: Path | None = None,
    core: int | None = None,
    source: str = "auto",
) -> OwnFile | None:
    """The file that a command names in place of a corpus; None where it names one of ours.

    Args:
        columns: `user=uid item=movie time=ts`, any of them.
        source: of a corpus of ours, where it comes from.

    Raises:
        ValueError: the mapping is of another form, or tells of a corpus of ours; the core is below 1; a source is told
            of a file.
    """
    if core is not None and core < 1:
        raise ValueError(f"core is {core}; expected a whole number above 0")
    is_path = (
        source_name(corpus) not in names()
        and bool(corpus)
        and (os.sep in corpus or "." in corpus or Path(corpus).exists())
    )
    if not is_path:
        if columns or items:
            raise ValueError(f"columns and items are told of files of your own; {corpus} is named, expected a path")
        return None
    if source != "auto":
        raise ValueError(f"source is {source}; {corpus} is a file of your own, which comes from nowhere else")
    told = [text.partition("=")[::2] for text in columns]
    mapped = dict(told)
    if not mapped.keys() <= ROLES.keys() or not all(mapped.values()) or len(set(mapped.values())) < len(told):
        raise ValueError(
            f"columns are {' '.join(columns)!r:.200}; expected user=NAME item=NAME time=NAME, each another"
        )
    return OwnFile(Path(corpus), mapped, items, core)


def prepare(own: OwnFile, cache: Path) -> Corpus:
    """The corpus of a file, prepared on the first call.

    Args:
        cache: folder of prepared corpora.

    Raises:
        ValueError: the file is damaged, of an unknown form, without a column that is needed, or too small; what `given`
            and `OwnFile.name` raise.
        OSError: it is not there, or a folder is.
    """
    check_file(own.path, "a file of interactions, or a name of `python -m data_prep --list`")
    if own.items:
        check_file(own.items, "a file that tells of the items (--items)")
    name, seen = own.name, look(own.path, own.columns.values())
    if seen.form == "sequences" and own.columns:
        raise ValueError(f"{own.path} holds sequences, a user a line; expected no columns, for it has none")
    columns = {} if seen.form == "sequences" else columns_of(own.path, seen.columns, own.columns)
    files = {own.path.name: sha256_of(own.path, cache / "hashes")}
    if own.items:
        files[f"{own.items.name} (items)"] = sha256_of(own.items, cache / "hashes")
    card = {
        "corpus": name,
        "layout": seen.form,
        "k": own.core or (1 if seen.form == "sequences" else OFFICIAL_K),
        "preparation": PREPARATION_VERSION,
        "files": files,
        "columns": columns,
    }
    said = json.dumps([card, [TEMPLATE_SHA256, ITEMS_VERSION] if own.items else None], sort_keys=True)
    folder = cache / OWN / name / hashlib.sha256(said.encode()).hexdigest()[:SHOWN]
    return _opened(corpus_files.made_once(folder, name, lambda: _prepare(own, seen, card, folder)))


def source_of(corpus: Corpus) -> str:
    """What `reopen` finds a prepared corpus by; the beginning of it is enough where it is the only one of its name."""
    return SOURCE + corpus.fingerprint


def reopen(name: str, source: str, cache: Path) -> Corpus:
    """A prepared corpus again, in another process: nobody there needs the file, and it may have changed.

    Raises:
        FileNotFoundError: it is not in the folder of prepared corpora.
    """
    folders = filter(corpus_files.whole, sorted((cache / OWN / name).glob("*")))
    corpora = [_opened(corpus_files.open_corpus(folder, name)) for folder in folders]
    found = [corpus for corpus in corpora if source_of(corpus).startswith(source)]
    if len({corpus.fingerprint for corpus in found}) != 1:
        raise FileNotFoundError(
            f"{cache / OWN / name} has {len(found)} corpora of the fingerprint {source.removeprefix(SOURCE)[:12]}...; "
            "expected one, after `make data CORPUS=FILE` with the same file and options"
        )
    return found[0]


def too_short(card: Mapping[str, Any]) -> int:
    """How many users had too few interactions to be split."""
    users = [step["users"] for step in card["steps"]]
    place = [step["step"] for step in card["steps"]].index(USERS_OF.format(SHORTEST))
    return int(users[place - 1] - users[place])


def _opened(corpus: Corpus) -> Corpus:
    return replace(corpus, card={**corpus.card, "origin": OWN, "checked": False})


def _prepare(own: OwnFile, seen: Seen, card: dict[str, Any], folder: Path) -> None:
    read = read_interactions(own.path, seen, card["columns"])
    sequences = k_core_sequences(read, card["k"], card["corpus"], SHORTEST, once=seen.form != "sequences")
    for what, count in (("user", len(sequences.user_ids)), ("item", len(sequences.item_ids))):
        if count < 2:
            raise ValueError(f"corpus {card['corpus']}: {count} {what} is left of {own.path}; expected at least 2")
    text = None
    if own.items:
        reader = partial(item_records, item=card["columns"].get("item"))
        text = read_item_text(own.items, sequences.item_ids.to_pylist(), reader)
    whole = {**card, "malformed_lines": sequences.malformed_lines, "steps": sequences.steps}
    if left_out := too_short(whole):
        logger.warning(
            "%s: %d users have fewer than %d interactions, which cannot be split, and are left out",
            own.path, left_out, SHORTEST,
        )  # fmt: skip
    corpus_files.save(folder, sequences, text, {**whole, "item_text": text.card if text else None})
