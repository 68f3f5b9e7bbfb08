"""Number format in which a recommender trains: a user's choice, and a part of its row's identity.

In `bf16` matrix products take bfloat16; weights, the residual stream, losses and all ranking stay float32, and so do
tokenizers and quantisers. In `32` everything is float32.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

# Who only names a precision does not wait for torch.
if TYPE_CHECKING:
    import torch

Precision = Literal["bf16-mixed", "32-true"]
Choice = Literal["auto", "32", "bf16"]


def choose(choice: Choice, device: torch.device, small: bool) -> Precision:
    """What `auto`, `32` or `bf16` stands for on a device; why, is printed.

    `auto` is bf16 where that is fast: products take a fifth to a half of float32's time on a processor with
    instructions for it, and more than float32's on others.

    Args:
        small: the models are of the sizes for small corpora, which gain nothing; and their rows are the same anywhere.
    """
    import torch

    if choice != "auto":
        return "bf16-mixed" if choice == "bf16" else "32-true"
    if small:
        return "32-true"
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # A product that is timed would decide by what else the machine does.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    found: Precision = "bf16-mixed" if fast else "32-true"
    why = "has instructions for products in bf16" if fast else "has no instructions for products in bf16"
    print(f"precision {found}: this processor {why}; PRECISION=32 or bf16 decides otherwise", file=sys.stderr)
    return found
