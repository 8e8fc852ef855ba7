"""NiSETS: text encoder, alignment search, score network and generator, trained jointly, spoken with in one evaluation.

Non-iterative score-based end-to-end text-to-speech (ICASSP 2024). One forward pass of training reads, in `forward`,
from phonemes to a waveform; speaking reads in `synthesise`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_util.audio import MelSpectrogram, cut, sequence_mask
from data_util.config import Config, Stage
from data_util.dataset import Batch
from data_util.speech import chunks, in_samples
from model import losses, monotonic_align
from model.convnext import ConvNeXtGenerator, ConvNeXtScore
from model.discriminator import Discriminators
from model.hifigan import HiFiGAN, ISTFTNet
from model.latent import Compression
from model.layers import SpeakerEmbedding, TimeEmbedding, full, masked
from model.sde import SDE, SOLVERS, default_solver, expand, result_time, solver_times
from model.text_encoder import N_PLACES, FrameEncoder, TextEncoder, places
from model.unet import UNet
from model.variance import COURSE_STD, N_VALUES, Course, Variance, continuous, symbol_values
from text.symbols import MARK_SIZES

PROBED_TIMES = (1.0, 0.5, 0.2)  # where validation measures the score network
PROBED_DRAWS = 16  # of t and noise, from which validation measures the networks of the variance part
T_CHANNELS = 16  # of the embedding of t as an input of the generator


@dataclass
class Output:
    """What a training step goes on with: losses by name, and the sound that the discriminators are to judge."""

    losses: dict[str, Tensor]
    wav: Tensor | None = None  # (B, 1, segment_samples) the recording's segment
    wav_hat: Tensor | None = None  # (B, 1, segment_samples) the generated one
    t: Tensor | None = None  # (B,) of the feature that wav_hat was generated from


@dataclass
class Synthesis:
    """One spoken text: wav (1, 1, T_wav) in [-1, 1], z0_hat and mu (1, n_latents, T_mel), durations (1, T_x) frames,
    f0 (1, 2, T_mel) as F0 and voicing are given to the networks, None where they are not."""

    wav: Tensor
    z0_hat: Tensor
    mu: Tensor
    durations: Tensor
    f0: Tensor | None


@dataclass
class Plan:
    """One text before the score network: mu (1, n_latents, T_mel), durations (1, T_x) frames, f0 (1, 2, T_mel) or None
    as of Synthesis, r_1 (1, n_latents, T_mel) the noise that it starts from; generator: where the rest comes from."""

    mu: Tensor
    durations: Tensor
    f0: Tensor | None
    r_1: Tensor
    generator: np.random.Generator


class NiSETS(nn.Module):
    """The whole model but for the discriminators, which only training needs.

    config: sizes and switches; n_symbols: length of the symbol list that ids count in; amp: networks run in bfloat16,
    while SDE, alignment, losses and STFT stay in float32.
    """

    def __init__(self, config: Config, n_symbols: int, amp: bool = False):
        super().__init__()
        self.config, self.amp = config, amp
        n_latents, kind, latent = config.n_latents, config.variance.kind, config.latent.kind
        self.compression = None if latent == "normalised" else Compression(latent, config.audio.n_mels, n_latents)
        self.sde = SDE(**asdict(config.sde))
        self.variance_sde = replace(self.sde, sigma_data=1.0, parametrisation="edm")  # of what is normalised
        self.mark_sizes = MARK_SIZES if config.text.units == "phones" else ()
        self.text_encoder, self.frame_encoder = self._build_encoders(n_symbols)
        self.variance, self.course = self._build_variance(n_symbols)
        if config.decoder.kind == "convnext1d":
            n_conditions = N_VALUES if kind == "frame" else 0
            self.decoder = ConvNeXtScore(
                n_latents, n_conditions, **asdict(config.convnext1d), n_speakers=config.n_speakers
            )
        else:
            self.decoder = UNet(**asdict(config.unet2d), n_speakers=config.n_speakers)
        sizes = {"z0_hat": n_latents, "mu": n_latents, "f0": N_VALUES, "t": T_CHANNELS}
        self.generator = self._build_generator(sum(sizes[name] for name in config.generator.inputs))
        self.t_embedding = TimeEmbedding(T_CHANNELS)
        audio = asdict(config.audio)
        self.features = MelSpectrogram(**audio)
        self.full_band = MelSpectrogram(**{**audio, "f_max": config.audio.sample_rate / 2})
        self.register_buffer("latent_mean", torch.zeros(()))
        self.register_buffer("latent_std", torch.ones(()))
        self.register_buffer("logw_variance", torch.zeros(()))  # of log-durations about logw, running
        self.register_buffer("pause_scale", torch.ones(()))  # length over that of the symbols which a text gives
        self.register_buffer("f0_mean", torch.zeros(()))  # of ln F0, voiced frames
        self.register_buffer("f0_std", torch.ones(()))

    def _build_encoders(self, n_symbols: int) -> tuple[TextEncoder, FrameEncoder | None]:
        config, kind = self.config, self.config.variance.kind
        sizes = asdict(config.text_encoder)
        n_layers, hidden, kernel = (sizes.pop(f"frame_{name}") for name in ("layers", "hidden_channels", "kernel"))
        encoder = TextEncoder(
            n_symbols,
            config.n_latents,
            mark_sizes=self.mark_sizes,
            condition_channels=0 if kind == "off" else N_VALUES,
            **sizes,
            n_speakers=config.n_speakers,
        )
        if n_layers == 0:
            return encoder, None
        n_conditions = N_VALUES if kind == "frame" else 0
        frames = FrameEncoder(config.text_encoder.channels, n_conditions, config.n_latents, n_layers, hidden, kernel)
        return encoder, frames

    def _build_variance(self, n_symbols: int) -> tuple[Variance | None, Course | None]:
        variance = self.config.variance
        if variance.kind == "off":
            return None, None
        sizes = {name: getattr(variance, name) for name in ("channels", "hidden_channels", "kernel", "dropout")}
        course_sizes = sizes | {"n_layers": variance.course_layers, "n_places": N_PLACES}
        sizes |= {"n_layers": variance.n_layers, "frame_layers": variance.frame_layers}
        n_places = N_PLACES if variance.kind == "frame" else 0
        made = Variance(n_symbols, self.mark_sizes, n_places, **sizes, n_speakers=self.config.n_speakers)
        return made, Course(**course_sizes) if variance.course_layers else None

    def _build_generator(self, n_inputs: int) -> nn.Module:
        config, audio = self.config, self.config.audio
        if config.generator.kind == "convnext":
            rates = {"hop_length": audio.hop_length, "sample_rate": audio.sample_rate}
            return ConvNeXtGenerator(n_inputs, **asdict(config.convnext), **rates, n_speakers=config.n_speakers)
        if config.generator.kind == "istft":
            return ISTFTNet(n_inputs, **asdict(config.istft), n_speakers=config.n_speakers)
        return HiFiGAN(n_inputs, **asdict(config.hifigan), n_speakers=config.n_speakers)

    def parts(self) -> dict[str, list[nn.Module]]:
        """The networks of each part that can be named in training.stages."""
        encoders = [self.text_encoder] if self.frame_encoder is None else [self.text_encoder, self.frame_encoder]
        optional = {name: getattr(self, name) for name in ("variance", "course")}
        optional = {name: [part] for name, part in optional.items() if part is not None}
        return {"text_encoder": encoders, **optional, "decoder": [self.decoder], "generator": [self.generator]}

    def part_of(self, name: str) -> str:
        """The part that an entry of the state dict belongs to; "" for those of the corpus."""
        network = name.split(".", maxsplit=1)[0]
        owners = {"frame_encoder": "text_encoder", "logw_variance": "text_encoder"}
        network = owners.get(network, network)
        return network if network in self.parts() else ""

    @contextlib.contextmanager
    def speaking_as(self, speaker: Tensor | int) -> Iterator[None]:
        """Inside the with statement, every part speaks as these speakers: (B,) ids of a batch, or one id for all.

        One thread at a time. A model of one speaker does the same without it.
        """
        parts = [part for part in self.modules() if isinstance(part, SpeakerEmbedding)]
        before = [part.chosen for part in parts]
        chosen = torch.as_tensor(speaker, device=self.latent_mean.device).reshape(-1) if parts else None
        for part in parts:
            part.chosen = chosen
        try:
            yield
        finally:
            for part, chosen in zip(parts, before):
                part.chosen = chosen

    # -- features and latents

    def latent(self, mel: Tensor) -> Tensor:
        """mel: (B, n_mels, T_mel) natural log of amplitude. Returns z0 (B, n_latents, T_mel) of unit variance."""
        normalised = self.normalised(mel)
        return normalised if self.compression is None else self.compression(normalised)

    def normalised(self, mel: Tensor) -> Tensor:
        """mel: (B, n_mels, T_mel) natural log of amplitude. Returns it by the corpus's one mean and deviation."""
        return (mel - self.latent_mean) / self.latent_std

    def mel(self, z0: Tensor) -> Tensor:
        """The log-mel (B, n_mels, T_mel) that a latent (B, n_latents, T_mel) stands for: the reverse of latent, as far
        as the latent has kept it."""
        normalised = z0 if self.compression is None else self.compression.expand(z0)
        return normalised * self.latent_std + self.latent_mean

    def conditions(self, f0: Tensor) -> Tensor | None:
        """f0: (B, 2, T_mel), ln of F0 in Hz and voicing. Returns it as the networks read it: normalised, and voicing;
        None where they read none."""
        if self.config.variance.kind == "off":
            return None
        return torch.cat([(f0[:, :1] - self.f0_mean) / self.f0_std, f0[:, 1:]], dim=1)

    def values(self, mel: Tensor, f0: Tensor, durations: Tensor) -> Tensor:
        """Pitch, the mean of normalised ln F0 over a symbol's voiced frames, and energy, that of the log-mel.

        mel: (B, n_mels, T_mel) from normalised(), f0: (B, 2, T_mel) from conditions(), durations: (B, T_x).
        Returns (B, 2, T_x).
        """
        energy = mel.mean(1, keepdim=True)  # over the bands
        weights = torch.cat([f0[:, 1:], torch.ones_like(energy)], dim=1)
        return symbol_values(torch.cat([f0[:, :1], energy], dim=1), weights, durations)

    # -- the networks, each in the precision it was asked to run in, giving full precision

    def _precision(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp)

    def encode(self, x: Tensor, x_mask: Tensor, values: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x), values: (B, 2, T_x) pitch and energy, or None.

        Returns mu_x (B, n_latents, T_x), logw (B, 1, T_x) log-frames and the features h (B, C, T_x) behind mu_x.
        """
        with self._precision(x):
            mu_x, logw, h = self.text_encoder(x, x_mask, values)
        return full(mu_x), full(logw), h

    def refine(self, mu: Tensor, h: Tensor, place: Tensor, mask: Tensor, f0: Tensor | None) -> Tensor:
        """mu as it moves within each symbol. mu: (B, n_latents, T_mel), h: (B, C, T_mel), place: (B, n, T_mel)."""
        if self.frame_encoder is None:
            return mu
        with self._precision(mu):
            delta = self.frame_encoder(h, place, mask, f0 if self.config.variance.kind == "frame" else None)
        return mu + full(delta)

    def denoise(
        self, r_t: Tensor, mu: Tensor, mask: Tensor | None, t: Tensor, f0: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One evaluation of the score network, from any noise level.

        r_t: (B, n_latents, T_mel) residual at t; mu: (B, n_latents, T_mel); mask: (B, 1, T_mel), or None where every
        frame is valid, which is faster; t: (B,) in [0, 1]; f0: (B, 2, T_mel) from conditions().
        Returns the posterior mean of r_0 given r_t, and the network's output, which the score loss is about.
        """
        c_skip, c_out, c_in = (expand(c) for c in self.sde.coefficients(t))
        with self._precision(r_t):
            if isinstance(self.decoder, ConvNeXtScore):
                output = self.decoder(c_in * r_t, mu, mask, t, f0 if self.config.variance.kind == "frame" else None)
            else:
                output = self.decoder(c_in * r_t, mu, mask, t)
        output = full(output)
        return masked(c_skip * r_t + c_out * output, mask), output

    def denoise_values(self, r_t: Tensor, c: Tensor, x_mask: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """denoise for pitch and energy, whose mean is 0. r_t: (B, 2, T_x), c: (B, C, T_x) from variance.encode."""
        c_skip, c_out, c_in = (expand(each) for each in self.variance_sde.coefficients(t))
        with self._precision(r_t):
            output = self.variance(c_in * r_t, c, x_mask, t)
        output = full(output)
        return (c_skip * r_t + c_out * output) * x_mask, output

    def mean_contour(
        self, c: Tensor, values: Tensor, place: Tensor, mask: Tensor, voiced: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """F0's mean in each frame, going on without voice as recordings' does, and what its course about that depends
        on, the last channel of which is the voicing; neither teaches the mean.

        c, values, place, mask: as of variance.contour; voiced: (B, 1, T_mel) bool; None: as that has it.
        """
        with self._precision(values), torch.no_grad():
            mean, logit = self.variance.contour(c, values, place, mask)
        voiced = full(logit) > 0 if voiced is None else voiced
        mean = continuous(full(mean), voiced) * mask
        return mean, torch.cat([c.detach(), values, place, mean, voiced.to(mean.dtype)], dim=1)

    def denoise_course(self, r_t: Tensor, condition: Tensor, mask: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """denoise for F0 about its mean, in COURSE_STD. r_t: (B, 1, T_mel), condition: from mean_contour, whose last
        channel is the voicing: where there is none nothing is taught, and so nothing read."""
        c_skip, c_out, c_in = (expand(each) for each in self.variance_sde.coefficients(t))
        with self._precision(r_t):
            output = self.course(c_in * r_t * condition[:, -1:], condition, mask, t)
        output = full(output)
        return (c_skip * r_t + c_out * output) * mask, output

    def generate(
        self,
        z0_hat: Tensor,
        mask: Tensor | None = None,
        *,
        mu: Tensor | None = None,
        f0: Tensor | None = None,
        t: Tensor | None = None,
        noise: Tensor | None = None,
        recording: Tensor | None = None,
        phase: Tensor | None = None,
    ) -> Tensor:
        """z0_hat: (B, n_latents, T_mel), mask: (B, 1, T_mel) or None. Returns wav (B, 1, T_mel hop_length).

        What generator.inputs or the generator's head does not ask for may be missing: mu like z0_hat, f0: (B, 2, T_mel)
        from conditions(), t: (B,) of z0_hat, by default 0; noise: (B, 1, T_mel hop_length) standard normal, by default
        drawn; recording: (B, 1, T_mel hop_length), with which head "source" keeps step, by default F0 alone; phase: of
        phase() where these are frames of a longer text.
        """
        t = z0_hat.new_zeros(z0_hat.shape[0]) if t is None else t
        given = {"z0_hat": z0_hat, "mu": mu, "f0": f0}
        if "t" in self.config.generator.inputs:
            given["t"] = self.t_embedding(t)[:, :, None].expand(-1, -1, z0_hat.shape[-1])
        inputs = torch.cat([given[name] for name in self.config.generator.inputs], dim=1)
        source = {}
        if self.config.has_source:
            source = {"f0": self.hertz(f0), "voicing": f0[:, 1:], "noise": noise, "recording": recording,
                      "phase": phase}  # fmt: skip
        with self._precision(z0_hat):
            wav = self.generator(inputs, mask, **source)
        return full(wav)

    def hertz(self, f0: Tensor) -> Tensor:
        """f0: (B, 2, T_mel) from conditions(). Returns F0 in Hz (B, 1, T_mel)."""
        return (f0[:, :1] * self.f0_std + self.f0_mean).exp()

    def phase(self, f0: Tensor | None) -> Tensor | None:
        """What generate has to be told of a text's frames to make some of them alone: (B, 1, T_mel), None for nothing.

        f0: (B, 2, T_mel) from conditions(), of the whole text.
        """
        return self.generator.excitation.phase(self.hertz(f0), f0[:, 1:]) if self.config.has_source else None

    @torch.no_grad()
    def align(
        self,
        mu_x: Tensor,
        z0: Tensor,
        x_lengths: Tensor,
        mel_lengths: Tensor,
        prior_scale: float = 0.0,
        noise: float = 0.0,
    ) -> Tensor:
        """Durations (B, T_x) in frames, the path on which z0 is likeliest under N(mu, I) (Glow-TTS, equation 11).

        prior_scale: over 0: of a diagonal_prior that is added; noise: over 0: on the scores, in their deviations.
        """
        scores = frame_log_likelihood(mu_x, z0)
        if prior_scale > 0:
            scores = scores + monotonic_align.diagonal_prior(x_lengths, mel_lengths, prior_scale, *scores.shape[1:])
        if noise > 0:
            scores = scores + noise * spread(scores, x_lengths, mel_lengths) * torch.randn_like(scores)
        # where numbers are not finite any path will do: the losses along it are not either, and the step is skipped
        scores = scores.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        return monotonic_align.search(scores, x_lengths, mel_lengths)

    @torch.no_grad()
    def realign(
        self, x: Tensor, x_lengths: Tensor, mel: Tensor, mel_lengths: Tensor, f0: Tensor, durations: Tensor
    ) -> Tensor:
        """Durations (B, T_x) in frames of whole clips, as a training step would search for them, but without noise.

        x: (B, T_x) ids; mel: (B, n_mels, T_mel) natural log; f0: (B, 2, T_mel) ln of Hz and voicing, empty where
        nothing reads it; durations: (B, T_x) of before, along which pitch and energy are read.
        """
        x_mask, mel_mask = (sequence_mask(n, each.shape[-1]).to(mel.dtype) for n, each in
                            ((x_lengths, x), (mel_lengths, mel)))  # fmt: skip
        f0, values = self.conditions(f0), None
        if f0 is not None:
            values = self.values(self.normalised(mel) * mel_mask, f0 * mel_mask, durations) * x_mask
        mu_x, _, _ = self.encode(x, x_mask, values)
        lengths, prior_scale = (x_lengths, mel_lengths), self.config.alignment.prior_scale
        return self.align(mu_x, self.latent(mel) * mel_mask, *lengths, prior_scale)

    # -- training

    def forward(self, batch: Batch, counts: Tensor, stage: Stage, realign: bool, search_noise: float = 0.0) -> Output:
        """One training pass.

        counts: (4,) symbols, frames, cut frames and segment frames of the global batch, divided by the number of
            processes: what masked losses divide by.
        stage: which parts train and which gradients flow.
        realign: search for the durations, else take the batch's; search_noise: on its scores, in their deviations.
        """
        with self.speaking_as(batch.speaker):
            return self._forward(batch, counts, stage, realign, search_noise)

    def _forward(self, batch: Batch, counts: Tensor, stage: Stage, realign: bool, search_noise: float) -> Output:
        training = self.config.training
        mel_mask = sequence_mask(batch.mel_lengths, batch.mel.shape[2]).to(batch.mel.dtype)  # (B, 1, T_mel)
        z0 = self.latent(batch.mel) * mel_mask
        f0 = self.conditions(batch.f0)
        f0 = None if f0 is None else f0 * mel_mask
        starts = batch.cut_starts + batch.segment_starts
        z0_segment = cut(z0, starts, training.segment_frames)  # (B, n_latents, segment_frames)
        f0_segment = None if f0 is None else cut(f0, starts, training.segment_frames)
        out, mu = Output({}), None
        if stage.parts and set(stage.parts) <= {"variance", "course"} and not realign:  # nothing else has to be known
            self._variance_side(out, batch, counts, stage, batch.durations, f0, mel_mask)
            return out
        if stage.latents == "joint":
            z0_hat, mu, t = self._text_side(out, batch, counts, stage, realign, search_noise, z0, f0, mel_mask)
            if not {"generator", "discriminators"} & set(stage.parts) and stage.feature_gradient == "off":
                return out
            feature = self._let_through(z0_hat, t, stage.feature_gradient)
            feature = cut(feature, batch.segment_starts, training.segment_frames)
            mu = cut(mu.detach(), batch.segment_starts, training.segment_frames)  # as an input it is a fact
        elif stage.latents == "means":
            feature, t = batch.latent, batch.latent_t
        else:
            feature, t = z0_segment, torch.zeros_like(batch.u)
        feature = torch.where(batch.true_latent[:, None, None], z0_segment, feature)
        out.t = torch.where(batch.true_latent, torch.zeros_like(t), t)
        self._sound_side(out, batch, counts, feature, mu, f0_segment)
        return out

    def _text_side(
        self,
        out: Output,
        batch: Batch,
        counts: Tensor,
        stage: Stage,
        realign: bool,
        search_noise: float,
        z0: Tensor,
        f0: Tensor | None,
        mel_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Phonemes to posterior means: z0_hat and mu (B, n_latents, cut_frames), t (B,); its losses go into out."""
        n_symbols, n_frames, n_cut_frames, _ = counts.unbind()
        n_cut = self.config.training.cut_frames
        x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(mel_mask.dtype)  # (B, 1, T_x)
        mel, durations = self.normalised(batch.mel) * mel_mask, batch.durations
        values = None if f0 is None else self.values(mel, f0, durations) * x_mask
        mu_x, logw, h = self.encode(batch.x, x_mask, values)
        if realign:
            lengths, prior_scale = (batch.x_lengths, batch.mel_lengths), self.config.alignment.prior_scale
            durations = self.align(mu_x, z0, *lengths, prior_scale, search_noise)
        if realign and values is not None:  # those of the path that is learnt; the batch may have none at all
            values = self.values(mel, f0, durations)
            mu_x, logw, h = self.encode(batch.x, x_mask, values)
        mu = stretch(mu_x, durations, mel_mask)
        out.losses["loss_duration"] = losses.duration_loss(logw, durations, x_mask, n_symbols)
        out.losses["loss_prior"] = losses.prior_loss(z0, mu, mel_mask, n_frames)

        z0_cut = cut(z0, batch.cut_starts, n_cut)  # (B, n_latents, cut_frames)
        mu_cut = cut(mu, batch.cut_starts, n_cut)
        f0_cut = None if f0 is None else cut(f0, batch.cut_starts, n_cut)
        cut_mask = sequence_mask(batch.cut_lengths, n_cut).to(x_mask.dtype)
        if self.frame_encoder is not None:
            place = cut(places(durations, mel_mask), batch.cut_starts, n_cut)
            h_cut = cut(stretch(h, durations, mel_mask), batch.cut_starts, n_cut)
            mu_cut = self.refine(mu_cut, h_cut, place, cut_mask, f0_cut)
            out.losses["loss_frame"] = losses.prior_loss(z0_cut, mu_cut, cut_mask, n_cut_frames)
        self._variance_side(out, batch, counts, stage, durations, f0, mel_mask)
        if not stage.mu_gradient:
            mu_cut = mu_cut.detach()  # the text encoder learns from durations and prior alone
        t = self.sde.t_from_uniform(batch.u)
        r_0 = z0_cut - mu_cut
        r_t, denoised_mask = self.sde.perturb(r_0, batch.noise, t) * cut_mask, None if batch.cuts_full else cut_mask
        r_0_hat, output = self.denoise(r_t, mu_cut, denoised_mask, t, f0_cut)
        target = self.sde.target(r_0, batch.noise, t)
        out.losses["loss_score"] = losses.score_loss(output, target, cut_mask, n_cut_frames)
        return mu_cut + r_0_hat, mu_cut, t

    def _variance_side(
        self,
        out: Output,
        batch: Batch,
        counts: Tensor,
        stage: Stage,
        durations: Tensor,
        f0: Tensor | None,
        mel_mask: Tensor,
    ) -> None:
        """What the text leaves open, of recordings along durations (B, T_x): its losses go into out."""
        if not {"variance", "course"} & set(stage.parts):
            return
        n_symbols, n_frames, n_cut_frames, _ = counts.unbind()
        x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(mel_mask.dtype)  # (B, 1, T_x)
        values = self.values(self.normalised(batch.mel) * mel_mask, f0, durations) * x_mask
        c, place = self.variance.encode(batch.x, x_mask), places(durations, mel_mask)
        given = (f0, *(stretch(each, durations, mel_mask) for each in (c, values)), place)  # of whole clips
        if "variance" in stage.parts:
            u, noise, n_cut = torch.rand_like(batch.u), torch.randn_like(values), self.config.training.cut_frames
            out.losses |= self._values_loss(values, c, x_mask, u, noise, n_symbols)
            in_cut = (cut(each, batch.cut_starts, n_cut) for each in (*given, mel_mask))
            out.losses |= self._contour_losses(*in_cut, n_cut_frames)
        if "course" in stage.parts:
            u, noise = torch.rand_like(batch.u), torch.randn_like(mel_mask)
            out.losses["loss_course"] = self._course_loss(*given, mel_mask, u, noise, n_frames)

    def _values_loss(
        self, values: Tensor, c: Tensor, x_mask: Tensor, u: Tensor, noise: Tensor, n_symbols: Tensor
    ) -> dict[str, Tensor]:
        """The score loss of pitch and energy. u: (B,) in [0, 1) for t; noise: (B, 2, T_x) standard normal."""
        t = self.variance_sde.t_from_uniform(u)
        _, output = self.denoise_values(self.variance_sde.perturb(values, noise, t) * x_mask, c, x_mask, t)
        target = self.variance_sde.target(values, noise, t)
        return {"loss_variance": losses.score_loss(output, target, x_mask, n_symbols)}

    def _contour_losses(
        self, f0: Tensor, c: Tensor, values: Tensor, place: Tensor, mask: Tensor, n_frames: Tensor
    ) -> dict[str, Tensor]:
        """Squared error of F0 where there is voice, and the cross-entropy of voicing; all (B, ..., T) of frames."""
        if self.config.variance.kind != "frame":
            return {}
        with self._precision(values):
            f0_hat, logit = self.variance.contour(c, values, place, mask)
        voiced = f0[:, 1:]
        cross_entropy = F.binary_cross_entropy_with_logits(full(logit), voiced, reduction="none")
        return {
            "loss_f0": ((full(f0_hat) - f0[:, :1]) ** 2 * voiced * mask).sum() / n_frames,
            "loss_voicing": (cross_entropy * mask).sum() / n_frames,
        }

    def _course_loss(
        self,
        f0: Tensor,
        c: Tensor,
        values: Tensor,
        place: Tensor,
        mask: Tensor,
        u: Tensor,
        noise: Tensor,
        n_frames: Tensor,
    ) -> Tensor:
        """The score loss of F0 about its mean, where there is voice. u: (B,) in [0, 1) for t; noise: (B, 1, T)."""
        voiced = f0[:, 1:] * mask
        mean, condition = self.mean_contour(c, values, place, mask, voiced > 0)
        r_0, t = (f0[:, :1] - mean) / COURSE_STD * mask, self.variance_sde.t_from_uniform(u)
        _, output = self.denoise_course(self.variance_sde.perturb(r_0, noise, t) * mask, condition, mask, t)
        return losses.score_loss(output, self.variance_sde.target(r_0, noise, t), voiced, n_frames)

    def _sound_side(
        self, out: Output, batch: Batch, counts: Tensor, feature: Tensor, mu: Tensor | None, f0: Tensor | None
    ) -> None:
        """Latents to a waveform; feature, mu: (B, n_latents, segment_frames), f0: (B, 2, segment_frames)."""
        loss, n_segment_frames = self.config.loss, counts[3]
        mask = sequence_mask(batch.segment_lengths, self.config.training.segment_frames).to(feature.dtype)
        out.wav = batch.wav
        valid = None if batch.segments_full else mask
        out.wav_hat = self.generate(feature, valid, mu=mu, f0=f0, t=out.t, recording=out.wav)
        weight = self.mel_weight(out.t)
        mel_hat, mel = self.full_band(out.wav_hat), self.full_band(out.wav)
        out.losses["loss_mel"] = losses.mel_loss(mel_hat, mel, weight, mask, n_segment_frames)
        if loss.stft > 0:
            out.losses["loss_stft"] = losses.stft_loss(out.wav_hat, out.wav, loss.stft_resolutions, weight)
        if loss.phase > 0:
            voiced = f0[:, 1:] * mask
            out.losses["loss_phase"] = losses.phase_loss(out.wav_hat, out.wav, voiced, self.config.audio.n_fft)

    def mel_weight(self, t: Tensor) -> Tensor:
        """What loss.mel is multiplied by, (B,) at most 1: less where a posterior mean is blurred, as no ear would have
        it. t: (B,)."""
        blur = self.config.loss.mel_blur
        return torch.ones_like(t) if blur == 0 else 1 / (1 + self.sde.posterior_variance(t) / blur)

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
    def measure(
        self, x: Tensor, mel: Tensor, f0: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """How well the text side knows one held-out clip, along its own best alignment.

        x: (1, T_x) ids; mel: (1, n_mels, T_mel) natural log; f0: (1, 2, T_mel) ln of Hz and voicing, empty where
        nothing reads it; generator: on the CPU, where the noise comes from.
        Returns numbers by name and durations (1, T_x) frames. score_ratio_<t> is the squared error of z0_hat at t over
        that of an output of 0 under EDM, whatever the parametrisation: under 1, the network knows something that mu
        does not say. latent_l1 is the distance of the log-mel of the one-step z0_hat from the clip's, in nats;
        duration_ratio the length that it would be spoken in, by its own.
        """
        x_mask, mask = torch.ones_like(x[:, None], dtype=mel.dtype), torch.ones_like(mel[:, :1])
        z0, f0 = self.latent(mel), self.conditions(f0)
        durations, values, (mu_x, logw, h) = self._align_held_out(x, x_mask, mel, f0, mask)
        place, coarse, mu = self._along(durations, mu_x, h, mask, f0)
        noise = torch.randn(z0.shape, generator=generator).to(z0.device)
        numbers = {
            "loss_prior": losses.prior_loss(z0, coarse, mask, mask.sum()),
            "loss_duration": losses.duration_loss(logw, durations, x_mask, x_mask.sum()),
            "duration_ratio": predict_durations(logw, self.logw_variance, self.pause_scale.item()).sum() / mask.sum(),
        }
        if self.frame_encoder is not None:
            numbers["loss_frame"] = losses.prior_loss(z0, mu, mask, mask.sum())
        if self.variance is not None:
            numbers |= self._measure_variance(x, x_mask, values, f0, durations, place, mask, generator)
        r_0, edm = z0 - mu, replace(self.sde, parametrisation="edm")
        for time in PROBED_TIMES:
            t = torch.full((1,), time, device=z0.device)
            r_t = self.sde.perturb(r_0, noise, t)
            r_0_hat, _ = self.denoise(r_t, mu, mask, t, f0)
            least = expand(edm.coefficients(t)[0]) * r_t  # what is known of r_0 without a network
            numbers[f"score_ratio_{time:g}"] = ((r_0_hat - r_0) ** 2).sum() / ((least - r_0) ** 2).sum()
            if time == 1.0:
                numbers["latent_l1"] = (self.mel(mu + r_0_hat) - mel).abs().mean()
        return numbers, durations

    @torch.no_grad()
    def copy_latent(
        self, x: Tensor, mel: Tensor, f0: Tensor, n_timesteps: int, solver: str, generator: torch.Generator
    ) -> Tensor:
        """What a solver makes of a clip's text along the clip's own best alignment: its log-mel (1, n_mels, T_mel).

        x, mel, f0, generator: as of measure.
        """
        x_mask, mask = torch.ones_like(x[:, None], dtype=mel.dtype), torch.ones_like(mel[:, :1])
        f0 = self.conditions(f0)
        durations, _, (mu_x, _, h) = self._align_held_out(x, x_mask, mel, f0, mask)
        _, _, mu = self._along(durations, mu_x, h, mask, f0)

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like.device)

        return self.mel(mu + self.solve(draw(mu), mu, mask, n_timesteps, solver, draw, f0))

    def _along(
        self, durations: Tensor, mu_x: Tensor, h: Tensor, mask: Tensor, f0: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """place, mu as it is of each symbol, and mu refined, over the frames of given durations."""
        place, coarse = places(durations, mask), stretch(mu_x, durations, mask)
        return place, coarse, self.refine(coarse, stretch(h, durations, mask), place, mask, f0)

    def _align_held_out(self, x: Tensor, x_mask: Tensor, mel: Tensor, f0: Tensor | None, mask: Tensor):
        """The best path, and what encode gives for the pitch and energy along it: (durations, values, encoded)."""
        z0, mel = self.latent(mel), self.normalised(mel)

        def search(encoded: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            return self.align(encoded[0], z0, x_mask.sum((1, 2)), mask.sum((1, 2)))

        if self.variance is None:
            encoded = self.encode(x, x_mask)
            return search(encoded), None, encoded
        # pitch and energy want a path, and the path mu: first along a path for the middling values of every symbol
        durations = search(self.encode(x, x_mask, torch.zeros_like(x_mask).expand(-1, N_VALUES, -1)))
        durations = search(self.encode(x, x_mask, self.values(mel, f0, durations)))
        values = self.values(mel, f0, durations)
        return durations, values, self.encode(x, x_mask, values)

    def _measure_variance(
        self,
        x: Tensor,
        x_mask: Tensor,
        values: Tensor,
        f0: Tensor,
        durations: Tensor,
        place: Tensor,
        mask: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The losses of the variance part on one clip, its noise levels spread evenly."""
        c = self.variance.encode(x, x_mask)
        u = (torch.arange(PROBED_DRAWS, device=x.device) + 0.5) / PROBED_DRAWS
        noise = torch.randn(PROBED_DRAWS, *values.shape[1:], generator=generator).to(values.device)
        repeated = (each.expand(PROBED_DRAWS, -1, -1) for each in (values, c, x_mask))
        numbers = self._values_loss(*repeated, u, noise, PROBED_DRAWS * x_mask.sum())
        stretched = [stretch(each, durations, mask) for each in (c, values)]
        numbers |= self._contour_losses(f0, *stretched, place, mask, mask.sum())
        if self.course is not None:
            noise = torch.randn(PROBED_DRAWS, *mask.shape[1:], generator=generator).to(mask.device)
            repeated = (each.expand(PROBED_DRAWS, -1, -1) for each in (f0, *stretched, place, mask))
            numbers["loss_course"] = self._course_loss(*repeated, u, noise, PROBED_DRAWS * mask.sum())
        return numbers

    @torch.no_grad()
    def means(
        self, x: Tensor, mel: Tensor, f0: Tensor, durations: Tensor, times: tuple[float, ...],
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """The posterior means of a clip, one draw of noise for each t, for training the generator on.

        x, mel, f0, generator: as of measure; durations: (1, T_x). Returns (len(times), n_latents, T_mel).
        """
        x_mask, mask = torch.ones_like(x[:, None], dtype=mel.dtype), torch.ones_like(mel[:, :1])
        z0, f0 = self.latent(mel), self.conditions(f0)
        values = None if f0 is None else self.values(self.normalised(mel), f0, durations)
        mu_x, _, h = self.encode(x, x_mask, values)
        _, _, mu = self._along(durations, mu_x, h, mask, f0)
        z0_hats = []
        for time in times:
            t = torch.full((1,), time, device=z0.device)
            noise = torch.randn(z0.shape, generator=generator).to(z0.device)
            r_0_hat, _ = self.denoise(self.sde.perturb(z0 - mu, noise, t), mu, mask, t, f0)
            z0_hats.append(mu + r_0_hat)
        return torch.cat(z0_hats)

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
        return self.render([self.plan(x, temperature, length_scale, generator, pauses)], n_timesteps, solver)[0]

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

        durations, *features = self.read(x, length_scale, draw)
        for index, n_frames in (pauses or {}).items():
            durations[0, index] = n_frames
        mask = torch.ones(1, 1, int(durations.sum()), device=x.device)
        mu, f0 = self.unfold(durations, mask, *features, draw)
        return Plan(mu, durations, f0, temperature * draw(mu), generator)

    def read(
        self, x: Tensor, length_scale: float | Tensor, draw: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """A text's symbols: durations (1, T_x) frames, and what unfold makes frames of.

        x: (1, T_x) ids; draw: standard normal noise like a tensor.
        """
        x_mask = torch.ones_like(x[:, None], dtype=torch.float32)
        c, values = self._draw_values(x, x_mask, draw)
        mu_x, logw, h = self.encode(x, x_mask, values)
        # the pauses that no text announces are spread over it, so that speech has the length that it was recorded with
        durations = predict_durations(logw, self.logw_variance, length_scale * self.pause_scale.double())
        return durations, mu_x, h, c, values

    def unfold(
        self,
        durations: Tensor,
        mask: Tensor,
        mu_x: Tensor,
        h: Tensor,
        c: Tensor | None,
        values: Tensor | None,
        draw: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor | None]:
        """A text's frames, of what read gives: mu (1, n_latents, T_mel), f0 (1, 2, T_mel) as of Synthesis, or None.

        mask: (1, 1, T_mel), as many ones as durations sum to; draw: as of read.
        """
        place = places(durations, mask)
        f0 = self._draw_contour(c, values, durations, place, mask, draw)
        return self.refine(stretch(mu_x, durations, mask), stretch(h, durations, mask), place, mask, f0), f0

    @torch.no_grad()
    def render(self, plans: list[Plan], n_timesteps: int = 1, solver: str = "posterior") -> list[Synthesis]:
        """Speak several texts at once; one by one they sound the same, to the rounding of float32."""
        lengths, hop_length = [plan.mu.shape[-1] for plan in plans], self.config.audio.hop_length
        longest = max(lengths)
        mask = sequence_mask(torch.tensor(lengths, device=plans[0].mu.device), longest).to(plans[0].mu.dtype)
        mask = None if min(lengths) == longest else mask  # (B, 1, T_mel)
        mu, r_1 = (side_by_side([getattr(plan, name) for plan in plans], longest) for name in ("mu", "r_1"))
        f0 = None if plans[0].f0 is None else side_by_side([plan.f0 for plan in plans], longest)

        def draw(like: Tensor, samples_a_frame: int = 1) -> Tensor:
            noise = [drawn(plan.generator, (1, like.shape[1], samples_a_frame * n)) for plan, n in zip(plans, lengths)]
            return side_by_side(noise, samples_a_frame * longest).to(like.device)

        z0_hat = mu + self.solve(r_1, mu, mask, n_timesteps, solver, draw, f0)
        t = torch.full((len(plans),), result_time(solver, n_timesteps), device=mu.device)
        noise = draw(mu[:, :1], hop_length) if self.config.has_source else None
        wav = self.generate(z0_hat, mask, mu=mu, f0=f0, t=t, noise=noise)
        return [
            Synthesis(wav[b : b + 1, :, : n * hop_length], z0_hat[b : b + 1, :, :n], plan.mu, plan.durations, plan.f0)
            for b, (n, plan) in enumerate(zip(lengths, plans))
        ]

    @torch.no_grad()
    def stream(self, plan: Plan, n_timesteps: int = 1, solver: str = "posterior") -> Iterator[Tensor]:
        """render's wav of one text as it is made, (1, 1, n) each, to the rounding of float32.

        The generator makes some frames at a time, and reads as many beside them as reach their samples.
        """
        mu, f0, hop_length = plan.mu, plan.f0, self.config.audio.hop_length

        def draw(like: Tensor) -> Tensor:
            return drawn(plan.generator, like.shape).to(like.device)

        z0_hat = mu + self.solve(plan.r_1, mu, None, n_timesteps, solver, draw, f0)
        t = torch.full((1,), result_time(solver, n_timesteps), device=mu.device)
        noise = draw(mu.new_empty(1, 1, mu.shape[-1] * hop_length)) if self.config.has_source else None
        whole = {"mu": mu, "f0": f0, "phase": self.phase(f0)}
        for read, kept in chunks(mu.shape[-1], self.generator.reach):
            part = {name: None if each is None else each[..., read] for name, each in whole.items()}
            noise_part = None if noise is None else noise[..., in_samples(read, hop_length)]
            wav = self.generate(z0_hat[..., read], t=t, noise=noise_part, **part)
            yield wav[..., in_samples(kept, hop_length)]

    def solve(
        self,
        r_1: Tensor,
        mu: Tensor,
        mask: Tensor | None,
        n_timesteps: int,
        solver: str,
        draw,
        f0: Tensor | None = None,
    ) -> Tensor:
        """r_1: (B, n_latents, T_mel) residual at t = 1; mask: (B, 1, T_mel), None where every frame is valid. Returns
        what the solver ends with, masked: for all but euler and original the residual's posterior mean at the last
        time."""

        def mean(r_t: Tensor, t: float) -> Tensor:
            return self.denoise(r_t, mu, mask, torch.full((r_t.shape[0],), t, device=r_t.device), f0)[0]

        return masked(SOLVERS[solver](self.sde, mean, r_1, solver_times(solver, n_timesteps), draw), mask)

    def _draw_values(self, x: Tensor, x_mask: Tensor, draw) -> tuple[Tensor | None, Tensor | None]:
        """Pitch and energy as the text may be said: (c, values (1, 2, T_x)), None where there are none."""
        variance = self.config.variance
        if self.variance is None:
            return None, None
        c = self.variance.encode(x, x_mask)

        def mean(r_t: Tensor, t: float) -> Tensor:
            return self.denoise_values(r_t, c, x_mask, torch.full((r_t.shape[0],), t, device=r_t.device))[0]

        temperatures = x_mask.new_tensor((variance.pitch_temperature, variance.energy_temperature))[:, None]
        return c, self._sample(mean, temperatures * draw(x_mask.expand(-1, N_VALUES, -1)), variance.n_timesteps)

    def _draw_contour(
        self,
        c: Tensor | None,
        values: Tensor | None,
        durations: Tensor,
        place: Tensor,
        mask: Tensor,
        draw: Callable[[Tensor], Tensor],
    ) -> Tensor | None:
        """F0 and voicing of each frame, (1, 2, T_mel) as conditions() gives them."""
        variance = self.config.variance
        if variance.kind != "frame":
            return None
        # where there is no voice nothing taught the contour, and generator and decoder know the recordings' lines
        f0, condition = self.mean_contour(stretch(c, durations, mask), stretch(values, durations, mask), place, mask)
        voicing = condition[:, -1:]
        if self.course is not None:

            def mean(r_t: Tensor, t: float) -> Tensor:
                return self.denoise_course(r_t, condition, mask, torch.full((1,), t, device=r_t.device))[0]

            course = self._sample(mean, variance.course_temperature * draw(f0), variance.course_timesteps)
            f0 = continuous(f0 + COURSE_STD * course, voicing > 0)
        return torch.cat([f0, voicing], dim=1)

    def _sample(self, mean: Callable[[Tensor, float], Tensor], r_1: Tensor, n_timesteps: int) -> Tensor:
        """What the networks of variance and course make of noise."""
        solver = default_solver(n_timesteps)
        return SOLVERS[solver](self.variance_sde, mean, r_1, solver_times(solver, n_timesteps))


def build_discriminators(config: Config) -> Discriminators:
    """The discriminators that train against the generator."""
    return Discriminators(**asdict(config.discriminators))


def frame_log_likelihood(mu_x: Tensor, z0: Tensor) -> Tensor:
    """ln N(z0; mu_x, I) of every frame under every symbol, but for a constant of the frame.

    mu_x: (B, n_latents, T_x), z0: (B, n_latents, T_mel). Returns (B, T_x, T_mel), nats.
    """
    frames = z0.transpose(1, 2) @ mu_x - 0.5 * (mu_x**2).sum(1)[:, None]  # (B, T_mel, T_x), as the search reads it
    return frames.transpose(1, 2)


def spread(scores: Tensor, x_lengths: Tensor, mel_lengths: Tensor) -> Tensor:
    """The standard deviation of each item's valid scores, (B, 1, 1). scores: (B, T_x, T_mel), lengths: (B,)."""
    valid = (sequence_mask(x_lengths, scores.shape[1]).mT & sequence_mask(mel_lengths, scores.shape[2])).to(scores)
    n, total = valid.sum((1, 2), keepdim=True), (scores * valid).sum((1, 2), keepdim=True)
    return (((scores - total / n) ** 2 * valid).sum((1, 2), keepdim=True) / n).sqrt()


def stretch(mu_x: Tensor, durations: Tensor, mel_mask: Tensor) -> Tensor:
    """Each symbol's mean over its frames.

    mu_x: (B, n_latents, T_x), durations: (B, T_x) frames, which sum to the frames of mel_mask (B, 1, T_mel).
    Returns mu (B, n_latents, T_mel), masked.
    """
    frames = torch.arange(mel_mask.shape[-1], device=mu_x.device).expand(mu_x.shape[0], -1).contiguous()
    symbol = torch.searchsorted(durations.cumsum(1), frames, right=True)  # (B, T_mel)
    symbol = symbol.clamp(max=mu_x.shape[2] - 1)[:, None].expand(-1, mu_x.shape[1], -1)
    return mu_x.gather(2, symbol) * mel_mask


def drawn(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, float32 on the CPU: what is drawn in parts is what is drawn at once."""
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def side_by_side(items: list[Tensor], length: int) -> Tensor:
    """items: (1, C, T) each. Returns (B, C, length), each item followed by zeros."""
    return torch.cat([F.pad(item, (0, length - item.shape[-1])) for item in items])


def predict_durations(logw: Tensor, logw_variance: Tensor, length_scale: float | Tensor) -> Tensor:
    """The mean of a log-normal duration, exp(logw + v / 2), rounded so that the total is kept.

    logw: (B, 1, T_x) log-frames; logw_variance: () of the log-durations about logw. Returns (B, T_x) frames, int64;
    a symbol may get none, a text gets at least one.
    """
    durations = (logw[:, 0].double() + 0.5 * logw_variance.double()).exp() * length_scale
    ends = durations.cumsum(1).round().long()
    ends[:, -1].clamp_(min=1)
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
