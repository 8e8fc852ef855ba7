"""How well an acoustic model knows held-out clips, along each clip's own best alignment."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model import losses, monotonic_align
from model.alignment import frame_log_likelihood, length_regulate, predict_durations
from model.nisets import NiSETS, Plan, drawn
from model.prosody import N_VALUES, Frames, pitch_and_energy
from model.sde import expand
from text.symbols import SYMBOLS, word_gaps

PROBED_TIMES = (1.0, 0.5, 0.2)  # where the score network is measured
PROBED_DRAWS = 16  # of t and noise, from which the prosody's networks are measured


@torch.no_grad()
def measure(
    model: NiSETS,
    clip: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
    alignment: tuple[Tensor, Tensor] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Numbers by name of one clip, and its durations (1, T_x) in frames.

    clip: x (1, T_x) ids; mel (1, n_mels, T_mel) natural log; f0 (1, 2, T_mel) ln of Hz and voicing, empty where nothing
    reads it; generator: on the CPU, where the noise comes from; alignment: ids with pauses and their durations, (1,
    T_x') both, which loss_duration compares with as training does; None: it compares with the path of mu.
    score_ratio_<t> is the squared error of z0_hat at t over that of an output of 0 under EDM, whatever the
    parametrisation: under 1, the network knows something that mu does not say. latent_l1 is the distance of the log-mel
    of the one-step z0_hat from the clip's, in nats; duration_ratio the length that it would be spoken in, by its own.
    """
    x, mel, f0 = clip
    mask, z0, f0 = torch.ones_like(mel[:, :1]), model.latent(mel), model.normalised_f0(f0)
    durations = align_held_out(model, x, mel, f0)
    mu_x, logw = encode_along(model, x, mel, f0, durations)
    mu = length_regulate(mu_x, durations, mask)
    noise = torch.randn(z0.shape, generator=generator).to(z0.device)
    length = predict_durations(logw, model.logw_variance, model.pause_scale.item()).sum()
    numbers = {
        "loss_prior": losses.prior_loss(z0, mu, mask, mask.sum()),
        "loss_duration": duration_loss(model, mel, f0, alignment or (x, durations)),
        "duration_ratio": length / mask.sum(),
    }
    if model.prosody is not None:
        numbers |= measure_prosody(model, x, mel, f0, durations, generator)
    r_0, edm = z0 - mu, replace(model.sde, parametrisation="edm")
    for time in PROBED_TIMES:
        t = torch.full((1,), time, device=z0.device)
        r_t = model.sde.perturb(r_0, noise, t)
        r_0_hat, _ = model.denoiser.denoise(r_t, t, mask, mu=mu, f0=f0)
        least = expand(edm.coefficients(t)[0]) * r_t  # what is known of r_0 without a network
        numbers[f"score_ratio_{time:g}"] = ((r_0_hat - r_0) ** 2).sum() / ((least - r_0) ** 2).sum()
        if time == 1.0:
            numbers["latent_l1"] = (model.mel(mu + r_0_hat) - mel).abs().mean()
    return numbers, durations


def duration_loss(model: NiSETS, mel: Tensor, f0: Tensor | None, alignment: tuple[Tensor, Tensor]) -> Tensor:
    """The error of the log-durations (); arguments as of measure, f0 normalised."""
    x, durations = alignment
    _, logw = encode_along(model, x, mel, f0, durations)
    x_mask = torch.ones_like(logw)
    return losses.duration_loss(logw, durations, x_mask, x_mask.sum())


@torch.no_grad()
def plan_along(model: NiSETS, clip: tuple[Tensor, Tensor, Tensor], generator: np.random.Generator) -> Plan:
    """A clip's text along the clip's own best alignment, with its pauses, pitch, energy and F0. clip: as of measure."""
    x, mel, f0 = clip
    mask, f0 = torch.ones_like(mel[:, :1]), model.normalised_f0(f0)
    x = with_pauses(model, x, mel)
    durations = align_held_out(model, x, mel, f0)
    mu = length_regulate(encode_along(model, x, mel, f0, durations)[0], durations, mask)
    return Plan(mu, durations, f0, drawn(generator, mu.shape).to(mu.device), generator)


def with_pauses(model: NiSETS, x: Tensor, mel: Tensor) -> Tensor:
    """The ids (1, T_x) of a clip, where they are phones or states with a space for each silence between two words."""
    if not model.mark_sizes:
        return x
    gaps = 1 + np.array(word_gaps(x[0].tolist()), dtype=np.int64)
    ids = torch.from_numpy(np.insert(x[0].cpu().numpy(), gaps, SYMBOLS.index(" ")))[None].to(x.device)
    optional = np.insert(np.zeros(x.shape[1], dtype=bool), gaps, True)
    scores = frame_log_likelihood(encode_middling(model, ids, mel), model.latent(mel))
    durations = monotonic_align.search(scores, [len(optional)], [mel.shape[-1]], optional[None])[0]
    is_kept = durations.cpu() >= torch.where(torch.from_numpy(optional), model.config.shortest_pause, 0)
    return ids[:, is_kept.to(ids.device)]


def align_held_out(model: NiSETS, x: Tensor, mel: Tensor, f0: Tensor | None) -> Tensor:
    """The best path (1, T_x) in frames. f0: (1, 2, T_mel) normalised, None where the model has no prosody."""
    z0, lengths = model.latent(mel), [torch.tensor([each.shape[-1]], device=x.device) for each in (x, mel)]
    # pitch and energy want a path, and the path mu: first along a path for the middling values of every symbol
    durations = model.align(encode_middling(model, x, mel), z0, *lengths)
    if f0 is None:
        return durations
    return model.align(encode_along(model, x, mel, f0, durations)[0], z0, *lengths)


def encode_middling(model: NiSETS, x: Tensor, mel: Tensor) -> Tensor:
    """mu_x (1, n_latents, T_x) of a clip's ids, for the middling pitch and energy of every symbol."""
    x_mask = torch.ones_like(x[:, None], dtype=mel.dtype)
    values = None if model.prosody is None else torch.zeros_like(x_mask).expand(-1, N_VALUES, -1)
    return model.encode_text(x, x_mask, values)[0]


def encode_along(model: NiSETS, x: Tensor, mel: Tensor, f0: Tensor | None, durations: Tensor) -> tuple[Tensor, Tensor]:
    """mu_x and logw of a clip's ids, for its pitch and energy along durations. f0: as of align_held_out."""
    values = None if f0 is None else pitch_and_energy(model.normalised(mel), f0, durations)
    return model.encode_text(x, torch.ones_like(x[:, None], dtype=mel.dtype), values)


def measure_prosody(
    model: NiSETS, x: Tensor, mel: Tensor, f0: Tensor, durations: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """The prosody's losses on one clip along durations, its noise levels spread evenly. f0: as of align_held_out."""
    prosody, n = model.prosody, PROBED_DRAWS
    values = pitch_and_energy(model.normalised(mel), f0, durations)
    x_mask, mask = torch.ones_like(values[:, :1]), torch.ones_like(f0[:, :1])
    c = prosody.network.encode(x, x_mask)

    def repeated(each: Tensor) -> Tensor:
        return each.expand(n, -1, -1)

    u = (torch.arange(n, device=x.device) + 0.5) / n
    noise = torch.randn(n, *values.shape[1:], generator=generator).to(values.device)
    given = [repeated(each) for each in (values, c, x_mask)]
    numbers = {"loss_prosody": prosody.pitch_energy_loss(*given, u, noise, n * x_mask.sum())}
    frames = Frames.along(c, values, durations, mask)
    numbers |= prosody.contour_losses(f0, frames, mask.sum())
    if prosody.residual is not None:
        noise = torch.randn(n, *mask.shape[1:], generator=generator).to(mask.device)
        numbers["loss_f0_residual"] = prosody.residual_loss(
            repeated(f0), frames.map(repeated), u, noise, n * mask.sum()
        )
    return numbers


@torch.no_grad()
def teacher_forced(
    model: NiSETS,
    clip: tuple[Tensor, Tensor, Tensor],
    durations: Tensor,
    times: list[float],
    generator: torch.Generator,
) -> Tensor:
    """The one-step posterior means of a clip, one draw of noise for each t, (len(times), n_latents, T_mel).

    clip: x, mel and f0 as of measure; durations: (1, T_x), along which pitch and energy are measured too; generator: on
    the CPU.
    """
    x, mel, f0 = clip
    mask, z0, f0 = torch.ones_like(mel[:, :1]), model.latent(mel), model.normalised_f0(f0)
    mu = length_regulate(encode_along(model, x, mel, f0, durations)[0], durations, mask)
    z0_hats = []
    for time in times:
        t = torch.full((1,), time, device=z0.device)
        noise = torch.randn(z0.shape, generator=generator).to(z0.device)
        r_t = model.sde.perturb(z0 - mu, noise, t)
        z0_hats.append(mu + model.denoiser.denoise(r_t, t, mask, mu=mu, f0=f0)[0])
    return torch.cat(z0_hats)
