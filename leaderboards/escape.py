"""Text of records where it becomes part of a document: it stays text, whatever a record says."""

from __future__ import annotations

import codecs
import html
import io
import sys

_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|[]`"})
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)


def line(text: str) -> str:
    """The text on one line, so that it cannot end a comment, a row or a footnote."""
    return " ".join(text.split())


def markdown(text: str) -> str:
    """The text in Markdown: no HTML, no link, no end of a cell."""
    return html.escape(line(text), quote=False).translate(_MARKDOWN)


def latex(text: str) -> str:
    """The text in LaTeX: no command."""
    return line(text).translate(_LATEX)


# Letters that we print beyond ASCII, as a terminal without them shows them.
ASCII = {"\u00b1": "+-", "\u2020": "*"}


def for_any_terminal() -> None:
    """What the encoding of a terminal lacks is printed in other letters, where it would have ended the command."""
    codecs.register_error("grbench", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="grbench")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
