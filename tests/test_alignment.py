"""What follows from durations, against loops and closed forms, and durations that keep a text's length."""

import math

import pytest
import torch

from data_util.audio import sequence_mask
from model.alignment import align, frame_log_likelihood, length_regulate, phone_positions, predict_durations

DURATIONS = [[3, 1, 4, 2, 6], [1, 0, 7, 0, 0], [0, 2, 0, 1, 0], [0, 0, 1, 0, 0]]
MASK = sequence_mask(torch.tensor(DURATIONS).sum(1), 16).double()


def test_length_regulation_repeats_each_value():
    values = torch.randn(4, 3, 5, dtype=torch.float64)
    frames = length_regulate(values, torch.tensor(DURATIONS), MASK)
    for value, durations, found in zip(values, DURATIONS, frames):
        wanted = value.repeat_interleave(torch.tensor(durations), dim=1)
        assert torch.equal(found[:, : wanted.shape[1]], wanted) and not found[:, wanted.shape[1] :].any()


def test_positions_in_phones_are_those_of_a_loop():
    rows = torch.zeros(4, 3, 16, dtype=torch.float64)
    for row, durations in zip(rows, DURATIONS):
        places = [(k, d) for d in durations for k in range(d)]
        for frame, (k, d) in enumerate(places):
            nearest = min(abs(k + 0.5), abs(d - k - 0.5))
            row[:, frame] = torch.tensor([(k + 0.5) / d, math.log(d), math.log(nearest)], dtype=torch.float64)
    torch.testing.assert_close(phone_positions(torch.tensor(DURATIONS), MASK), rows, atol=1e-12, rtol=0)


def test_frame_log_likelihood_is_the_gaussian_but_for_a_constant_of_the_frame():
    mu_x, z0 = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
    density = torch.distributions.Normal(mu_x[:, :, :, None], 1.0).log_prob(z0[:, :, None]).sum(1)
    difference = density - frame_log_likelihood(mu_x, z0)
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)


def test_frames_are_aligned_to_the_means_that_they_are_near_and_somehow_where_numbers_are_not_finite():
    durations = torch.tensor([[3, 1, 5], [2, 4, 0]])
    mask = sequence_mask(durations.sum(1)).float()
    mu_x = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    z0 = length_regulate(mu_x, durations, mask) + 0.1 * torch.randn(2, 8, 9)
    lengths = torch.tensor([3, 2]), durations.sum(1)
    assert torch.equal(align(mu_x, z0, *lengths), durations)
    for broken in (torch.nan, torch.inf):
        assert torch.equal(align(broken * mu_x, z0, *lengths).sum(1), lengths[1])


def test_predicted_durations_keep_the_total_and_the_mean_of_a_log_normal():
    generator = torch.Generator().manual_seed(0)
    logw, variance = torch.randn(1, 1, 500, generator=generator), torch.tensor(0.4)
    durations = predict_durations(logw, variance, 1.5)
    wanted = 1.5 * (logw[0, 0].double() + 0.2).exp()
    assert durations.sum().item() == round(wanted.sum().item())
    assert durations.min() == 0 and (durations[0] - wanted).abs().max() < 1
    draws = torch.randn(200_000, generator=generator) * variance.sqrt() + 1.0
    mean = predict_durations(torch.ones(1, 1, 1000), variance, 1.0).sum().item() / 1000
    assert mean == pytest.approx(draws.exp().mean().item(), rel=0.01)
    assert predict_durations(torch.full((1, 1, 2), -20.0), variance, 1.0).sum() == 1
