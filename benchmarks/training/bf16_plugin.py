"""Lightning's plugin for training in bf16, so that it clips gradients as in float32."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from typing_extensions import override


class Bf16(MixedPrecision):
    """Lightning's bf16, but for fused optimizers: it will not clip their gradients, for they could be scaled. In bf16
    none are."""

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    @override
    def clip_gradients(self, *arguments: Any, **named: Any) -> None:
        Precision.clip_gradients(self, *arguments, **named)
