"""The UNet's layers: group norm as torch has it on the valid part, and linear attention written out."""

import pytest
import torch
from torch.nn import functional as F

from data_util.audio import sequence_mask
from model.unet import LinearAttention, MaskedGroupNorm, ResnetBlock

F64 = torch.float64


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


@pytest.mark.parametrize("layer", [LinearAttention(8, 2, 4), ResnetBlock(8, 8, 6, 2)])
def test_what_runs_in_bfloat16_stays_in_it(layer):
    x, embedding = torch.randn(2, 8, 4, 5).bfloat16(), torch.randn(2, 6).bfloat16()
    for mask in (None, torch.ones(2, 1, 1, 5)):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x, mask, *([embedding] if isinstance(layer, ResnetBlock) else []))
        assert y.dtype == torch.bfloat16


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
