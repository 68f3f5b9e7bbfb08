"""A row's model, asked: from its record, and from a folder that knows no corpus."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from benchmarks.__main__ import main as bench
from data_prep.codes_file import read_codes
from data_prep.corpus import Corpus
from data_prep.files import content_sha256
from grbench import export, load
from grbench.__main__ import main
from grbench.module_file import described, rebuilt
from grbench.served import Served
from leaderboards.store import Run, read_run
from models.api import Ranking
from models.parts.construction import construction
from models.parts.seq2seq import T5Sizes
from models.sasrec import Config as SasRecConfig
from models.sasrec import SasRec
from models.tiger import Config, Tiger
from tests.damage import DAMAGE
from tests.factories import index_of
from tests.leaderboards.test_record import run_of

pytestmark = pytest.mark.slow

SMALL = ("epochs=2", "width=8", "inner=8", "layers=1")


class Made(NamedTuple):
    """Attributes: data, of the corpus; work, folder of trainings; record, of a SASRec; folder, its export."""

    data: Path
    work: Path
    record: Path
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_files: Callable[[Path], Path]) -> Made:
    place = tmp_path_factory.mktemp("export")
    data, work, board = tiny_files(place), place / "work", place / "board"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRBENCH_DATA", str(data))
        asked = ["bench", "--corpus", "all_beauty", "--models", "sasrec", "--track", "off", "--set", *SMALL]
        assert bench([*asked, "--work", str(work), "--board", str(board)]) == 0
        (record,) = board.glob("all_beauty/sasrec/*/seed-0.json")
        folder = place / "exported"
        assert main(["export", str(record), str(folder), "--work", str(work)]) == 0
    return Made(data, work, record, folder)


@pytest.fixture
def of_record(made: Made, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    return load(made.record, made.work)


@pytest.fixture
def exported(made: Made) -> Served:
    return load(made.folder)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


def test_it_recommends_what_the_recommender_ranks(exported: Served) -> None:
    history = ["B03", "B10", "B07"]
    numbers = torch.tensor([[exported.item_ids.index(item) + 1 for item in history]])
    with torch.inference_mode():
        items, scores, _, _ = exported.recommender.rank(numbers, 5)
    found = exported.recommend(history, k=5)
    assert found.items == [exported.item_ids[item - 1] for item in items[0].tolist()]
    assert found.scores == scores[0].tolist()
    assert found.certified


def test_a_list_ends_with_the_catalogue(exported: Served) -> None:
    found = exported.recommend(["B01"], k=1_000)
    assert sorted(found.items) == sorted(exported.item_ids)
    assert found.certified


def test_ids_of_any_letters_come_back(made: Made, exported: Served, tmp_path: Path) -> None:
    """The line separator of Unicode is no end of a line in a file."""
    ids = [f"ключ\u2028{number}" for number in range(40)]
    run = read_run(made.record.parents[3], made.record)
    folder = export.write(exported.recommender, ids, run, tmp_path / "letters")
    assert list(load(folder).item_ids) == ids


def test_unseen_leaves_the_history_out_and_nothing_else(exported: Served) -> None:
    history = exported.recommend(["B03"], k=3).items
    whole = exported.recommend(history, k=40).items
    assert exported.recommend(history, k=10, unseen=True).items == [item for item in whole if item not in history][:10]
    assert len(exported.recommend(history, k=40, unseen=True).items) == 37


def test_many_histories_come_back_in_their_order(exported: Served) -> None:
    """Those of other lengths lie between those that are ranked together."""
    histories = [["B01"], ["B02", "B03", "B04"], ["B05"], ["B06", "B07"]]
    together = exported.recommend_all(histories, k=4)
    for history, found in zip(histories, together, strict=True):
        alone = exported.recommend(history, k=4)
        assert found.items == alone.items
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
    assert exported.recommend_all([]) == []


def test_the_model_reads_the_last_items_alone(exported: Served) -> None:
    longest = exported.recommender.history_length
    history = [f"B{number % 40:02}" for number in range(longest + 7)]
    assert exported.recommend(history) == exported.recommend(history[-longest:])


def test_a_history_may_be_an_array(exported: Served) -> None:
    assert exported.recommend(np.array(["B01", "B02"])) == exported.recommend(["B01", "B02"])  # type: ignore[arg-type]
    keys = dict.fromkeys(["B01", "B02"]).keys()
    assert exported.recommend(keys) == exported.recommend(["B01", "B02"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("history", "k", "said"),
    [
        ([], 10, r"history 1 is empty; expected at least one among the 40 items"),
        (["B01", "toaster"], 10, r"history 1 names item 'toaster', which is not among the 40 items"),
        (["B01"], 0, r"k is 0; expected at least 1"),
        ("B01", 10, r"history 1 is the str 'B01'; expected item ids in a list"),
        ({"B01"}, 10, r"history 1 is the set \{'B01'\}; expected item ids in a list, oldest first"),
        ({"B01": 5}, 10, r"history 1 is the dict \{'B01': 5\}; expected item ids in a list, oldest first"),
        (None, 10, r"history 1 is None; expected item ids in a list"),
        (np.array("B01"), 10, r"history 1 is array\('B01'.*; expected item ids in a list"),
        ([["B01", "B02"]], 10, r"history 1 names item \['B01', 'B02'\], which is not among the 40 items"),
        ([{"id": "B01"}], 10, r"history 1 names item \{'id': 'B01'\}, which is not among the 40 items"),
    ],
)
def test_what_cannot_be_answered_is_told(exported: Served, history: Any, k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exported.recommend(history, k)
    with pytest.raises(ValueError, match=said):
        exported.recommend_all([history], k)


def test_an_export_is_the_row(of_record: Served, exported: Served, tiny_corpus: Corpus) -> None:
    assert exported.record == of_record.record
    assert list(exported.item_ids) == list(of_record.item_ids)
    histories = [["B01", "B05"], ["B39"]]
    assert exported.recommend_all(histories, 40) == of_record.recommend_all(histories, 40)


def test_a_folder_that_another_code_ranks_with_is_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are the same; what it reads of a history is another item."""
    was = SasRec.rank

    def other(self: SasRec, history: Tensor, k: int) -> Ranking:
        return was(self, (history % 40 + 1) * (history > 0), k)

    assert load(copy).recommend(["B01"])
    monkeypatch.setattr(SasRec, "rank", other)
    with pytest.raises(
        ValueError, match=r"no model can be read: it ranks otherwise than when it was written: \d+ of 256"
    ):
        load(copy)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("length", [5, 20, 50])
def test_code_that_reads_one_kind_of_history_otherwise_is_told(
    full: bool, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have padding beside others, or those that have none."""
    model = SasRec(SasRecConfig(width=16, inner=16, layers=1, history=length), 200, 1.0).eval()
    torch.nn.init.normal_(model.item.weight)
    histories, was = export._drawn(length, 200), SasRec.rank
    assert {len(each) for each in histories} >= {1, length}
    lists = export._lists(model, histories, 16)

    def other(self: SasRec, history: Tensor, k: int) -> Ranking:
        here = ((history > 0).sum(1, keepdim=True) == length) == full
        return was(self, torch.where(here & (history > 0), history % 200 + 1, history), k)

    export._check_lists(model, histories, lists)
    monkeypatch.setattr(SasRec, "rank", other)
    with pytest.raises(ValueError, match=r"ranks otherwise than when it was written: \d+ of 256"):
        export._check_lists(model, histories, lists)


@pytest.mark.parametrize(
    "asked",
    [
        {"histories": [[1]], "lists": []},
        {"histories": [], "lists": [[1]]},
        {"histories": [1, 2], "lists": [[1], [2]]},
    ],
)
def test_strange_lists_are_told(copy: Path, asked: dict[str, Any]) -> None:
    resealed(copy, lambda told: told.update(asked=asked))
    with pytest.raises(ValueError, match="no model can be read"):
        load(copy)


def test_what_never_ranked_is_not_said_to_rank_no_more(
    made: Made, exported: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SasRec, "rank", lambda self, history, k: 1 / 0)
    run = read_run(made.record.parents[3], made.record)
    with pytest.raises(ValueError, match=r"^SasRec cannot rank: division by zero$"):
        export.write(exported.recommender, exported.item_ids, run, tmp_path / "new")


def test_code_that_cannot_rank_with_it_is_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SasRec, "rank", lambda self, history, k: self.no_such_part(history))
    with pytest.raises(
        ValueError, match=r"no model can be read: SasRec cannot rank when it is read again: .*no_such_part"
    ):
        load(copy)

    def full(*given: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(SasRec, "rank", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load(copy)


def test_what_cannot_rank_when_it_is_read_again_is_not_written(
    made: Made, exported: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, was = deepcopy(exported.recommender), SasRec.rank
    vars(other)["beside"] = 1

    def rank(self: Any, history: Tensor, k: int) -> Ranking:
        assert self.beside
        return was(self, history, k)

    monkeypatch.setattr(SasRec, "rank", rank)
    run = read_run(made.record.parents[3], made.record)
    with pytest.raises(ValueError, match="SasRec cannot rank when it is read again"):
        export.write(other, exported.item_ids, run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("there", ["another's", "empty", "other files", "a file"])
def test_what_comes_meanwhile_is_told(
    made: Made, exported: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """A rename does not replace it, and who wrote it may be anybody."""
    lists, new = export._lists, tmp_path / "new"

    def slow(*given: Any) -> Any:
        if there == "a file":
            new.touch()
        else:
            new.mkdir(exist_ok=True)
        if there in ("another's", "other files"):
            (new / (export.SUMS if there == "another's" else "notes.txt")).write_text("of another process")
        return lists(*given)

    monkeypatch.setattr(export, "_lists", slow)
    run = read_run(made.record.parents[3], made.record)
    with pytest.raises(FileExistsError, match="new has come from elsewhere meanwhile"):
        export.write(exported.recommender, exported.item_ids, run, new)
    assert not (new / export.WEIGHTS).exists()


def test_weights_are_found_by_their_hash_alone(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a training has another name after any change of the code."""
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    work = tmp_path / "work"
    shutil.copytree(made.work, work)
    for number, folder in enumerate(sorted((work / "fits").iterdir())):
        folder.rename(folder.with_name(f"other-{number}"))
    assert load(made.record, work).recommend(["B01"]) == load(made.folder).recommend(["B01"])
    shutil.rmtree(work / "fits")
    said = r"the weights of stage recommender of sasrec, seed 0, SHA-256 [0-9a-f]{64}, are not in"
    with pytest.raises(FileNotFoundError, match=said):
        load(made.record, work)


def test_a_record_that_names_no_weights_is_told(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    old = tmp_path / made.record.relative_to(made.record.parents[3])
    old.parent.mkdir(parents=True)
    text = re.sub(r'("weights_sha256"): "[0-9a-f]{64}"', r"\1: null", made.record.read_text())
    assert text != made.record.read_text()
    old.write_text(text)
    with pytest.raises(FileNotFoundError, match="of sasrec, seed 0, is from before records named their weights"):
        load(old, made.work)


def test_no_text_of_a_record_is_markup_on_the_card() -> None:
    run = run_of(0, experiment='<img src="https://evil/x.png">', notes=["one\n![](https://evil.example/p.png)"])
    said = export.card(run, 'my"model')
    assert "<img" not in said
    assert "![]" not in said
    assert 'load("my\\"model")' in said


def test_the_card_tells_what_the_row_is(made: Made, exported: Served) -> None:
    said = (made.folder / export.CARD).read_text()
    record = exported.record
    assert said.startswith("---\nlibrary_name: grbench\n")
    assert f"| ndcg@10 | {record.test['ndcg@10']:.4f} | " in said
    assert all(word in said for word in (record.key, "all_beauty", "small sizes", 'load("exported")', "own\nterms"))


def test_hashes_are_in_the_usual_form_and_the_umask_says_who_reads(made: Made) -> None:
    for line in (made.folder / export.SUMS).read_text().splitlines():
        content, name = line.split("  ")
        assert content == content_sha256(made.folder / name)
    modes = {file.stat().st_mode for file in made.folder.iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert {mode & 0o777 for mode in modes} == {0o666 & ~umask}


def test_a_folder_that_is_there_is_kept(
    made: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    before = sorted(made.folder.iterdir())
    assert main(["export", str(made.record), str(made.folder), "--work", str(made.work)]) == 2
    assert f"error: {made.folder} is there already" in capsys.readouterr().err
    assert sorted(made.folder.iterdir()) == before


def test_a_record_is_found_from_its_own_folder(
    made: Made, exported: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    monkeypatch.chdir(made.record.parent)
    assert main(["export", "seed-0.json", str(tmp_path / "again"), "--work", str(made.work)]) == 0
    assert load("seed-0.json", made.work).recommend(["B01"]) == exported.recommend(["B01"])


def test_an_exported_folder_is_no_record(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.parent)
    assert main(["export", copy.name, "elsewhere"]) == 2
    assert "copy is a folder; expected a record, " in capsys.readouterr().err


def test_no_threads_are_told(copy: Path) -> None:
    with pytest.raises(ValueError, match="threads is 0; expected at least 1"):
        load(copy, threads=0)


@pytest.mark.parametrize("told", [{"source": "local"}, {"vectors_path": "vectors"}])
def test_what_a_folder_does_not_need_is_told(copy: Path, told: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is an exported folder, which needs no source and no vectors"):
        load(copy, **told)  # type: ignore[arg-type]


def test_what_cannot_be_made_again_is_not_written(exported: Served, tmp_path: Path) -> None:
    """A record has its ranks by its side in a run; none is asked for here."""
    (step,) = construction(exported.recommender)
    other = deepcopy(exported.recommender)
    vars(other)["_steps"] = (step._replace(arguments={**step.arguments, "args": (1,)}),)
    run = Run(exported.record, pa.table({}))
    with pytest.raises(ValueError, match=r"models.sasrec.SasRec, __init__: .*'args'"):
        export.write(other, exported.item_ids, run, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_what_answers_otherwise_when_it_is_read_again_is_not_written(exported: Served, tmp_path: Path) -> None:
    """What an author keeps beside weights and buffers is in no file."""
    other = deepcopy(exported.recommender)
    rank = other.rank
    vars(other)["rank"] = lambda history, k: rank(history.flip(1), k)
    with pytest.raises(ValueError, match=r"^SasRec ranks otherwise when it is read again; expected all that its rank"):
        export.write(other, exported.item_ids, Run(exported.record, pa.table({})), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_another_code_ranks_with_are_told(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRBENCH_DATA", str(made.data))
    rank = SasRec.rank
    monkeypatch.setattr(SasRec, "rank", lambda self, history, k: rank(self, history.flip(1), k))
    # Where no file has changed nothing is ranked for it.
    assert load(made.record, made.work)
    monkeypatch.setattr("grbench.served.of_folder", lambda root: "0" * 64)
    monkeypatch.chdir(made.record.parent)
    said = r"^\d+ of 60 users come out at another rank than the record of sasrec, seed 0, says; expected"
    with pytest.raises(ValueError, match=said):
        load("seed-0.json", made.work)
    monkeypatch.setattr(SasRec, "rank", rank)
    assert load(made.record, made.work).recommend(["B01"]) == load(made.folder).recommend(["B01"])


def test_ids_are_utf8_whatever_the_machine_writes_in(
    made: Made, exported: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "text_encoding", lambda encoding, level=2: encoding or "ascii")
    items = ["\u043a\u043b\u044e\u0447", *exported.item_ids[1:]]
    run = read_run(made.record.parents[3], made.record)
    assert export.read(export.write(exported.recommender, items, run, tmp_path / "new")).item_ids == items


@pytest.mark.parametrize("given", ["a file", "a name"])
def test_a_file_of_codes_is_kept_with_what_was_trained_on_it(
    made: Made, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """A record names the file, and no folder of its machine."""
    data, board, work = tmp_path / "data", tmp_path / "board", tmp_path / "work"
    shutil.copytree(made.data, data)
    monkeypatch.setenv("GRBENCH_DATA", str(data))
    file = tmp_path / "letter.tsv" if given == "a file" else data / "sequences/all_beauty.codes.letter.tsv.gz"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{item}\t{place // 8} {place % 8}\n" for place, item in enumerate(tiny_corpus.item_ids)))
    codes = file if given == "a file" else "letter"
    settings = ["vectors=null", f"codes={codes}", "steps=2", "warmup=1", "t5.width=8", "t5.inner=8", "t5.heads=1"]
    asked = ["bench", "--corpus", "all_beauty", "--models", "tiger", "--track", "off", "--set", *settings]
    assert bench([*asked, "--work", str(work), "--board", str(board)]) == 0
    (record,) = board.glob("all_beauty/tiger/*/seed-0.json")
    file.unlink()
    assert main(["export", str(record), str(tmp_path / "exported"), "--work", str(work)]) == 0
    assert load(tmp_path / "exported").recommend(["B01"]) == load(record, work).recommend(["B01"])
    shutil.rmtree(work / "codes")
    with pytest.raises(ValueError, match="letter"):
        load(record, work)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [export.WEIGHTS, export.MODULE, export.ITEMS, export.RECORD, export.SUMS])
def test_damage_is_told_in_a_sentence(copy: Path, name: str, damage: str) -> None:
    file = copy / name
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(ValueError, match=str(copy)):
        load(copy)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}; expected a whole folder that `grbench export` wrote"):
        load(copy)


# Arguments that no SASRec can be made of.
BAD = {"config": {"class": "models.sasrec.Config", "fields": {}}, "items": -5, "positions": 1.0}


def resealed(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Another model file, with hashes that fit."""
    told = json.loads((folder / export.MODULE).read_text())
    change(told)
    (folder / export.MODULE).write_text(json.dumps(told))
    names = (export.WEIGHTS, export.MODULE, export.ITEMS, export.RECORD)
    (folder / export.SUMS).write_text("".join(f"{content_sha256(folder / name)}  {name}\n" for name in names))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"class": "os.system", "fields": {"command": "touch hurt"}}, "no class 'os.system'"),
        ({"class": "models.os.system", "fields": {}}, "no class"),
        ({"class": "models.api.torch", "fields": {}}, "no class"),
        ({"class": "models.sasrec.nn.Linear", "steps": [], "state": "model"}, "no class"),
        ({"class": "models.sasrec.SasRec", "steps": [], "state": "model"}, "has no steps"),
        ({"class": "models.sasrec.SasRec", "steps": [["__init__", {"width": 3}]], "state": "model"}, "missing"),
        ({"class": "models.sasrec.Config", "fields": {"width": -1}}, "option width is -1; expected at least 1"),
        ({"class": "models.sasrec.Config", "fields": {"rotary": True}}, "the model has no option rotary"),
        ({"tensor": "elsewhere"}, "tensor elsewhere is missing"),
        ({"class": "models.sasrec.SasRec", "steps": [["__init__", BAD]], "state": "model"}, "negative dimension"),
        ({"eval": "1 + 1"}, "no value of a module"),
        (7, "it is no recommender"),
    ],
)
def test_a_strangers_file_makes_nothing_but_models(copy: Path, model: object, said: str) -> None:
    resealed(copy, lambda told: told.update(model=model))
    with pytest.raises(ValueError, match=said):
        load(copy)


# The last is a property that fails where nothing is trained.
@pytest.mark.parametrize("stage", ["to_onnx", "trainer"])
def test_a_stage_is_one_that_the_model_remembers(copy: Path, stage: str) -> None:
    def change(told: dict[str, object]) -> None:
        told["model"]["steps"].append([stage, {"file_path": "hurt"}])  # type: ignore[index]

    resealed(copy, change)
    with pytest.raises(ValueError, match=f"SasRec has no stage '{stage}'"):
        load(copy)


def test_another_format_is_told(copy: Path) -> None:
    resealed(copy, lambda told: told.update(format=9))
    with pytest.raises(ValueError, match="it is of format 9; expected 1"):
        load(copy)


def test_what_no_file_can_hold_is_told() -> None:
    with pytest.raises(ValueError, match=r"model.1 is a ndarray; expected a number, text, a tensor"):
        described([1, np.zeros(2)], {})
    with pytest.raises(ValueError, match="what a Linear was made from is not known"):
        described(torch.nn.Linear(2, 2), {})


def test_plain_values_come_back() -> None:
    tensors: dict[str, torch.Tensor] = {}
    value = (None, True, 3, 0.5, "text", (torch.arange(3), ()))
    again = rebuilt(json.loads(json.dumps(described(value, tensors))), tensors)
    assert again[:5] == value[:5]
    assert torch.equal(again[5][0], torch.arange(3))
    assert again[5][1] == ()


def test_the_code_table_is_one_that_another_training_reads(
    made: Made, exported: Served, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    rows = [(number // 7, number % 7) for number in range(40)]
    tiger = Tiger(Config(t5=T5Sizes(16, 16, 2, 8, 1, 1, 0.0)), index_of(rows, (7, 7)))
    folder = export.write(tiger, exported.item_ids, read_run(made.record.parents[3], made.record), tmp_path / "tiger")
    assert read_codes(tiny_corpus, folder / export.CODES).values.tolist() == [list(row) for row in rows]
