"""Item vectors: what text says of neighbours, what a file must hold, what the cache may and may not change."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import data_prep
from data_prep import embed, planted
from data_prep.corpus import Corpus
from data_prep.embed import item_vectors, recipe
from tests.damage import DAMAGE

DATA = os.environ.get("GRBENCH_DATA")
SENTENCES = ["red wool socks", "blue wool socks", "steel garden rake", "garden rake"]


def corpus_of(sentences: list[str] | None, name: str = "shop") -> Corpus:
    count = len(sentences or SENTENCES)
    ids = [f"B{number}" for number in range(count)]
    return Corpus(name, np.array([1, 2, 3], np.int32), np.array([0, 3]), ["A"], ids, item_text=sentences)


@pytest.fixture
def corpus() -> Corpus:
    return corpus_of(SENTENCES)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@dataclass
class Encoders:
    """Stands for the optional package: a model of three numbers per sentence, and how often one was loaded."""

    loaded: list[str]
    __version__: str = "5.0"

    def SentenceTransformer(self, folder: str, local_files_only: bool) -> Any:  # noqa: N802
        assert local_files_only
        self.loaded.append(folder)

        def encode(sentences: list[str], batch_size: int, show_progress_bar: bool) -> np.ndarray:
            assert show_progress_bar
            assert batch_size > 1
            return np.array([[len(said), said.count("o"), 1] for said in sentences], np.float32)

        model = SimpleNamespace(encode=encode)
        model.float = lambda: model
        return model


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> Encoders:
    package = Encoders([])
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    return package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "tiny-model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "modules.json").write_text("[]")
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return model


def test_tfidf_of_the_planted_corpus_mirrors_its_tree(tmp_path: Path) -> None:
    corpus = data_prep.load("planted", cache=tmp_path / "corpora")
    vectors = item_vectors(corpus, "tfidf", cache=tmp_path)
    assert vectors.values.shape[0] == corpus.items + 1
    assert vectors.values.dtype == np.float32
    assert not vectors.values[0].any()
    assert np.allclose(np.linalg.norm(vectors.values[1:], axis=1), 1, atol=1e-6)
    assert len(np.unique(vectors.values, axis=0)) == corpus.items + 1
    assert vectors.name == f"TF-IDF + SVD, {vectors.values.shape[1]}-d"
    assert (vectors.kind, vectors.stand_in) == ("tfidf", True)

    cosine = vectors.values[1:] @ vectors.values[1:].T
    leaf = planted.law(corpus).leaf
    shelf, department = leaf // 4, leaf // 8
    alone = ~np.eye(corpus.items, dtype=bool)
    same_leaf = (leaf[:, None] == leaf) & alone
    same_shelf = (shelf[:, None] == shelf) & (leaf[:, None] != leaf)
    same_department = (department[:, None] == department) & (shelf[:, None] != shelf)
    stranger = department[:, None] != department
    near = [cosine[pairs].mean() for pairs in (same_leaf, same_shelf, same_department, stranger)]
    assert near[0] > near[1] + 0.1 > near[2] + 0.2 > near[3] + 0.2
    nearest = np.where(alone, cosine, -1).argmax(1)
    assert (leaf[nearest] == leaf).mean() > 0.95


def test_tfidf_without_reduction_is_plain_tfidf(corpus: Corpus, tmp_path: Path) -> None:
    """Where SVD drops nothing it is a rotation: cosines are those of TF-IDF, here computed by hand."""
    values = item_vectors(corpus, "tfidf", cache=tmp_path).values[1:].astype(float)
    words = sorted({word for said in SENTENCES for word in said.split()})
    has = np.array([[word in said.split() for word in words] for said in SENTENCES], float)
    weighed = has * (np.log((1 + len(has)) / (1 + has.sum(0))) + 1)
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    assert np.allclose(values @ values.T, weighed @ weighed.T, atol=1e-6)


def test_tfidf_signs_and_bits_are_fixed(corpus: Corpus, tmp_path: Path) -> None:
    first = item_vectors(corpus, "tfidf", cache=tmp_path / "a")
    second = item_vectors(corpus, "tfidf", cache=tmp_path / "b")
    assert first.values.tobytes() == second.values.tobytes()
    assert first.sha256 == second.sha256 == hashlib.sha256(first.values.tobytes()).hexdigest()
    # The first component weighs words of one sign only, hence with positive weights.
    assert (first.values[1:, 0] >= -1e-6).all()


def test_tfidf_has_at_most_256_dimensions(tmp_path: Path) -> None:
    sentences = [f"w{number}x w{number + 1}x w{number * 7 % 300}x" for number in range(300)]
    vectors = item_vectors(corpus_of(sentences), "tfidf", cache=tmp_path)
    assert vectors.values.shape == (301, 256)
    assert vectors.name == "TF-IDF + SVD, 256-d"


def test_tfidf_of_an_item_without_text_is_zero(tmp_path: Path) -> None:
    values = item_vectors(corpus_of([*SENTENCES, "", "the of"]), "tfidf", cache=tmp_path).values
    assert not values[5:].any()
    assert values[1:5].any(axis=1).all()


def test_tfidf_needs_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="item text has 1 different words; 'tfidf' needs at least 2"):
        item_vectors(corpus_of(["rake", "", "rake"]), "tfidf", cache=tmp_path)
    assert not list(tmp_path.rglob("*.sealed"))


def test_arrow_text_gives_the_same_vectors(corpus: Corpus, tmp_path: Path) -> None:
    arrow = replace(corpus, item_text=pa.array(SENTENCES), item_ids=pa.array(corpus.item_ids))
    assert (
        item_vectors(arrow, "tfidf", cache=tmp_path / "a").sha256
        == item_vectors(corpus, "tfidf", cache=tmp_path / "b").sha256
    )


def test_cache_hit_and_miss(corpus: Corpus, folder: Path, encoders: Encoders, tmp_path: Path) -> None:
    def load(of: Corpus) -> np.ndarray:
        return item_vectors(of, "folder", folder, cache=tmp_path / "vectors").values

    first = load(corpus)
    assert first[1:].tolist() == [[14, 3, 1], [15, 3, 1], [17, 0, 1], [11, 0, 1]]
    assert np.array_equal(load(corpus), first)
    assert len(encoders.loaded) == 1

    # Another sentence, other weights, other pooling: each is encoded anew.
    load(corpus_of([*SENTENCES[:3], "iron rake"]))
    (folder / "model.safetensors").write_bytes(b"other weights")
    load(corpus)
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    load(corpus)
    assert len(encoders.loaded) == 4
    assert len(list((tmp_path / "vectors").rglob("*"))) == 1 + 4


def test_what_another_environment_has_encoded_needs_no_encoder(
    corpus: Corpus, folder: Path, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = item_vectors(corpus, "folder", folder, cache=tmp_path / "vectors")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert item_vectors(corpus, "folder", folder, cache=tmp_path / "vectors").sha256 == there.sha256


def test_a_recipe_says_how_vectors_are_made_and_nothing_of_their_values(
    corpus: Corpus, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipes(of: Corpus = corpus) -> list[Any]:
        npz = save(tmp_path / "v.npz", parent_asin=ALL, vectors=ROWS)
        given = [("tfidf", None), ("sentence-t5-base", None), ("folder", folder), ("npz", npz)]
        return [recipe(of, kind, path) for kind, path in given]

    here = recipes()
    assert [made["kind"] for made in here] == ["tfidf", "sentence-t5-base", "folder", "npz"]
    assert (here[0]["width"], here[1]["revision"]) == (embed.TFIDF_WIDTH, embed.T5_REVISION)
    # Nothing is encoded, so no package and no processor has a say.
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert recipes() == here
    assert item_vectors(corpus, "npz", tmp_path / "v.npz").recipe == here[3]
    other = recipes(corpus_of([*SENTENCES[:3], "iron rake"]))
    assert [made != before for made, before in zip(other, here, strict=True)] == [True, True, True, False]
    newer = replace(corpus, card={"item_text": {"template": 7}})
    assert [made.get("template") for made in recipes(newer)] == [7, 7, 7, None]


def test_folder_is_named_by_its_content(corpus: Corpus, folder: Path, encoders: Encoders, tmp_path: Path) -> None:
    vectors = item_vectors(corpus, "folder", folder, cache=tmp_path / "vectors")
    assert re.fullmatch(r"tiny-model \(sha256 [0-9a-f]{12}\), 3-d", vectors.name)
    assert vectors.stand_in
    elsewhere = folder.rename(tmp_path / "elsewhere")
    moved = item_vectors(corpus, "folder", elsewhere, cache=tmp_path / "vectors")
    assert moved.name.split()[1:] == vectors.name.split()[1:]
    assert len(encoders.loaded) == 1


def test_sentence_t5_comes_from_the_hub_cache(
    corpus: Corpus, folder: Path, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, bool]] = []

    def snapshot(repository: str, revision: str, local_files_only: bool) -> str:
        asked.append((repository, revision, local_files_only))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    vectors = item_vectors(corpus, "sentence-t5-base", cache=tmp_path / "vectors")
    revision = "50c53e206f8b01c9621484a3c0aafce4e55efebf"
    assert asked == [("sentence-transformers/sentence-t5-base", revision, True)]
    assert encoders.loaded == [str(folder)]
    assert vectors.name == "sentence-transformers/sentence-t5-base@50c53e2, 3-d"
    assert not vectors.stand_in


def test_sentence_t5_without_weights(
    corpus: Corpus, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"not in the local hub cache; .*hf download .*or use kind 'tfidf'"):
        item_vectors(corpus, "sentence-t5-base", cache=tmp_path / "vectors")


@pytest.mark.parametrize("kind", ["sentence-t5-base", "folder"])
def test_encoders_without_the_package(
    corpus: Corpus, folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"not installed; .*pip install sentence-transformers.*or use kind 'tfidf'"):
        item_vectors(corpus, kind, folder if kind == "folder" else None, cache=tmp_path / "vectors")


def test_an_encoder_that_gives_nan(
    corpus: Corpus, folder: Path, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_encode", lambda *_: np.array([[1.0], [np.nan], [2.0], [3.0]], np.float32))
    with pytest.raises(ValueError, match=r"tiny-model .*: 1 of 4 vectors hold NaN or infinity"):
        item_vectors(corpus, "folder", folder, cache=tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_npz_is_matched_by_id(corpus: Corpus, tmp_path: Path) -> None:
    ids = ["B3", "B1", "extra", "B0", "B2"]
    rows = np.array([[3, 3.5], [1, 1.5], [9, np.nan], [0, 0.5], [2, 2.5]], np.float16)
    vectors = item_vectors(
        replace(corpus, item_text=None), "npz", save(tmp_path / "v.npz", parent_asin=ids, vectors=rows)
    )
    assert vectors.values.tolist() == [[0, 0], [0, 0.5], [1, 1.5], [2, 2.5], [3, 3.5]]
    assert vectors.values.dtype == np.float32
    assert (vectors.kind, vectors.name, vectors.stand_in) == ("npz", "v.npz", True)


ALL = ["B0", "B1", "B2", "B3"]
ROWS = np.ones((4, 2), np.float32)
DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "missing items": (
        {"parent_asin": ["B1"], "vectors": ROWS[:1]},
        r"misses 3 of the 4 items of corpus shop \(first: B0, B2, B3\)",
    ),
    "no ids": ({"vectors": ROWS}, "parent_asin is not a file in the archive"),
    "no vectors": ({"parent_asin": ALL}, "vectors is not a file in the archive"),
    "pickled ids": ({"parent_asin": np.array(ALL, object), "vectors": ROWS}, "Object arrays cannot be loaded"),
    "numbers as ids": ({"parent_asin": [0, 1, 2, 3], "vectors": ROWS}, r"parent_asin is int64 \[4\]; expected text"),
    "table of ids": ({"parent_asin": [ALL], "vectors": ROWS}, r"parent_asin is <U2 \[1, 4\]; expected text \[M\]"),
    "repeated ids": (
        {"parent_asin": [*ALL[:3], "B0"], "vectors": ROWS},
        r"parent_asin repeats 1 of its 4 ids \(first: 'B0'\)",
    ),
    "no width": (
        {"parent_asin": ALL, "vectors": ROWS[:, :0]},
        r"vectors is float32 \[4, 0\]; expected floats \[4, F\]",
    ),
    "beyond a float32": ({"parent_asin": ALL, "vectors": ROWS.astype(float) * 1e300}, "4 of 4 vectors hold NaN or inf"),
    "wrong rank": ({"parent_asin": ALL, "vectors": ROWS[:, 0]}, r"vectors is float32 \[4\]; expected floats \[4, F\]"),
    "wrong length": ({"parent_asin": ALL, "vectors": ROWS[:2]}, r"vectors is float32 \[2, 2\]; expected floats \[4"),
    "whole numbers": ({"parent_asin": ALL, "vectors": ROWS.astype(int)}, r"vectors is int64 \[4, 2\]; expected floats"),
    "nan": ({"parent_asin": ALL, "vectors": ROWS * [[1], [np.nan], [np.inf], [1]]}, "2 of 4 vectors hold NaN"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_npz(corpus: Corpus, case: str, tmp_path: Path) -> None:
    arrays, sentence = DAMAGED[case]
    with pytest.raises(ValueError, match=rf"v\.npz:? .*{sentence}") as raised:
        item_vectors(corpus, "npz", save(tmp_path / "v.npz", **arrays))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", [*DAMAGE, "an array"])
def test_no_npz_at_all(corpus: Corpus, how: str, tmp_path: Path) -> None:
    path = save(tmp_path / "v.npz", parent_asin=ALL, vectors=ROWS)
    if how == "an array":
        np.save(path.open("wb"), ROWS)
    else:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    with pytest.raises(ValueError, match=r"v\.npz: .*expected an \.npz file with parent_asin"):
        item_vectors(corpus, "npz", path)


def test_missing_npz(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"v\.npz is missing; expected an \.npz file"):
        item_vectors(corpus, "npz", tmp_path / "v.npz")


def test_default_npz_in_any_case(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sequences").mkdir()
    save(tmp_path / "sequences/Other_Shop.item_vectors.npz", parent_asin=ALL, vectors=ROWS)
    monkeypatch.setenv("GRBENCH_DATA", str(tmp_path))
    vectors = item_vectors(replace(corpus, name="other_shop"), "npz")
    assert vectors.name == "Other_Shop.item_vectors.npz of GRBENCH_DATA"
    with pytest.raises(FileNotFoundError, match=r"sequences has no shop\.item_vectors\.npz in any case"):
        item_vectors(corpus, "npz")
    monkeypatch.delenv("GRBENCH_DATA")
    with pytest.raises(ValueError, match=r"item vectors 'npz' need a path .*; expected one, or GRBENCH_DATA"):
        item_vectors(corpus, "npz")


@pytest.mark.skipif(not DATA, reason="GRBENCH_DATA is not set: no Musical_Instruments vectors")
def test_vectors_of_musical_instruments() -> None:
    assert DATA
    with np.load(Path(DATA) / "sequences/Musical_Instruments.item_vectors.npz") as file:
        ids, rows = file["parent_asin"], file["vectors"]
    order = np.random.default_rng(0).permutation(len(ids))
    flat, offsets = np.array([1, 2, 3], np.int32), np.array([0, 3])
    shuffled = Corpus("musical_instruments", flat, offsets, ["A"], pa.array(ids[order].tolist()))
    vectors = item_vectors(shuffled, "npz")
    assert vectors.values.shape == (24_588, 256)
    assert np.array_equal(vectors.values[1:], rows[order].astype(np.float32))
    assert vectors.stand_in


@pytest.mark.parametrize("kind", ["tfidf", "folder", "sentence-t5-base"])
def test_text_kinds_need_text(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"corpus shop has no item text for '{kind}' to encode; .*vectors=npz"):
        item_vectors(corpus_of(None), kind, cache=tmp_path)


def test_wrong_arguments(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no item vectors 'tdidf'; did you mean 'tfidf'\? possible: sentence-t5-base, "
    ):
        item_vectors(corpus, "tdidf", cache=tmp_path)
    with pytest.raises(ValueError, match="item vectors 'folder' need a path"):
        item_vectors(corpus, "folder", cache=tmp_path)
    with pytest.raises(ValueError, match="item vectors 'tfidf' take no path"):
        item_vectors(corpus, "tfidf", tmp_path, cache=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"has no modules\.json; expected a folder with a sentence-transformers"
    ):
        item_vectors(corpus, "folder", tmp_path, cache=tmp_path)


def test_another_scikit_learn_encodes_anew(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.0", "2.0", "2.0"):
        monkeypatch.setattr(embed, "version", lambda name, version=version: version)
        item_vectors(corpus, "tfidf", cache=tmp_path)
    assert len(list(tmp_path.rglob("*.sealed"))) == 2


def test_weights_that_were_saved_in_half_precision_encode_in_single(
    corpus: Corpus, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halved = SimpleNamespace(encode=lambda *_, **__: pytest.fail("in half precision"))
    halved.float = lambda: SimpleNamespace(encode=lambda said, **_: np.ones((len(said), 3), np.float32))
    package = SimpleNamespace(SentenceTransformer=lambda *_, **__: halved)
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    assert item_vectors(corpus, "folder", folder, cache=tmp_path).values[1:].tolist() == [[1.0] * 3] * 4
