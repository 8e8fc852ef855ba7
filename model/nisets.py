"""NiSETS: text encoder, alignment search, score network and vocoder, trained jointly, spoken with in one evaluation.

Non-iterative score-based end-to-end text-to-speech (ICASSP 2024). One forward pass of training reads, in `forward`,
from phonemes to a waveform; speaking reads in `synthesise`. The parts themselves are in networks.py.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_util.audio import cut, sequence_mask
from model import losses
from model.alignment import length_regulate, predict_durations
from model.networks import Networks
from model.prosody import Counts, Frames, Recorded, pitch_and_energy
from model.sde import Draw, expand, result_time
from runtime.chunking import chunks, in_samples

if TYPE_CHECKING:  # of which fields are read alone
    from data_util.config import Stage
    from data_util.dataset import Batch


@dataclass
class Output:
    """What a training step goes on with: losses by name, and the sound that the discriminators are given."""

    losses: dict[str, Tensor]
    wav: Tensor | None = None  # (B, 1, segment_samples) the recording's segment
    wav_hat: Tensor | None = None  # (B, 1, segment_samples) the generated one
    t: Tensor | None = None  # (B,) of the feature that wav_hat was generated from


@dataclass
class Encoded:
    """A text's symbols: mu_x (1, n_latents, T_x); of Prosody.sample_symbols, None without prosody, c (1, C, T_x) and
    values (1, 2, T_x), pitch and energy."""

    mu_x: Tensor
    c: Tensor | None
    values: Tensor | None


@dataclass
class Plan:
    """One text before the score network: mu (1, n_latents, T_mel), durations (1, T_x) frames, f0 (1, 2, T_mel) or None
    as of Synthesis, r_1 (1, n_latents, T_mel) the noise that it starts from; generator: where the rest comes from."""

    mu: Tensor
    durations: Tensor
    f0: Tensor | None
    r_1: Tensor
    generator: np.random.Generator


@dataclass
class Synthesis:
    """One spoken text: wav (1, 1, T_wav) in [-1, 1], z0_hat and mu (1, n_latents, T_mel), durations (1, T_x) frames,
    f0 (1, 2, T_mel) as F0 and voicing are given to the networks, None where they are not."""

    wav: Tensor
    z0_hat: Tensor
    mu: Tensor
    durations: Tensor
    f0: Tensor | None


class NiSETS(Networks):
    """The whole model but for the discriminators, which only training needs."""

    # -- training

    def forward(self, batch: "Batch", counts: Counts, stage: "Stage", realign: bool) -> Output:
        """One training pass.

        counts: of the global batch, divided by the number of processes; stage: which parts train and which gradients
        flow; realign: search for the durations, else take the batch's.
        """
        with self.speaking_as(batch.speaker):
            mel_mask = sequence_mask(batch.mel_lengths, batch.mel.shape[2]).to(batch.mel.dtype)  # (B, 1, T_mel)
            f0 = self.normalised_f0(batch.f0)
            f0 = None if f0 is None else f0 * mel_mask
            if stage.parts and set(stage.parts) <= {"prosody", "f0_residual"} and not realign:
                return Output(self._prosody_losses(batch, counts, stage, batch.durations, f0, mel_mask))
            z0 = self.latent(batch.mel) * mel_mask
            found, latents = {}, (None, None, None)
            if stage.latents == "joint":
                found, latents = self._acoustic_model(batch, counts, stage, realign, z0, f0, mel_mask)
                if not {"generator", "discriminators"} & set(stage.parts) and stage.feature_gradient == "off":
                    return Output(found)
            output = self._waveform(batch, counts, stage, z0, f0, latents)
            output.losses = found | output.losses
            return output

    def _acoustic_model(self, batch, counts, stage, realign, z0, f0, mel_mask):
        """Phonemes to posterior means: losses by name, and z0_hat and mu (B, n_latents, cut_frames) with t (B,)."""
        n_cut = self.config.training.cut_frames
        x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(mel_mask.dtype)  # (B, 1, T_x)
        mel, durations = self.normalised(batch.mel) * mel_mask, batch.durations
        values = None if f0 is None else pitch_and_energy(mel, f0, durations) * x_mask
        mu_x, logw = self.encode_text(batch.x, x_mask, values)
        if realign:
            durations = self.align(mu_x, z0, batch.x_lengths, batch.mel_lengths)
        if realign and values is not None:  # those of the path that is learnt; the batch may have none at all
            mu_x, logw = self.encode_text(batch.x, x_mask, pitch_and_energy(mel, f0, durations))
        mu = length_regulate(mu_x, durations, mel_mask)
        found = {
            "loss_duration": losses.duration_loss(logw, durations, x_mask, counts.symbols),
            "loss_prior": losses.prior_loss(z0, mu, mel_mask, counts.frames),
        }
        z0_cut, mu_cut = (cut(each, batch.cut_starts, n_cut) for each in (z0, mu))  # (B, n_latents, cut_frames)
        f0_cut = None if f0 is None else cut(f0, batch.cut_starts, n_cut)
        cut_mask = sequence_mask(batch.cut_lengths, n_cut).to(x_mask.dtype)
        if {"prosody", "f0_residual"} & set(stage.parts):
            found |= self._prosody_losses(batch, counts, stage, durations, f0, mel_mask)
        if not stage.mu_gradient:
            mu_cut = mu_cut.detach()  # the text encoder learns from durations and prior alone
        t = self.sde.t_from_uniform(batch.u)
        found["loss_score"], r_0_hat = self.denoiser.loss(
            z0_cut - mu_cut, batch.noise, t, cut_mask, counts.cut_frames, full=batch.cuts_full, mu=mu_cut, f0=f0_cut
        )
        return found, (mu_cut + r_0_hat, mu_cut, t)

    def _prosody_losses(self, batch, counts, stage, durations, f0, mel_mask):
        """Losses by name of what the text leaves open, along durations (B, T_x)."""
        x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(mel_mask.dtype)  # (B, 1, T_x)
        values = pitch_and_energy(self.normalised(batch.mel) * mel_mask, f0, durations) * x_mask
        recorded = Recorded(batch.x, x_mask, values, f0, durations, mel_mask)
        in_cut = functools.partial(cut, starts=batch.cut_starts, n_frames=self.config.training.cut_frames)
        return self.prosody.losses(stage.parts, recorded, in_cut, counts)

    def _waveform(self, batch, counts, stage, z0, f0, latents):
        """Latents to a waveform. latents: z0_hat, mu and t of _acoustic_model, or three times None."""
        (z0_hat, mu, t), found = latents, {}
        n_segment, starts = self.config.training.segment_frames, batch.cut_starts + batch.segment_starts
        z0 = cut(z0, starts, n_segment)  # (B, n_latents, segment_frames)
        f0 = None if f0 is None else cut(f0, starts, n_segment)
        if stage.latents == "joint":
            z0_hat = let_through(z0_hat, t, stage.feature_gradient)
            z0_hat, mu = (cut(each, batch.segment_starts, n_segment) for each in (z0_hat, mu.detach()))
        elif stage.latents == "gta":
            z0_hat, t = batch.latent, batch.latent_t
        else:
            z0_hat, t = z0, torch.zeros_like(batch.u)
        z0_hat = torch.where(batch.true_latent[:, None, None], z0, z0_hat)
        t = torch.where(batch.true_latent, torch.zeros_like(t), t)

        loss, mask = self.config.loss, sequence_mask(batch.segment_lengths, n_segment).to(z0.dtype)
        features = self.vocoder_features(z0_hat, t, mu, f0)
        wav_hat = self.vocode(features, None if batch.segments_full else mask, self.source(f0, recording=batch.wav))
        mel_hat, mel = self.full_band(wav_hat), self.full_band(batch.wav)
        found["loss_mel"] = losses.mel_loss(mel_hat, mel, mask, counts.segment_frames)
        if loss.stft > 0:
            found["loss_stft"] = losses.stft_loss(wav_hat, batch.wav, loss.stft_resolutions)
        if loss.phase > 0:
            found["loss_phase"] = losses.phase_loss(wav_hat, batch.wav, f0[:, 1:] * mask, self.config.audio.n_fft)
        return Output(found, batch.wav, wav_hat, t)

    # -- speaking

    @torch.no_grad()
    def synthesise(
        self,
        x: Tensor,
        n_timesteps: int = 1,
        solver: str = "posterior",
        temperature: float = 1.0,
        length_scale: float = 1.0,
        generator: np.random.Generator | None = None,
        pauses: dict[int, int] | None = None,
    ) -> Synthesis:
        """Speak one text. x: (1, T_x) ids; generator: where the noise comes from, None: a new one; pauses: frames of
        the ids whose duration is not predicted, by index."""
        return self.decode([self.plan(x, temperature, length_scale, generator, pauses)], n_timesteps, solver)[0]

    @torch.no_grad()
    def plan(
        self,
        x: Tensor,
        temperature: float = 1.0,
        length_scale: float = 1.0,
        generator: np.random.Generator | None = None,
        pauses: dict[int, int] | None = None,
    ) -> Plan:
        """All that comes before the score network, of one text; arguments as of synthesise."""
        generator = np.random.default_rng() if generator is None else generator

        def draw(like: Tensor) -> Tensor:
            return drawn(generator, like.shape).to(like.device)

        encoded, durations = self.encode(x, length_scale, draw)
        for index, n_frames in (pauses or {}).items():
            durations[0, index] = n_frames
        mask = torch.ones(1, 1, int(durations.sum()), device=x.device)
        mu, f0 = self.expand(encoded, durations, mask, draw)
        return Plan(mu, durations, f0, temperature * draw(mu), generator)

    def encode(self, x: Tensor, length_scale: float | Tensor, draw: Draw) -> tuple[Encoded, Tensor]:
        """A text's symbols and their durations (1, T_x) in frames. x: (1, T_x) ids."""
        x_mask, c, values = torch.ones_like(x[:, None], dtype=torch.float32), None, None
        if self.prosody is not None:
            c, values = self.prosody.sample_symbols(x, x_mask, draw)
        mu_x, logw = self.encode_text(x, x_mask, values)
        # the pauses that no text announces are spread over it, so that speech has the length that it was recorded with
        durations = predict_durations(logw, self.logw_variance, length_scale * self.pause_scale.double())
        return Encoded(mu_x, c, values), durations

    def expand(self, encoded: Encoded, durations: Tensor, mask: Tensor, draw: Draw) -> tuple[Tensor, Tensor | None]:
        """A text's frames: mu (1, n_latents, T_mel), f0 (1, 2, T_mel) as of Synthesis, or None. mask: (1, 1, T_mel), as
        many ones as durations (1, T_x) sum to."""
        f0 = None
        if self.prosody is not None:
            assert encoded.c is not None and encoded.values is not None  # made where there is prosody
            frames = Frames.along(encoded.c, encoded.values, durations, mask)
            f0 = self.prosody.sample_frames(frames, draw)
        return length_regulate(encoded.mu_x, durations, mask), f0

    @torch.no_grad()
    def decode(self, plans: list[Plan], n_timesteps: int = 1, solver: str = "posterior") -> list[Synthesis]:
        """Speak several texts at once; one by one they sound the same, to the rounding of float32."""
        z0_hat, mask, features, source = self._vocoder_inputs(plans, n_timesteps, solver)
        wav, hop_length = self.vocode(features, mask, source), self.config.audio.hop_length
        spoken = []
        for b, plan in enumerate(plans):
            n = plan.mu.shape[-1]
            wav_b, z0_hat_b = wav[b : b + 1, :, : n * hop_length], z0_hat[b : b + 1, :, :n]
            spoken.append(Synthesis(wav_b, z0_hat_b, plan.mu, plan.durations, plan.f0))
        return spoken

    @torch.no_grad()
    def stream(self, plan: Plan, n_timesteps: int = 1, solver: str = "posterior") -> Iterator[Tensor]:
        """decode's wav of one text as it is made, (1, 1, n) each, to the rounding of float32.

        The vocoder makes some frames at a time, and reads as many beside them as reach their samples.
        """
        _, _, features, source = self._vocoder_inputs([plan], n_timesteps, solver)
        source = None if source is None else self.generator.with_phase(source)
        hop_length = self.config.audio.hop_length
        for read, kept in chunks(features.shape[-1], self.generator.reach):
            part = None if source is None else source.part(read, in_samples(read, hop_length))
            yield self.vocode(features[..., read], None, part, kept)

    def _vocoder_inputs(self, plans, n_timesteps, solver):
        """Of texts side by side: z0_hat, the mask, None where all are equally long, the features and the source."""
        lengths, hop_length = [plan.mu.shape[-1] for plan in plans], self.config.audio.hop_length
        longest = max(lengths)
        valid = sequence_mask(torch.tensor(lengths, device=plans[0].mu.device), longest).to(plans[0].mu.dtype)
        mask = None if min(lengths) == longest else valid  # (B, 1, T_mel)
        mu, r_1 = (pad_batch([getattr(plan, name) for plan in plans], longest) for name in ("mu", "r_1"))
        contours = [plan.f0 for plan in plans if plan.f0 is not None]  # of all or of none
        f0 = pad_batch(contours, longest) if contours else None

        def draw(like: Tensor, samples_a_frame: int = 1) -> Tensor:
            noise = [drawn(plan.generator, (1, like.shape[1], samples_a_frame * n)) for plan, n in zip(plans, lengths)]
            return pad_batch(noise, samples_a_frame * longest).to(like.device)

        z0_hat = mu + self.denoiser.sample(r_1, n_timesteps, solver, mask, draw, mu=mu, f0=f0)
        t = torch.full((len(plans),), result_time(solver, n_timesteps), device=mu.device)
        noise = draw(mu[:, :1], hop_length) if self.generator.needs_source else None
        return z0_hat, mask, self.vocoder_features(z0_hat, t, mu, f0), self.source(f0, noise)


def let_through(z0_hat: Tensor, t: Tensor, feature_gradient: str) -> Tensor:
    """z0_hat, through which the waveform's losses reach the decoder and, behind mu, the text encoder (config.yaml)."""
    if feature_gradient == "on":
        return z0_hat
    if feature_gradient == "at_one":
        return torch.where(expand(t == 1), z0_hat, z0_hat.detach())
    return z0_hat.detach()  # the posterior mean stays one: only the score loss decides what it is


def drawn(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, float32 on the CPU: what is drawn in parts is what is drawn at once."""
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def pad_batch(items: list[Tensor], length: int) -> Tensor:
    """items: (1, C, T) each. Returns (B, C, length), each item followed by zeros."""
    return torch.cat([F.pad(item, (0, length - item.shape[-1])) for item in items])
