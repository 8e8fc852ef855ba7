"""The text encoder against naive loops, and what a duration learns from bends nothing."""

import math

import pytest
import torch

from data_util.audio import sequence_mask
from model.text_encoder import RelativeAttention
from tests.test_networks import N_SYMBOLS, TEXT_ENCODER, make, text_encoder

F64 = torch.float64
CHANNELS = TEXT_ENCODER["channels"]
MASK = sequence_mask(torch.tensor([7, 4]), 7).float()


@pytest.fixture
def encoder():
    return make("text encoder")


def ids(*shape):
    return torch.randint(N_SYMBOLS, shape, generator=torch.Generator().manual_seed(0))


def features(encoder, x):
    """Of ids without marks: what means and durations are read off."""
    h = encoder.prenet(encoder.embedding.tables[0].weight[x].transpose(1, 2) * math.sqrt(CHANNELS), MASK)
    for layer in encoder.layers:
        h = layer(h, MASK)
    return h * MASK


def naive_attention(attention, x, n_valid):
    """Shaw et al. 2018, equations 3 and 4, symbol by symbol. x: (C, T)."""
    channels, length = x.shape
    width, window = channels // attention.n_heads, attention.window
    weight, bias = attention.qkv.weight[:, :, 0], attention.qkv.bias
    query, key, value = (weight @ x + bias[:, None]).view(3, attention.n_heads, width, length)
    y = torch.zeros_like(x)
    for head in range(attention.n_heads):
        for i in range(length):
            terms, values = [], []
            for j in range(n_valid):
                position = j - i + window
                one_key, one_value = key[head, :, j], value[head, :, j]
                if abs(j - i) <= window:
                    one_key = one_key + attention.key_positions[position]
                    one_value = one_value + attention.value_positions[position]
                terms.append(query[head, :, i] @ one_key / math.sqrt(width))
                values.append(one_value)
            weights = torch.stack(terms).softmax(0)
            y[head * width : (head + 1) * width, i] = sum(w * v for w, v in zip(weights, values))
    return attention.out.weight[:, :, 0] @ y + attention.out.bias[:, None]


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("window", [0, 1, 4])
def test_relative_attention_is_a_loop_over_pairs(window, length):
    torch.manual_seed(1)
    n_valid = (length, length // 2 + 1)
    attention = RelativeAttention(12, 3, window, 0.3).to(F64).eval()
    torch.nn.init.normal_(attention.qkv.bias)
    x, mask = torch.randn(2, 12, length, dtype=F64), sequence_mask(torch.tensor(n_valid), length).to(F64)
    for one, found, n in zip(x, attention(x, mask), n_valid):
        assert torch.allclose(found, naive_attention(attention, one, n), atol=1e-12)


@torch.no_grad()
def test_every_symbol_and_its_place_matter(encoder):
    x, x_mask = ids(1, 8), torch.ones(1, 1, 8)
    other = x.clone()
    other[0, 7] = (x[0, 7] + 1) % N_SYMBOLS
    for one, changed in zip(encoder(x, x_mask), encoder(other, x_mask)):
        assert ((one - changed).abs().amax((0, 1)) > 1e-6).all()  # attention carries it to the first symbol too
    mu_x = encoder(torch.full((1, 8), 3), x_mask)[0]
    assert (mu_x[..., 3] - mu_x[..., 4]).abs().max() > 1e-4  # one symbol, eight times: told apart by place


def test_durations_teach_the_duration_predictor_alone(encoder):
    mu_x, logw = encoder(ids(2, 7), MASK, torch.randn(2, 2, 7))
    for loss, own in ((logw.sum(), True), (mu_x.square().sum(), False)):
        encoder.zero_grad()
        loss.backward(retain_graph=True)
        for name, parameter in encoder.named_parameters():
            reached = parameter.grad is not None and parameter.grad.abs().max() > 0
            assert reached == (name.startswith("duration.") == own), name


def test_dropout_belongs_to_training_and_the_prenet_starts_as_the_identity(encoder):
    x = ids(2, 7)
    assert torch.equal(encoder(x, MASK)[0], encoder(x, MASK)[0])
    encoder.train()
    assert not torch.equal(encoder(x, MASK)[0], encoder(x, MASK)[0])
    prenet, h = text_encoder().prenet.train(), torch.randn(2, CHANNELS, 7)
    assert torch.equal(prenet(h, torch.ones(2, 1, 7)), h)


@torch.no_grad()
@pytest.mark.parametrize("mark", [0, 1])
def test_each_mark_matters(mark):
    torch.manual_seed(0)
    encoder = text_encoder((3, 2)).eval()
    x, x_mask = ids(1, 5), torch.ones(1, 1, 5)
    marked = x.clone()
    marked[0, 2] += N_SYMBOLS * (1, 3)[mark]
    for one, other in zip(encoder(x, x_mask), encoder(marked, x_mask)):
        assert (one - other).abs().max() > 1e-4
    step = encoder.embedding(marked) - encoder.embedding(x)
    table = encoder.embedding.tables[1 + mark].weight
    assert torch.allclose(step[0, :, 2], (table[1] - table[0]) * math.sqrt(CHANNELS), atol=1e-6)
    assert not step[..., [0, 1, 3, 4]].any()


@torch.no_grad()
def test_a_condition_moves_mu_linearly_but_not_at_first_and_never_the_durations(encoder):
    """Both are read off what layers make of rows of a table."""
    x, condition = ids(2, 7), torch.randn(2, 2, 7)
    fresh = text_encoder().eval()
    assert all(map(torch.equal, fresh(x, MASK, condition), fresh(x, MASK)))
    mu_x, logw = encoder(x, MASK)
    other_mu_x, other_logw = encoder(x, MASK, condition)
    h, moved = features(encoder, x), torch.einsum("ck,bkt->bct", encoder.condition.weight[..., 0], condition)
    assert torch.equal(logw, encoder.duration(h, MASK)) and torch.equal(other_logw, logw)
    assert torch.equal(mu_x, encoder.mu(h) * MASK)
    assert torch.allclose(other_mu_x, encoder.mu((h + moved) * MASK) * MASK, atol=1e-6)
    assert ((other_mu_x - mu_x).abs().amax(1) > 1e-4).equal(MASK[:, 0] > 0)
