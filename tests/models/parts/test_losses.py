"""The blocked softmax over a catalogue against torch's own, in value and in both gradients; the rest against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy
from torch import Tensor
from torch.nn import functional as F

from models.parts import losses
from models.parts.losses import SAMPLED, Loss, catalogue_cross_entropy, info_nce, next_item_loss, symmetric_kl

ROWS, ITEMS, WIDTH = 13, 7, 4


def inputs(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, WIDTH, generator=generator, dtype=dtype) * scale
    items = torch.randn(ITEMS, WIDTH, generator=generator, dtype=dtype)
    target = torch.randint(0, ITEMS, (ROWS,), generator=generator)
    return states.requires_grad_(), items.requires_grad_(), target


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("block", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_equals_torch(block: int, upstream: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", block * ROWS)
    states, items, target = inputs(dtype=torch.float64)
    ours = catalogue_cross_entropy(states, items, target)
    torchs = F.cross_entropy(states @ items.T, target, reduction="sum")
    torch.testing.assert_close(ours, torchs)
    expected = gradients(upstream * torchs, states, items)
    for found, wanted in zip(gradients(upstream * ours, states, items), expected, strict=True):
        assert float(wanted.abs().max()) > 0.01
        torch.testing.assert_close(found, wanted)


def test_more_rows_than_a_block_has_logits_go_item_by_item(monkeypatch: pytest.MonkeyPatch) -> None:
    states, items, target = inputs()
    whole = catalogue_cross_entropy(states, items, target)
    monkeypatch.setattr(losses, "LOGITS", ROWS // 2)
    torch.testing.assert_close(catalogue_cross_entropy(states, items, target), whole)


@pytest.mark.parametrize("scale", [1e2, 1e5, 1e15])
def test_extreme_logits(scale: float) -> None:
    states, items, target = inputs(scale)
    ours = catalogue_cross_entropy(states, items, target)
    torchs = F.cross_entropy(states @ items.T, target, reduction="sum")
    torch.testing.assert_close(ours, torchs)
    found, expected = gradients(ours, states, items), gradients(torchs, states, items)
    for ours_grad, torchs_grad in zip(found, expected, strict=True):
        assert ours_grad.isfinite().all()
        torch.testing.assert_close(ours_grad, torchs_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_bf16_only_products_are_rounded(dtype: torch.dtype) -> None:
    """States may come in either format; the loss and the items' gradient are float32."""
    states, items, target = inputs()
    exact = catalogue_cross_entropy(states, items, target)
    given = states.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        near = catalogue_cross_entropy(given, items, target)
    assert near.dtype == torch.float32
    assert float(near) == pytest.approx(float(exact), rel=0.01)
    assert float(near) != float(exact)
    found, expected = gradients(near, given, items), gradients(exact, states, items)
    assert [grad.dtype for grad in found] == [dtype, torch.float32]
    for one, two in zip(found, expected, strict=True):
        assert float((one - two).norm() / two.norm()) < 0.02


def test_a_certain_target_costs_nothing() -> None:
    loss = catalogue_cross_entropy(torch.tensor([[1e4]]), torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([0]))
    assert float(loss) == 0.0


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # The item's score is ln 3, that of the only other one 0: sigmoids of 3/4 and 1/2, a difference of ln 3.
        ("ce", -math.log(3 / 4)),
        ("bce", -math.log(3 / 4) + math.log(2)),
        ("bpr", -math.log(3 / 4)),
    ],
)
def test_losses_of_the_next_item_by_hand(loss: Loss, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randint_like", lambda target, low, high: 1 - target)
    items, target = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([1, 1])
    assert next_item_loss(loss, torch.ones(2, 1), items, target).item() == pytest.approx(2 * expected, rel=1e-6)


@pytest.mark.parametrize(("loss", "drawn", "share"), [("bce", 1, 0.5), ("bpr", 1, 0.5), ("sampled", SAMPLED, 1 / 257)])
def test_other_items_are_drawn_evenly_from_all(loss: Loss, drawn: int, share: float) -> None:
    """Where all scores are 0, an item's gradient is a share for each time that it was drawn."""
    torch.manual_seed(0)
    rows, items = 2_000, torch.zeros(ITEMS, 1, requires_grad=True)
    (gradient,) = gradients(next_item_loss(loss, torch.ones(rows, 1), items, torch.full((rows,), 3)), items)
    others = torch.arange(ITEMS) != 3
    times = gradient[others, 0] / share
    even = rows * drawn / ITEMS
    assert times.tolist() == pytest.approx([even] * (ITEMS - 1), abs=4 * math.sqrt(even))


def test_info_nce_by_hand() -> None:
    # Logits [[2, 0], [1, 1]]: the first row finds its own with a chance of e^2 / (e^2 + 1), the second with 1/2.
    x, y = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.eye(2)
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert info_nce(x, y).item() == pytest.approx(expected, rel=1e-6)
    assert info_nce(y[:1], x[1:]).item() == 0.0  # nothing to be taken for


def test_info_nce_is_in_float32_whatever_the_precision_around_it() -> None:
    states, items, _ = inputs(scale=10.0)
    alone = info_nce(states[:7], items)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(states[:7], items), alone)


def test_info_nce_is_plain_numpy() -> None:
    states, items, _ = inputs()
    x, y = states[:7].detach(), items.detach()
    logits = x.numpy().astype(np.float64) @ y.numpy().astype(np.float64).T
    expected = -np.mean(
        [math.log(math.exp(logits[i, i]) / sum(math.exp(logit) for logit in logits[i])) for i in range(7)]
    )
    assert info_nce(x, y).item() == pytest.approx(expected, rel=1e-5)
    assert info_nce(y, x).item() != pytest.approx(expected, rel=1e-2), "rows of the first find rows of the second"


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_symmetric_kl_is_scipys(scale: float) -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 5, 4)) * scale
    one, two = scipy_softmax(p, axis=1), scipy_softmax(q, axis=1)
    found = symmetric_kl(torch.tensor(p), torch.tensor(q)).item()
    assert found == pytest.approx(float((entropy(one, two, axis=1) + entropy(two, one, axis=1)).mean()), rel=1e-5)
    assert found == pytest.approx(float((rel_entr(one, two) + rel_entr(two, one)).sum(1).mean()), rel=1e-5)


def test_symmetric_kl_by_hand_and_by_its_gradient() -> None:
    p, q = torch.tensor([[math.log(3.0), 0.0]], requires_grad=True), torch.tensor([[0.0, 0.0]], requires_grad=True)
    loss = symmetric_kl(p, q)
    # (3/4, 1/4) and (1/2, 1/2): the difference 1/4 times ln 3/2, and -1/4 times ln 1/2.
    assert loss.item() == pytest.approx(0.25 * math.log(3), rel=1e-6)
    # Of x = ln 3 the loss is (sigmoid(x) - 1/2) x: 3/16 x + 1/4; the other logit's gradient is the opposite.
    gradient, other = gradients(loss, p, q)
    assert gradient.tolist()[0] == pytest.approx(
        [3 / 16 * math.log(3) + 0.25, -(3 / 16 * math.log(3) + 0.25)], rel=1e-6
    )
    # By q's logit at 0, where sigmoid' is 1/4: -(3/4 - 1/2) - 1/4 ln 3.
    assert other.tolist()[0] == pytest.approx([-0.25 - 0.25 * math.log(3), 0.25 + 0.25 * math.log(3)], rel=1e-6)
    assert symmetric_kl(p, p + 7).item() == pytest.approx(0, abs=1e-6)
    assert symmetric_kl(p, q).item() == symmetric_kl(q, p).item()


def test_extreme_logits_have_finite_losses_and_gradients() -> None:
    p = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    q = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = symmetric_kl(p, q)
    assert loss.item() == 4e4  # each is certain of what the other gives e^-20000
    assert all(gradient.isfinite().all() for gradient in gradients(loss, p, q))
    # Either finds the other row only.
    x, y = torch.tensor([[1e2, 0.0], [0.0, 1e2]]), torch.tensor([[0.0, 1e2], [1e2, 0.0]])
    x.requires_grad_()
    y.requires_grad_()
    loss = info_nce(x, y)
    assert loss.item() == 1e4
    assert [gradient.tolist() for gradient in gradients(loss, x, y)] == [
        [[50.0, -50.0], [-50.0, 50.0]],
        [[-50.0, 50.0], [50.0, -50.0]],
    ]
