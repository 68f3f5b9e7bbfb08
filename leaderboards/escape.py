"""Text of records where it becomes part of a document: it stays text, whatever a record says."""

from __future__ import annotations

import html

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
