"""The text encoder against naive loops; padding changes nothing; what a duration learns from bends nothing."""

import dataclasses
import math

import pytest
import torch

from data_util import config as configuration
from data_util.audio import sequence_mask
from model.text_encoder import (
    FrameEncoder,
    RelativeAttention,
    TextEncoder,
    band_to_square,
    places,
    square_to_band,
)

F64 = torch.float64
SIZES = {
    "mark_sizes": (),
    "condition_channels": 2,
    "channels": 12,
    "prenet_layers": 2,
    "prenet_kernel": 5,
    "prenet_dropout": 0.5,
    "n_layers": 2,
    "n_heads": 2,
    "window": 2,
    "ff_channels": 24,
    "kernel": 3,
    "dropout": 0.1,
    "duration_channels": 10,
}
N_SYMBOLS, N_LATENTS = 9, 6
FRAME_SIZES = {"channels": 12, "condition_channels": 2, "n_latents": N_LATENTS, "n_layers": 2, "hidden_channels": 24,
               "kernel": 5}  # fmt: skip


@pytest.fixture
def encoder():
    """A tiny one, none of whose parameters is zero."""
    torch.manual_seed(0)
    return perturbed(TextEncoder(N_SYMBOLS, N_LATENTS, **SIZES))


@torch.no_grad()
def perturbed(module):
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def ids(*shape, seed=0):
    return torch.randint(N_SYMBOLS, shape, generator=torch.Generator().manual_seed(seed))


def run(encoder, x, lengths, condition=None):
    """mu_x and logw; with the condition that every id has been given."""
    if condition is None:
        condition = torch.stack([x.sin(), x.cos()], dim=1)  # (B, 2, T_x)
    return encoder(x, sequence_mask(torch.tensor(lengths), x.shape[1]).float(), condition)[:2]


@pytest.mark.parametrize("length", [1, 2, 3, 8])
@pytest.mark.parametrize("window", [0, 1, 4])
def test_band_and_square_are_loops_and_each_others_transpose(length, window):
    band = torch.randn(2, 3, length, 2 * window + 1, dtype=F64)
    square = torch.randn(2, 3, length, length, dtype=F64)
    spread, gathered = torch.zeros_like(square), torch.zeros_like(band)
    for i in range(length):
        for k in range(2 * window + 1):
            j = i + k - window
            if 0 <= j < length:
                spread[..., i, j] = band[..., i, k]
                gathered[..., i, k] = square[..., i, j]
    assert torch.equal(band_to_square(band), spread)
    assert torch.equal(square_to_band(square, window), gathered)
    assert (band_to_square(band) * square).sum().item() == pytest.approx((band * gathered).sum().item(), abs=1e-12)


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
                near = abs(j - i) <= window
                position = j - i + window
                one_key, one_value = key[head, :, j], value[head, :, j]
                if near:
                    one_key = one_key + attention.key_positions[position]
                    one_value = one_value + attention.value_positions[position]
                terms.append(query[head, :, i] @ one_key / math.sqrt(width))
                values.append(one_value)
            weights = torch.stack(terms).softmax(0)
            y[head * width : (head + 1) * width, i] = sum(w * v for w, v in zip(weights, values))
    return attention.out.weight[:, :, 0] @ y + attention.out.bias[:, None]


@pytest.mark.parametrize(("window", "n_valid"), [(2, 7), (4, 7), (0, 7), (2, 4)])
def test_relative_attention_is_a_loop_over_pairs(window, n_valid):
    torch.manual_seed(1)
    attention = RelativeAttention(12, 3, window, 0.3).to(F64).eval()
    torch.nn.init.normal_(attention.qkv.bias)
    x = torch.randn(2, 12, 7, dtype=F64)
    x_mask = sequence_mask(torch.tensor([7, n_valid]), 7).to(F64)
    y = attention(x, x_mask)
    with torch.no_grad():
        assert torch.allclose(y[0], naive_attention(attention, x[0], 7), atol=1e-12)
        assert torch.allclose(y[1], naive_attention(attention, x[1], n_valid), atol=1e-12)


def test_the_shipped_sizes_are_the_papers():
    sizes = dataclasses.asdict(configuration.load().text_encoder)
    sizes = {name: size for name, size in sizes.items() if not name.startswith("frame_")}
    encoder = TextEncoder(178, 80, mark_sizes=(), condition_channels=0, **sizes)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(7.2e6, abs=0.05e6)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("padding", [0, 4, 32, 192])
def test_padding_changes_nothing(encoder, length, padding):
    x = ids(1, length)
    mu_x, logw = run(encoder, x, [length])
    assert mu_x.shape == (1, N_LATENTS, length) and logw.shape == (1, 1, length)
    for seed in (1, 2):
        padded_mu_x, padded_logw = run(encoder, torch.cat([x, ids(1, padding, seed=seed)], 1), [length])
        assert (padded_mu_x[..., :length] - mu_x).abs().max() <= 1e-5
        assert (padded_logw[..., :length] - logw).abs().max() <= 1e-5
        assert not padded_mu_x[..., length:].any() and not padded_logw[..., length:].any()


@torch.no_grad()
def test_a_batch_is_its_singles(encoder):
    lengths = [9, 1, 5]
    x = ids(3, 9)
    mu_x, logw = run(encoder, x, lengths)
    for i, length in enumerate(lengths):
        one_mu_x, one_logw = run(encoder, x[i : i + 1, :length], [length])
        assert (mu_x[i, :, :length] - one_mu_x[0]).abs().max() <= 1e-5
        assert (logw[i, :, :length] - one_logw[0]).abs().max() <= 1e-5


@torch.no_grad()
def test_every_symbol_and_its_place_matter(encoder):
    x = ids(1, 8)
    mu_x, logw = run(encoder, x, [8])
    other = x.clone()
    other[0, 7] = (x[0, 7] + 1) % N_SYMBOLS
    other_mu_x, other_logw = run(encoder, other, [8])
    assert ((other_mu_x - mu_x).abs().amax((0, 1)) > 1e-5).all()  # attention carries it to the first symbol too
    assert ((other_logw - logw).abs().amax((0, 1)) > 1e-6).all()
    same = torch.full((1, 8), 3)
    mu_x, _ = run(encoder, same, [8])
    assert (mu_x[..., 3] - mu_x[..., 4]).abs().max() > 1e-4  # one symbol, eight times: told apart by place


def test_durations_teach_the_duration_predictor_alone(encoder):
    x = ids(2, 6)
    _, logw = run(encoder, x, [6, 4])
    logw.sum().backward()
    for name, parameter in encoder.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().max() > 0
        assert reached == name.startswith("duration."), name
    encoder.zero_grad()
    mu_x, _ = run(encoder, x, [6, 4])
    mu_x.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().max() > 0
        assert reached != name.startswith("duration."), name


def test_the_prenet_starts_as_the_identity():
    prenet = TextEncoder(N_SYMBOLS, N_LATENTS, **SIZES).prenet.train()
    x = torch.randn(2, 12, 5)
    assert torch.equal(prenet(x, torch.ones(2, 1, 5)), x)


def test_dropout_belongs_to_training(encoder):
    x = ids(1, 8)
    assert torch.equal(run(encoder, x, [8])[0], run(encoder, x, [8])[0])
    encoder.train()
    assert not torch.equal(run(encoder, x, [8])[0], run(encoder, x, [8])[0])


@torch.no_grad()
def test_ids_without_marks_are_rows_of_a_table(encoder):
    x, x_mask = ids(2, 7), sequence_mask(torch.tensor([7, 4]), 7).float()
    table = torch.nn.Embedding(N_SYMBOLS, 12)
    table.load_state_dict({"weight": encoder.embedding.tables[0].weight})
    h = encoder.prenet(table(x).transpose(1, 2) * math.sqrt(12), x_mask)
    for layer in encoder.layers:
        h = layer(h, x_mask)
    mu_x, logw, returned = encoder(x, x_mask)
    assert torch.equal(mu_x, encoder.mu(h * x_mask) * x_mask)
    assert torch.equal(logw, encoder.duration(h * x_mask, x_mask))
    assert torch.equal(returned, h * x_mask)


@torch.no_grad()
@pytest.mark.parametrize("mark", [0, 1])
def test_each_mark_matters(mark):
    torch.manual_seed(0)
    encoder = TextEncoder(N_SYMBOLS, N_LATENTS, **{**SIZES, "mark_sizes": (3, 2)}).eval()
    x, x_mask = ids(1, 5), torch.ones(1, 1, 5)
    marked = x.clone()
    marked[0, 2] += N_SYMBOLS * (1, 3)[mark]
    for one, other in zip(encoder(x, x_mask), encoder(marked, x_mask)):
        assert (one - other).abs().max() > 1e-4
    step = encoder.embedding(marked) - encoder.embedding(x)
    table = encoder.embedding.tables[1 + mark].weight
    assert torch.allclose(step[0, :, 2], (table[1] - table[0]) * math.sqrt(12), atol=1e-6)
    assert not step[..., [0, 1, 3, 4]].any()


@torch.no_grad()
def test_a_condition_changes_nothing_at_first_and_never_the_durations(encoder):
    x, x_mask = ids(2, 6), sequence_mask(torch.tensor([6, 4]), 6).float()
    condition = torch.randn(2, 2, 6)
    fresh = TextEncoder(N_SYMBOLS, N_LATENTS, **SIZES).eval()
    assert all(map(torch.equal, fresh(x, x_mask, condition), fresh(x, x_mask)))
    mu_x, logw, h = encoder(x, x_mask)
    other_mu_x, other_logw, other_h = encoder(x, x_mask, condition)
    assert torch.equal(other_logw, logw)
    expected = (h + torch.einsum("ck,bkt->bct", encoder.condition.weight[..., 0], condition)) * x_mask
    assert torch.allclose(other_h, expected, atol=1e-6) and not other_h[1, :, 4:].any()
    assert torch.allclose(other_mu_x, encoder.mu(expected) * x_mask, atol=1e-6)
    assert ((other_mu_x - mu_x).abs().amax(1) > 1e-4).equal(x_mask[:, 0] > 0)
    again = condition.clone()
    again[1, :, 4:] = 1e3
    assert torch.equal(encoder(x, x_mask, again)[0], other_mu_x)


def test_a_condition_is_reached_by_mu_alone(encoder):
    x, x_mask = ids(1, 6), torch.ones(1, 1, 6)
    condition = torch.randn(1, 2, 6, requires_grad=True)
    mu_x, logw, h = encoder(x, x_mask, condition)
    assert torch.autograd.grad(logw.sum(), condition, retain_graph=True, allow_unused=True) == (None,)
    for output in (mu_x, h):
        (gradient,) = torch.autograd.grad(output.square().sum(), condition, retain_graph=True)
        assert (gradient.abs().amax(1) > 0).all()


def naive_places(durations, n_frames):
    rows = torch.zeros(3, n_frames, dtype=F64)
    frame = 0
    for d in durations:
        for k in range(d):
            rows[:, frame] = torch.tensor(
                [(k + 0.5) / d, math.log(d), math.log(min(abs(k + 0.5), abs(d - k - 0.5)))], dtype=F64
            )
            frame += 1
    return rows


def test_places_are_a_loop_over_phones():
    durations = [[3, 1, 4, 2, 6], [1, 0, 7, 0, 0], [0, 2, 0, 1, 0], [0, 0, 1, 0, 0]]
    n_frames = [sum(one) for one in durations]
    mask = sequence_mask(torch.tensor(n_frames), 16).to(F64)
    result = places(torch.tensor(durations), mask)
    expected = torch.stack([naive_places(one, 16) for one in durations])
    assert result.dtype == F64 and torch.allclose(result, expected, atol=1e-12)


def frames(n_frames, seed=0):
    """h, place, condition of one clip."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, channels, n_frames, generator=generator) for channels in (12, 3, 2)]


@torch.no_grad()
def test_a_frame_encoder_starts_as_no_refinement():
    h, place, condition = frames(9)
    assert not FrameEncoder(**FRAME_SIZES)(h, place, torch.ones(1, 1, 9), condition).any()
    plain = FrameEncoder(**{**FRAME_SIZES, "condition_channels": 0})
    assert not plain(h, place, torch.ones(1, 1, 9)).any()
    assert perturbed(plain)(h, place, torch.ones(1, 1, 9)).any()


@torch.no_grad()
@pytest.mark.parametrize("n_frames", [1, 2, 9])
def test_padding_changes_no_refinement(n_frames):
    torch.manual_seed(0)
    encoder = perturbed(FrameEncoder(**FRAME_SIZES))
    h, place, condition = frames(n_frames)
    delta = encoder(h, place, torch.ones(1, 1, n_frames), condition)
    assert delta.shape == (1, N_LATENTS, n_frames)
    padded = [torch.cat([one, 100 * more], 2) for one, more in zip((h, place, condition), frames(7, seed=1))]
    mask = sequence_mask(torch.tensor([n_frames]), n_frames + 7).float()
    padded_delta = encoder(padded[0], padded[1], mask, padded[2])
    assert (padded_delta[..., :n_frames] - delta).abs().max() <= 1e-5
    assert not padded_delta[..., n_frames:].any()


def test_a_refinement_depends_on_all_it_is_given():
    torch.manual_seed(0)
    encoder = perturbed(FrameEncoder(**FRAME_SIZES))
    given = [one.requires_grad_() for one in frames(9)]
    encoder(given[0], given[1], torch.ones(1, 1, 9), given[2]).square().sum().backward()
    assert all((one.grad.abs() > 0).all() for one in given)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.abs().max() > 0, name
