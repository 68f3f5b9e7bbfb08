"""Residual quantisation by hand, k-means on clusters that leave no doubt, and even assignments against references."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from torch import Tensor

from models.parts.quantize import ResidualQuantizer, kmeans, sinkhorn, squared_distance


@pytest.fixture
def quantizer() -> ResidualQuantizer:
    made = ResidualQuantizer(levels=2, size=2, width=2, commitment=0.25)
    made.codebooks.data = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[1.0, 0.5], [-1.0, 0.0]]])
    return made


# (5, 1): level 0 takes (4, 0), (1, 1) is left; level 1 takes (1, .5), (0, .5) is left.
# (.5, 0): level 0 takes (0, 0), (.5, 0) is left; level 1 takes (1, .5), (-.5, -.5) is left.
Z = [[5.0, 1.0], [0.5, 0.0]]


def test_codes_sums_and_logits_by_hand(quantizer: ResidualQuantizer) -> None:
    assert quantizer.sizes == (2, 2)
    found = quantizer(torch.tensor(Z))
    assert found.codes.tolist() == [[1, 0], [0, 0]]
    assert found.vector.tolist() == [[5.0, 0.5], [1.0, 0.5]]
    assert found.logits.tolist() == [[[-26.0, -2.0], [-0.25, -5.0]], [[-0.25, -12.25], [-0.5, -2.25]]]


def test_a_residual_leads_back_to_the_input_and_to_no_code_vector_before_it(quantizer: ResidualQuantizer) -> None:
    z = torch.tensor(Z, requires_grad=True)
    quantizer(z).logits[:, 1].sum().backward()
    assert z.grad is not None
    # -2 times the sum of what is left minus each code vector of level 1.
    assert z.grad.tolist() == [[-4.0, -3.0], [-2.0, 1.0]]
    assert quantizer.codebooks.grad is not None
    assert not quantizer.codebooks.grad[0].any()


def test_loss_and_its_gradients_by_hand(quantizer: ResidualQuantizer) -> None:
    z = torch.tensor(Z, requires_grad=True)
    loss = quantizer(z).loss
    # Left over, squared: 2 and .25 at level 0, .25 and .5 at level 1; averaged over two vectors, times 1 + .25.
    assert loss.item() == 1.25 * (1.125 + 0.375)
    loss.backward()
    # Codebooks: 2/B times (code vector - what it stands for). Code 0 of level 1 stands for both vectors.
    grad = quantizer.codebooks.grad
    assert grad is not None
    assert grad.tolist() == [[[-0.5, 0.0], [-1.0, -1.0]], [[0.5, 0.0], [0.0, 0.0]]]
    # Input: .25 * 2/B times what is left, over the levels: (1, 1) + (0, .5) and (.5, 0) + (-.5, -.5).
    assert z.grad is not None
    assert z.grad.tolist() == [[0.25, 0.375], [0.0, -0.125]]


def test_the_sum_is_straight_through(quantizer: ResidualQuantizer) -> None:
    z = torch.tensor(Z, requires_grad=True)
    weights = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    (quantizer(z).vector * weights).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weights)
    assert quantizer.codebooks.grad is None


class TestGradientOfTheFirstLevelAlone:
    """As the official code of ETEGRec and LETTER has it."""

    @pytest.fixture
    def first(self, quantizer: ResidualQuantizer) -> ResidualQuantizer:
        made = ResidualQuantizer(levels=2, size=2, width=2, commitment=0.25, residual_gradient="first")
        made.load_state_dict(quantizer.state_dict())
        return made

    def test_all_that_is_found_is_the_same(self, quantizer: ResidualQuantizer, first: ResidualQuantizer) -> None:
        for found, expected in zip(first(torch.tensor(Z)), quantizer(torch.tensor(Z)), strict=True):
            assert torch.equal(found, expected)

    def test_commitment_of_the_second_level_leaves_the_input_alone(self, first: ResidualQuantizer) -> None:
        z = torch.tensor(Z, requires_grad=True)
        first(z).loss.backward()
        # .25 * 2/B times what level 0 leaves: (1, 1) and (.5, 0).
        assert z.grad is not None
        assert z.grad.tolist() == [[0.25, 0.25], [0.125, 0.0]]
        # Codebooks learn as ever.
        grad = first.codebooks.grad
        assert grad is not None
        assert grad.tolist() == [[[-0.5, 0.0], [-1.0, -1.0]], [[0.5, 0.0], [0.0, 0.0]]]

    def test_logits_of_the_second_level_move_codebooks_alone(
        self, quantizer: ResidualQuantizer, first: ResidualQuantizer
    ) -> None:
        for made, reaches in ((first, False), (quantizer, True)):
            z = torch.tensor(Z, requires_grad=True)
            logits = made(z).logits[:, 1, 0].sum()
            to_z, to_codebooks = torch.autograd.grad(logits, [z, made.codebooks], allow_unused=True)
            assert (to_z is not None and bool(to_z.any())) == reaches
            assert to_codebooks[1, 0].any()

    def test_the_sum_is_straight_through_all_the_same(self, first: ResidualQuantizer) -> None:
        z = torch.tensor(Z, requires_grad=True)
        weights = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
        (first(z).vector * weights).sum().backward()
        assert z.grad is not None
        assert torch.equal(z.grad, weights)

    def test_it_is_what_subtracting_the_straight_through_output_leaves(self, first: ResidualQuantizer) -> None:
        z = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
        weights = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))
        left, summed, loss = z, torch.zeros(9, 2), torch.zeros(())
        for codebook in first.codebooks:
            vector = codebook[torch.cdist(left, codebook).argmin(1)]
            loss = loss + (vector - left.detach()).square().sum(1).mean()
            loss = loss + 0.25 * (vector.detach() - left).square().sum(1).mean()
            output = left + (vector - left).detach()
            left, summed = left - output, summed + output
        (expected,) = torch.autograd.grad(loss + (weights * summed).sum(), z)
        found = first(z)
        (gradient,) = torch.autograd.grad(found.loss + (weights * found.vector).sum(), z)
        torch.testing.assert_close(gradient, expected)


def test_squared_distance_is_the_distance_squared() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(squared_distance(x, y), torch.cdist(x, y) ** 2)


def test_bf16_around_it_changes_nothing() -> None:
    """Codes are found in float32, of float32 vectors as of bf16 ones; and gradients reach what they came from."""
    torch.manual_seed(0)
    quantizer, z = ResidualQuantizer(levels=3, size=64, width=8), torch.randn(400, 8)
    expected = quantizer(z)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(z)
        halved = z.bfloat16().requires_grad_()
        of_halved = quantizer(halved)
        assert (z @ quantizer.codebooks[0].T).dtype == torch.bfloat16, "else this test shows nothing"
    for name, tensor in found._asdict().items():
        assert torch.equal(tensor, getattr(expected, name)), name
    assert torch.equal(of_halved.codes, quantizer(z.bfloat16().float()).codes)
    of_halved.vector.sum().backward()
    assert halved.grad is not None
    assert torch.equal(halved.grad, torch.ones_like(halved))


def by_size(rows: Tensor) -> list[list[float]]:
    return sorted([[round(value, 3) + 0.0 for value in row] for row in rows.tolist()])


def test_kmeans_start_recovers_planted_centres() -> None:
    # Each level's centres lie around zero, so that those of the level before stay in place.
    levels = [
        [[-100.0, -100.0], [-100.0, 100.0], [100.0, -100.0], [100.0, 100.0]],
        [[-5.0, 0.0], [0.0, -3.0], [0.0, 3.0], [5.0, 0.0]],
        [[-0.25, -0.25], [-0.25, 0.25], [0.25, -0.25], [0.25, 0.25]],
    ]
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(levels=3, size=4, width=2)
    z = torch.tensor(list(product(*levels))).sum(1)
    quantizer.start_from(z, kmeans)
    assert [by_size(codebook) for codebook in quantizer.codebooks.detach()] == levels
    found = quantizer(z)
    torch.testing.assert_close(found.vector, z)
    assert len(found.codes.unique(dim=0)) == 64


def test_kmeans_follows_the_seed() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    centres = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        centres.append(kmeans(x, 9))
    assert torch.equal(centres[0], centres[1])
    assert not torch.allclose(centres[0], centres[2])


def test_fewer_vectors_than_codes() -> None:
    with pytest.raises(ValueError, match="7 item vectors cannot start a codebook of 8 codes"):
        ResidualQuantizer(1, 8, 2).start_from(torch.randn(7, 2), kmeans)


def test_each_level_starts_from_what_the_levels_before_leave() -> None:
    """A clustering of hand: the first vectors of what it is given."""
    given: list[list[list[float]]] = []

    def first(x: Tensor, clusters: int) -> Tensor:
        given.append(x.tolist())
        return x[:clusters]

    quantizer = ResidualQuantizer(levels=2, size=2, width=2)
    quantizer.start_from(torch.tensor([[0.0, 0.0], [8.0, 0.0], [9.0, 1.0], [-1.0, 0.0]]), first)
    # (9, 1) is nearest to (8, 0), and (-1, 0) to (0, 0).
    assert given[1] == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]
    assert quantizer.codebooks.tolist() == [[[0.0, 0.0], [8.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]


def log_plan(distance: Tensor, epsilon: float, iterations: int = 50) -> np.ndarray:
    """The textbook iteration with even marginals, on logarithms; the columns' sums are right at its end."""
    cost = distance.double().numpy()
    cost = 2 * (cost - cost.min()) / max(float(np.ptp(cost)), 1e-300)
    rows, columns = cost.shape
    f, g = np.zeros((rows, 1)), np.zeros((1, columns))
    for _ in range(iterations):
        f = -np.log(rows) - logsumexp(g - cost / epsilon, axis=1, keepdims=True)
        g = -np.log(columns) - logsumexp(f - cost / epsilon, axis=0, keepdims=True)
    plan: np.ndarray = f + g - cost / epsilon
    return plan


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01, 0.003])
@pytest.mark.parametrize(("rows", "columns"), [(7, 3), (40, 8), (200, 16), (64, 64)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_sinkhorn_is_the_textbooks(rows: int, columns: int, epsilon: float, collapsed: bool) -> None:
    for seed in range(3):
        distance = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) ** 2 * 3
        if collapsed:
            distance[:, 0] -= 20
        found, plan = sinkhorn(distance, epsilon), log_plan(distance, epsilon)
        # Codes may tie to the last bits where they outnumber the rows that want them.
        second, first = np.sort(plan, axis=1)[:, -2:].T
        clear = first - second > 1e-6
        assert clear.mean() > 0.6
        assert np.array_equal(found.numpy()[clear], plan.argmax(1)[clear])
        assert (np.take_along_axis(plan, found[:, None].numpy(), 1)[:, 0] > first - 1e-6).all()


def test_sinkhorn_by_hand() -> None:
    # Both rows are nearer to code 0. The second has less to lose by code 1: 1 instead of 3.
    assert sinkhorn(torch.tensor([[0.0, 3.0], [0.0, 1.0]]), 0.05).tolist() == [0, 1]
    # Four rows, two codes, gains of code 0 over code 1 of 4, 3, 2, 1: the two that gain most get it.
    distance = torch.tensor([[1.0, 2.0], [2.0, 6.0], [5.0, 7.0], [1.0, 4.0]])
    assert sinkhorn(distance, 0.05).tolist() == [1, 0, 1, 0]


# Below .01 so deep a collapse is not yet undone after 50 iterations.
@pytest.mark.parametrize("epsilon", [0.01, 0.03])
@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (64, 4), (256, 32), (48, 16)])
def test_a_batch_that_collapses_is_spread_at_the_lowest_total(rows: int, columns: int, epsilon: float) -> None:
    """What all rows pay for a code changes no even assignment: the cheapest is the one that was planted."""
    torch.manual_seed(0)
    planted = (torch.arange(rows) % columns)[torch.randperm(rows)]
    distance = 0.3 + torch.rand(rows, columns)
    distance[torch.arange(rows), planted] = 0
    distance[:, 0] -= 1.5
    assert (distance.argmin(1) == 0).all()
    found = sinkhorn(distance, epsilon)
    assert torch.equal(found, planted)
    places = linear_sum_assignment(distance.repeat_interleave(rows // columns, 1).numpy())[1] // (rows // columns)
    assert found.tolist() == places.tolist()


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e10, 1e36])
def test_the_range_of_distances_does_not_matter(scale: float) -> None:
    distance = torch.rand(30, 6, generator=torch.Generator().manual_seed(0))
    distance[:, 0] = 0
    expected = sinkhorn(distance, 0.01)
    assert len(expected.unique()) == 6
    assert torch.equal(sinkhorn(distance.double() * scale, 0.01), expected)


def test_the_smallest_entropy_leaves_each_row_the_nearest_of_evenly_wanted_codes() -> None:
    near = torch.arange(40) % 8
    distance = torch.ones(40, 8) + torch.rand(40, 8, generator=torch.Generator().manual_seed(0))
    distance[torch.arange(40), near] = 0
    assert torch.equal(sinkhorn(distance, 0.003), near)


@pytest.mark.parametrize("epsilon", [0.0029, 1e-100, 0.0, -0.003])
def test_an_entropy_for_which_far_codes_would_vanish_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=rf"epsilon of the Sinkhorn assignment is {epsilon}; expected at least 0.003"):
        sinkhorn(torch.rand(4, 3), epsilon)


def test_of_codes_that_a_row_has_to_itself_it_gets_the_nearest() -> None:
    """Two rows share eight codes: each has several alone, all with the same mass."""
    distance = torch.rand(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance[0, :4] += 5
    distance[1, 4:] += 5
    assert sinkhorn(distance, 0.003).tolist() == distance.argmin(1).tolist()


def test_one_row_one_code_and_equal_distances_have_codes() -> None:
    assert sinkhorn(torch.tensor([[3.0], [1.0], [2.0]]), 0.003).tolist() == [0, 0, 0]
    assert int(sinkhorn(torch.tensor([[3.0, 1.0, 2.0]]), 0.003)) in range(3)
    assert sinkhorn(torch.full((4, 3), 7.0), 0.003).tolist() == [0, 0, 0, 0]


def test_sinkhorn_gives_the_last_level_its_codes_and_only_in_training() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(levels=3, size=4, width=2, epsilon=0.01)
    with torch.no_grad():
        for codebook in quantizer.codebooks:
            codebook.copy_(torch.randn(4, 2) + 4)
            codebook[2] = 0  # the nearest of everything near to zero
    z = torch.randn(32, 2) * 0.1
    plain = ResidualQuantizer(levels=3, size=4, width=2)
    plain.load_state_dict(quantizer.state_dict())
    nearest = plain(z)
    assert (nearest.codes == 2).all()
    evenly = quantizer(z)
    assert torch.equal(evenly.codes[:, :2], nearest.codes[:, :2])
    count = evenly.codes[:, 2].bincount(minlength=4)
    assert 4 <= int(count.min()) <= int(count.max()) <= 12
    assert torch.equal(evenly.codes[:, 2], sinkhorn(-evenly.logits[:, 2], 0.01))
    # Sum, loss and logits are those of the codes given, not of the nearest.
    last = quantizer.codebooks[2][evenly.codes[:, 2]]
    torch.testing.assert_close(evenly.vector, last)
    left = [z.square().sum(1).mean(), z.square().sum(1).mean(), (z - last).square().sum(1).mean()]
    torch.testing.assert_close(evenly.loss, 1.25 * torch.stack(left).sum())
    assert torch.equal(evenly.logits, nearest.logits)
    assert torch.equal(quantizer.eval()(z).codes, nearest.codes)


def test_without_epsilon_training_takes_the_nearest_codes(quantizer: ResidualQuantizer) -> None:
    assert quantizer.training
    assert quantizer(torch.tensor([[0.1, 0.0]] * 8)).codes.tolist() == [[0, 0]] * 8


def test_kmeans_goes_on_for_a_hundred_iterations() -> None:
    points = torch.randn(2_000, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    found = kmeans(points, 30)
    torch.manual_seed(5)
    seed = int(torch.randint(2**31 - 1, ()))
    expected = KMeans(30, n_init=1, max_iter=100, random_state=seed).fit(points.numpy().astype(np.float64))
    assert expected.n_iter_ > 20
    torch.testing.assert_close(found, torch.from_numpy(expected.cluster_centers_).float())
