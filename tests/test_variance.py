"""model.variance: means over symbols, and networks that padding does not reach."""

import pytest
import torch

from data_util import pitch
from model.variance import N_VALUES, Course, Variance, continuous, symbol_values

N_SYMBOLS, CHANNELS, N_PLACES = 9, 8, 3
N_CONDITIONS = CHANNELS + 2 * N_VALUES + N_PLACES  # of a course
SIZES = {"channels": CHANNELS, "hidden_channels": 16, "n_layers": 2, "kernel": 3, "dropout": 0.0, "frame_layers": 2}
X_LENGTHS, MEL_LENGTHS = (6, 1, 4), (15, 2, 9)


def make_variance(n_places=N_PLACES, mark_sizes=(), perturbed=True, **sizes):
    torch.manual_seed(0)
    variance = Variance(N_SYMBOLS, mark_sizes, n_places, **SIZES | sizes).eval()
    return perturb(variance) if perturbed else variance


def make_course():
    torch.manual_seed(0)
    return Course(CHANNELS, 16, 1, 3, 0.0, N_PLACES).eval()


@torch.no_grad()
def perturb(network):
    """The last layers and the gates of t start at zero, which would hide what is behind them."""
    for parameter in network.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def symbols(*shape, seed=0, n=N_SYMBOLS):
    return torch.randint(0, n, shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths, longest=None):
    return (torch.arange(longest or max(lengths)) < torch.tensor(lengths)[:, None])[:, None].float()


# Values of symbols


def brute_force(frames, weights, durations):
    means = torch.zeros(*frames.shape[:2], durations.shape[1], dtype=torch.float64)
    for b, row in enumerate(durations.tolist()):
        start = 0
        for i, n_frames in enumerate(row):
            for c in range(frames.shape[1]):
                x = frames[b, c, start : start + n_frames].double()
                w = weights[b, c, start : start + n_frames].double()
                if n_frames:
                    means[b, c, i] = (x * w).sum() / w.sum() if w.sum() > 0 else x.mean()
            start += n_frames
    return means


@pytest.mark.parametrize("binary", [True, False])
def test_symbol_values_are_the_means_of_a_loop(binary):
    durations = torch.tensor([[3, 0, 1, 6, 0], [2, 2, 0, 0, 0], [0, 1, 4, 2, 1]])  # sums 10, 4, 8: padded to 12
    frames, weights = random(3, 2, 12), random(3, 2, 12, seed=1).abs()
    if binary:
        weights = (weights > 0.7).float()
    weights[0, 0, 4:10] = 0  # a symbol of which no frame counts
    values = symbol_values(frames, weights, durations)
    assert values.shape == (3, 2, 5) and values.dtype == torch.float32
    torch.testing.assert_close(values.double(), brute_force(frames, weights, durations), atol=1e-6, rtol=1e-5)
    assert values[0, 0, 3].item() == pytest.approx(frames[0, 0, 4:10].mean().item(), abs=1e-6)
    assert torch.equal(values[durations[:, None].expand(-1, 2, -1) == 0], torch.zeros(2 * 6))


def test_symbol_values_read_nothing_past_the_end_or_without_weight():
    durations = torch.tensor([[3, 2]])
    frames, weights = random(1, 1, 8), torch.tensor([[[1.0, 0, 1, 1, 1, 1, 1, 1]]])
    dirty = frames.clone()
    dirty[..., 1], dirty[..., 5:] = 1e6, -1e6
    clean, soiled = (symbol_values(each, weights, durations) for each in (frames, dirty))
    torch.testing.assert_close(soiled, clean, atol=1e-6, rtol=0)
    short = symbol_values(frames[..., :5], weights[..., :5], durations)
    assert torch.equal(short, clean)


def test_symbol_values_stay_exact_at_the_end_of_a_long_clip():
    durations = torch.full((1, 2000), 10)
    frames = 100 + random(1, 1, 20_000)
    wanted = frames.view(1, 1, 2000, 10).double().mean(-1)
    values = symbol_values(frames, torch.ones_like(frames), durations)
    assert (values - wanted).abs().max() < 2e-5  # sums up to 2e6 in float32 would be off by a tenth


# Networks


def test_what_conditions_a_symbol_knows_how_far_it_is_from_both_ends():
    variance = make_variance(perturbed=False, n_layers=0)
    with torch.no_grad():
        variance.embedding.tables[0].weight.zero_()
        variance.place.bias.zero_()
        variance.place.weight.copy_(torch.eye(CHANNELS)[:, :2, None])
    c = variance.encode(torch.zeros(3, 6, dtype=torch.long), mask_of(X_LENGTHS))
    for i, length in enumerate(X_LENGTHS):
        place = torch.arange(length)
        wanted = torch.stack([(-place / 10).exp(), (-(length - 1 - place) / 10).exp()])
        torch.testing.assert_close(c[i, :2, :length], wanted)
        assert torch.equal(c[i, :, length:], torch.zeros(CHANNELS, 6 - length))


@pytest.mark.parametrize("n_padded", [0, 32])
def test_garbage_past_the_ends_changes_nothing(n_padded):
    variance, t = make_variance(), torch.tensor([1.0, 0.5, 0.1])
    x_mask, mask = mask_of(X_LENGTHS, 6 + n_padded), mask_of(MEL_LENGTHS, 15 + n_padded)
    x, r_t = symbols(3, 6 + n_padded), random(3, N_VALUES, 6 + n_padded)
    frames = [random(3, n, 15 + n_padded, seed=n) for n in (CHANNELS, N_VALUES, N_PLACES)]
    c = variance.encode(x, x_mask)
    output = variance(r_t, c, x_mask, t)
    f0, voicing = variance.contour(*frames, mask)
    assert all(torch.equal(each * (1 - m), 0 * each) for each, m in ((c, x_mask), (output, x_mask), (voicing, mask)))

    past, past_mel = (1 - x_mask) * 1e3, (1 - mask) * 1e3
    soiled = variance.encode(torch.where(x_mask[:, 0] == 0, 7, x), x_mask)
    assert torch.equal(soiled, c)
    assert torch.equal(variance(r_t + past, c + past, x_mask, t), output)
    f0_soiled, voicing_soiled = variance.contour(*(each + past_mel for each in frames), mask)
    assert torch.equal(f0_soiled * mask, f0 * mask) and torch.equal(voicing_soiled, voicing)


@torch.no_grad()
def test_a_course_sees_nothing_past_the_ends_and_all_that_it_is_given():
    network, mask, t = perturb(make_course()), mask_of(MEL_LENGTHS), torch.tensor([1.0, 0.5, 0.1])
    r_t, condition = random(3, 1, 15), random(3, N_CONDITIONS, 15, seed=1)
    course = network(r_t, condition, mask, t)
    past = (1 - mask) * 1e3
    assert torch.equal(network(r_t + past, condition + past, mask, t), course)
    assert torch.equal(course * (1 - mask), 0 * course)
    for changed in ((r_t + 0.1, condition, mask, t), (r_t, condition, mask, 0.9 * t)):
        assert (network(*changed) - course).abs().max() > 1e-3
    for k in range(N_CONDITIONS):
        other = condition.clone()
        other[:, k] += 0.1
        assert (network(r_t, other, mask, t) - course).abs().max() > 1e-4, k


def test_a_batch_is_its_items():
    variance, t = make_variance(), torch.tensor([1.0, 0.5, 0.1])
    x_mask, mask = mask_of(X_LENGTHS), mask_of(MEL_LENGTHS)
    x, r_t = symbols(3, 6), random(3, N_VALUES, 6)
    frames = [random(3, n, 15, seed=n) for n in (CHANNELS, N_VALUES, N_PLACES)]
    c = variance.encode(x, x_mask)
    output, contour = variance(r_t, c, x_mask, t), variance.contour(*frames, mask)
    for i, (n, n_frames) in enumerate(zip(X_LENGTHS, MEL_LENGTHS)):
        one, ones, ones_mel = slice(i, i + 1), torch.ones(1, 1, n), torch.ones(1, 1, n_frames)
        c_single = variance.encode(x[one, :n], ones)
        torch.testing.assert_close(c_single, c[one, :, :n], atol=1e-5, rtol=1e-4)
        single = variance(r_t[one, :, :n], c_single, ones, t[one])
        torch.testing.assert_close(single, output[one, :, :n], atol=1e-5, rtol=1e-4)
        singles = variance.contour(*(each[one, :, :n_frames] for each in frames), ones_mel)
        for of_single, of_batch in zip(singles, contour):
            torch.testing.assert_close(of_single, of_batch[one, :, :n_frames], atol=1e-5, rtol=1e-4)


def test_the_start_is_the_flattest_guess():
    variance = make_variance(perturbed=False)
    x_mask, mask = mask_of(X_LENGTHS), mask_of(MEL_LENGTHS)
    c = variance.encode(symbols(3, 6), x_mask)
    assert torch.equal(variance(random(3, N_VALUES, 6), c, x_mask, torch.rand(3)), torch.zeros(3, N_VALUES, 6))
    values = random(3, N_VALUES, 15)
    f0, voicing = variance.contour(random(3, CHANNELS, 15), values, random(3, N_PLACES, 15), mask)
    assert torch.equal(f0, values[:, :1]) and torch.equal(voicing, torch.zeros(3, 1, 15))


def test_the_score_depends_on_all_that_it_is_given():
    variance, x_mask = make_variance(), mask_of((6,))
    x, r_t, t = symbols(1, 6), random(1, N_VALUES, 6), torch.tensor([0.5])
    output = variance(r_t, variance.encode(x, x_mask), x_mask, t)
    other = {
        "t": variance(r_t, variance.encode(x, x_mask), x_mask, t + 0.1),
        "r_t": variance(r_t + 0.1, variance.encode(x, x_mask), x_mask, t),
        "x": variance(r_t, variance.encode((x + 1) % N_SYMBOLS, x_mask), x_mask, t),
    }
    unread = [name for name, each in other.items() if (each - output).abs().max() < 1e-3]
    assert unread == []


def test_the_contour_depends_on_all_that_it_is_given():
    variance, mask = make_variance(), mask_of((15,))
    frames = [random(1, n, 15, seed=n) for n in (CHANNELS, N_VALUES, N_PLACES)]
    f0, voicing = variance.contour(*frames, mask)
    for i in range(3):
        changed = [each + (0.1 if i == k else 0.0) for k, each in enumerate(frames)]
        for other, one in zip(variance.contour(*changed, mask), (f0, voicing)):
            assert (other - one).abs().max() > 1e-3, i


@pytest.mark.parametrize(("n_places", "mark_sizes"), [(N_PLACES, ()), (0, (3, 2))])
def test_every_parameter_is_reached(n_places, mark_sizes):
    variance = make_variance(n_places, mark_sizes)
    x_mask, mask = mask_of(X_LENGTHS), mask_of(MEL_LENGTHS)
    c = variance.encode(symbols(3, 6, n=N_SYMBOLS * (6 if mark_sizes else 1)), x_mask)
    total = variance(random(3, N_VALUES, 6), c, x_mask, torch.tensor([1.0, 0.5, 0.1])).square().sum()
    if n_places:
        at = torch.arange(15).clamp(max=5).expand(3, CHANNELS, -1)
        f0, voicing = variance.contour(c.gather(2, at), random(3, N_VALUES, 15), random(3, N_PLACES, 15), mask)
        total = total + f0.square().sum() + voicing.square().sum()
    total.backward()
    silent = [name for name, p in variance.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []


def test_every_parameter_of_a_course_is_reached_and_it_starts_as_the_mean():
    course, mask, t = make_course(), mask_of(MEL_LENGTHS), torch.tensor([1.0, 0.5, 0.1])
    given = random(3, 1, 15), random(3, N_CONDITIONS, 15, seed=1), mask, t
    assert torch.equal(course(*given), torch.zeros(3, 1, 15))
    perturb(course)(*given).square().sum().backward()
    assert [name for name, p in course.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_without_places_there_is_no_contour():
    names = {name.split(".")[0] for name, _ in make_variance(0).named_parameters()}
    with_contour = {name.split(".")[0] for name, _ in make_variance().named_parameters()}
    assert with_contour - names == {"frame_in", "frames", "frame_out"}


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5, 50])
def test_a_contour_goes_on_where_there_is_no_voice_as_a_recordings_does(length):
    generator = torch.Generator().manual_seed(length)
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        f0 = torch.randn(8, 1, length, generator=generator)
        voiced = torch.rand(8, 1, length, generator=generator) < share
        filled = continuous(f0, voiced)
        for item, values, voice in zip(filled, f0.numpy(), voiced.numpy()):
            expected = pitch.continuous(values[0], voice[0], 0.0) if voice.any() else values[0]
            assert item[0].numpy() == pytest.approx(expected, abs=1e-5)
