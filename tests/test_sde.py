"""The diffusion against closed forms, quadrature and simulation; no training."""

import dataclasses
import math

import pytest
import torch

from data_util import config as configuration
from model import sde as module
from model.sde import ONLY, SAMPLERS, SDE, SOLVERS, default_solver, grid, result_time, solver_times

F64 = torch.float64


def make(**changes) -> SDE:
    return SDE(**dataclasses.asdict(configuration.load().sde) | changes)


def gaussian_mean(sde: SDE, m: float, s: float):
    """The exact posterior mean where r_0 ~ N(m, s^2), with a list of the times and latents that it was asked for."""
    calls = []

    def mean(r, t):
        calls.append((t, r))
        alpha, sigma, _ = sde.at(t)
        return m + alpha * s * s / (alpha**2 * s * s + sigma**2) * (r - alpha * m)

    return mean, calls


def test_schedule_has_the_published_values():
    sde = make()
    one = torch.tensor(1.0, dtype=F64)
    assert sde.beta_integral(one).item() == pytest.approx(10.025, abs=1e-12)
    assert sde.alpha(one).item() == pytest.approx(0.006654247, abs=1e-9)
    assert (sde.sigma(one) ** 2).item() == pytest.approx(0.999955721, abs=1e-9)
    t = torch.linspace(0, 1, 10001, dtype=F64)
    beta = sde.beta_min + (sde.beta_max - sde.beta_min) * t
    assert torch.trapezoid(beta, t).item() == pytest.approx(sde.beta_integral(one).item(), abs=1e-8)


def test_sigma_keeps_its_digits_in_float32_at_small_t():
    sde = make()
    t = torch.tensor(1e-5)
    assert sde.sigma(t).item() == pytest.approx(sde.sigma(t.double()).item(), rel=1e-5)


def test_simulated_paths_meet_the_closed_mean_and_variance():
    sde, n, steps, end = make(), 40_000, 200, 0.6
    generator = torch.Generator().manual_seed(0)
    mu, z = 2.0, torch.full((n,), -1.0, dtype=F64)
    h = end / steps
    for i in range(steps):
        beta = sde.beta_min + (sde.beta_max - sde.beta_min) * (i + 0.5) * h
        noise = torch.randn(n, dtype=F64, generator=generator)
        z = z + 0.5 * beta * (mu - z) * h + math.sqrt(beta * h) * noise
    alpha, sigma, _ = sde.at(end)
    assert z.mean().item() == pytest.approx(mu + alpha * (-1.0 - mu), abs=0.02)
    assert z.var().item() == pytest.approx(sigma**2, abs=0.02)


def test_tweedie_equals_quadrature_for_a_mixture():
    sde, t = make(), 0.25
    alpha, sigma, _ = sde.at(t)
    weights, centres, widths = (torch.tensor(v, dtype=F64) for v in ([0.3, 0.7], [-1.5, 0.8], [0.4, 0.7]))
    r = torch.linspace(-3, 3, 13, dtype=F64)
    variance = alpha**2 * widths**2 + sigma**2
    density = weights * torch.exp(-0.5 * (r[:, None] - alpha * centres) ** 2 / variance) / variance.sqrt()
    score = (density * -(r[:, None] - alpha * centres) / variance).sum(1) / density.sum(1)
    z = torch.linspace(-8, 8, 40001, dtype=F64)
    prior = (weights * torch.exp(-0.5 * ((z[:, None] - centres) / widths) ** 2) / widths).sum(1)
    joint = prior * torch.exp(-0.5 * ((r[:, None] - alpha * z) / sigma) ** 2)
    r_0_hat = (joint * z).sum(1) / joint.sum(1)
    assert (sde.score(r_0_hat, r, t) - score).abs().max() < 1e-6
    back, half_score = module.reverse_drift(sde, r_0_hat, r, t)  # what the solvers make of it
    beta = sde.beta_min + (sde.beta_max - sde.beta_min) * t
    assert torch.allclose(back, beta / 2 * r) and torch.allclose(half_score, beta / 2 * score, atol=1e-5)


@pytest.mark.parametrize("kind", ["edm", "v", "z0", "noise"])
@pytest.mark.parametrize("t", [1e-3, 0.5, 1.0])
def test_parametrisations_and_score_convert_into_each_other(kind, t):
    sde = make(parametrisation=kind)
    generator = torch.Generator().manual_seed(1)
    r_0, noise = torch.randn(2, 4, 5, 100, dtype=F64, generator=generator)
    at = torch.full((4,), t, dtype=F64)
    r_t = sde.perturb(r_0, noise, at)
    c_skip, c_out, _ = (module.expand(c) for c in sde.coefficients(at))
    assert torch.allclose(c_skip * r_t + c_out * sde.target(r_0, noise, at), r_0, atol=1e-10, rtol=0)
    # with the true noise known, the score of the Gaussian about it is -noise / sigma
    assert torch.allclose(sde.score(r_0, r_t, t), -noise / module.expand(sde.sigma(at)), atol=1e-8)


def test_a_parametrisation_that_nobody_has_written_is_refused():
    sde, r_0 = make(parametrisation="flow"), torch.zeros(1, 2, 3)
    for asked in (sde.coefficients, lambda t: sde.target(r_0, r_0, t)):
        with pytest.raises(ValueError, match="sde.parametrisation = flow"):
            asked(torch.ones(1))


def test_edm_with_unit_variance_is_v():
    t = torch.linspace(1e-3, 1, 50, dtype=F64)
    edm, v = make(sigma_data=1.0).coefficients(t), make(parametrisation="v").coefficients(t)
    assert torch.allclose(edm[0], v[0], atol=1e-12)
    assert torch.allclose(edm[1], -v[1], atol=1e-12)  # EDM's sign makes the output r_0 at t = 1
    assert torch.allclose(edm[2], torch.ones_like(t), atol=1e-12)


def test_edm_output_and_input_have_unit_variance_for_gaussian_data():
    sde = make()
    generator = torch.Generator().manual_seed(2)
    t = torch.tensor([1e-4, 0.05, 0.3, 1.0], dtype=F64)
    noise = torch.randn(4, 1, 200_000, dtype=F64, generator=generator)
    r_0 = sde.sigma_data * torch.randn(4, 1, 200_000, dtype=F64, generator=generator)
    c_in = module.expand(sde.coefficients(t)[2])
    assert torch.allclose((c_in * sde.perturb(r_0, noise, t)).var(2), torch.ones(4, 1, dtype=F64), atol=0.02)
    assert torch.allclose(sde.target(r_0, noise, t).var(2), torch.ones(4, 1, dtype=F64), atol=0.02)


def test_density_of_t():
    sde = make()
    u = (torch.arange(100_000) + 0.5) / 100_000
    t = sde.t_from_uniform(u)
    assert (t == 1).float().mean().item() == pytest.approx(sde.t_one, abs=0.02)  # the log-normal's tail ends at 1 too
    assert t.min() >= sde.t_min and t.max() <= 1
    uniform = t[(u >= sde.t_one) & (u < sde.t_one + sde.t_uniform)]
    assert uniform.mean().item() == pytest.approx(0.5, abs=1e-2)
    rest = t[u >= sde.t_one + sde.t_uniform].double()
    rest = rest[rest < 1]
    log_ratio = torch.log(sde.sigma(rest) / sde.alpha(rest))
    assert log_ratio.mean().item() == pytest.approx(sde.t_log_mean, abs=0.02)
    assert log_ratio.std().item() == pytest.approx(sde.t_log_std, abs=0.02)


def test_t_may_be_uniform_alone():
    sde = make(t_one=0.0, t_uniform=1.0)
    u = (torch.arange(100_000) + 0.5) / 100_000
    t = sde.t_from_uniform(u[torch.randperm(len(u))]).double().sort().values
    assert (t - (sde.t_min + (1 - sde.t_min) * u)).abs().max() < 1e-5  # every quantile
    assert t[0] >= sde.t_min and t[-1] < 1


def test_t_of_log_ratio_inverts_the_schedule():
    sde = make()
    t = torch.linspace(1e-5, 0.999, 1000, dtype=F64)
    assert torch.allclose(sde.t_of_log_ratio(torch.log(sde.sigma(t) / sde.alpha(t))), t, atol=1e-10)
    assert sde.t_of_log_ratio(torch.tensor(50.0)) == 1


STEPS = [(solver, n) for solver in SOLVERS for n in ((ONLY[solver],) if solver in ONLY else (1, 2, 5, 10))]


@pytest.mark.parametrize(("solver", "n"), STEPS)
def test_evaluations_are_counted_and_the_last_is_the_result_of_all_but_samplers(solver, n):
    mean, calls = gaussian_mean(make(), 0.7, 0.5)
    r_1 = torch.randn(1, 2, 3, dtype=F64)
    result = SOLVERS[solver](make(), mean, r_1, solver_times(solver, n))
    assert [t for t, _ in calls] == list(solver_times(solver, n))
    if n == 0:  # of which the test below tells
        return
    (_, first_r), *_, (last_t, last_r) = calls if n > 1 else 2 * calls
    assert torch.equal(first_r, r_1 * (1 / 5) if solver == "original" else r_1)
    assert torch.equal(result, mean(last_r, last_t)) == (solver not in SAMPLERS)
    assert result_time(solver, n) == (0 if solver in SAMPLERS else last_t)


@pytest.mark.parametrize("solver", ["ddim", "dpm2m"])
@pytest.mark.parametrize("n", [2, 10])
def test_point_mass_is_followed_exactly(solver, n):
    sde, m = make(), 0.7
    calls = []

    def mean(r, t):
        calls.append((t, r))
        return torch.full_like(r, m)

    r_1 = torch.randn(1, 2, 50, dtype=F64)
    assert torch.equal(SOLVERS[solver](sde, mean, r_1, grid(n)), torch.full_like(r_1, m))
    u, last = calls[-1]
    (alpha_1, sigma_1, _), (alpha_u, sigma_u, _) = sde.at(1.0), sde.at(u)
    assert torch.allclose(last, alpha_u * m + sigma_u / sigma_1 * (r_1 - alpha_1 * m), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("solver", "low", "high"), [("ddim", 0.85, 1.15), ("dpm2m", 1.7, 2.4)])
def test_solvers_converge_to_the_analytic_flow_with_their_order(solver, low, high):
    sde, m, s, u = make(), 0.7, 0.5, 0.05
    r_1 = torch.randn(2000, dtype=F64, generator=torch.Generator().manual_seed(5))
    (alpha_1, sigma_1, _), (alpha_u, sigma_u, _) = sde.at(1.0), sde.at(u)
    spread = math.sqrt((alpha_u**2 * s * s + sigma_u**2) / (alpha_1**2 * s * s + sigma_1**2))
    exact = alpha_u * m + spread * (r_1 - alpha_1 * m)

    def error(steps):
        mean, calls = gaussian_mean(sde, m, s)
        times = [1 + (u - 1) * i / steps for i in range(steps + 1)]
        SOLVERS[solver](sde, mean, r_1, times)
        return (calls[-1][1] - exact).square().mean().sqrt().item()

    assert low < math.log2(error(80) / error(160)) < high


@pytest.mark.parametrize("n", [2, 10])
def test_the_reverse_sde_meets_its_steps_on_a_point_mass(n):
    """Where all data is 0, the score is -r / sigma^2, and a step multiplies r by 1 + beta h (1 / 2 - 1 / sigma^2) and
    adds sqrt(beta h) times the noise."""
    sde, (r_1, fresh), latents = make(), torch.randn(2, 1, 2, 50, dtype=F64), []

    def mean(r, _):
        latents.append(r)
        return torch.zeros_like(r)

    SOLVERS["sde"](sde, mean, r_1, grid(n), lambda _: fresh)
    wanted = r_1
    for t, u in zip(grid(n), grid(n)[1:]):
        rate = (sde.beta_min + (sde.beta_max - sde.beta_min) * t) * (t - u)
        wanted = wanted * (1 + rate * (0.5 - 1 / sde.at(t)[1] ** 2)) + math.sqrt(rate) * fresh
    assert torch.allclose(latents[-1], wanted, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_euler_meets_the_product_of_its_steps_on_a_point_mass(n):
    """Where all data is 0, the score is -r / sigma^2, and a step multiplies r by 1 + beta h / 2 (1 - 1 / sigma^2)."""
    sde, r_1, times = make(), torch.randn(1, 2, 50, dtype=F64), solver_times("euler", n)
    wanted = r_1
    for t in times:
        half = 0.5 * (sde.beta_min + (sde.beta_max - sde.beta_min) * t) / n
        wanted = wanted * (1 + half * (1 - 1 / sde.at(t)[1] ** 2))
    found = SOLVERS["euler"](sde, lambda r, _: torch.zeros_like(r), r_1, times)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_the_authors_step_has_its_published_coefficients():
    """mu + 1.5783 (z0_hat(.5) - mu) + 0.4518 (z - mu) + 0.096 fresh noise, where z = mu + noise / 5."""
    sde, (r_1, fresh) = make(), torch.randn(2, 1, 2, 50, dtype=F64)
    asked = []

    def mean(r, t):
        asked.append((r, t))
        return torch.full_like(r, 0.7)

    result = SOLVERS["original"](sde, mean, r_1, solver_times("original", 1), lambda _: fresh)
    assert torch.allclose(result, 1.5783 * 0.7 + 0.4518 * r_1 / 5 + 0.0959 * fresh, atol=5e-4)
    assert len(asked) == 1 and asked[0][1] == 0.5 and torch.equal(asked[0][0], 0.2 * r_1)


def test_an_ancestral_step_draws_from_the_law_of_the_latent_between():
    """q(r_u | r_t, r_0) by Bayes: precisions add up, and so do means times precisions."""
    sde, t, u = make(), 0.6, 0.3
    (alpha_t, _, _), (alpha_u, sigma_u, _) = sde.at(t), sde.at(u)
    (r_t, fresh), r_0 = torch.randn(2, 1, 2, 50, dtype=F64), 0.7
    mean, calls = gaussian_mean(sde, r_0, 0.0)
    SOLVERS["ancestral"](sde, mean, r_t, (t, u), lambda _: fresh)
    ratio = alpha_t / alpha_u
    before, after = 1 / sigma_u**2, ratio**2 / (1 - ratio**2)  # precisions: of r_u given r_0, of it given r_t
    wanted = (before * alpha_u * r_0 + after * r_t / ratio) / (before + after)
    assert torch.allclose(calls[-1][1], wanted + fresh / math.sqrt(before + after), atol=1e-12)


@pytest.mark.parametrize(
    ("n", "s"), [(n, 0.5) for n in (2, 3, 4, 5, 6, 10)] + [(5, s) for s in (0.3, 0.4, 0.6, 0.8, 1)]
)
def test_grids_give_dpm2m_the_right_marginal(n, s):
    """For Gaussian data the last latent's spread is that of the forward process, within 4%; five evaluations have it
    for data of any deviation."""
    sde = make()
    mean, calls = gaussian_mean(sde, 0.0, s)
    SOLVERS["dpm2m"](sde, mean, torch.ones(1, dtype=F64), grid(n))
    alpha, sigma, _ = sde.at(calls[-1][0])
    assert calls[-1][1].item() == pytest.approx(math.sqrt(alpha**2 * s * s + sigma**2), rel=0.041)


def test_refusals_say_what_is_wrong():
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n_timesteps = {n}: must be at least 1 for solver dpm2m"):
            solver_times("dpm2m", n)
    for solver, n in ONLY.items():
        with pytest.raises(ValueError, match=f"n_timesteps = 2: must be exactly {n} for solver {solver}"):
            solver_times(solver, 2)
    for solver in ("posterior", "original"):
        with pytest.raises(ValueError, match="unpack"):
            SOLVERS[solver](make(), lambda r, _: r, torch.zeros(1), grid(2))


def test_no_evaluation_leaves_the_mean_that_the_encoder_gives():
    assert default_solver(0) == "none" and solver_times("none", 0) == ()
    r_0_hat = SOLVERS["none"](make(), lambda *_: pytest.fail("a network is asked"), torch.ones(2, 3), ())
    assert torch.equal(r_0_hat, torch.zeros(2, 3))
    assert result_time("none", 0) == 1  # what is known there without a network
