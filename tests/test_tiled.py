"""Convolutions on tiles: against sums written out, nn.Conv1d, and the generator that they are in."""

import copy

import pytest
import torch
from torch import nn

from model import tiled
from model.hifigan import ResBlock, ResBlocks
from tests.test_hifigan import N_INPUTS, SIZES, latents, loud, mask_of

WIDE = {"channels": 128, "resblock_kernels": (3, 5, 7)}  # whose first stage has tiles


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def double(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("n", "kernel"), [(4, 3), (8, 3), (14, 5), (20, 7), (32, 11), (22, 8)])
def test_three_products_are_a_correlation(n, kernel):
    samples, weights, back = tiled.transforms(n, kernel)
    x, w = double(n), double(kernel)
    found = back @ ((samples @ x) * (weights @ w))
    written_out = [sum(x[i + j] * w[j] for j in range(kernel)) for i in range(n - kernel + 1)]
    assert found.tolist() == pytest.approx([one.item() for one in written_out], abs=1e-13)
    assert len(samples) == len(weights) == back.shape[1] == n // 2 * 3 - 1


@pytest.mark.parametrize("dilation", [1, 3, 5])
@pytest.mark.parametrize("kernel", [3, 5, 11])
@pytest.mark.parametrize("how", ["tiles", "plain", "graph"])
def test_a_convolution_is_the_same_on_tiles(dilation, kernel, how, monkeypatch):
    """In a graph, which has no strides, tiles are gathered."""
    if how == "graph":
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    layer = nn.Conv1d(6, 4, kernel, padding=dilation * (kernel // 2), dilation=dilation).double()
    for frames in (1, 2, 30, 97, 400):
        x = double(frames, 6)
        y = tiled.Conv(layer, how != "plain")(x)
        assert y.is_contiguous() and y.shape == (frames, 4)
        assert (y - layer(x.T).T).abs().max() <= 1e-13


@pytest.mark.parametrize("channels", [8, 64])
def test_residual_blocks_are_the_same_in_a_graph(channels, monkeypatch):
    """Some of them on tiles, or none."""
    resblocks = ResBlocks(ResBlock(channels, kernel, (1, 3)) for kernel in (3, 5)).double()
    made = tiled.ResBlocks(resblocks)
    assert [one.is_tiled for one in made.resblocks] == [False, channels == 64]
    x = double(1, channels, 1, 90)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(tiled, "in_blocks", lambda *_: pytest.fail("a graph has no blocks"))
    assert (made(x, None) - resblocks(x, None)).abs().max() <= 1e-12


def test_tiles_are_for_wide_kernels_and_many_channels():
    def on_tiles(channels, kernel):
        return tiled.Conv(nn.Conv1d(channels, channels, kernel, padding=kernel // 2)).tiled

    assert on_tiles(64, 5) and on_tiles(256, 11)
    assert not on_tiles(256, 3) and not on_tiles(32, 11)


def test_float32_is_as_exact_as_the_library():
    layer = nn.Conv1d(256, 256, 11, padding=5)
    x = torch.randn(2000, 256, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(layer).double()(x.double().T).T
    assert (tiled.Conv(layer)(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("block", [1, 17, 64, 10**6])
@pytest.mark.parametrize("masked", [True, False])
def test_blocks_leave_no_seam(block, masked, monkeypatch):
    monkeypatch.setattr(tiled, "BLOCK", 8 * block)
    resblocks = ResBlocks(ResBlock(8, kernel, (1, 3)) for kernel in (3, 5)).double()
    mask = mask_of([90, 31], 90).double()[:, None] if masked else None
    x = double(2, 8, 1, 90).contiguous(memory_format=torch.channels_last)
    x = x if mask is None else x * mask
    expected = resblocks(x, mask)
    found = tiled.ResBlocks(resblocks)(x, mask)
    assert found.shape == expected.shape and (found - expected).abs().max() <= 1e-13
    assert mask is None or (found * (1 - mask)).abs().max() == 0


def test_a_generator_sounds_the_same_on_tiles(monkeypatch):
    monkeypatch.setattr(tiled, "BLOCK", 64 * 50)
    generator = loud(**SIZES | WIDE).fold()
    names = set(generator.state_dict())
    z0_hat, mask = latents(2, N_INPUTS, 40), mask_of([40, 13], 40)
    expected = [generator(z0_hat), generator(z0_hat, mask)]
    assert tiled.tile(generator) is generator and set(generator.state_dict()) == names
    assert any(conv.tiled for conv in generator.modules() if isinstance(conv, tiled.Conv))
    for found, other in zip((generator(z0_hat), generator(z0_hat, mask)), expected):
        assert (found - other).abs().max() <= 1e-6
    alone = generator(z0_hat[1:, :, :13])
    assert (alone - generator(z0_hat, mask)[1:, :, : alone.shape[-1]]).abs().max() <= 1e-6
    assert tiled.tile(plain := nn.Linear(1, 1)) is plain  # what has no residual blocks stays as it is
