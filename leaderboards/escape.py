"""Text of records where it becomes part of a document: it stays text, whatever a record says."""

from __future__ import annotations

import codecs
import html
import io
import re
import sys

_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|[]`"})
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)
# Where an address begins that becomes a link as it is: of a page, of mail. A metric, as recall@10, is none.
_ADDRESS = re.compile(r"(?i)(?<=:)//|(?<=www)\.|@(?=[\w.-]+\.[a-z])")
# All but tab, line feed and carriage return.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def line(text: str) -> str:
    """The text on one line, so that it cannot end a comment, a row or a footnote."""
    return " ".join(text.split())


def markdown(text: str) -> str:
    """The text in Markdown: no HTML, no link, of which bare addresses become one, no end of a cell."""
    plain = html.escape(line(text), quote=False).translate(_MARKDOWN)
    return _ADDRESS.sub(r"\\\g<0>", plain)


def latex(text: str) -> str:
    """The text in LaTeX: no command."""
    # At the beginning of a row the first two would be options of the line break above it.
    return "{}" * line(text).startswith(("[", "*")) + line(text).translate(_LATEX)


def has_control(text: str) -> bool:
    """Whether a terminal would take some of the text for a command."""
    return _CONTROL.search(text) is not None


def terminal(text: str) -> str:
    """The text for a terminal, whatever a file is called."""
    return _CONTROL.sub("?", text)


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
