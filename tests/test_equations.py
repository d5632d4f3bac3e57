"""Each equation against its definition written out by hand."""

import pytest
import torch

from shpeft import equations


def test_task_specific_and_task_agnostic_have_an_l1_and_an_l2_form() -> None:
    t = torch.tensor([-2.0, 0.5])
    for equation in (equations.task_specific, equations.task_agnostic):
        assert equation(t, "l1").tolist() == [2.0, 0.5]
        assert equation(t, "l2").tolist() == [4.0, 0.25]


def test_product_is_the_taylor_term_and_factorizes() -> None:
    w, g = torch.tensor([-2.0, 3.0]), torch.tensor([0.5, -1.0])
    assert equations.hybrid_product(w, g, "l1").tolist() == [1.0, 3.0]
    assert equations.hybrid_product(w, g, "l2").tolist() == [1.0, 9.0]
    for norm in ("l1", "l2"):
        product = equations.task_agnostic(w, norm) * equations.task_specific(g, norm)
        assert torch.equal(equations.hybrid_product(w, g, norm), product)


def test_sum_weighs_the_normalized_halves() -> None:
    s, a = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])
    n_s, n_a = s / equations.scale(s), a / equations.scale(a)
    assert n_s.tolist() == n_a.tolist() == [0.5, 1.5]
    assert equations.hybrid_sum(n_s, torch.zeros(2), 0.25).tolist() == [0.375, 1.125]
    assert equations.scale(s, "max") == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_interpolation_is_exact_at_both_ends(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    base, trained = (torch.randn(1000, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    assert torch.equal(equations.interpolate(base, trained, 1.0), trained)
    assert torch.equal(equations.interpolate(base, trained, 0.0), base)
    assert not torch.equal(base + (trained - base), trained)  # the formula as it is written rounds
    assert equations.interpolate(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 2.0]), 0.25).tolist() == [1.5, -1.0]


def test_ranks_break_ties_like_top_k() -> None:
    s = torch.tensor([1.0, 5.0, 1.0, 0.0])
    assert equations.rank(s).tolist() == [0.75, 1.0, 0.5, 0.25]
    assert equations.top_k(s, 2).tolist() == [0, 1]


def test_the_decrease_by_a_step_is_exact_for_normal_images() -> None:
    """Of −log p of a normal distribution the curvature is Ēg² where its variance is that of the images around w."""
    images, h = torch.tensor([0.1, 0.7]), 4.0
    assert images.square().mean() == pytest.approx(1 / h)

    def loss(w: float) -> torch.Tensor:
        return h / 2 * (w - images) ** 2

    g = -h * images  # at w = 0
    for alpha in (1e-3, 0.3, 2.0):
        s = equations.step_decrease(g.mean(), g.square().mean(), alpha)
        assert float(s) == pytest.approx(float(loss(0).mean() - loss(alpha).mean()), abs=1e-6)
    slopes, squares = torch.tensor([-3.0, 2.0]), torch.tensor([100.0, 4.0])
    best = [int(equations.step_decrease(slopes, squares, alpha).argmax()) for alpha in (1e-6, 0.1)]
    assert best == [0, 1]  # a short step goes by |Ēg| alone; a longer one avoids what images disagree on


def test_shares_of_counts_follow_the_sums_of_scores() -> None:
    sums = torch.tensor([1.0, 4.0, 0.0])
    shares = {b: equations.count_shares(sums, b).tolist() for b in (0.0, 0.5, 1.0)}
    assert shares[0.5] == pytest.approx([1 / 3, 2 / 3, 0])
    assert shares[1.0] == pytest.approx([0.2, 0.8, 0])
    for equal in (shares[0.0], equations.count_shares(torch.zeros(3), 1.0).tolist()):
        assert equal == pytest.approx([1 / 3] * 3)


def test_top_k_takes_the_lower_index_of_equal_scores() -> None:
    assert equations.top_k(torch.ones(5), 3).tolist() == [0, 1, 2]
    assert equations.top_k(torch.tensor([0.0, 2.0, 1.0, 2.0]), 3).tolist() == [1, 2, 3]


def test_quota_is_a_union_of_exactly_k() -> None:
    specific = torch.tensor([9.0, 8.0, 7.0, 0.0, 0.0, 0.0])
    agnostic = torch.tensor([9.0, 0.0, 0.0, 8.0, 7.0, 0.0])
    assert equations.hybrid_quota(specific, agnostic, 4, 0.5).tolist() == [0, 1, 3, 4]
    assert equations.hybrid_quota(specific, agnostic, 3, 0.0).tolist() == [0, 1, 2]
    assert equations.hybrid_quota(specific, agnostic, 3, 1.0).tolist() == [0, 3, 4]


def test_wanda_multiplies_magnitude_by_input_norm() -> None:
    w = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert equations.wanda(w, torch.tensor([10.0, 1.0])).tolist() == [[10.0, 2.0], [30.0, 4.0]]
    conv = equations.wanda(w.reshape(2, 2, 1, 1), torch.tensor([10.0, 1.0]))
    assert conv.flatten().tolist() == [10.0, 2.0, 30.0, 4.0]


def test_sparse_gradient_equals_entries_of_the_dense_gradient() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(7, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    y = x @ w.t()
    gy = torch.randn_like(y)
    y.backward(gy)
    assert w.grad is not None
    rows, cols = torch.tensor([0, 0, 3]), torch.tensor([1, 4, 2])
    torch.testing.assert_close(equations.sparse_gradient(gy, x, rows, cols), w.grad[rows, cols], rtol=1e-12, atol=0)


def test_add_delta_adds_in_the_base_precision() -> None:
    base = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert equations.add_delta(base, torch.tensor([0.5, -1.0])).tolist() == [1.5, 1.0]
