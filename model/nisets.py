"""NiSETS: text encoder, alignment search, score network and generator, trained jointly, spoken with in one evaluation.

Non-iterative score-based end-to-end text-to-speech (ICASSP 2024). One forward pass of training reads, in `forward`,
from phonemes to a waveform; speaking reads in `synthesise`.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from data_util.audio import MelSpectrogram, cut, sequence_mask
from data_util.config import Config, Stage
from data_util.dataset import Batch
from model import losses, monotonic_align
from model.discriminator import Discriminators
from model.hifigan import HiFiGAN
from model.layers import full
from model.sde import SDE, SOLVERS, expand, grid
from model.text_encoder import TextEncoder
from model.unet import UNet

PROBED_TIMES = (1.0, 0.5, 0.2)  # where validation measures the score network


@dataclass
class Output:
    """What a training step goes on with: losses by name, and the sound that the discriminators are to judge."""

    losses: dict[str, Tensor]
    wav: Tensor | None = None  # (B, 1, segment_samples) the recording's segment
    wav_hat: Tensor | None = None  # (B, 1, segment_samples) the generated one
    t: Tensor | None = None  # (B,) of the feature that wav_hat was generated from


@dataclass
class Synthesis:
    """One spoken text: wav (1, 1, T_wav) in [-1, 1], z0_hat and mu (1, n_latents, T_mel), durations (1, T_x) frames."""

    wav: Tensor
    z0_hat: Tensor
    mu: Tensor
    durations: Tensor


class NiSETS(nn.Module):
    """The whole model but for the discriminators, which only training needs.

    config: sizes and switches; n_symbols: length of the symbol list that ids count in; amp: networks run in bfloat16,
    while SDE, alignment, losses and STFT stay in float32.
    """

    def __init__(self, config: Config, n_symbols: int, amp: bool = False):
        super().__init__()
        self.config, self.amp = config, amp
        self.sde = SDE(**asdict(config.sde))
        self.text_encoder = TextEncoder(n_symbols, config.n_latents, **asdict(config.text_encoder))
        self.decoder = UNet(**asdict(config.decoder))
        self.generator = HiFiGAN(config.n_latents, **asdict(config.generator))
        audio = asdict(config.audio)
        self.features = MelSpectrogram(**audio)
        self.full_band = MelSpectrogram(**{**audio, "f_max": config.audio.sample_rate / 2})
        self.register_buffer("latent_mean", torch.zeros(()))
        self.register_buffer("latent_std", torch.ones(()))
        self.register_buffer("logw_variance", torch.zeros(()))  # of log-durations about logw, running

    # -- features and latents

    def latent(self, mel: Tensor) -> Tensor:
        """mel: (B, n_mels, T_mel) natural log of amplitude. Returns z0 (B, n_latents, T_mel), normalised."""
        return (mel - self.latent_mean) / self.latent_std

    # -- the networks, each in the precision it was asked to run in, giving full precision

    def _precision(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp)

    def encode(self, x: Tensor, x_mask: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x). Returns mu_x (B, n_latents, T_x) and logw (B, 1, T_x) log-frames."""
        with self._precision(x):
            mu_x, logw = self.text_encoder(x, x_mask)
        return full(mu_x), full(logw)

    def denoise(self, r_t: Tensor, mu: Tensor, mask: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """One evaluation of the score network, from any noise level.

        r_t: (B, n_latents, T_mel) residual at t; mu: (B, n_latents, T_mel); mask: (B, 1, T_mel); t: (B,) in [0, 1].
        Returns the posterior mean of r_0 given r_t, and the network's output, which the score loss is about.
        """
        c_skip, c_out, c_in = (expand(c) for c in self.sde.coefficients(t))
        with self._precision(r_t):
            output = self.decoder(c_in * r_t, mu, mask, t)
        output = full(output)
        return (c_skip * r_t + c_out * output) * mask, output

    def generate(self, z0_hat: Tensor, mask: Tensor | None = None) -> Tensor:
        """z0_hat: (B, n_latents, T_mel), mask: (B, 1, T_mel) or None. Returns wav (B, 1, T_mel hop_length)."""
        with self._precision(z0_hat):
            wav = self.generator(z0_hat, mask)
        return full(wav)

    @torch.no_grad()
    def align(self, mu_x: Tensor, z0: Tensor, x_lengths: Tensor, mel_lengths: Tensor) -> Tensor:
        """Durations (B, T_x) in frames, the path on which z0 is likeliest under N(mu, I) (Glow-TTS, equation 11)."""
        return monotonic_align.search(frame_log_likelihood(mu_x, z0), x_lengths, mel_lengths)

    # -- training

    def forward(self, batch: Batch, counts: Tensor, stage: Stage, realign: bool) -> Output:
        """One training pass.

        counts: (4,) symbols, frames, cut frames and segment frames of the global batch, divided by the number of
            processes: what masked losses divide by.
        stage: which parts train and which gradients flow.
        realign: search for the durations, else take the batch's.
        """
        n_symbols, n_frames, n_cut_frames, n_segment_frames = counts.unbind()
        training = self.config.training
        x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(batch.mel.dtype)  # (B, 1, T_x)
        mel_mask = sequence_mask(batch.mel_lengths, batch.mel.shape[2]).to(x_mask.dtype)  # (B, 1, T_mel)
        z0 = self.latent(batch.mel) * mel_mask

        mu_x, logw = self.encode(batch.x, x_mask)
        durations = self.align(mu_x, z0, batch.x_lengths, batch.mel_lengths) if realign else batch.durations
        mu = stretch(mu_x, durations, mel_mask)
        loss_duration = losses.duration_loss(logw, durations, x_mask, n_symbols)
        loss_prior = losses.prior_loss(z0, mu, mel_mask, n_frames)

        z0_cut = cut(z0, batch.cut_starts, training.cut_frames)  # (B, n_latents, cut_frames)
        mu_cut = cut(mu, batch.cut_starts, training.cut_frames)
        cut_mask = sequence_mask(batch.cut_lengths, training.cut_frames).to(x_mask.dtype)
        if not stage.mu_gradient:
            mu_cut = mu_cut.detach()  # the text encoder learns from durations and prior alone
        t = self.sde.t_from_uniform(batch.u)
        r_0 = z0_cut - mu_cut
        r_0_hat, output = self.denoise(self.sde.perturb(r_0, batch.noise, t) * cut_mask, mu_cut, cut_mask, t)
        loss_score = losses.score_loss(output, self.sde.target(r_0, batch.noise, t), cut_mask, n_cut_frames)
        out = Output({"loss_duration": loss_duration, "loss_prior": loss_prior, "loss_score": loss_score})
        if not {"generator", "discriminators"} & set(stage.parts) and stage.feature_gradient == "off":
            return out

        feature = self._let_through(mu_cut + r_0_hat, t, stage.feature_gradient)
        feature = torch.where(batch.true_latent[:, None, None], z0_cut, feature)
        out.t = torch.where(batch.true_latent, torch.zeros_like(t), t)
        segment_mask = sequence_mask(batch.segment_lengths, training.segment_frames).to(x_mask.dtype)
        feature = cut(feature, batch.segment_starts, training.segment_frames)
        out.wav = batch.wav
        out.wav_hat = self.generate(feature, None if batch.segments_full else segment_mask)
        weight = 1 / (1 + self.sde.posterior_variance(out.t) / self.config.loss.mel_blur)  # (B,)
        out.losses["loss_mel"] = losses.mel_loss(
            self.full_band(out.wav_hat), self.full_band(out.wav), weight, segment_mask, n_segment_frames
        )
        return out

    @staticmethod
    def _let_through(z0_hat: Tensor, t: Tensor, feature_gradient: str) -> Tensor:
        """z0_hat, through which the waveform's losses reach the decoder and, behind mu, the encoder: see Stage."""
        if feature_gradient == "on":
            return z0_hat
        if feature_gradient == "at_one":
            return torch.where(expand(t == 1), z0_hat, z0_hat.detach())
        return z0_hat.detach()  # the posterior mean stays one: only the score loss decides what it is

    # -- validation

    @torch.no_grad()
    def measure(self, x: Tensor, mel: Tensor, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """How well one held-out clip is known, along its own best alignment.

        x: (1, T_x) ids; mel: (1, n_mels, T_mel) natural log; generator: on the CPU, where the noise comes from.
        Returns numbers by name and durations (1, T_x) frames. score_ratio_<t> is the score loss at t over that of an
        output of 0: under 1, the network knows something that mu does not say. latent_l1 is the distance of the
        one-step z0_hat from z0, in nats of log-amplitude.
        """
        x_mask, mask = torch.ones_like(x[:, None], dtype=mel.dtype), torch.ones_like(mel[:, :1])
        z0 = self.latent(mel)
        mu_x, logw = self.encode(x, x_mask)
        durations = self.align(mu_x, z0, x_mask.sum((1, 2)), mask.sum((1, 2)))
        mu = stretch(mu_x, durations, mask)
        noise = torch.randn(z0.shape, generator=generator).to(z0.device)
        numbers = {
            "loss_prior": losses.prior_loss(z0, mu, mask, mask.sum()),
            "loss_duration": losses.duration_loss(logw, durations, x_mask, x_mask.sum()),
        }
        for time in PROBED_TIMES:
            t = torch.full((1,), time, device=z0.device)
            target = self.sde.target(z0 - mu, noise, t)
            r_0_hat, output = self.denoise(self.sde.perturb(z0 - mu, noise, t), mu, mask, t)
            numbers[f"score_ratio_{time:g}"] = ((output - target) ** 2).sum() / (target**2).sum()
            if time == 1.0:
                numbers["latent_l1"] = (mu + r_0_hat - z0).abs().mean() * self.latent_std
        return numbers, durations

    # -- speaking

    @torch.no_grad()
    def synthesise(
        self,
        x: Tensor,
        n_timesteps: int = 1,
        solver: str = "posterior",
        temperature: float = 1.0,
        length_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Synthesis:
        """Speak one text. x: (1, T_x) ids; generator: on the CPU, where the noise comes from."""
        x_mask = torch.ones_like(x[:, None], dtype=torch.float32)
        mu_x, logw = self.encode(x, x_mask)
        durations = predict_durations(logw, self.logw_variance, length_scale)
        mask = torch.ones(1, 1, int(durations.sum()), device=x.device)
        mu = stretch(mu_x, durations, mask)

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like.device)

        z0_hat = mu + self.solve(temperature * draw(mu), mu, mask, n_timesteps, solver, draw)
        return Synthesis(self.generate(z0_hat), z0_hat, mu, durations)

    def solve(self, r_1: Tensor, mu: Tensor, mask: Tensor, n_timesteps: int, solver: str, draw) -> Tensor:
        """r_1: (B, n_latents, T_mel) residual at t = 1. Returns the residual's posterior mean at the last time."""

        def mean(r_t: Tensor, t: float) -> Tensor:
            return self.denoise(r_t, mu, mask, torch.full((r_t.shape[0],), t, device=r_t.device))[0]

        return SOLVERS[solver](self.sde, mean, r_1, grid(n_timesteps), draw)


def build_discriminators(config: Config) -> Discriminators:
    """The discriminators that train against the generator."""
    return Discriminators(**asdict(config.discriminators))


def frame_log_likelihood(mu_x: Tensor, z0: Tensor) -> Tensor:
    """ln N(z0; mu_x, I) of every frame under every symbol, but for a constant of the frame.

    mu_x: (B, n_latents, T_x), z0: (B, n_latents, T_mel). Returns (B, T_x, T_mel), nats.
    """
    return mu_x.transpose(1, 2) @ z0 - 0.5 * (mu_x**2).sum(1)[:, :, None]


def stretch(mu_x: Tensor, durations: Tensor, mel_mask: Tensor) -> Tensor:
    """Each symbol's mean over its frames.

    mu_x: (B, n_latents, T_x), durations: (B, T_x) frames, which sum to the frames of mel_mask (B, 1, T_mel).
    Returns mu (B, n_latents, T_mel), masked.
    """
    frames = torch.arange(mel_mask.shape[-1], device=mu_x.device).expand(mu_x.shape[0], -1).contiguous()
    symbol = torch.searchsorted(durations.cumsum(1), frames, right=True)  # (B, T_mel)
    symbol = symbol.clamp(max=mu_x.shape[2] - 1)[:, None].expand(-1, mu_x.shape[1], -1)
    return mu_x.gather(2, symbol) * mel_mask


def predict_durations(logw: Tensor, logw_variance: Tensor, length_scale: float) -> Tensor:
    """The mean of a log-normal duration, exp(logw + v / 2), rounded so that the total is kept.

    logw: (B, 1, T_x) log-frames; logw_variance: () of the log-durations about logw. Returns (B, T_x) frames, int64;
    a symbol may get none, a text gets at least one.
    """
    durations = (logw[:, 0].double() + 0.5 * logw_variance.double()).exp() * length_scale
    ends = durations.cumsum(1).round().long()
    ends[:, -1].clamp_(min=1)
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
