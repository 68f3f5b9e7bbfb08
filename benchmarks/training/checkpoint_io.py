"""The files of a stage's folder. Each is written whole and has a hash; a damaged one is told and not used.

While a stage trains there are its last state and the one before; when it is done, the best weights and a log.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from benchmarks.training.checkpoint_callback import BEST, DONE, LAST
from data_prep.atomic import atomic_file, write_json
from data_prep.files import content_sha256
from data_prep.sealed import read_sealed, write_sealed
from leaderboards.record import Stage

# The state before the last one.
BEFORE = "before.ckpt"

Say = Callable[[str], None]


class Checkpoints(CheckpointIO):
    """States of a trainer behind their SHA-256, loaded as plain tensors and values alone; the one before stays."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        last, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)
        if last.exists():
            last.replace(last.with_name(BEFORE))
        write_sealed(last, content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """The state in a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not what was saved there, or holds more than tensors and plain values.
        """
        content = io.BytesIO(read_sealed(Path(path)))
        try:
            loaded: dict[str, Any] = torch.load(content, map_location=map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ValueError(f"{path} was not written here: it holds more than tensors and plain values") from error
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def newest(folder: Path, say: Say) -> Path | None:
    """The newest state to go on from, None where there is none; tells of those that cannot be used."""
    for path in (folder / LAST, folder / BEFORE):
        try:
            Checkpoints().load_checkpoint(path)
        except FileNotFoundError:
            continue
        except ValueError as error:
            path.unlink(missing_ok=True)
            say(f"{error}; the training goes on from the state before it, or from the beginning")
        else:
            return path
    return None


def finish(folder: Path, done: Stage, weights: Mapping[str, Tensor]) -> None:
    """Writes weights and log of a stage that is done, and removes the states of its training."""
    with atomic_file(folder / BEST) as file:
        file.write(safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()}))
    done.weights_sha256 = content_sha256(folder / BEST)
    log = {"stage": done.model_dump()}
    write_json(folder / DONE, {**log, "sha256": _seal(log)})
    for name in (LAST, BEFORE):
        (folder / name).unlink(missing_ok=True)


def finished(folder: Path, say: Say) -> Stage | None:
    """The log of a stage that is done and whole, else None; tells of one that is damaged."""
    path = folder / DONE
    try:
        log = json.loads(path.read_bytes())
        if log.pop("sha256") == _seal(log) and log["stage"]["weights_sha256"] == content_sha256(folder / BEST):
            return Stage(**log["stage"])
    except FileNotFoundError:
        if not path.exists():
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    say(f"{path} or the weights beside it are damaged: the hashes in it are not theirs; the stage is trained again")
    return None


def weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or another kind of file.
    """
    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged, or no safetensors file: {error}") from error


def _seal(log: object) -> str:
    return hashlib.sha256(json.dumps(log, sort_keys=True).encode()).hexdigest()
