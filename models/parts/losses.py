"""Losses that two or more papers share, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from models.parts.precision import in_float32, product_format
from models.parts.processes import all_gather_rows, first_local_row

# Logits held at a time: 8 MiB in float32.
LOGITS = 1 << 21

Loss = Literal["ce", "bce", "bpr", "sampled"]
"""How a state is to find the item that follows it. `ce`: softmax over all items. Against one item that is drawn evenly
for each state anew, the one that follows and the history's own among them, where the code of S3-Rec, for one, draws
what a user has not had: `bce`, binary cross-entropy of both, as in SASRec's paper, or `bpr`, of their difference, as in
HGN's. `sampled`: softmax over it and 256 that are drawn so, as eSASRec has it."""
SAMPLED = 256


def next_item_loss(
    loss: Loss, states: Float[Tensor, "X D"], items: Float[Tensor, "N D"], target: Int[Tensor, "X"]
) -> Float[Tensor, ""]:
    """Sum over X. Scores are dot products; `target` is 0-based."""
    if loss == "ce":
        return catalogue_cross_entropy(states, items, target)
    if loss == "sampled":
        return sampled_cross_entropy(states, items, target, SAMPLED)
    other = torch.randint_like(target, 0, len(items))
    score, score_of_other = ((states * F.embedding(item, items)).sum(-1) for item in (target, other))
    if loss == "bpr":
        return -F.logsigmoid(score - score_of_other).sum()
    return -(F.logsigmoid(score) + F.logsigmoid(-score_of_other)).sum()


def catalogue_cross_entropy(
    states: Float[Tensor, "X D"], items: Float[Tensor, "N D"], target: Int[Tensor, "X"]
) -> Float[Tensor, ""]:
    """Sum over X of -log softmax(states @ items.T)[target], without ever holding all `[X, N]` logits.

    Over blocks of items, first the log-sum-exp, then the gradients, from logits that are computed again, so that a
    block is never far from the processor. Products take autocast's format, all between them the items', and the
    targets' own logits too. `target` is 0-based. Differentiable once.
    """
    dtype = product_format(items)
    with torch.autocast(states.device.type, enabled=False):
        return _CatalogueCrossEntropy.apply(states, items, target, dtype)  # type: ignore[no-untyped-call]


def sampled_cross_entropy(
    states: Float[Tensor, "X D"], items: Float[Tensor, "N D"], target: Int[Tensor, "X"], negatives: int
) -> Float[Tensor, ""]:
    """Sum over X of -log softmax of the target's logit among itself and `negatives` items, drawn evenly for each row
    anew and without a correction (eSASRec, arXiv 2508.06450).

    `target` is 0-based. A drawn target counts as another item.
    """
    others = torch.randint(len(items), (len(target), negatives), device=target.device)
    # To score all items and pick costs less than to fetch as many vectors for each row.
    scores = (states @ items.T).gather(1, torch.cat([target[:, None], others], 1)).float()
    return F.cross_entropy(scores, torch.zeros_like(target), reduction="sum")


@in_float32
def info_nce(x: Float[Tensor, "B D"], y: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean of -log softmax(x @ y.T) on the diagonal: each row of `x` is to find its own row of `y` in the batch.

    The batch is that of all P processes, each of which has as many rows. Process p takes the mean L_p over its own rows
    of `x`, each against all of `y`; the loss of the whole batch is L = 1/P sum_p L_p. `all_gather_rows` sums the
    gradient of a row of `y` over the processes, so that p has the share of its rows in d(sum_p L_p). The mean over
    processes, which DDP takes of these shares, is 1/P d(sum_p L_p) = dL.
    """
    target = torch.arange(len(x), device=x.device) + first_local_row(len(x))
    return F.cross_entropy(x @ all_gather_rows(y).T, target)


def symmetric_info_nce(x: Float[Tensor, "B D"], y: Float[Tensor, "B D"], temperature: float) -> Float[Tensor, ""]:
    """`info_nce` by cosine, from either side, summed."""
    x, y = F.normalize(x.float(), dim=1) / temperature, F.normalize(y.float(), dim=1)
    return info_nce(x, y) + info_nce(y, x)


def symmetric_kl(p: Float[Tensor, "X V"], q: Float[Tensor, "X V"]) -> Float[Tensor, ""]:
    """KL(P||Q) + KL(Q||P) of the distributions softmax(p), softmax(q), mean over rows, in nats."""
    log_p, log_q = p.float().log_softmax(-1), q.float().log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()


def _log_sum_exp(
    x: Float[Tensor, "X D"], blocks: Sequence[Float[Tensor, "_ D"]], dtype: torch.dtype
) -> Float[Tensor, "X"]:
    """Of each row's logits in all blocks, in `dtype`, which may be wider than the products' format."""
    highest, total = x.new_full((len(x),), -torch.inf, dtype=dtype), x.new_zeros(len(x), dtype=dtype)
    for block in blocks:
        logits = (x @ block.T).to(dtype)
        higher = highest.maximum(logits.amax(1))
        total = total * (highest - higher).exp() + logits.sub_(higher[:, None]).exp_().sum(1)
        highest = higher
    return highest + total.log()


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
        x, targets = states.to(dtype), items[target]
        blocks = items.to(dtype).split(max(1, LOGITS // max(1, len(states))))
        total = _log_sum_exp(x, blocks, items.dtype)
        grad_states, grad_items = torch.zeros_like(targets), []
        for block in blocks:
            p = (x @ block.T).to(items.dtype).sub_(total[:, None]).exp_().to(dtype)
            grad_states += p @ block
            grad_items.append((p.T @ x).to(items.dtype))
        # d loss / d logits = softmax - one-hot
        of_items = torch.cat(grad_items).index_add_(0, target, states.to(items.dtype), alpha=-1)
        ctx.save_for_backward((grad_states - targets).to(states.dtype), of_items)
        return (total - (states * targets).sum(1)).sum()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_states, grad_items = ctx.saved_tensors
        return grad_states * grad_loss, grad_items * grad_loss, None, None
