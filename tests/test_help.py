"""Help texts: every option of every command says what it is for, and every command has an example that it takes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from benchmarks.__main__ import _parser as benchmarks_parser
from data_prep.__main__ import _parser as data_parser
from grbench.__main__ import BENCHMARKS, LEADERBOARDS
from grbench.__main__ import _parser as grbench_parser
from leaderboards.__main__ import _parser as leaderboards_parser

PARSERS = [benchmarks_parser(), data_parser(), grbench_parser(), leaderboards_parser()]


def verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str | None, argparse.ArgumentParser]]:
    """Name, what the list of commands says of it, and parser of each command; of a program without commands itself."""
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            said = {choice.dest: choice.help for choice in group._choices_actions}
            yield from ((f"{parser.prog} {name}", said.get(name), verb) for name, verb in group.choices.items())
            return
    yield parser.prog, parser.description, parser


EVERY = [verb for parser in PARSERS for verb in verbs(parser)]


@pytest.mark.parametrize(("name", "said", "verb"), EVERY, ids=[name for name, _, _ in EVERY])
def test_a_command_says_what_it_and_its_options_are_for(
    name: str, said: str | None, verb: argparse.ArgumentParser
) -> None:
    assert said
    silent = [action.dest for action in verb._actions if not action.help or action.help is argparse.SUPPRESS]
    assert silent == []


@pytest.mark.parametrize(("name", "said", "verb"), EVERY, ids=[name for name, _, _ in EVERY])
def test_a_command_takes_its_own_example(name: str, said: str | None, verb: argparse.ArgumentParser) -> None:
    assert verb.epilog
    assert verb.epilog.startswith(f"example: {name}")
    words = shlex.split(verb.epilog.removeprefix(f"example: {name}"))
    verb.parse_args(words)


def test_every_command_of_grbench_is_looked_at() -> None:
    names = {name.split()[-1] for name, _, _ in EVERY}
    assert names == {*BENCHMARKS, *LEADERBOARDS, "data_prep", "predict", "export"}
