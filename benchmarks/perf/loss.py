"""The softmax over a catalogue as SASRec trains with it: ours, block by block, beside torch's over all logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmarks.perf import Pair, in_turn, pair, seconds
from models.parts.losses import catalogue_cross_entropy

# Positions of a batch and catalogue on Musical_Instruments, SASRec's width.
POSITIONS, ITEMS, WIDTH = 1515, 24_587, 128
REPEATS = 5
# Largest relative difference of the loss, whose logits torch rounds in bf16.
EQUAL = 1e-3


def loss_cpu(positions: int = POSITIONS, items: int = ITEMS) -> list[Pair]:
    """Seconds for a loss and its gradients, in bf16 and in float32.

    Raises:
        ValueError: the losses of the two sides differ.
    """
    return [_beside_torch(name, bf16, positions, items) for name, bf16 in (("loss_cpu", True), ("loss_cpu_32", False))]


def _beside_torch(name: str, bf16: bool, positions: int, items: int) -> Pair:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, WIDTH, generator=generator, requires_grad=True)
    catalogue = torch.randn(items, WIDTH, generator=generator).mul_(0.2).requires_grad_()
    target = torch.randint(items, (positions,), generator=generator)
    found: dict[str, float] = {}

    def ours() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found["ours"] = _trained(catalogue_cross_entropy(states, catalogue, target))

    def torchs() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found["torch's"] = _trained(all_logits(states, catalogue, target))

    turns = in_turn(lambda: seconds(ours), lambda: seconds(torchs), REPEATS)
    if abs(found["ours"] - found["torch's"]) > EQUAL * found["torch's"]:
        raise ValueError(f"the losses are {found}; expected the same")
    number = "bf16" if bf16 else "float32"
    note = f"F.cross_entropy over all logits at once, {number}, {positions:,} positions and {items:,} items"
    return pair(name, turns, "s", note)


def all_logits(
    states: Float[Tensor, "X D"], catalogue: Float[Tensor, "N D"], target: Int[Tensor, "X"]
) -> Float[Tensor, ""]:
    """What one writes with torch."""
    return F.cross_entropy(states @ catalogue.T, target, reduction="sum")


def _trained(loss: Float[Tensor, ""]) -> float:
    loss.backward()
    return loss.item()
