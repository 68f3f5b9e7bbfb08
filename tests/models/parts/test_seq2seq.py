"""CodeTransformer against transformers' own T5, and its incremental step against its teacher forcing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from models.parts.seq2seq import CodeTransformer, Encoded, Prefixes, T5Sizes

SIZES = T5Sizes(width=16, inner=24, heads=3, head_width=4, encoder_layers=2, decoder_layers=2, dropout=0.0)
TOKENS = 11
MASK = torch.tensor([[True] * 7, [True] * 3 + [False] * 4, [True] + [False] * 6])


def shaken(module: nn.Module) -> None:
    """Every weight at random: layer norms and position biases start at values that would hide a fault."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)


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
    torch.testing.assert_close(encoded.states, output.encoder_last_hidden_state, atol=1e-5, rtol=1e-5)
    logits = states * SIZES.width**-0.5 @ embedding.T
    assert float(logits.std()) > 0.1
    torch.testing.assert_close(logits, output.logits, atol=1e-5, rtol=1e-5)


def teacher_forced(model: CodeTransformer, prefixes: Tensor, encoded: Encoded) -> Tensor:
    """States after the last token of prefixes `[B, P, t, D]`, each decoded as a sequence of its own."""
    places = prefixes.shape[1]
    repeated = Encoded(encoded.states.repeat_interleave(places, 0), encoded.mask.repeat_interleave(places, 0))
    return model.decode(prefixes.flatten(0, 1), repeated)[:, -1].unflatten(0, (-1, places))


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_step_equals_teacher_forcing(model: CodeTransformer, seed: int) -> None:
    """Prefixes branch, swap places and die out, as in a beam."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.arange(3)[:, None]
    encoded = model.encode(torch.randn(*MASK.shape, SIZES.width, generator=generator), MASK)
    caches = model.start(encoded)
    sequences = torch.zeros(3, 1, 0, SIZES.width)
    parent: Tensor | None = None
    for places in (1, 4, 4, 2, 3):
        token = torch.randn(3, places, SIZES.width, generator=generator)
        if places > 1:
            parent = torch.randint(0, sequences.shape[1], (3, places), generator=generator)
            sequences = sequences[users, parent]
        sequences = torch.cat([sequences, token[:, :, None]], dim=2)
        states, caches = model.step(token, caches, parent)
        torch.testing.assert_close(states, teacher_forced(model, sequences, encoded), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_parents_a_prefix_continues_itself(model: CodeTransformer) -> None:
    encoded = model.encode(torch.randn(3, 7, SIZES.width), MASK)
    _, caches = model.step(torch.randn(3, 1, SIZES.width), model.start(encoded))
    _, caches = model.step(torch.randn(3, 4, SIZES.width), caches, torch.zeros(3, 4, dtype=torch.long))
    token = torch.randn(3, 4, SIZES.width)
    states, _ = model.step(token, caches)
    torch.testing.assert_close(states, model.step(token, caches, torch.arange(4).expand(3, 4))[0])


@torch.no_grad()
def test_more_padding_changes_nothing(model: CodeTransformer) -> None:
    source, target = torch.randn(3, 7, SIZES.width), torch.randn(3, 4, SIZES.width)
    # What stands at padded places must not matter either.
    wide = torch.cat([source, torch.randn(3, 5, SIZES.width)], dim=1)
    wide_mask = nn.functional.pad(MASK, (0, 5))
    near, far = model.encode(source, MASK), model.encode(wide, wide_mask)
    torch.testing.assert_close(near.states[MASK], far.states[wide_mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(target, near), model.decode(target, far), atol=1e-5, rtol=1e-5)
    stepped = [model.step(target[:, :1], model.start(encoded))[0] for encoded in (near, far)]
    torch.testing.assert_close(*stepped, atol=1e-5, rtol=1e-5)


def test_caches_hold_a_history_once_per_user(model: CodeTransformer) -> None:
    encoded = model.encode(torch.randn(3, 7, SIZES.width), MASK)
    caches: Prefixes = model.start(encoded)
    _, grown = model.step(torch.randn(3, 1, SIZES.width), caches)
    _, grown = model.step(torch.randn(3, 9, SIZES.width), grown, torch.zeros(3, 9, dtype=torch.long))
    assert grown.past[0][0].shape == (3, 9, 2, SIZES.heads, SIZES.head_width)
    assert grown.cross is caches.cross
    assert grown.cross[0][0].shape == (3, SIZES.heads, 7, SIZES.head_width)


def test_every_weight_gets_a_gradient(model: CodeTransformer) -> None:
    """Distributed training stops at a weight that the loss does not reach."""
    encoded = model.encode(torch.randn(3, 7, SIZES.width), MASK)
    model.decode(torch.randn(3, 4, SIZES.width), encoded).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
