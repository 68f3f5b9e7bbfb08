"""The best configs that sweeps have found, one TOML file per corpus and experiment in `benchmarks/best/`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from data_prep import amazon2023
from data_prep.atomic import write_text
from data_prep.corpus import source_name
from leaderboards.record import TUNED

BEST = Path(__file__).with_name("best")
HEADER = "# Written by `make sweep`; rows of this experiment and its variants use it unless they are --untuned.\n"


class TunedConfig(BaseModel):
    """The best trial of a study.

    Attributes:
        trial: its number in the study.
        trials: how many ended.
        value: validation NDCG@10.
        settings: `key=value`, fixed in all trials.
        params: dotted option -> value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    study: str
    trial: int
    trials: PositiveInt
    value: float
    settings: list[str] = []
    params: dict[str, bool | int | float | str]

    def replaces(self, earlier: TunedConfig) -> bool:
        """Whether it is better than an earlier one, under the same settings and from as many trials; of the same study,
        which goes on, not worse. One that was begun again from nothing has fewer at first."""
        if self.trials < earlier.trials:
            return False
        if self.study == earlier.study:
            return self.value >= earlier.value
        return self.settings == earlier.settings and self.value > earlier.value

    def __str__(self) -> str:
        return f"{self.value:.4f} of {self._founded()}"

    def note(self) -> str:
        """What rows say that are made with it."""
        return f"{TUNED} {self._founded()}"

    def _founded(self) -> str:
        fixed = f" under {' '.join(self.settings)}" if self.settings else ""
        return f"{self.trials} trials{fixed} (study {self.study})"


def folder_of(corpus: str, fingerprint: str) -> str:
    """The folder of a corpus's configs: its name, for a user's own with its content, since two files may have one."""
    return corpus if source_name(corpus) in amazon2023.names() else f"{corpus}-{fingerprint[:12]}"


def path(corpus: str, experiment: str, folder: Path | None = None) -> Path:
    """Where the tuned config of an experiment on a corpus, as `folder_of` names it, lies."""
    return (folder or BEST) / corpus / f"{experiment}.toml"


def read(file: Path) -> TunedConfig:
    """
    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no TOML, or does not hold what a tuned config holds.
    """
    try:
        return TunedConfig.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file} does not fit at {where:.200}: {first['msg']}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no TOML file: {error}") from None


def write(file: Path, tuned: TunedConfig) -> None:
    """Writes a tuned config, atomically, in place of an earlier one."""
    values = tuned.model_dump()
    params = values.pop("params")
    text = HEADER + _lines(values) + "\n[params]\n" + _lines({json.dumps(name): params[name] for name in params})
    write_text(file, text)


def _lines(values: dict[str, Any]) -> str:
    # JSON's strings, numbers, booleans and lists of strings are TOML's as well.
    return "".join(f"{name} = {json.dumps(value, allow_nan=False)}\n" for name, value in values.items())
