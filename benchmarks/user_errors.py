"""What a user can mend, in one sentence, and without a password."""

from __future__ import annotations

import errno
import linecache
import pickle
import re
import traceback
from concurrent.futures import BrokenExecutor

from data_prep.atomic import FULL

_LESS = (
    "a smaller batch_size needs less (etegrec's accumulate keeps the size of a step), and so do fewer --jobs; "
    "the same command goes on from the last epochs"
)
# By name, for to import it takes seconds: what Lightning raises where it cannot have so many devices, or a strategy.
MISCONFIGURED = "MisconfigurationException"
OURS = ("models.", "benchmarks.", "data_prep.", "leaderboards.")
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
    return hidden(" ".join([str(error), *getattr(error, "__notes__", ())])) if known else None


def tell_place(error: Exception) -> None:
    """Adds where it was to an error that a model came upon, and no line of ours raised: it may read like a user's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    told = [(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line) for frame, line in frames]
    of_model = [(name, line) for name, _, line in told if name.startswith("models.")]
    name, file, line = told[-1]
    raised = name.startswith(OURS) and linecache.getline(file, line).lstrip().startswith("raise")
    if of_model and not raised:
        name, line = of_model[-1]
        error.add_note(f"({name.replace('.', '/')}.py, line {line})")


def sendable(error: Exception) -> Exception:
    """The error, or what another process can read in its place: an exception may need more than its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of a GPU or the machine's."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    return said or isinstance(error, MemoryError)
