"""`python -m data_prep CORPUS`: load a corpus, or one from a file, and print its card; `--list` prints all names."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from data_prep import own_corpus
from data_prep.amazon2023 import OFFICIAL_K, names
from data_prep.atomic import FULL
from data_prep.command_line import Parser
from data_prep.corpus import SHORTEST, Corpus
from data_prep.diagnostics import described, diagnose
from data_prep.own_options import add_own_options
from data_prep.prepare import facts, load, write_card


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after an error that the user can mend."""
    # What a terminal's encoding lacks ends no command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names()))
        return 0
    if options.corpus is None:
        parser.error("name a corpus, or --list")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if own := own_corpus.given(options.corpus, options.columns, options.items, options.core, options.source):
            corpus = own_corpus.prepare(own, options.cache)
        else:
            corpus = load(options.corpus, options.source, options.cache, k=options.core or OFFICIAL_K)
        if options.card:
            print(f"{write_card(corpus)} is written", file=sys.stderr)
    except (ValueError, OSError) as error:
        # A full disk carries its sentence beside the error number; what the system says has the file's name with it.
        sentence = str(getattr(error, "strerror", None))
        print(f"error: {sentence if sentence.startswith(FULL) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    print(table(corpus))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m data_prep", description="Prepare a corpus and print its card.")
    parser.epilog = "example: python -m data_prep ratings.csv --columns user=uid item=movie time=ts --core 5"
    parser.add_argument("corpus", nargs="?", help="name of the corpus (see --list), or a file of interactions")
    parser.add_argument("--list", action="store_true", help="print the names of all corpora")
    parser.add_argument("--source", default="auto", help="auto, local, official or hub (default: auto)")
    parser.add_argument("--cache", type=Path, default=Path("runs/corpora"), help="downloads and prepared corpora")
    add_own_options(parser)
    parser.add_argument("--card", action="store_true", help="add a download's hashes to the committed card")
    return parser


def table(corpus: Corpus) -> str:
    """The corpus's card as text: what it is, then the counts at every step."""
    card, text = corpus.card, corpus.card["item_text"]
    rows = {
        "corpus": corpus.name,
        "source": f"{card['origin']}, layout {card['layout']}" + (f", {card['k']}-core" if card["k"] else ""),
        "committed card": "matches" if card["checked"] else "none for this layout and k",
        **{key: f"{value:,}" if isinstance(value, int) else value
           for key, value in facts(corpus).items() if key != "steps"},
        "malformed lines": f"{card['malformed_lines']:,}, left out",
        "item text": f"template {text['template']}, {text['items_without_text']} items without" if text else "none",
        **({"columns": ", ".join(f"{role}={name}" for role, name in card["columns"].items()) or "none",
            "users left out": f"{own_corpus.too_short(card):,} of fewer than {SHORTEST} interactions"}
           if card["origin"] == own_corpus.OWN else {}),
        **{f"sha256 {name}": value for name, value in card["files"].items()},
    }  # fmt: skip
    parts = [rows, described(diagnose(corpus))]
    texts = [tabulate(list(part.items()), tablefmt="plain", disable_numparse=True) for part in parts]
    return "\n\n".join([*texts, tabulate(card["steps"], headers="keys", intfmt=",")])


if __name__ == "__main__":
    sys.exit(main())
