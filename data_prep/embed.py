"""Item vectors: from item text by an encoder, or from a file. Which one it was is part of a row's identity.

The papers encode the items' text with Sentence-T5 base; vectors of any other origin are marked as stand-ins.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32

from data_prep.corpus import Corpus, ItemVectors, VectorKind, source_name
from data_prep.data_folder import beside_sequences, data_folder
from data_prep.files import content_sha256
from data_prep.sealed import read_sealed, write_sealed
from data_prep.vector_file import check_vector_file, read_arrays

logger = logging.getLogger(__name__)

KINDS = get_args(VectorKind)
# Those that are made from the items' text.
ENCODED = {kind for kind in KINDS if kind != "npz"}
# Those that are on the user's own disk.
WITH_PATH = ("npz", "folder")
T5_REPOSITORY = "sentence-transformers/sentence-t5-base"
T5_REVISION = "50c53e206f8b01c9621484a3c0aafce4e55efebf"
TFIDF_WIDTH = 256
# Power iterations of the randomised SVD; 7 is what scikit-learn takes itself where few components are asked for.
TFIDF_ITERATIONS = 7
ENCODER_BATCH = 64
NPZ_ENDING = ".item_vectors.npz"
SHOWN = 3

Rows = Float32[np.ndarray, "N F"]


@dataclass(frozen=True)
class _Encoder:
    """How sentences become vectors.

    Attributes:
        name: for a reader.
        identity: what the vectors are made by, the same on every machine; with the sentences a row's identity.
        versions: of the libraries that compute them, in which their last digits may differ.
        encode: imports those libraries.
    """

    name: str
    identity: dict[str, Any]
    versions: dict[str, str]
    encode: Callable[[list[str]], Rows]


def item_vectors(
    corpus: Corpus, kind: str, path: Path | None = None, cache: Path = Path("runs/vectors")
) -> ItemVectors:
    """One vector per item of the corpus.

    Args:
        corpus: its `item_text` is encoded; `npz` needs its `item_ids` only.
        kind: where the vectors come from:
            `sentence-t5-base`: the papers' encoder at a pinned revision, from the local hub cache;
            `tfidf`: TF-IDF and truncated SVD of the corpus's own text, unit length; an item without words stays zero;
            `npz`: a file with `parent_asin` `[M]` (text) and `vectors` `[M, F]` (floats), in any order;
            `folder`: a sentence-transformers model in a local folder.
        path: the file of `npz` (by default `<corpus>.item_vectors.npz` in `$GRBENCH_DATA/sequences`, in any case of
            letters) or the folder of `folder`; the other kinds take none.
        cache: folder where encoded text is kept, by a hash of encoder and sentences.

    Returns:
        Vectors `[I, F]`, row 0 zero, with name, hash and recipe.

    Raises:
        ValueError: unknown kind; a path too many or too few; no item text; a file with other arrays, shapes, types,
            repeated ids or values that are not finite; items without a vector; sentence-transformers not installed.
        FileNotFoundError: the file, the folder or the encoder's weights are not there.
    """
    _check_kind(kind)
    if kind == "npz":
        file, name = (path, path.name) if path else _default_npz(corpus)
        rows = _read_npz(corpus, file)
    else:
        sentences, encoder = _sentences(corpus, kind), _encoder(kind, path)
        rows = _cached(encoder, sentences, cache / kind)
        name = f"{encoder.name}, {rows.shape[1]}-d"
    values = np.concatenate([np.zeros_like(rows[:1]), rows])
    digest = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()
    stand_in = kind != "sentence-t5-base"
    return ItemVectors(values, kind, name, digest, stand_in, recipe(corpus, kind, path))


def recipe(corpus: Corpus, kind: str, path: Path | None = None) -> dict[str, Any]:
    """How the item vectors of a kind are made, without making them: what a row's key knows of them.

    No value of the vectors is in it, for another processor computes other last digits. Arguments and errors are those
    of `item_vectors`.

    Returns:
        For an encoder its identity (name, revision or hash, width), the version of the text's template where the corpus
        knows it, and the hash of the text of all items; for `npz` the hash of the file.
    """
    _check_kind(kind)
    if kind == "npz":
        file = path or _default_npz(corpus)[0]
        check_vector_file(file)
        return {"kind": kind, "file_sha256": content_sha256(file)}
    sentences, encoder = _sentences(corpus, kind), _encoder(kind, path)
    template = (corpus.card.get("item_text") or {}).get("template")
    said = hashlib.sha256(json.dumps(sentences).encode()).hexdigest()
    return {"kind": kind, **encoder.identity, "template": template, "text_sha256": said}


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no item vectors {kind!r}; did you mean {near!r}? possible: {', '.join(KINDS)}")


def no_text(corpus: Corpus, kind: str) -> str:
    """What is said where a kind of item vectors is asked for of a corpus without text."""
    return (
        f"corpus {corpus.name} has no item text for {kind!r} to encode; expected item metadata (--items, beside a file "
        "of your own), or a setting: vectors=sasrec-64, trained in the same run, or vectors=npz, a file by item id "
        "(--vectors-path)"
    )


def _sentences(corpus: Corpus, kind: str) -> list[str]:
    if corpus.item_text is None:
        raise ValueError(no_text(corpus, kind))
    return [str(sentence) for sentence in corpus.item_text]


def _encoder(kind: str, path: Path | None) -> _Encoder:
    if kind == "folder":
        if path is None:
            raise ValueError(
                "item vectors 'folder' need a path (--vectors-path); expected a sentence-transformers model's folder"
            )
        return _folder_encoder(path)
    if path is not None:
        kinds = ", ".join(WITH_PATH)
        raise ValueError(f"item vectors {kind!r} take no path but were given {path}; kinds with a path: {kinds}")
    return _tfidf_encoder() if kind == "tfidf" else _t5_encoder()


def _cached(encoder: _Encoder, sentences: list[str], cache: Path) -> Rows:
    """The encoder's vectors, encoded once for the same encoder, versions and sentences."""
    said = json.dumps([encoder.identity, encoder.versions, sentences], sort_keys=True)
    path = cache / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.sealed"
    try:
        return _unsealed(path, len(sentences))
    except FileNotFoundError:
        pass
    except ValueError as error:
        logger.warning("%s; the text is encoded again", error)
    encoded = np.ascontiguousarray(encoder.encode(sentences), dtype=np.float32)
    _check_finite(encoded, encoder.name)
    content = io.BytesIO()
    np.save(content, encoded, allow_pickle=False)
    write_sealed(path, content.getbuffer())
    # Read back even when just written: a miss and a hit cannot differ.
    return _unsealed(path, len(sentences))


def _unsealed(path: Path, count: int) -> Rows:
    """
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else than `count` vectors.
    """
    rows: Rows = np.load(io.BytesIO(read_sealed(path)), allow_pickle=False)
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
        raise ValueError(f"{path} holds {rows.dtype} of the shape {rows.shape}; expected {count} finite vectors")
    return rows


def _tfidf_encoder() -> _Encoder:
    words = {"sublinear_tf": True, "stop_words": "english", "strip_accents": "unicode"}
    svd = {"n_iter": TFIDF_ITERATIONS, "random_state": 0}

    def encode(sentences: list[str]) -> Rows:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize
        from threadpoolctl import threadpool_limits

        vectorizer = TfidfVectorizer(**words)
        analyze = vectorizer.build_analyzer()
        found = {word for sentence in sentences for word in analyze(sentence)}
        if len(found) < 2:
            raise ValueError(f"the item text has {len(found)} different words; 'tfidf' needs at least 2")
        counts = vectorizer.fit_transform(sentences)
        # One thread: the order of summation, hence the last bits, would depend on the number of cores.
        with threadpool_limits(1):
            width = min(TFIDF_WIDTH, *counts.shape)
            # scikit-learn fixes the signs: the largest weight of every component is positive.
            reduced = TruncatedSVD(width, **svd).fit_transform(counts)
        rows: Rows = normalize(reduced).astype(np.float32)
        return rows

    return _Encoder(
        name="TF-IDF + SVD",
        identity={"width": TFIDF_WIDTH, **words, **svd},
        versions={"scikit-learn": version("scikit-learn")},
        encode=encode,
    )


def _t5_encoder() -> _Encoder:
    return _Encoder(
        name=f"{T5_REPOSITORY}@{T5_REVISION[:7]}",
        identity={"repository": T5_REPOSITORY, "revision": T5_REVISION},
        versions={},
        encode=lambda sentences: _encode(_sentence_transformers(), _t5_folder(), sentences),
    )


def _t5_folder() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(T5_REPOSITORY, revision=T5_REVISION, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"the weights of {T5_REPOSITORY} are not in the local hub cache; expected them after "
            f"`hf download {T5_REPOSITORY} --revision {T5_REVISION}`, or use kind 'tfidf'"
        ) from error


def _folder_encoder(folder: Path) -> _Encoder:
    if not (folder / "modules.json").is_file():
        raise FileNotFoundError(f"{folder} has no modules.json; expected a folder with a sentence-transformers model")
    digest = _folder_sha256(folder)
    return _Encoder(
        name=f"{folder.resolve().name} (sha256 {digest[:12]})",
        identity={"encoder_sha256": digest},
        versions={},
        encode=lambda sentences: _encode(_sentence_transformers(), folder, sentences),
    )


def _sentence_transformers() -> Any:
    """Imported to encode only: vectors that another environment has encoded serve where it is not installed."""
    try:
        return importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        raise ValueError(
            "sentence-transformers is not installed; expected it after `pip install sentence-transformers`, "
            "or use kind 'tfidf'"
        ) from error


def _encode(sentence_transformers: Any, folder: Path, sentences: list[str]) -> Rows:
    model = sentence_transformers.SentenceTransformer(str(folder), local_files_only=True)
    # Single precision whatever the weights were saved in; encode() sorts by length before it cuts into batches.
    return np.asarray(model.float().encode(sentences, batch_size=ENCODER_BATCH, show_progress_bar=True))


def _folder_sha256(folder: Path) -> str:
    """Hash of weights and of the settings that say how they are used (pooling, normalisation, tokenizer)."""
    digest = hashlib.sha256()
    files = [file for ending in ("safetensors", "bin", "json", "txt", "model") for file in folder.rglob(f"*.{ending}")]
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder).as_posix()} {content_sha256(file)}\n".encode())
    return digest.hexdigest()


def _default_npz(corpus: Corpus) -> tuple[Path, str]:
    """The file that lies beside the corpus's sequences in the user's data folder, and how to name it."""
    data = data_folder()
    if data is None:
        raise ValueError(
            "item vectors 'npz' need a path (--vectors-path); expected one, or GRBENCH_DATA to name a folder that has "
            "such a file"
        )
    file = beside_sequences(data, f"{source_name(corpus.name)}{NPZ_ENDING}")
    return file, f"{file.name} of GRBENCH_DATA"


def _read_npz(corpus: Corpus, path: Path) -> Rows:
    """Rows in the order of the corpus's items."""
    ids, vectors = read_arrays(path, corpus.items)
    row = {str(asin): number for number, asin in enumerate(ids)}
    if len(row) < len(ids):
        first = next(str(asin) for number, asin in enumerate(ids) if row[str(asin)] != number)
        raise ValueError(
            f"{path}: parent_asin repeats {len(ids) - len(row)} of its {len(ids)} ids (first: {first!r:.50}); "
            "expected each once"
        )
    items = [str(asin) for asin in corpus.item_ids]
    missing = [asin for asin in items if asin not in row]
    if missing:
        first = ", ".join(missing[:SHOWN])
        raise ValueError(
            f"{path} misses {len(missing)} of the {len(items)} items of corpus {corpus.name} (first: {first}); "
            "expected a vector for each"
        )
    # What is too large for a float32 becomes infinite, which is told.
    with np.errstate(over="ignore"):
        rows = vectors[[row[asin] for asin in items]].astype(np.float32)
    _check_finite(rows, str(path))
    return rows


def _check_finite(rows: Rows, where: str) -> None:
    bad = int((~np.isfinite(rows)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{where}: {bad} of {len(rows)} vectors hold NaN or infinity; expected finite numbers")
