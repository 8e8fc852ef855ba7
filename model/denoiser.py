"""A network as the denoiser of a diffusion: its preconditioning, its loss and what it samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from model import losses
from model.layers import masked, precision, to_float32
from model.sde import SDE, SOLVERS, Draw, expand, solver_times


class Denoiser:
    """The posterior mean of r_0 given r_t, from any noise level, in one evaluation of a network.

    E[r_0 | r_t] = c_skip(t) r_t + c_out(t) F(c_in(t) r_t, t) (Karras et al. 2022, equation 7), which is the score by
    Tweedie's formula. r is what is left of the data when its mean is taken away.
    """

    def __init__(self, sde: SDE, network: Callable[..., Tensor], amp: bool = False):
        """network: F(x, t, mask, **conditions), x and the result (B, C, T), t (B,), mask (B, 1, T) or None where every
        frame is valid; amp: it runs in bfloat16, everything else in float32."""
        self.sde, self.network, self.amp = sde, network, amp

    def denoise(
        self, r_t: Tensor, t: Tensor, mask: Tensor | None = None, **conditions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """r_t: (B, C, T), t: (B,) in [0, 1], mask: (B, 1, T), or None where every frame is valid, which is faster.

        Returns E[r_0 | r_t], masked, and the network's output, which the score loss is about; (B, C, T) both.
        """
        c_skip, c_out, c_in = (expand(c) for c in self.sde.coefficients(t))
        with precision(r_t, self.amp):
            output = self.network(c_in * r_t, t, mask, **conditions)
        output = to_float32(output)
        return masked(c_skip * r_t + c_out * output, mask), output

    def loss(
        self,
        r_0: Tensor,
        noise: Tensor,
        t: Tensor,
        mask: Tensor,
        n_frames: Tensor,
        loss_mask: Tensor | None = None,
        full: bool = False,
        **conditions: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The squared error of the network's output at r_t = perturb(r_0, noise, t): denoising score matching.

        r_0, noise: (B, C, T); t: (B,); mask: (B, 1, T); n_frames: () what the sum is divided by, times C; loss_mask:
        (B, 1, T) of the frames that count, None: those of mask; full: every frame of mask is valid.
        Returns the loss () and E[r_0 | r_t] (B, C, T).
        """
        r_t = self.sde.perturb(r_0, noise, t) * mask
        r_0_hat, output = self.denoise(r_t, t, None if full else mask, **conditions)
        loss_mask = mask if loss_mask is None else loss_mask
        return losses.score_loss(output, self.sde.target(r_0, noise, t), loss_mask, n_frames), r_0_hat

    def sample(
        self,
        r_1: Tensor,
        n_timesteps: int,
        solver: str,
        mask: Tensor | None = None,
        draw: Draw = torch.randn_like,
        **conditions: Tensor | None,
    ) -> Tensor:
        """What a solver makes of noise r_1 (B, C, T), masked: for all but none, euler and original the posterior mean
        at the solver's last time. draw: fresh noise, for the solvers that want it.

        Raises ValueError for a number of evaluations that the solver cannot take."""

        def mean(r_t: Tensor, t: float) -> Tensor:
            return self.denoise(r_t, torch.full((r_t.shape[0],), t, device=r_t.device), mask, **conditions)[0]

        return masked(SOLVERS[solver](self.sde, mean, r_1, solver_times(solver, n_timesteps), draw), mask)
