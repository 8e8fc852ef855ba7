"""The diffusion: a forward SDE, what a network's output means under it, and solvers that lead back. No parameters.

The forward SDE has the terminal mean mu (Grad-TTS, Popov et al. 2021, equation 2):
dz = 1/2 beta(t) (mu - z) dt + sqrt(beta(t)) dW, t from 0 (data) to 1 (noise). All of it is written here on the
residual r = z - mu, for which it is the variance-preserving process of Song et al. 2021 (equation 11):
r_t = alpha(t) r_0 + sigma(t) noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

PosteriorMean = Callable[[Tensor, float], Tensor]  # (r_t, t) -> E[r_0 | r_t]
Draw = Callable[[Tensor], Tensor]  # standard normal noise of its argument's shape
Time = TypeVar("Time", float, Tensor)


def expand(t: Tensor) -> Tensor:
    """(B,) to (B, 1, 1), to meet latents (B, n_latents, T_mel)."""
    return t[:, None, None]


@dataclass(frozen=True)
class SDE:
    """Schedule, preconditioning and density of t, exact in float32 and 64. t is a number in score and at, (B,) in
    perturb and target, and of any shape elsewhere."""

    beta_min: float
    beta_max: float
    sigma_data: float
    parametrisation: str
    t_one: float
    t_uniform: float
    t_min: float
    t_log_mean: float
    t_log_std: float

    def beta(self, t: Time) -> Time:
        """The rate of the noise, beta_min + (beta_max - beta_min) t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def beta_integral(self, t: Time) -> Time:
        """B(t), the integral of beta from 0."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B(t) / 2): what is left of the residual at t."""
        return torch.exp(-0.5 * self.beta_integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B(t))): the standard deviation of the noise at t."""
        return torch.sqrt(-torch.expm1(-self.beta_integral(t)))

    def t_of_log_ratio(self, log_ratio: Tensor) -> Tensor:
        """The t in [0, 1] at which ln(sigma / alpha) has this value; beyond t = 1 it is 1."""
        integral = torch.nn.functional.softplus(2 * log_ratio)  # B = ln(1 + (sigma / alpha)^2)
        slope = self.beta_max - self.beta_min
        # the positive root of slope / 2 t^2 + beta_min t - B, in the form that does not cancel
        t = 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))
        return t.clamp(max=1.0)

    def t_from_uniform(self, u: Tensor) -> Tensor:
        """Map u, uniform on [0, 1), to a t of the training density: at 1, uniform, or log-normal in sigma / alpha.

        u: (B,), best stratified over the batch, which stratifies the choice and the place in it alike.
        """
        v = ((u - self.t_one) / max(self.t_uniform, 1e-12)).clamp(0, 1)
        uniform = self.t_min + (1 - self.t_min) * v
        rest = max(1 - self.t_one - self.t_uniform, 1e-12)
        w = ((u - self.t_one - self.t_uniform) / rest).clamp(1e-6, 1 - 1e-6)
        normal = self.t_of_log_ratio(self.t_log_mean + self.t_log_std * torch.special.ndtri(w)).clamp(min=self.t_min)
        t = torch.where(u < self.t_one + self.t_uniform, uniform, normal)
        return torch.where(u < self.t_one, torch.ones_like(t), t)

    def perturb(self, r_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """r_t given r_0. r_0, noise: (B, n_latents, T_mel); t: (B,)."""
        return expand(self.alpha(t)) * r_0 + expand(self.sigma(t)) * noise

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in), such that E[r_0 | r_t] = c_skip r_t + c_out F(c_in r_t, mu, t).

        edm: Karras et al. 2022, table 1, for the variance-preserving r_t; the other three for comparison.
        """
        alpha, sigma, one = self.alpha(t), self.sigma(t), torch.ones_like(t)
        if self.parametrisation == "edm":
            total = sigma**2 + (alpha * self.sigma_data) ** 2  # variance of r_t
            return alpha * self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()
        if self.parametrisation == "v":  # v = alpha noise - sigma r_0 (Salimans and Ho 2022)
            return alpha, -sigma, one
        if self.parametrisation == "z0":
            return 0 * one, one, one
        if self.parametrisation == "noise":  # Ho et al. 2020
            return 1 / alpha, -sigma / alpha, one
        raise ValueError(f"sde.parametrisation = {self.parametrisation}: has no coefficients")

    def target(self, r_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What F must give for r_t = perturb(r_0, noise, t): (r_0 - c_skip r_t) / c_out, without its cancellation."""
        alpha, sigma = expand(self.alpha(t)), expand(self.sigma(t))
        if self.parametrisation == "edm":
            total = sigma**2 + (alpha * self.sigma_data) ** 2
            return (sigma / self.sigma_data * r_0 - alpha * self.sigma_data * noise) * total.rsqrt()
        if self.parametrisation == "v":
            return alpha * noise - sigma * r_0
        if self.parametrisation == "z0":
            return r_0
        if self.parametrisation == "noise":
            return noise
        raise ValueError(f"sde.parametrisation = {self.parametrisation}: has no target")

    def score(self, r_0_hat: Tensor, r_t: Tensor, t: float) -> Tensor:
        """The gradient of the log-density of r_t, by Tweedie's formula (Efron 2011, equation 1.4): that
        E[r_0 | r_t] = (r_t + sigma^2 score) / alpha. r_0_hat: that mean, of r_t's shape."""
        alpha, sigma, _ = self.at(t)
        return (alpha * r_0_hat - r_t) / sigma**2

    def at(self, t: float) -> tuple[float, float, float]:
        """alpha, sigma and lambda = ln(alpha / sigma) of one t, as Python numbers for the solvers."""
        integral = self.beta_integral(t)
        alpha, sigma = math.exp(-0.5 * integral), math.sqrt(-math.expm1(-integral))
        return alpha, sigma, math.log(alpha / sigma)


# Times at which the solvers evaluate the posterior mean; the last evaluation is their result. For few steps the times
# are those from which DPM-Solver++(2M) arrives at its last latent with the variance that the forward process has there:
# up to four in the middle of the way, so that they end in a mean; five at T_LAST, as all grids from there on, where the
# posterior mean is a sample, and so that the latent's deviation is right to 4% for data of any deviation from .3 to 1.
T_LAST = 0.02
FEW_STEPS = {
    1: (1.0,),
    2: (1.0, 0.48),
    3: (1.0, 0.54, 0.39),
    4: (1.0, 0.68, 0.446, 0.33),
    5: (1.0, 0.4, 0.245, 0.11, T_LAST),
}


def grid(n_timesteps: int) -> tuple[float, ...]:
    """n_timesteps falling times, the first 1; from six on they crowd quadratically towards T_LAST."""
    if n_timesteps in FEW_STEPS:
        return FEW_STEPS[n_timesteps]
    return tuple(T_LAST + (1 - T_LAST) * (1 - i / (n_timesteps - 1)) ** 2 for i in range(n_timesteps))


def no_network(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):  # noqa: ARG001
    """No evaluation at all: the residual is 0, and z0_hat is mu, the mean that the encoder gives alone."""
    return torch.zeros_like(r)


def posterior(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):  # noqa: ARG001
    """NiSETS: one evaluation of the posterior mean, which is what the generator is trained on."""
    (t,) = times
    return mean(r, t)


def ddim(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like, eta=0.0):
    """DDIM (Song et al. 2021, equations 12 and 16); eta = 0 follows the flow, eta = 1 is ancestral sampling.

    r: (B, n_latents, T_mel) residual at times[0]. Returns the posterior mean at the last time, after len(times)
    evaluations.
    """
    for t, u in zip(times, times[1:]):
        (alpha_t, sigma_t, _), (alpha_u, sigma_u, _) = sde.at(t), sde.at(u)
        r_0 = mean(r, t)
        fresh = eta * sigma_u / sigma_t * math.sqrt(max(0.0, 1 - (alpha_t / alpha_u) ** 2))
        r = alpha_u * r_0 + math.sqrt(sigma_u**2 - fresh**2) / sigma_t * (r - alpha_t * r_0)
        if fresh > 0:
            r = r + fresh * draw(r)
    return mean(r, times[-1])


def ancestral(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):
    """Ancestral sampling (Ho et al. 2020, algorithm 2): ddim with eta = 1, whose steps draw fresh noise."""
    return ddim(sde, mean, r, times, draw, eta=1.0)


def dpm2m(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):  # noqa: ARG001
    """DPM-Solver++(2M) on the data prediction (Lu et al. 2022, algorithm 2). Arguments and result as of ddim."""
    before, h_before = None, 0.0
    for t, u in zip(times, times[1:]):
        (_, sigma_t, lambda_t), (alpha_u, sigma_u, lambda_u) = sde.at(t), sde.at(u)
        r_0, h = mean(r, t), lambda_u - lambda_t
        ahead = r_0 if before is None else r_0 + h / (2 * h_before) * (r_0 - before)
        r = sigma_u / sigma_t * r - alpha_u * math.expm1(-h) * ahead
        before, h_before = r_0, h
    return mean(r, times[-1])


def reverse_drift(sde: SDE, r_0: Tensor, r: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """beta / 2 r and beta / 2 score at t: what moves r back along the flow, and with the score twice along the reverse
    SDE (Song et al. 2021, equations 6 and 13)."""
    half = 0.5 * sde.beta(t)
    return half * r, half * sde.score(r_0, r, t)


def euler_maruyama(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):
    """Euler-Maruyama on the reverse SDE (Song et al. 2021, equation 6). Arguments and result as of ddim."""
    for t, u in zip(times, times[1:]):
        back, score = reverse_drift(sde, mean(r, t), r, t)
        r = r + (t - u) * (back + 2 * score) + math.sqrt((t - u) * sde.beta(t)) * draw(r)
    return mean(r, times[-1])


def euler(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):  # noqa: ARG001
    """Grad-TTS's solver, as published: Euler's on the flow from 1 to 0, with the slope at each step's middle time taken
    where the step begins (Popov et al. 2021).

    times: those middles. Returns the residual at 0, which is no posterior mean: one step overshoots it by half.
    """
    for t in times:
        back, score = reverse_drift(sde, mean(r, t), r, t)
        r = r + (back + score) / len(times)
    return r


ORIGINAL_TEMPERATURE, ORIGINAL_GAMMA = 1 / 5, 1.02  # of the noise at the start; of the score, the rest being noise


def original(sde: SDE, mean: PosteriorMean, r: Tensor, times: Sequence[float], draw: Draw = torch.randn_like):
    """The step with which the method's authors published their samples: euler's, from a fifth of the noise, with the
    score times 1.02 less 0.02 times fresh noise of the deviation sigma(t - 1). Returns no posterior mean:
    1.5783 r_0_hat(.5), 0.4518 of the residual that it starts from, and 0.096 noise.
    """
    (t,) = times
    r = ORIGINAL_TEMPERATURE * r
    back, score = reverse_drift(sde, mean(r, t), r, t)
    before = sde.sigma(torch.tensor(t - 1, dtype=torch.float64)).item()  # the step ends half a step beyond the data
    fresh = 0.5 * sde.beta(t) * (ORIGINAL_GAMMA - 1) * before
    return r + back + ORIGINAL_GAMMA * score + fresh * draw(r)


SOLVERS = {
    "none": no_network,
    "posterior": posterior,
    "dpm2m": dpm2m,
    "ddim": ddim,
    "ancestral": ancestral,
    "sde": euler_maruyama,
    "euler": euler,
    "original": original,
}
ONLY = {"none": 0, "posterior": 1, "original": 1}  # solvers that take no other number of evaluations
SAMPLERS = ("euler", "original")  # those that do not end in a posterior mean but, as they mean it, in a sample


def solver_times(solver: str, n_timesteps: int) -> tuple[float, ...]:
    """The times at which a solver evaluates the posterior mean. Raises ValueError for a number that it cannot take."""
    if n_timesteps != ONLY.get(solver, max(n_timesteps, 1)):
        wanted = f"exactly {ONLY[solver]}" if solver in ONLY else "at least 1"
        raise ValueError(f"n_timesteps = {n_timesteps}: must be {wanted} for solver {solver}")
    if n_timesteps == 0:
        return ()
    if solver in SAMPLERS:
        return tuple(1 - (i + 0.5) / n_timesteps for i in range(n_timesteps))
    return grid(n_timesteps)


def result_time(solver: str, n_timesteps: int) -> float:
    """The t of what a solver ends with: of its posterior mean, or 0 of a sample. mu is what is known at t = 1."""
    return 0.0 if solver in SAMPLERS else grid(max(n_timesteps, 1))[-1]


def default_solver(n_timesteps: int) -> str:
    return {0: "none", 1: "posterior"}.get(n_timesteps, "dpm2m")
