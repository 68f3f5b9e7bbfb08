"""Text of records stays text in Markdown and LaTeX."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leaderboards import board_table, codes, escape, ledger, paper
from leaderboards.__main__ import main
from leaderboards.record import CorpusInfo
from leaderboards.rows import Board
from leaderboards.store import write
from tests.leaderboards.test_codes import card_of
from tests.leaderboards.test_record import ranks_of, run_of

ROOT = Path(__file__).resolve().parents[2]

EVIL = "<img src=x onerror=alert(1)> | [x](javascript:alert(2))\n\n# \\input{/etc/passwd} $x^2$ ~`a`"


def test_by_hand() -> None:
    assert escape.line(" a\n\tb  c ") == "a b c"
    assert escape.markdown("a|b [c](d) <e> & `f` \\") == r"a\|b \[c\](d) &lt;e&gt; &amp; \`f\` \\"
    assert escape.latex(r"a_b 5% #1 & $x$ {y} \z ^ ~") == (
        r"a\_b 5\% \#1 \& \$x\$ \{y\} \textbackslash{}z \textasciicircum{} \textasciitilde{}"
    )
    for plain in ("tiger-sas", "TF-IDF + SVD, 256-d (stand-in)", "generated: raw; 5.0 of 9"):
        assert escape.markdown(plain) == escape.latex(plain) == plain


def test_markdown_has_no_markup_of_a_record() -> None:
    runs = [
        run_of(0, ranks_of(300, 0, 0.5), experiment=EVIL, notes=[EVIL], corpus={"source": EVIL}),
        run_of(1, ranks_of(300, 1), experiment="tiger", config={"other": 1}),
    ]
    text = board_table.markdown(Board(runs))
    assert "<img" not in text
    assert "](javascript" not in text.replace(r"\](javascript", "")
    assert "\n# \\" not in text
    rows = [line for line in text.splitlines() if line.startswith("| &lt;img")]
    heads = [line for line in text.splitlines() if line.startswith("| Experiment")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == len(re.findall(r"\|", heads[0]))
    cards = codes.markdown([card_of(EVIL, notes=[EVIL])])
    assert "<img" not in cards
    assert "\n# \\" not in cards
    assert "\n# Codes of nobody" not in codes.markdown([card_of("# Codes of nobody", notes=["a note"])])


def test_an_address_is_no_link() -> None:
    assert escape.markdown("see https://a.example/x, WWW.b.example") == r"see https:\//a.example/x, WWW\.b.example"


def test_vectors_of_any_name_end_no_cell() -> None:
    def cells(name: str) -> list[int]:
        vectors = {"kind": name, "name": name, "sha256": "e" * 64, "stand_in": True, "recipe": {}}
        text = board_table.markdown(Board([run_of(0, vectors=vectors), run_of(1, config={"other": 1})]))
        assert "<img" not in text
        return [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]

    assert cells(EVIL) == cells("plain")


@pytest.mark.parametrize("field", ["experiment", "notes", "diagnostics", "config"])
def test_no_text_of_a_record_commands_a_terminal(field: str, tmp_path: Path) -> None:
    evil = "\x1b[2J"
    values: dict[str, Any] = {
        "experiment": evil,
        "notes": [evil],
        "diagnostics": {evil: {"recall@10": 0.1}},
        "config": {"nested": [evil]},
    }
    with pytest.raises(ValueError, match=r"holds a control character; expected plain text"):
        run_of(0, **{field: values[field]})


def test_no_name_of_a_file_commands_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *run_of(0))
    (tmp_path / "toys/\x1b[2J").symlink_to("/")
    assert main(["verify", "--board", str(tmp_path)]) == 1
    assert "toys/?[2J is a link" in capsys.readouterr().out


def test_latex_has_no_command_of_a_record() -> None:
    text = paper.latex(
        Board([run_of(0, experiment=EVIL, notes=[EVIL]), run_of(1, experiment="b", config={"other": 1})])
    )
    lines = [line for line in text.splitlines() if "input" in line]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("% ") or r"\textbackslash{}input\{/etc/passwd\}" in line


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", ".hidden", "a/b", "a\\b", ""])
def test_a_record_cannot_name_a_place_outside_its_board(name: str) -> None:
    fields = {"fingerprint": "a" * 64, "users": 1, "items": 1, "interactions": 1, "source": "x"}
    with pytest.raises(ValueError, match="should match pattern"):
        CorpusInfo(name=name, **fields)
    with pytest.raises(ValueError, match="should match pattern"):
        run_of(model=name)


def test_a_ledger_is_not_followed_out_of_its_board(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tmp_path / "board/toys").mkdir(parents=True)
    ledger.path(tmp_path / "board", "toys").write_text(f"{'0' * 64}  ../secret\n{'0' * 64}  /etc/hostname\n")
    said = list(ledger.problems(tmp_path / "board", "toys"))
    assert [line.split(" is ")[1].split(";")[0] for line in said] == ["no evidence", "no evidence"]


@pytest.mark.slow
def test_a_terminal_without_a_sign_ends_no_command(tmp_path: Path) -> None:
    write(tmp_path, *run_of(0))
    for seed in (1, 2):
        write(tmp_path, *run_of(seed))
    done = subprocess.run(
        [sys.executable, "-m", "leaderboards", "board", "--board", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.\d{4} \+- 0\.\d{4}", done.stdout)
    assert "\u00b1" in (tmp_path / "toys.md").read_text()


def test_latex_takes_no_cell_for_an_option_of_the_line_above() -> None:
    assert [escape.latex(text) for text in ("[12pt] a", "* a", "a [b] *")] == ["{}[12pt] a", "{}* a", "a [b] *"]


def test_no_address_of_mail_becomes_a_link() -> None:
    assert escape.markdown("mailto:a@b.example") == "mailto:a\\@b.example"
