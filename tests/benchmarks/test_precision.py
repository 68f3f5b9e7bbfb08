"""Which number format a recommender trains in, and that gradients are clipped in both."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmarks.training.bf16_plugin import Bf16
from benchmarks.training_precision import Choice, choose

CPU = torch.device("cpu")


@pytest.mark.parametrize(("choice", "found"), [("32", "32-true"), ("bf16", "bf16-mixed")])
@pytest.mark.parametrize("small", [False, True])
def test_a_choice_is_obeyed(choice: Choice, found: str, small: bool) -> None:
    assert choose(choice, CPU, small) == found


@pytest.mark.parametrize(
    ("avx512", "amx", "found", "says"),
    [
        (False, False, "32-true", "has no instructions"),
        (True, False, "bf16-mixed", "has instructions"),
        (False, True, "bf16-mixed", "has instructions"),
    ],
)
def test_auto_goes_by_the_processor_and_says_so(
    avx512: bool, amx: bool, found: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose("auto", CPU, small=False) == found
    said = capsys.readouterr().err
    assert f"precision {found}: this processor {says}" in said
    assert choose("auto", CPU, small=True) == "32-true", "small corpora have the same rows anywhere"
    assert not capsys.readouterr().err


class Slope(pl.LightningModule):
    """Loss `1000 * weight`, with an optimizer that is fused."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1, bias=False)
        self.formats: list[torch.dtype] = []

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        found: Tensor = self.line(batch)
        self.formats.append(found.dtype)
        return 1000 * found.float().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.0, fused=True)


@pytest.mark.parametrize(("plugins", "dtype"), [([], torch.float32), ([Bf16("cpu")], torch.bfloat16)])
def test_gradients_are_clipped_in_both(plugins: list[Any], dtype: torch.dtype) -> None:
    """AdamW hides a gradient's length, so it is looked at itself, where Lightning hands it to the optimizer."""
    module, norms = Slope(), []

    class Look(pl.Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, *_: Any) -> None:
            if module.line.weight.grad is not None:
                norms.append(float(module.line.weight.grad.norm()))

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=0.5,
        plugins=plugins,
        callbacks=[Look()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.ones(3, 1, 1))
    assert module.formats == [dtype] * 3
    assert norms
    assert norms == pytest.approx([0.5] * len(norms), rel=1e-3)
