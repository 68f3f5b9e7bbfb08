"""An exported folder as a model repository of the Hugging Face hub."""

from __future__ import annotations

import shlex
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

CONFLICT = 409


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Makes a new model repository and commits the files of a folder to it, all at once.

    The token is that of `HF_TOKEN` or of `hf auth login`, the hub that of `HF_ENDPOINT`, as huggingface_hub has them.

    Args:
        repository: OWNER/NAME, which is not there yet: nothing is ever added to what others may see.

    Returns:
        The address of the repository.

    Raises:
        ValueError: there is no token, the hub cannot be reached, or it refuses; the folder stays as it is.
    """
    api = HfApi()
    token = None
    try:
        if (token := get_token()) is None:
            raise ValueError("there is no token; expected it in HF_TOKEN or after `hf auth login`")
        url = api.create_repo(repository, private=not public)
        files = [CommitOperationAdd(file.name, file) for file in sorted(folder.iterdir())]
        api.create_commit(repository, files, commit_message="An export of grbench")
    # The hub's client passes on what its libraries for HTTP and for large files raise, each of its own kind.
    except Exception as error:
        said = _said(error, repository).replace(token or "\0", "***")
        # To a repository that is there the command would add.
        name = "OWNER/NEW_NAME" if _status(error) == CONFLICT else repository
        by_hand = shlex.join(["hf", "upload", name, str(folder), *([] if public else ["--private"])])
        raise ValueError(
            f"{folder} is written, but not sent to {api.endpoint}: {said}; once that is mended, `{by_hand}` sends it"
        ) from error
    return str(url)


def _cause(error: Exception) -> BaseException:
    """What happened; who uploads a large file wraps it."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _status(error: Exception) -> int | None:
    """What the hub answers, if it does."""
    cause = _cause(error)
    return cause.response.status_code if isinstance(cause, HfHubHTTPError) else None


def _said(error: Exception, repository: str) -> str:
    """What went wrong, on one line."""
    cause = _cause(error)
    text = str(cause)
    if isinstance(cause, HfHubHTTPError):
        if _status(error) == CONFLICT:
            return f"{repository} is there already; expected the name of a new repository"
        text = f"it answers {cause.response.status_code}, {cause.server_message or cause.response.reason_phrase}"
    return " ".join(text.split()).rstrip(".")[:300] or type(cause).__name__
