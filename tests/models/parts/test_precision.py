"""What a method computes in float32 while the rest computes in bf16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.parts.precision import in_float32


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16))

    def plain(self, x: Tensor) -> Tensor:
        return x @ self.weight

    @in_float32
    def whole(self, x: Tensor, times: int = 1) -> Tensor:
        """The product."""
        return x @ self.weight * times


def test_only_the_marked_method_computes_in_float32() -> None:
    torch.manual_seed(0)
    module, x = Product(), torch.randn(4, 16)
    expected, of_halved = x @ module.weight, x.bfloat16().float() @ module.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert module.plain(x).dtype == torch.bfloat16
        assert torch.equal(module.whole(x, 2), 2 * expected)
        assert torch.equal(module.whole(x.bfloat16()), of_halved)
        assert module.plain(x).dtype == torch.bfloat16, "what comes after it is as before"
    assert torch.equal(module.whole(x), expected)


def test_other_types_are_left_alone() -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        @in_float32
        def of(self, *given: Tensor) -> list[torch.dtype]:
            return [tensor.dtype for tensor in given]

    dtypes = (torch.int64, torch.float64, torch.float32, torch.bool)
    assert Kinds().of(*(torch.zeros(1, dtype=dtype) for dtype in dtypes)) == list(dtypes)


def test_it_keeps_its_name_and_docstring() -> None:
    assert (Product.whole.__name__, Product.whole.__doc__) == ("whole", "The product.")
