"""The score network: group norm as torch has it on the valid part, and padding that does not exist."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from data_util import config as configuration
from data_util.audio import sequence_mask
from model.unet import LinearAttention, MaskedGroupNorm, UNet

F64 = torch.float64
N_LATENTS = 8
SIZES = {"channels": 8, "multipliers": (1, 2, 4), "groups": 2, "n_heads": 2, "head_channels": 4}


@pytest.fixture
def unet():
    """A tiny one in which no gate, and nothing else, is at zero."""
    torch.manual_seed(0)
    unet = UNet(**SIZES).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in unet.modules():
            if isinstance(module, LinearAttention):
                module.gate.fill_(0.7)
    return unet


def draw(batch, frames, seed=0):
    """r_t, mu and t."""
    generator = torch.Generator().manual_seed(seed)
    r_t, mu = torch.randn(2, batch, N_LATENTS, frames, generator=generator)
    return r_t, mu, torch.rand(batch, generator=generator)


def run(unet, r_t, mu, t, lengths):
    return unet(r_t, mu, sequence_mask(torch.tensor(lengths), r_t.shape[-1]).float(), t)


def test_the_shipped_sizes_are_the_papers():
    unet = UNet(**dataclasses.asdict(configuration.load().unet2d))
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(7.6e6, abs=0.05e6)
    assert unet.stride == 4


@torch.no_grad()
def test_group_norm_is_that_of_the_valid_part_cut_out():
    torch.manual_seed(1)
    norm, lengths = MaskedGroupNorm(3, 12).to(F64), (1, 2, 5, 31, 200)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x_mask = sequence_mask(torch.tensor(lengths), 200).to(F64)[:, None]  # (B, 1, 1, T)
    x = (1.5 + torch.randn(len(lengths), 12, 4, 200, dtype=F64)) * x_mask
    y = norm(x, x_mask)
    for i, length in enumerate(lengths):
        expected = F.group_norm(x[i : i + 1, ..., :length], 3, norm.weight, norm.bias, norm.eps)
        assert (y[i : i + 1, ..., :length] - expected).abs().max() < 1e-10


@torch.no_grad()
def test_group_norm_keeps_its_digits_far_from_zero():
    norm, x_mask = MaskedGroupNorm(1, 2), sequence_mask(torch.tensor([3]), 200).float()[:, None]
    x = (20 + torch.randn(1, 2, 8, 200)) * x_mask
    expected = F.group_norm(x[..., :3].double(), 1, eps=norm.eps)
    assert (norm(x, x_mask)[..., :3] - expected).abs().max() < 1e-2


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 21])
def test_padding_changes_nothing(unet, length):
    r_t, mu, t = draw(1, length)
    y = run(unet, r_t, mu, t, [length])
    assert y.shape == (1, N_LATENTS, length)
    for padding in (0, 4, 32, 192):
        garbage = [10 * g for g in draw(1, padding, seed=padding)[:2]]
        padded = run(unet, torch.cat([r_t, garbage[0]], 2), torch.cat([mu, garbage[1]], 2), t, [length])
        assert padded.shape == (1, N_LATENTS, length + padding)
        assert (padded[..., :length] - y).abs().max() <= 1e-5
        assert not padded[..., length:].any()


@torch.no_grad()
def test_a_batch_is_its_singles(unet):
    lengths = [23, 2, 5, 3, 16]
    r_t, mu, t = draw(5, 23)
    y = run(unet, r_t, mu, t, lengths)
    for i, length in enumerate(lengths):
        one = run(unet, r_t[i : i + 1, :, :length], mu[i : i + 1, :, :length], t[i : i + 1], [length])
        assert (y[i, :, :length] - one[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("frames", [1, 8, 30])
def test_without_a_mask_every_frame_is_valid(unet, frames):
    """In double precision: the same function, with another order of sums, and so are its gradients."""
    unet.double()
    r_t, mu, t = (each.double() for each in draw(2, frames))
    ones = torch.ones(2, 1, frames, dtype=F64)
    outputs, gradients = [], []
    for mask in (None, ones):
        outputs.append(unet(r_t, mu, mask, t))
        outputs[-1].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in unet.parameters()])
        unet.zero_grad()
    assert (outputs[0] - outputs[1]).abs().max() <= 1e-10
    for one, other in zip(*gradients):
        assert (one - other).abs().max() <= 1e-7 * (1 + other.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("which", ["r_t", "mu", "t"])
def test_each_input_reaches_every_output(unet, which):
    inputs = dict(zip(("r_t", "mu", "t"), draw(2, 12)))
    y = run(unet, **inputs, lengths=[12, 12])
    inputs[which] = inputs[which].clone()
    if which == "t":
        inputs["t"][0] = 0.5 * inputs["t"][0] + 0.1
    else:
        inputs[which][0, 0, 0] += 1.0
    difference = (run(unet, **inputs, lengths=[12, 12]) - y).abs()
    assert (difference[0] > 0).float().mean() > 0.99  # norm and attention see the whole item
    assert difference[1].max() <= 1e-6  # and no other


@torch.no_grad()
def test_the_one_step_embedding_starts_at_zero_and_belongs_to_t_one():
    unet = UNet(**SIZES).eval()
    assert unet.one_step.shape == (8,) and not unet.one_step.any()
    r_t, mu, t = draw(4, 8)
    t[1] = t[3] = 1.0
    before = run(unet, r_t, mu, t, [8] * 4)
    unet.one_step.normal_()
    changed = (run(unet, r_t, mu, t, [8] * 4) - before).abs().amax((1, 2))
    assert (changed[[1, 3]] > 1e-4).all()
    assert not changed[[0, 2]].any()


@torch.no_grad()
def test_linear_attention_is_shen_et_al():
    """softmax over the places of the keys, a context of D x D, and a gate that starts shut."""
    torch.manual_seed(2)
    attention = LinearAttention(6, 2, 4).to(F64)
    x_mask = sequence_mask(torch.tensor([5, 3]), 5).to(F64)[:, None]
    x = torch.randn(2, 6, 3, 5, dtype=F64) * x_mask
    assert torch.equal(attention(x, x_mask), x)
    attention.gate.fill_(0.3)
    y = attention(x, x_mask)
    for i, length in enumerate((5, 3)):
        places = x[i, :, :, :length].flatten(1)  # (C, F length)
        query, key, value = (attention.qkv.weight[:, :, 0, 0] @ places).view(3, 2, 4, -1)
        heads = []
        for head in range(2):
            weights = key[head].exp() / key[head].exp().sum(1, keepdim=True)
            context = torch.einsum("dn,en->de", weights, value[head])
            heads.append(torch.einsum("de,dn->en", context, query[head]))
        out = attention.out.weight[:, :, 0, 0] @ torch.cat(heads) + attention.out.bias[:, None]
        assert torch.allclose(y[i, :, :, :length].flatten(1), places + 0.3 * out, atol=1e-10)
        assert not y[i, :, :, length:].any()


def test_every_parameter_learns(unet):
    r_t, mu, _ = draw(2, 8)
    run(unet, r_t, mu, torch.tensor([1.0, 0.4]), [8, 8]).square().sum().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_gradients_do_not_come_from_padding(unet):
    r_t, mu, t = draw(1, 12)
    r_t, mu = r_t.requires_grad_(), mu.requires_grad_()
    run(unet, r_t, mu, t, [7]).square().sum().backward()
    for x in (r_t, mu):
        assert torch.isfinite(x.grad).all()
        assert x.grad[..., :7].abs().min() > 0 and not x.grad[..., 7:].any()
