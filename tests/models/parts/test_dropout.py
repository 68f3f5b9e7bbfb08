"""Dropout on a CPU: the share, the scale, independence, and seeds; all else as torch's own."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5Model

from models.parts.dropout import LEVELS, Dropout, kept, replace_dropout, zero_

COUNT = 1 << 20
# Six standard deviations: one false alarm in 500 million.
DEVIATIONS = 6


def left(p: float, *shape: int, seed: int = 0) -> Tensor:
    """`shape` of bool: which of so many ones are left."""
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(*shape)) > 0


def near(share: Tensor | float, expected: float, draws: int) -> bool:
    """Within the bounds of a binomial share of so many draws."""
    deviation = math.sqrt(expected * (1 - expected) / draws)
    return bool((torch.as_tensor(share) - expected).abs().max() < DEVIATIONS * deviation)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_share_of_zeros(p: float) -> None:
    assert near(1 - float(left(p, COUNT).double().mean()), p, COUNT)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_share_is_the_same_at_every_place(p: float) -> None:
    """Places of a row, and places within the 64-bit words that four elements are drawn from."""
    mask = left(p, COUNT // 64, 64).double()
    assert near(1 - mask.mean(0), p, len(mask))
    assert not near(1 - mask[:, 1:].mean(0) + 0.1, p, len(mask)), "the bound tells shares apart"


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_of_a_word_are_independent(p: float) -> None:
    """Each of the 16 outcomes of four neighbours, and of four elements of neighbouring words, is as likely as due."""
    mask = left(p, COUNT // 4, 4).int()
    for four in (mask, mask.T.reshape(-1, 4), mask.flatten().roll(-2).view(-1, 4)):
        found = torch.bincount(four @ torch.tensor([8, 4, 2, 1]).int(), minlength=16) / len(four)
        for outcome in range(16):
            ones = outcome.bit_count()
            assert near(float(found[outcome]), (1 - p) ** ones * p ** (4 - ones), len(four)), f"{outcome:04b}"


def test_neighbours_do_not_correlate() -> None:
    mask = left(0.5, COUNT).double() * 2 - 1
    for lag in (1, 2, 3, 4, 5, 8, 64, 1024):
        assert abs(float((mask[lag:] * mask[:-lag]).mean())) < DEVIATIONS / math.sqrt(COUNT), lag


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rest_is_scaled_exactly_and_the_mean_is_kept(p: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(COUNT, dtype=torch.float64) + 1
    out = Dropout(p)(x)
    rounded = round(p * LEVELS) / LEVELS
    assert torch.equal(out[out > 0], x[out > 0] * (1 / (1 - rounded)))
    deviation = math.sqrt(float((x**2).mean()) * p / (1 - p) / COUNT)
    assert abs(float(out.mean() - x.mean())) < DEVIATIONS * deviation


def test_the_seed_decides_every_mask() -> None:
    dropout, x = Dropout(0.5), torch.ones(1000)
    masks: list[list[Tensor]] = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        np.random.seed(len(masks))  # numpy's own state has no say
        masks.append([dropout(x), dropout(x)])
    assert all(torch.equal(one, two) for one, two in zip(masks[0], masks[1], strict=True))
    different = torch.stack([*masks[0], *masks[2]]) > 0
    agreement = (different[:, None] == different[None]).double().mean(2)
    assert near(agreement[~torch.eye(4, dtype=torch.bool)], 0.5, 1000)


@pytest.mark.parametrize("p", [0.1, 0.7])
def test_the_gradient_has_the_mask_of_the_output(p: float) -> None:
    x = torch.randn(37, 11, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    out = Dropout(p)(x)
    upstream = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, x, upstream)
    assert 0 < int((out == 0).sum()) < out.numel()
    torch.testing.assert_close(gradient, upstream * (out / x).detach())


def test_shapes_layouts_and_types() -> None:
    torch.manual_seed(0)
    for shape in [(), (0,), (1,), (3,), (5, 0), (7, 9), (2, 3, 5)]:
        assert Dropout(0.5)(torch.ones(shape)).shape == shape
    x = torch.rand(31, 17).T + 1
    torch.manual_seed(1)
    of_view = Dropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(of_view, Dropout(0.5)(x.contiguous()))
    for dtype in (torch.bfloat16, torch.float64):
        assert set(Dropout(0.5)(torch.ones(100, dtype=dtype)).tolist()) == {0.0, 2.0}
        assert Dropout(0.5)(torch.ones(1, dtype=dtype)).dtype == dtype


def test_in_place() -> None:
    x = torch.ones(100)
    out = Dropout(0.5, inplace=True)(x)
    assert out is x
    assert set(x.tolist()) == {0.0, 2.0}
    unchanged = torch.ones(100)
    Dropout(0.5)(unchanged)
    assert unchanged.eq(1).all()


def test_nothing_happens_outside_training_or_at_0() -> None:
    x = torch.randn(100)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_limits_of_p_are_torchs() -> None:
    x = torch.randn(1000)
    assert Dropout(1.0)(x).eq(0).all()
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
            Dropout(p)
    # Nearer to 0 or 1 than a rounded p can be: torch's own masks.
    for p in (1e-6, 1 - 1e-6):
        torch.manual_seed(0)
        ours = Dropout(p)(x)
        torch.manual_seed(0)
        assert torch.equal(ours, nn.Dropout(p)(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_is_torchs() -> None:
    x = torch.randn(1000, device="cuda")
    outputs = []
    for kind in (Dropout, nn.Dropout):
        torch.manual_seed(0)
        outputs.append(kind(0.3)(x))
    assert torch.equal(*outputs)


class Other(nn.Dropout):
    """A dropout of somebody else's."""


def test_every_plain_dropout_is_replaced() -> None:
    shared, inplace, asleep, other = nn.Dropout(0.2), nn.Dropout(0.3, inplace=True), nn.Dropout().eval(), Other()
    module = nn.ModuleList([shared, nn.Sequential(shared, inplace), asleep, other])
    replace_dropout(module)
    assert [type(part) for part in (shared, inplace, asleep, other)] == [Dropout, Dropout, Dropout, Other]
    assert list(module.modules())[1:] == [shared, module[1], inplace, asleep, other], "in their places"
    assert (shared.p, inplace.p, inplace.inplace, asleep.training) == (0.2, 0.3, True, False)
    assert type(copy.deepcopy(module)[0]) is Dropout


def test_transformers_t5_trains_with_it() -> None:
    t5 = T5Model(T5Config(vocab_size=10, d_model=8, d_ff=16, d_kv=4, num_heads=2, num_layers=1, dropout_rate=0.1))
    names = list(t5.state_dict())
    replace_dropout(t5)
    kinds = [type(part) for part in t5.modules() if isinstance(part, nn.Dropout)]
    assert kinds.count(Dropout) == len(kinds) > 5
    assert list(t5.state_dict()) == names
    tokens = torch.arange(10)[None]
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(t5.train()(input_ids=tokens, decoder_input_ids=tokens).last_hidden_state)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_drawn_mask_zeroes_in_place(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    keep = kept((100, 1000), 0.3, torch.device("cpu"))
    assert keep.mask is not None
    x = torch.randn(100, 1000).to(dtype)
    made = x.clone()
    assert zero_(made, keep.mask) is made
    assert torch.equal(made, x * keep.mask.to(dtype))
    assert near(1 - float(keep.mask.double().mean()), 0.3, 100_000)
    assert keep.scale == pytest.approx(1 / 0.7, rel=1e-4)


def test_without_dropout_no_mask_is_drawn() -> None:
    state = torch.get_rng_state()
    keep, x = kept((3,), 0.0, torch.device("cpu")), torch.ones(3)
    assert (keep.mask, keep.scale) == (None, 1.0)
    assert torch.equal(zero_(x, keep.mask), torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [1e-9, 1.0])
def test_a_mask_at_the_limits_still_has_a_scale(p: float) -> None:
    keep = kept((1000,), p, torch.device("cpu"))
    assert keep.mask is not None
    assert math.isfinite(keep.scale)
    assert abs(float(keep.mask.double().mean()) - (1 - p)) < 0.01
