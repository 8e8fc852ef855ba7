"""A network as a denoiser: the posterior mean, the loss that teaches it, and what solvers make of it."""

import dataclasses

import pytest
import torch
from torch import nn

from data_util import config as configuration
from data_util.audio import sequence_mask
from model.denoiser import Denoiser
from model.sde import SDE, SOLVERS, solver_times

LENGTHS = (11, 4)
MASK = sequence_mask(torch.tensor(LENGTHS), 11).float()


class Network(nn.Module):
    """Something small that depends on all it is given, and sees its neighbours."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 3, 3, padding=1)
        self.asked = []

    def forward(self, x, t, mask, mu):
        self.asked.append((x, t, mask, mu))
        return self.conv(torch.cat([x, mu], 1)) * (1 + t[:, None, None])


def make(kind="edm", **keywords):
    torch.manual_seed(0)
    sde = SDE(**dataclasses.asdict(configuration.load().sde) | {"parametrisation": kind})
    return Denoiser(sde, Network(), **keywords)


def draw():
    """r_0, noise, t and mu."""
    r_0, noise, mu = torch.randn(3, 2, 3, 11, generator=torch.Generator().manual_seed(0))
    return 0.5 * r_0, noise, torch.tensor([1.0, 0.3]), mu


@torch.no_grad()
@pytest.mark.parametrize("kind", ["edm", "v", "z0", "noise"])
def test_the_posterior_mean_is_preconditioned_and_the_loss_is_its_error_weighed(kind):
    denoiser, (r_0, noise, t, mu) = make(kind), draw()
    r_t = denoiser.sde.perturb(r_0, noise, t)
    r_0_hat, output = denoiser.denoise(r_t, t, MASK, mu=mu)
    c_skip, c_out, c_in = (c[:, None, None] for c in denoiser.sde.coefficients(t))
    assert torch.equal(output, denoiser.network(c_in * r_t, t, None, mu))
    torch.testing.assert_close(r_0_hat, (c_skip * r_t + c_out * output) * MASK)
    loss, of_loss = denoiser.loss(r_0, noise, t, torch.ones_like(MASK), torch.tensor(20.0), loss_mask=MASK, mu=mu)
    weighed = (((c_skip * r_t + c_out * output) - r_0) / c_out).square()
    assert loss.item() == pytest.approx((weighed * MASK).sum().item() / (3 * 20), rel=1e-3)
    torch.testing.assert_close(of_loss * MASK, r_0_hat)


@torch.no_grad()
def test_the_loss_hides_what_is_past_the_ends_and_needs_no_mask_where_all_is_full():
    denoiser, (r_0, noise, t, mu) = make(), draw()
    loss = denoiser.loss(r_0, noise, t, MASK, MASK.sum(), mu=mu)[0]
    assert not (denoiser.network.asked[-1][0] * (1 - MASK)).any() and torch.equal(denoiser.network.asked[-1][2], MASK)
    dirty = r_0 + 1e3 * (1 - MASK), noise - 1e3 * (1 - MASK)
    assert denoiser.loss(*dirty, t, MASK, MASK.sum(), mu=mu)[0] == loss
    full = denoiser.loss(r_0, noise, t, torch.ones_like(MASK), torch.tensor(22.0), full=True, mu=mu)
    assert denoiser.network.asked[-1][2] is None
    given = denoiser.loss(r_0, noise, t, torch.ones_like(MASK), torch.tensor(22.0), mu=mu)
    assert torch.equal(full[0], given[0]) and torch.equal(full[1], given[1])


@torch.no_grad()
@pytest.mark.parametrize(("solver", "n"), [("posterior", 1), ("dpm2m", 4), ("ancestral", 3), ("euler", 2)])
def test_a_sample_is_what_the_solver_makes_of_the_posterior_mean(solver, n):
    denoiser, (_, r_1, _, mu) = make(), draw()
    fresh = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(1))

    def mean(r_t, t):
        return denoiser.denoise(r_t, torch.full((2,), t), MASK, mu=mu)[0]

    wanted = SOLVERS[solver](denoiser.sde, mean, r_1, solver_times(solver, n), lambda _: fresh) * MASK
    n_asked = len(denoiser.network.asked)
    sample = denoiser.sample(r_1, n, solver, MASK, lambda _: fresh, mu=mu)
    assert torch.equal(sample, wanted)
    assert len(denoiser.network.asked) - n_asked == n


def test_bfloat16_is_of_the_network_alone():
    (r_0, noise, t, mu), rough, exact = draw(), make(amp=True), make()
    losses = [one.loss(r_0, noise, t, MASK, MASK.sum(), mu=mu) for one in (rough, exact)]
    assert all(part.dtype == torch.float32 for part in losses[0])
    assert losses[0][0].item() == pytest.approx(losses[1][0].item(), rel=0.03) and losses[0][0] != losses[1][0]
    rough.network.conv.register_forward_hook(
        lambda _, _args, out: pytest.fail() if out.dtype == torch.float32 else None
    )
    rough.denoise(r_0, t, mu=mu)
