"""Tokens by hand, probabilities against an independent teacher forcing, and the bond of codes and embeddings."""

from __future__ import annotations

import math

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.parts.generator import CodeGenerator, Style
from models.parts.index import ItemIndex
from models.parts.seq2seq import Encoded, T5Sizes

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


def index_of(rows: list[Row] = ROWS) -> ItemIndex:
    return ItemIndex(torch.tensor([(-1,) * len(SIZES), *rows]), SIZES)


def made(style: Style, rows: list[Row] = ROWS, seed: int = 0) -> CodeGenerator:
    torch.manual_seed(seed)
    generator = CodeGenerator(T5, index_of(rows), style).eval()
    with torch.no_grad():  # far from the even distribution of a fresh model
        for weight in generator.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    return generator


def tokens_of(item: int) -> list[int]:
    return [1 + sum(SIZES[:level]) + code for level, code in enumerate(ROWS[item - 1])]


def teacher_forced(generator: CodeGenerator, user: int, item: int, temperature: float = 1.0) -> Tensor:
    """`[L]` log-probabilities of the codes of an item; each user alone, so that there is no padding."""
    inputs = [token for past in HISTORIES[user] for token in tokens_of(past)]
    inputs += [10] * (generator.style == "vocabulary")
    encoded = generator.transformer.encode(
        generator.token(torch.tensor([inputs])), torch.ones(1, len(inputs), dtype=torch.bool)
    )
    labels = tokens_of(item)
    states = generator.transformer.decode(generator.token(torch.tensor([[0, *labels[:-1]]])), encoded)[0]
    every, found = generator.token.weight, []
    for state, label, (first, end) in zip(states, labels, [(1, 5), (5, 8), (8, 10)], strict=True):
        if generator.style == "vocabulary":
            logits = every @ state / math.sqrt(16)
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


@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_steps_agree_with_scores(style: Style) -> None:
    """Two prefixes of each user at once, of the target and of item 4."""
    generator = made(style)
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
    generator.index.assign(index_of(ROWS[::-1]).codes)
    bonds.append(generator.state_dict()["_extra_state"])
    with torch.no_grad():
        generator.token.weight[3, 3] += 1
    bonds.append(generator.state_dict()["_extra_state"])
    assert len({bytes(bond.tolist()) for bond in bonds}) == 3
    made("level", seed=1).load_state_dict(generator.state_dict())
