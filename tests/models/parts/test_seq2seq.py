"""CodeTransformer against transformers' own T5, and its incremental step against its teacher forcing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from models.parts.seq2seq import CodeTransformer, Encoded, T5Sizes, Token
from tests.factories import shaken

SIZES = T5Sizes(width=16, inner=24, heads=3, head_width=4, encoder_layers=2, decoder_layers=2, dropout=0.0)
TOKENS = 11
MASK = torch.tensor([[True] * 7, [True] * 3 + [False] * 4, [True] + [False] * 6])


@pytest.fixture
def model() -> CodeTransformer:
    torch.manual_seed(0)
    transformer = CodeTransformer(SIZES).eval()
    shaken(transformer)
    return transformer


def library(model: CodeTransformer, embedding: Tensor) -> T5ForConditionalGeneration:
    """The library's T5 with the weights of `model` and a tied token embedding."""
    config = T5Config(
        vocab_size=TOKENS,
        d_model=SIZES.width,
        d_ff=SIZES.inner,
        d_kv=SIZES.head_width,
        num_heads=SIZES.heads,
        num_layers=SIZES.encoder_layers,
        num_decoder_layers=SIZES.decoder_layers,
        dropout_rate=0.0,
        pad_token_id=0,
    )
    t5 = T5ForConditionalGeneration(config).eval()
    loaded = t5.load_state_dict(model.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all("embed_tokens" in key or key in ("shared.weight", "lm_head.weight") for key in loaded.missing_keys)
    with torch.no_grad():
        t5.get_input_embeddings().weight.copy_(embedding)
    assert torch.equal(t5.lm_head.weight, embedding)
    return t5


@torch.no_grad()
def test_logits_equal_the_librarys(model: CodeTransformer) -> None:
    embedding = torch.randn(TOKENS, SIZES.width)
    source = torch.randint(1, TOKENS, MASK.shape) * MASK
    labels = torch.randint(1, TOKENS, (3, 4))
    inputs = torch.cat([torch.zeros(3, 1, dtype=torch.long), labels[:, :-1]], dim=1)
    output = library(model, embedding)(input_ids=source, attention_mask=MASK, decoder_input_ids=inputs)
    encoded = model.encode(embedding[source], MASK)
    states = model.decode(embedding[inputs], encoded)
    torch.testing.assert_close(encoded.states[MASK], output.encoder_last_hidden_state[MASK], atol=1e-5, rtol=1e-5)
    assert not encoded.states[~MASK].any()
    logits = states * SIZES.width**-0.5 @ embedding.T
    assert float(logits.std()) > 0.1
    torch.testing.assert_close(logits, output.logits, atol=1e-5, rtol=1e-5)


def test_gradients_equal_the_librarys(model: CodeTransformer) -> None:
    embedding = torch.randn(TOKENS, SIZES.width)
    source, target = torch.randint(1, TOKENS, MASK.shape) * MASK, torch.randint(1, TOKENS, (3, 4))
    upstream, theirs = torch.randn(3, 4, SIZES.width), library(model, embedding)
    states = model.decode(embedding[target], model.encode(embedding[source], MASK))
    (states * upstream).sum().backward()
    output = theirs(source, attention_mask=MASK, decoder_input_ids=target, output_hidden_states=True)
    (output.decoder_hidden_states[-1] * upstream).sum().backward()
    found = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, found[name], atol=1e-4, rtol=1e-4, msg=name)


def test_bf16_is_near_float32_and_only_products_are_in_it(model: CodeTransformer) -> None:
    source, target = torch.randn(*MASK.shape, SIZES.width), torch.randn(3, 4, SIZES.width)
    exact = model.decode(target, model.encode(source, MASK))
    with torch.autocast("cpu", torch.bfloat16):
        # An input in bf16 makes no residual stream in it.
        near = model.decode(target.bfloat16(), model.encode(source.bfloat16(), MASK))
    difference = (near.float() - exact).detach().norm() / exact.detach().norm()
    assert 0 < float(difference) < 0.03
    weights = [*model.parameters()]
    for one, two in zip(*(torch.autograd.grad(states.float().sum(), weights) for states in (exact, near)), strict=True):
        assert two.dtype == torch.float32
        assert float((one - two).norm() / one.norm()) < 0.2


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_step_equals_teacher_forcing(model: CodeTransformer, seed: int) -> None:
    """Prefixes branch, swap places and die out, as in a search; at times a user has none, or another number."""
    generator = torch.Generator().manual_seed(seed)
    encoded = model.encode(torch.randn(*MASK.shape, SIZES.width, generator=generator), MASK)
    memory = model.memory(encoded)
    user, sequences = torch.arange(3), torch.zeros(3, 0, SIZES.width)
    cache: tuple[Token, ...] = ()
    for picked in ([0, 1, 2], [0, 0, 1, 2, 2, 2], [1, 0, 0, 5, 3, 5], [1, 2, 5], [0, 0, 2, 2, 2]):
        parent = torch.tensor(picked)
        parent = parent[user[parent].argsort(stable=True)]
        user = user[parent]
        token = torch.randn(len(parent), SIZES.width, generator=generator)
        sequences = torch.cat([sequences[parent], token[:, None]], dim=1)
        states, cache = model.step(token, user, memory, parent, cache)
        repeated = Encoded(encoded.states[user], encoded.mask[user])
        torch.testing.assert_close(states, model.decode(sequences, repeated)[:, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_more_padding_changes_nothing(model: CodeTransformer) -> None:
    source, target = torch.randn(3, 7, SIZES.width), torch.randn(3, 4, SIZES.width)
    # What stands at padded places must not matter either.
    wide = torch.cat([source, torch.randn(3, 5, SIZES.width)], dim=1)
    wide_mask = nn.functional.pad(MASK, (0, 5))
    near, far = model.encode(source, MASK), model.encode(wide, wide_mask)
    torch.testing.assert_close(near.states[MASK], far.states[wide_mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(target, near), model.decode(target, far), atol=1e-5, rtol=1e-5)
    user = torch.arange(3)
    stepped = [model.step(target[:, 0], user, model.memory(encoded), user, ())[0] for encoded in (near, far)]
    torch.testing.assert_close(*stepped, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_keys_and_values_are_stored_once(model: CodeTransformer) -> None:
    memory, user = model.memory(model.encode(torch.randn(3, 7, SIZES.width), MASK)), torch.arange(3)
    assert memory.values[1].shape == (3, SIZES.heads, 7, SIZES.head_width)
    _, cache = model.step(torch.randn(3, SIZES.width), user, memory, user, ())
    assert cache[0].table.shape == (3, SIZES.decoder_layers, 2, SIZES.heads, SIZES.head_width)
    twice = torch.tensor([1, 1, 2])
    _, longer = model.step(torch.randn(3, SIZES.width), twice, memory, twice, cache)
    assert longer[0].table is cache[0].table
    assert [token.row.tolist() for token in longer] == [[1, 1, 2], [0, 1, 2]]


@torch.no_grad()
def test_no_prefix_at_all(model: CodeTransformer) -> None:
    """All that a search has left may fall below its floor."""
    memory, none = model.memory(model.encode(torch.randn(3, 7, SIZES.width), MASK)), torch.zeros(0, dtype=torch.long)
    _, cache = model.step(torch.randn(3, SIZES.width), torch.arange(3), memory, torch.arange(3), ())
    states, _ = model.step(torch.zeros(0, SIZES.width), none, memory, none, cache)
    assert states.shape == (0, SIZES.width)


def test_every_weight_gets_a_gradient(model: CodeTransformer) -> None:
    """Distributed training stops at a weight that the loss does not reach."""
    encoded = model.encode(torch.randn(3, 7, SIZES.width), MASK)
    model.decode(torch.randn(3, 4, SIZES.width), encoded).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
