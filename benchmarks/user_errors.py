"""What a user can mend, in one sentence, and without a password."""

from __future__ import annotations

import errno
import re
from concurrent.futures import BrokenExecutor

from data_prep.atomic import FULL

_LESS = (
    "a smaller batch_size needs less (etegrec's accumulate keeps the size of a step), and so do fewer --jobs; "
    "the same command goes on from the last epochs"
)
# By name, for to import it takes seconds: what Lightning raises where it cannot have so many devices, or a strategy.
MISCONFIGURED = "MisconfigurationException"
# How PyTorch says it on a GPU and on a CPU, where the exception is any RuntimeError.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
# A URL's password goes up to its last @, for it may hold one; a parameter's value goes up to the next.
_PASSWORD = re.compile(r"(://[^:/]*):.*@", re.DOTALL)
_PARAMETER = re.compile(r"(\w*(?:pass|pwd)\w*=)[^&]+?(?=&|['\"][,}]|$)", re.IGNORECASE | re.DOTALL)


def hidden(text: str) -> str:
    """A text with `***` for the passwords of URLs in it, of which none has a blank: `://user:...@`, `?password=...`,
    `&sslpassword=...`."""
    return re.sub(r"\S+", lambda word: hidden_of_url(word[0]), text)


def hidden_of_url(url: str) -> str:
    """The same of one URL, whatever is in it."""
    return _PASSWORD.sub(r"\1:***@", _PARAMETER.sub(r"\1***", url))


def user_message(error: BaseException) -> str | None:
    """What happened and what helps, no password in it; None where the mistake is ours, and needs its traceback."""
    if out_of_memory(error):
        return f"out of memory: {_LESS}"
    if isinstance(error, BrokenExecutor):
        return f"its process, or one beside it, was killed, most often by the system for want of memory: {_LESS}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        # A sentence of ours stands in the place of the system's words.
        ours = error.strerror if error.strerror and error.strerror.startswith(FULL) else None
        return ours or f"{FULL}{where}; free some space and run the command again"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return hidden(f"{error.filename}: {error.strerror}")
    known = isinstance(error, ValueError | OSError) or type(error).__name__ == MISCONFIGURED
    return hidden(str(error)) if known else None


def out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of a GPU or the machine's."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    return said or isinstance(error, MemoryError)
