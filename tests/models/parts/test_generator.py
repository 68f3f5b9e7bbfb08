"""Tokens by hand, probabilities against an independent teacher forcing, and the bond of codes and embeddings."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.api import Ranking
from models.parts.generator import CodeGenerator, Compose, Composition, Style
from models.parts.index import ItemIndex
from models.parts.seq2seq import Encoded, T5Sizes
from tests.factories import index_of, shaken

Row = tuple[int, ...]

T5 = T5Sizes(width=16, inner=24, heads=2, head_width=8, encoder_layers=2, decoder_layers=2, dropout=0.0)
SIZES = (4, 3, 2)
# Items 2 and 9 share their codes, and so do 5, 6 and 12: an index need not tell all items apart.
ROWS: list[Row] = [(2, 0, 1), (3, 2, 0), (0, 0, 0), (1, 1, 1), (0, 2, 1), (0, 2, 1)]
ROWS += [(2, 1, 0), (3, 0, 0), (3, 2, 0), (1, 0, 0), (2, 0, 0), (0, 2, 1), (1, 2, 1)]
HISTORIES = [[1], [5, 3, 11, 8], [9, 9], [4, 13, 2], [7], [10, 12, 6]]
HISTORY = torch.tensor([history + [0] * (4 - len(history)) for history in HISTORIES])
TARGET = torch.tensor([9, 1, 3, 13, 12, 8])
USERS = len(HISTORIES)
STYLES: tuple[Style, ...] = ("vocabulary", "level")
# Tokens of the levels: from the first to before the last.
BOUNDS = [(1, 5), (5, 8), (8, 10)]
# Parts of the own vectors that a composition keeps.
KEEP = torch.tensor([0.0, 0.3, 0.8])


def made(
    style: Style,
    rows: list[Row] = ROWS,
    seed: int = 0,
    index: ItemIndex | None = None,
    compose: Compose | None = None,
    tied: bool = True,
) -> CodeGenerator:
    torch.manual_seed(seed)
    generator = CodeGenerator(T5, index or index_of(rows, SIZES), style, compose, tied).eval()
    return shaken(generator, 0.5)


def tokens_of(row: Row) -> list[int]:
    return [first + code for (first, _), code in zip(BOUNDS, row, strict=True)]


def composed(codes: Tensor, mask: Tensor, levels: list[Tensor]) -> Composition:
    """Any composition will do: here the mean over a history's codes, and of each level's codes."""
    count = mask.sum(1, keepdim=True)
    context = (codes * mask[..., None]).sum(1) / count
    added = [torch.tanh(context) * (place + 1) + level.mean(0) for place, level in enumerate(levels)]
    return Composition(KEEP, torch.stack(added, 1))


def teacher_forced(generator: CodeGenerator, user: int, item: int, temperature: float = 1.0) -> Tensor:
    return forced(generator, user, ROWS[item - 1], temperature)


def forced(generator: CodeGenerator, user: int, row: Row, temperature: float = 1.0, read: list[Row] = ROWS) -> Tensor:
    """`[L]` log-probabilities of the codes of a sequence; each user alone, so that there is no padding.

    `read`: the sequences by which histories name the items.
    """
    past = [token for item in HISTORIES[user] for token in tokens_of(read[item - 1])]
    inputs = past + [10] * (generator.style == "vocabulary")
    encoded = generator.transformer.encode(
        generator.token(torch.tensor([inputs])), torch.ones(1, len(inputs), dtype=torch.bool)
    )
    labels, table = tokens_of(row), generator.token.weight
    fed = table[[0, *labels[:-1]]]
    if generator.compose is not None:
        context = torch.tanh(torch.stack([table[token] for token in past]).sum(0) / len(past))
        means = [table[first:end].sum(0) / (end - first) for first, end in BOUNDS]
        fed = torch.stack([KEEP[i] * fed[i] + (i + 1) * context + means[i] for i in range(3)])
    states = generator.transformer.decode(fed[None], encoded)[0]
    every, found = table if generator.head is None else generator.head.weight, []
    for state, label, (first, end) in zip(states, labels, BOUNDS, strict=True):
        if generator.style == "vocabulary":
            logits = every @ state / (math.sqrt(16) if generator.head is None else 1)
        else:
            logits, label = every[first:end] @ state, label - first
        found.append(-F.cross_entropy(logits[None] / temperature, torch.tensor([label])))
    return torch.stack(found)


def loss_of(generator: CodeGenerator, temperature: float = 1.0) -> Tensor:
    labels = generator.item_tokens(TARGET)
    return generator.loss(generator.states(labels, generator.read(HISTORY)), labels, temperature)


@pytest.mark.parametrize(("style", "tokens"), [("vocabulary", 11), ("level", 10)])
def test_tokens_by_hand(style: Style, tokens: int) -> None:
    generator = made(style)
    # 0 pads; level 0 has tokens 1..4, level 1 has 5..7, level 2 has 8 and 9; 10 ends an input in one of the styles.
    assert generator.item_tokens(torch.tensor([[1, 0], [2, 13]])).tolist() == [
        [[3, 5, 9], [0, 0, 0]],
        [[4, 7, 8], [2, 7, 9]],
    ]
    assert generator.token.num_embeddings == tokens


@pytest.mark.parametrize(
    ("style", "inputs"),
    [
        ("vocabulary", [[3, 5, 9, 10, 0, 0, 0], [4, 7, 8, 2, 7, 9, 10]]),
        ("level", [[3, 5, 9, 0, 0, 0], [4, 7, 8, 2, 7, 9]]),
    ],
)
def test_inputs_by_hand(style: Style, inputs: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = made(style)
    with torch.no_grad():  # an embedding from which its token can be read
        generator.token.weight.copy_(torch.arange(float(len(generator.token.weight)))[:, None].expand(-1, 16))
    seen: list[Encoded] = []

    def encode(tokens: Tensor, mask: Tensor) -> Encoded:
        seen.append(Encoded(tokens, mask))
        return seen[-1]

    monkeypatch.setattr(generator.transformer, "encode", encode)
    generator.read(torch.tensor([[1, 0], [2, 13]]))
    ((states, mask),) = seen
    assert states[..., 0].tolist() == inputs
    assert mask.tolist() == [[token > 0 for token in row] for row in inputs]


@pytest.mark.parametrize("style", STYLES)
def test_the_loss_is_minus_the_mean_log_probability_of_the_codes(style: Style) -> None:
    generator = made(style)
    expected = torch.stack([teacher_forced(generator, user, int(item)) for user, item in enumerate(TARGET)])
    assert expected.std() > 0.5
    torch.testing.assert_close(loss_of(generator), -expected.mean())


@pytest.mark.parametrize("temperature", [0.3, 0.7, 2.0])
@pytest.mark.parametrize("style", STYLES)
def test_a_temperature_divides_the_logits(style: Style, temperature: float) -> None:
    generator = made(style)
    expected = [teacher_forced(generator, user, int(item), temperature) for user, item in enumerate(TARGET)]
    found = loss_of(generator, temperature)
    torch.testing.assert_close(found, -torch.stack(expected).mean())
    assert (found - loss_of(generator)).abs() > 0.05


@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_scores_are_teacher_forced(style: Style) -> None:
    generator = made(style)
    items = torch.tensor([[3, 9, 1], [1, 2, 13], [5, 6, 7], [8, 8, 9], [4, 10, 11], [12, 13, 1]])
    expected = [
        [teacher_forced(generator, user, item).sum() for item in row] for user, row in enumerate(items.tolist())
    ]
    torch.testing.assert_close(generator.score(HISTORY, items), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("composes", [False, True])
@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_steps_agree_with_scores(style: Style, composes: bool) -> None:
    """Two prefixes of each user at once, of the target and of item 4."""
    generator = made(style, compose=composed if composes else None)
    items = torch.stack([TARGET, torch.full_like(TARGET, 4)], 1)
    codes, user = generator.index.codes[items.flatten(), 0], torch.arange(USERS).repeat_interleave(2)
    step, cache, total = generator.steps(HISTORY), None, torch.zeros(2 * USERS)
    for level in range(len(SIZES)):
        # At level 0 the two prefixes of a user are one, the empty one.
        rows = torch.arange(USERS) if level == 0 else user
        parent = torch.arange(USERS) if level == 0 else user if level == 1 else torch.arange(2 * USERS)
        log_probs, cache = step(level, rows, codes[:, level - 1] if level else rows * 0, parent, cache)
        assert log_probs.shape == (len(rows), SIZES[level])
        log_probs = log_probs[user] if level == 0 else log_probs
        total = total + log_probs.gather(1, codes[:, level : level + 1])[:, 0]
    torch.testing.assert_close(total.view(USERS, 2), generator.score(HISTORY, items), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_what_a_history_composes_is_added_to_what_is_kept(style: Style, tied: bool) -> None:
    generator = made(style, compose=composed, tied=tied)
    items = torch.arange(1, 14).expand(USERS, -1)
    expected = torch.tensor(
        [[float(teacher_forced(generator, user, item).sum()) for item in range(1, 14)] for user in range(USERS)]
    )
    torch.testing.assert_close(generator.score(HISTORY, items), expected, atol=1e-4, rtol=1e-5)
    of_targets = expected[torch.arange(USERS), TARGET - 1]
    torch.testing.assert_close(loss_of(generator), -of_targets.mean() / 3)
    generator.compose = None
    assert (generator.score(HISTORY, items) - expected).abs().mean() > 0.1


@torch.inference_mode()
def test_a_composition_is_of_codes_alone() -> None:
    """Of the codes of the history, without the end token, and of all codes of each level; the start keeps nothing."""
    generator = made("vocabulary", compose=composed)
    labels = generator.item_tokens(TARGET)
    before = generator.states(labels, generator.read(HISTORY))
    generator.token.weight[0] += 1  # the start token, and padding
    torch.testing.assert_close(generator.states(labels, generator.read(HISTORY)), before)
    composition = generator.read(HISTORY).composition
    generator.token.weight[10] += 1  # the end token
    changed = generator.read(HISTORY).composition
    assert composition is not None
    assert changed is not None
    torch.testing.assert_close(changed.added, composition.added)


@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_an_untied_head_alone_is_the_output_and_is_not_scaled(style: Style) -> None:
    generator = made(style, tied=False)
    assert generator.head is not None
    assert generator.head.weight.shape == generator.token.weight.shape
    assert generator.head.bias is None
    generator.head.weight.zero_()
    generator.head.weight[:, 0] = torch.tensor([1.0, 0.0, 2.0, 1.0, 3.0, 0.0, 1.0, 0.0, 2.0, 0.0, 4.0])[
        : len(generator.head.weight)
    ]
    state = F.pad(torch.tensor([[math.log(2.0)]]), (0, 15))
    # Powers of two; all of a vocabulary sum to 42, those of a level to 15, 4 and 5.
    sums = [42, 42, 42] if style == "vocabulary" else [15, 4, 5]
    for level, (sum_, expected) in enumerate(zip(sums, [[1, 4, 2, 8], [1, 2, 1], [4, 1]], strict=True)):
        found = generator.log_probs(level, state).exp()[0]
        torch.testing.assert_close(found, torch.tensor(expected) / sum_)


@torch.inference_mode()
def test_a_code_of_a_level_competes_with_its_level_unscaled() -> None:
    generator = made("level")
    generator.token.weight.zero_()
    generator.token.weight[:, 0] = torch.tensor([90.0, 1.0, 2.0, 3.0, 4.0, 7.0, 5.0, 7.0, 60.0, 61.0])
    state = F.pad(torch.tensor([[math.log(2.0)]]), (0, 15))
    # Powers of two: 2, 4, 8, 16 of 30; 128, 32, 128 of 288; one to two.
    found = [generator.log_probs(level, state).exp()[0] for level in range(3)]
    for each, expected in zip(found, [[1, 2, 4, 8], [4, 1, 4], [1, 2]], strict=True):
        torch.testing.assert_close(each, torch.tensor(expected) / sum(expected))
    # Logits divided by 1/2: the probabilities squared, and set to sum to one again.
    sharp = generator.log_probs(0, state, 0.5).exp()[0]
    torch.testing.assert_close(sharp, torch.tensor([1.0, 4.0, 16.0, 64.0]) / 85)


@torch.inference_mode()
def test_a_code_of_a_vocabulary_competes_with_all_tokens_scaled() -> None:
    generator = made("vocabulary")
    generator.token.weight.zero_()
    exponents = torch.tensor([1.0, 0.0, 2.0, 1.0, 3.0, 0.0, 1.0, 0.0, 2.0, 0.0, 4.0])
    generator.token.weight[:, 0] = exponents
    # 4 is the root of the width, which the logits are divided by.
    state = F.pad(torch.tensor([[4 * math.log(2.0)]]), (0, 15))
    found = [generator.log_probs(level, state).exp()[0] for level in range(3)]
    # Powers of two, the padding's 2 and the end token's 16 among them: 2 + 1 + 4 + 2 + 8 + 1 + 2 + 1 + 4 + 1 + 16.
    for each, expected in zip(found, [[1, 4, 2, 8], [1, 2, 1], [4, 1]], strict=True):
        torch.testing.assert_close(each, torch.tensor(expected) / 42)
    sharp = generator.log_probs(2, state, 0.5).exp()[0]
    torch.testing.assert_close(sharp, torch.tensor([16.0, 1.0]) / float((4**exponents).sum()))


@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_probabilities_of_a_level_sum_to_one_where_only_they_compete(style: Style) -> None:
    generator = made(style)
    states = torch.randn(5, 16) * 2
    sums = torch.stack([generator.log_probs(level, states).exp().sum(1) for level in range(3)])
    if style == "level":
        torch.testing.assert_close(sums, torch.ones(3, 5))
    else:
        # What the codes leave over belongs to padding and the end token.
        rest = (states @ generator.token.weight.T / 4).softmax(1)[:, [0, 10]].sum(1)
        torch.testing.assert_close(sums.sum(0) + rest, torch.ones(5))
        assert (sums < 0.99).all()


@torch.inference_mode()
def test_the_first_state_needs_the_first_label_alone() -> None:
    generator = made("level")
    labels, encoded = generator.item_tokens(TARGET), generator.read(HISTORY)
    first = generator.states(labels[:, :1], encoded)
    assert first.shape == (USERS, 1, 16)
    torch.testing.assert_close(first, generator.states(labels, encoded)[:, :1])


@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_a_checkpoint_carries_the_codes(style: Style) -> None:
    source, copy = made(style), made(style, ROWS[::-1], seed=1)
    expected = source.score(HISTORY, TARGET[:, None])
    assert not torch.allclose(copy.score(HISTORY, TARGET[:, None]), expected, atol=0.1)
    copy.load_state_dict(safetensors.torch.load(safetensors.torch.save(source.state_dict())))
    assert torch.equal(copy.score(HISTORY, TARGET[:, None]), expected)
    assert copy.index.codes[1:, 0].tolist() == [list(row) for row in ROWS]


APART = "the code table and the token embeddings of this checkpoint do not belong together"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("nested", [False, True])
def test_a_checkpoint_with_anothers_codes_is_refused(style: Style, nested: bool) -> None:
    source, other, copy = made(style), made(style, ROWS[::-1], seed=1), made(style, seed=2)
    mixed = source.state_dict() | {"index.codes": other.index.codes}
    module: nn.Module = nn.ModuleDict({"generator": copy}) if nested else copy
    prefix = "generator." if nested else ""
    with pytest.raises(ValueError, match=APART):
        module.load_state_dict({prefix + name: tensor for name, tensor in mixed.items()})
    # The other's hash does not make it whole either: the embeddings are not the other's.
    bond = other.state_dict()["_extra_state"]
    with pytest.raises(ValueError, match=APART):
        made(style).load_state_dict(source.state_dict() | {"index.codes": other.index.codes, "_extra_state": bond})


def test_a_single_code_or_weight_of_another_is_enough() -> None:
    state = {name: tensor.clone() for name, tensor in made("level").state_dict().items()}
    made("level", seed=1).load_state_dict(state)
    for name in ("index.codes", "token.weight"):
        changed = state[name].clone()
        changed[-1, 0] = 0
        with pytest.raises(ValueError, match=APART):
            made("level", seed=1).load_state_dict(state | {name: changed})


def test_a_checkpoint_without_the_hash_is_refused() -> None:
    state = made("vocabulary").state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"_extra_state"'):
        made("vocabulary", seed=1).load_state_dict(state)


def test_new_names_and_new_weights_make_a_new_bond() -> None:
    generator = made("level")
    bonds = [generator.state_dict()["_extra_state"]]
    generator.index.assign(index_of(ROWS[::-1], SIZES).codes)
    bonds.append(generator.state_dict()["_extra_state"])
    with torch.no_grad():
        generator.token.weight[3, 3] += 1
    bonds.append(generator.state_dict()["_extra_state"])
    assert len({bytes(bond.tolist()) for bond in bonds}) == 3
    made("level", seed=1).load_state_dict(generator.state_dict())


class TestSeveralSequences:
    """Items 1 to 13 have one to three of all 24 sequences each, most of which several items share."""

    EVERY = tuple(product(*map(range, SIZES)))

    def items(self) -> list[list[Row]]:
        """The sequences of each item."""
        draw = Random(0)
        return [draw.sample(self.EVERY, draw.randint(1, 3)) for _ in range(13)]

    def index(self) -> ItemIndex:
        codes = torch.full((14, 3, 3), -1)
        for number, item in enumerate(self.items(), 1):
            codes[number, : len(item)] = torch.tensor(item)
        return ItemIndex(codes, SIZES)

    def expected(self, generator: CodeGenerator, user: int) -> list[float]:
        """The scores of all items: the sum of their sequences' probabilities."""
        items = self.items()
        read = [item[0] for item in items]
        probability = {row: math.exp(forced(generator, user, row, read=read).sum()) for row in self.EVERY}
        return [math.log(sum(probability[row] for row in item)) for item in items]

    @pytest.mark.parametrize("composes", [False, True])
    @pytest.mark.parametrize("style", STYLES)
    @torch.inference_mode()
    def test_scores_and_lists_are_brute_force(self, style: Style, composes: bool) -> None:
        generator = made(style, index=self.index(), compose=composed if composes else None)
        users, history = 3, HISTORY[:3]
        expected = [self.expected(generator, user) for user in range(users)]
        scores = generator.score(history, torch.arange(1, 14).expand(users, -1))
        torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-4, rtol=1e-5)
        # Sequences that name no item hold places of a free beam; a code competes with 11 tokens, or with its level's.
        every = 11**3 if style == "vocabulary" else 24
        free = generator.beam(history, every + 16, width=every, constrained=False)
        for k, found in ((13, free), *((k, generator.beam(history, k, width=24)) for k in (1, 5, 13))):
            self.assert_best(found, expected, k)
        for k in (1, 5, 13):
            found = generator.rank(history, k)
            assert found.certified.all()
            self.assert_best(found, expected, k)

    def assert_best(self, found: Ranking, expected: list[list[float]], k: int) -> None:
        for items, scores, every in zip(found.items, found.scores, expected, strict=True):
            named = items[items > 0].tolist()
            assert len(named) == len(set(named)) == k
            # Not item by item: rounding may swap two that are as good as equal.
            best = pytest.approx(sorted(every, reverse=True)[:k], abs=1e-3)
            assert [every[item - 1] for item in named] == best
            assert scores[items > 0].tolist() == best


@pytest.mark.parametrize("width", [4, 11**3])
@torch.inference_mode()
def test_a_free_beam_takes_any_token_where_codes_compete_with_all(width: int) -> None:
    generator, user = made("vocabulary"), HISTORY[1:2]
    every = list(product(range(11), repeat=3))
    labels = torch.tensor(every)
    logits = (
        generator.states(labels, generator.read(user).repeat(len(every))) @ generator.token.weight.T / math.sqrt(16)
    )
    chosen = logits.log_softmax(-1).gather(2, labels[..., None])[..., 0].cumsum(1).tolist()
    score = {row[: level + 1]: sums[level] for row, sums in zip(every, chosen, strict=True) for level in range(3)}
    beams: list[Row] = [()]
    for _ in SIZES:
        grown = [(*beam, token) for beam in beams for token in range(11)]
        beams = sorted(grown, key=lambda row: -score[row])[:width]
    named = {beam: [item for item, row in enumerate(ROWS, 1) if tuple(tokens_of(row)) == beam] for beam in beams}
    expected = [(item, score[beam]) for beam in beams for item in named[beam] or [0]]
    found = generator.beam(user, len(expected), width, constrained=False)
    assert found.items[0].tolist() == [item for item, _ in expected]
    torch.testing.assert_close(found.scores[0], torch.tensor([each for _, each in expected]), atol=1e-4, rtol=1e-5)
    # The first of the misses are of another level's tokens, of padding and of the end.
    assert any(beam not in map(tuple, map(tokens_of, product(*map(range, SIZES)))) for beam in beams)


def test_the_tokens_of_sequences_and_the_vectors_of_levels_by_hand() -> None:
    generator = made("vocabulary")
    codes = torch.tensor([[[0, 0, 0], [3, 2, 1]], [[1, 1, 1], [2, 0, 1]]])
    expected = [[[1, 5, 8], [4, 7, 9]], [[2, 6, 9], [3, 5, 9]]]
    assert generator.sequence_tokens(codes).tolist() == expected
    for level, (first, end) in zip(generator.vectors(), BOUNDS, strict=True):
        assert torch.equal(level, generator.token.weight[first:end])
