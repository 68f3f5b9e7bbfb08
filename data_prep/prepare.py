"""`load`: a corpus name -> a Corpus that matches its committed card, prepared once and then memory-mapped."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from data_prep import amazon2023, corpus_files
from data_prep.amazon2023 import GENERATED, OFFICIAL_K, Origin, Source
from data_prep.atomic import atomic_folder, write_json
from data_prep.corpus import COLD_ITEMS, GLOBAL_TIME, SHUFFLED_TIES, Corpus
from data_prep.data_folder import VARIABLE, data_folder
from data_prep.download import fetch, fetch_hub, pinned
from data_prep.files import parse_object, sha256_of
from data_prep.filtering import Sequences, k_core_sequences
from data_prep.item_text import TEMPLATE_SHA256, ItemText, read_item_text
from data_prep.sequences import read_sequences

logger = logging.getLogger(__name__)

# Part of every prepared corpus's key: raise it with any change to what the preparation makes of the same files.
PREPARATION_VERSION = 5
CARDS = Path(__file__).with_name("cards")
# Of a generated corpus that is cut at one moment, about that of the official split.
LEARNED_SHARE = 0.9
DOWNLOADED = ("official", "hub")


def load(
    name: str,
    source: str = "auto",
    cache: Path = Path("runs/corpora"),
    data: Path | None = None,
    k: int = OFFICIAL_K,
) -> Corpus:
    """Load a corpus, preparing it on the first call.

    Args:
        name: one of `names()`; with `_shuffled_ties` behind it, see `Corpus.shuffled_ties`, with `_global_time`
            `Corpus.global_time`, with `_cold_items` `Corpus.cold_items`.
        source: `local` (a folder laid out as the official downloads are), `official` (the site), `hub`, or `auto`:
            local where the folder has the corpus, else official. Generated corpora know `auto` only.
        cache: folder for downloads and prepared corpora.
        data: the local folder; by default the environment variable GRBENCH_DATA.
        k: users and items with fewer interactions are left out; cards hold for the default.

    Raises:
        ValueError: unknown name or source, damaged file, empty k-core, or a corpus that does not match its card.
        FileNotFoundError: the local folder does not have the corpus, or the server does not have the file.
        OSError: the disk is full.
    """
    if twice := next((ending for ending in (SHUFFLED_TIES, GLOBAL_TIME, COLD_ITEMS) if name.count(ending) > 1), None):
        raise ValueError(f"corpus {name!r} has {twice} twice; expected it once")
    if name.endswith(SHUFFLED_TIES):
        return load(name.removesuffix(SHUFFLED_TIES), source, cache, data, k).shuffled_ties()
    if name.endswith(GLOBAL_TIME):
        corpus = load(name.removesuffix(GLOBAL_TIME), source, cache, data, k)
        return corpus.global_time(_cut(corpus))
    if name.endswith(COLD_ITEMS):
        return load(name.removesuffix(COLD_ITEMS), source, cache, data, k).cold_items()
    category = amazon2023.category_of(name)
    found = find_source(category, source, cache, data, k)
    logger.info("%s: %s files, layout %s", name, found.origin, found.layout)
    files = _hashes(found, cache / "hashes", committed_card(name).get("sources", {}))
    folder = cache / name / _content_key(found, files, k)
    corpus = corpus_files.made_once(folder, name, lambda: _prepare(name, found, files, k, folder))
    expected = committed_card(name).get("expected", {}).get(found.layout) if k == OFFICIAL_K else None
    corpus = replace(corpus, card={**corpus.card, "origin": found.origin, "checked": expected is not None})
    _check(corpus, expected or {})
    return corpus


def _cut(corpus: Corpus) -> int:
    """Where the test part of a corpus begins that is cut at one moment: as in the official split by time; of a
    generated one behind nine tenths of its interactions."""
    if corpus.times is None or not corpus.card["origin"].startswith("generated"):
        return amazon2023.TEST_BEGINS
    return int(np.quantile(corpus.times, LEARNED_SHARE))


def committed_card(name: str) -> dict[str, Any]:
    """What the repository expects of a corpus; empty where nobody has committed a card for it.

    Raises:
        ValueError: the card is no JSON.
    """
    path = CARDS / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        return parse_object(path.read_text(errors="replace"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected a card") from error


def write_card(corpus: Corpus) -> Path:
    """Add to the committed card the hashes of a corpus's downloads, and what to expect of it, where it has none yet.

    Raises:
        ValueError: the corpus was not downloaded: only a download is the same for everyone.
    """
    origin, layout = corpus.card["origin"], corpus.card["layout"]
    if origin not in DOWNLOADED:
        raise ValueError(
            f"{corpus.name} is {origin}, not downloaded; expected source official or hub, to card hashes of"
        )
    path = CARDS / f"{corpus.name}.json"
    known = committed_card(corpus.name)
    hashes = {_remote(origin, name): sha256 for name, sha256 in corpus.card["files"].items()}
    expected = {layout: facts(corpus)} if corpus.card["k"] == OFFICIAL_K else {}
    card = {"corpus": corpus.name, "about": f"Amazon-2023 {amazon2023.category_of(corpus.name)}.", **known}
    card["sources"] = {**hashes, **known.get("sources", {})}
    card["expected"] = {**expected, **known.get("expected", {})}
    write_json(path, card)
    return path


def _remote(origin: str, name: str) -> str:
    """A file's name on a card: the site packs what the hub does not."""
    return f"{name}.gz" if origin == "official" else name


def find_source(category: str, origin: str, cache: Path, data: Path | None, k: int) -> Source:
    """Where the corpus's files are, after downloading them if need be. Arguments and errors are those of `load`."""
    if origin not in get_args(Origin):
        near = difflib.get_close_matches(origin, get_args(Origin), n=1, cutoff=0.0)[0]
        raise ValueError(f"no source {origin!r}; did you mean {near!r}? possible: {', '.join(get_args(Origin))}")
    if category in GENERATED:
        if origin != "auto":
            raise ValueError(f"{category.lower()} is generated, not {origin}; expected source 'auto'")
        return _generated(category, cache, k)
    folder = (data or data_folder()) if origin in ("auto", "local") else None
    local = amazon2023.find_local(category, folder, k) if folder else None
    if local:
        return local
    if origin == "local":
        where = f"{folder} has no files of {category} for a {k}-core" if folder else f"{VARIABLE} is not set"
        raise FileNotFoundError(f"{where}; expected a folder laid out as the official downloads are")
    return _downloaded(category, "hub" if origin == "hub" else "official", cache / "downloads", k)


def _downloaded(category: str, origin: str, folder: Path, k: int) -> Source:
    layout, names, metadata = amazon2023.remote_files(category, k)
    paths = {}
    for name in (*names, metadata):
        # The site serves the benchmark files below benchmark/, packed; the hub the same, unpacked.
        remote = f"benchmark/{name}" if layout == "rating_only" and name != metadata else name
        if origin == "hub":
            paths[name] = fetch_hub(f"{amazon2023.HUB}/{remote}", folder / "hub")
        else:
            wanted = committed_card(category.lower()).get("sources", {}).get(_remote(origin, name))
            paths[name] = fetch(f"{amazon2023.OFFICIAL}/{remote}.gz", folder / "official" / f"{name}.gz", wanted)
    return Source(origin, layout, {name: paths[name] for name in names}, {metadata: paths[metadata]})


def _generated(category: str, cache: Path, k: int) -> Source:
    from data_prep import planted, planted_files

    sources = [Path(module).read_bytes() for module in (planted.__file__, planted_files.__file__)]
    generator = hashlib.sha256(b"".join(sources)).hexdigest()[:16]
    folder = cache / category.lower() / f"source-{generator}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            planted_files.write(temporary, noise_only=category == "Planted_Noise")
    found = amazon2023.find_local(category, folder, k)
    if found is None:
        raise FileNotFoundError(f"the generator wrote no reviews of {category} below {folder}; expected raw reviews")
    return replace(found, origin="generated")


def _hashes(source: Source, memory: Path, wanted: dict[str, str]) -> dict[str, str]:
    """SHA-256 of every source file, by its name inside an official folder.

    Downloads must be as they came, and as the card wants them; a local copy may be packed otherwise.
    """
    hashes = {}
    for name, path in {**source.files, **source.metadata}.items():
        hashes[name] = sha256_of(path, memory)
        if pinned(path) not in (None, hashes[name]):
            raise ValueError(f"{path} has changed: SHA-256 is {hashes[name]}, expected {pinned(path)} of its download")
        carded = wanted.get(_remote(source.origin, name)) if source.origin in DOWNLOADED else None
        if carded not in (None, hashes[name]):
            raise ValueError(f"{path}: SHA-256 is {hashes[name]}; expected {carded} of the card; delete it and retry")
    return hashes


def _content_key(source: Source, hashes: dict[str, str], k: int) -> str:
    """Names a prepared corpus by all that its content depends on."""
    template = TEMPLATE_SHA256 if source.metadata else None
    said = json.dumps([PREPARATION_VERSION, source.layout, hashes, template, k], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _prepare(name: str, source: Source, hashes: dict[str, str], k: int, folder: Path) -> None:
    sequences = _sequences(name, source, k)
    text: ItemText | None = None
    for path in source.metadata.values():
        text = read_item_text(path, sequences.item_ids.to_pylist())
    card = {
        "corpus": name,
        "layout": source.layout,
        "k": k if source.layout != "sequences" else None,
        "preparation": PREPARATION_VERSION,
        "files": hashes,
        "malformed_lines": sequences.malformed_lines,
        "steps": sequences.steps,
        "item_text": text.card if text else None,
    }
    corpus_files.save(folder, sequences, text, card)


def _sequences(name: str, source: Source, k: int) -> Sequences:
    if source.layout == "sequences":
        return read_sequences(*source.files.values())
    sequences = k_core_sequences(amazon2023.read_interactions(source), k, name)
    if source.layout == "last_out_w_his" and k == OFFICIAL_K:
        amazon2023.check_histories(source, sequences)
    return sequences


def facts(corpus: Corpus) -> dict[str, Any]:
    """What a committed card may expect of a corpus: counts, hashes and the counts at every step."""
    facts = {
        "users": corpus.users,
        "items": corpus.items,
        "interactions": corpus.interactions,
        "train_pairs": len(corpus.trained_on.examples("train")),
        "steps": corpus.card["steps"],
        "sequences_sha256": corpus.sequences_sha256,
    }
    return {**facts, "fingerprint": corpus.fingerprint} if corpus.item_text is not None else facts


def _check(corpus: Corpus, expected: dict[str, Any]) -> None:
    """The committed fingerprint is that with item text: without metadata the sequences alone are compared."""
    found = facts(corpus)
    wrong = [
        f"{key} is {found[key]}, expected {value}"
        for key, value in expected.items()
        if found.get(key, value) != value
    ]  # fmt: skip
    if wrong:
        layout = corpus.card["layout"]
        raise ValueError(f"corpus {corpus.name} ({layout}) does not match its committed card: {'; '.join(wrong)}")
