"""Number format in which a recommender trains: a user's choice, and a part of its row's identity.

`32` or `bf16`: matrix products take bfloat16; weights, the residual stream, losses and all ranking stay float32.
Tokenizers and quantisers train in float32 on every device.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.plugins.precision import Precision as Plugin
from typing_extensions import override

Precision = Literal["bf16-mixed", "32-true"]
CHOICES = ("auto", "32", "bf16")

# bf16 is chosen where its products are at least so many times as fast as float32's: 2 to 5 times with instructions for
# it, and slower than float32 without.
FASTER = 1.5
SIZE, REPEATS = 512, 5


class Bf16(MixedPrecision):
    """Lightning's bf16, but for fused optimizers: it will not clip their gradients, for they could be scaled. In bf16
    none are."""

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    @override
    def clip_gradients(self, *arguments: Any, **named: Any) -> None:
        Plugin.clip_gradients(self, *arguments, **named)


def choose(choice: str, device: torch.device, small: bool) -> Precision:
    """What `auto`, `32` or `bf16` stands for on a device; what it measures for that is printed.

    Args:
        small: the models are of the sizes for small corpora, which gain nothing; and their rows are the same anywhere.
    """
    if choice != "auto":
        return "bf16-mixed" if choice == "bf16" else "32-true"
    if small:
        return "32-true"
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    gain = _seconds(torch.float32) / _seconds(torch.bfloat16)
    found: Precision = "bf16-mixed" if gain >= FASTER else "32-true"
    print(
        f"precision {found}: products in bf16 are {gain:.1f} times as fast as in float32 on this processor, "
        f"{FASTER} are asked for; PRECISION=32 or bf16 decides otherwise",
        file=sys.stderr,
    )
    return found


def _seconds(dtype: torch.dtype) -> float:
    """Of a matrix product, the fastest of several."""
    factor, took = torch.ones(SIZE, SIZE, dtype=dtype), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        factor @ factor
        took.append(time.perf_counter() - start)
    return min(took)
