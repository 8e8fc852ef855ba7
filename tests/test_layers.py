"""Bricks: dropout and mish."""

import pytest
import torch
from torch.nn import functional as F

from model.layers import Dropout, mish, scaled_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_anywhere_and_keeps_the_mean(p):
    torch.manual_seed(0)
    mask = scaled_mask(torch.zeros(40, 50, 101), p)  # 202,000 places, not all of them in whole draws of four
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-3)
    n, deviation = mask.numel(), (p * (1 - p) / mask.numel()) ** 0.5
    assert (mask == 0).double().mean().item() == pytest.approx(p, abs=5 * deviation)
    assert mask.double().mean().item() == pytest.approx(1, abs=5 * (p / (1 - p) / n) ** 0.5)
    dropped = (mask == 0).flatten().double() - p
    for lag in (1, 2, 3, 4, 101):  # four places share a draw, and still know nothing of each other
        together = (dropped[lag:] * dropped[:-lag]).mean().item() / (p * (1 - p))
        assert together == pytest.approx(0, abs=5 / n**0.5)


def test_dropout_in_training_drops_the_gradient_where_it_drops_and_elsewhere_is_no_change():
    x, dropout = torch.randn(3, 7, requires_grad=True), Dropout(0.5)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(y, x * x.grad) and set(x.grad.unique().tolist()) == {0.0, 2.0}
    assert dropout.eval()(x) is x and Dropout(0.0)(x) is x


def test_a_seed_gives_the_same_mask_again_and_each_call_another():
    x, masks = torch.ones(5, 33), []
    for _ in range(2):
        torch.manual_seed(1)
        masks += [scaled_mask(x, 0.5), scaled_mask(x, 0.5)]
    assert torch.equal(masks[0], masks[2]) and torch.equal(masks[1], masks[3]) and not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_keeps_the_precision(dtype):
    assert Dropout(0.1)(torch.ones(4, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 2**-8)])
def test_mish_is_what_it_says_with_and_without_gradients(dtype, rtol):
    """Also where exp overflows, and where all of it is a small difference."""
    x = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-1e4, -200.0, 45.0, 89.0, 1e4])]).to(dtype)
    with_gradients = mish(x.clone().requires_grad_())
    with torch.no_grad():
        without = mish(x)
    for y in (with_gradients, without):
        assert y.dtype == dtype
        assert (y.double() - F.mish(x.double())).abs().div(x.abs().double() + 1).max() < rtol
