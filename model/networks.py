"""The parts of a voice, each of the kind that the configuration names, and single calls of them."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from data_util.audio import MelSpectrogram
from model.alignment import align
from model.convnext import ConvNeXtScore, ConvNeXtVocoder
from model.denoiser import Denoiser
from model.discriminator import Discriminators
from model.hifigan import HiFiGAN
from model.latent import Compression
from model.layers import SpeakerEmbedding, TimeEmbedding, precision, to_float32
from model.prosody import N_VALUES, Prosody
from model.sde import SDE
from model.text_encoder import TextEncoder
from model.unet import UNet
from model.vocoder import Source, Vocoder
from text.symbols import MARK_SIZES

if TYPE_CHECKING:
    from data_util.config import Config

T_CHANNELS = 16  # of the embedding of t as an input of the vocoder


# -- the parts, by the kind that the configuration names. A kind of your own is one more line in one of these


def sizes(section) -> dict:
    """The fields of a section of the configuration that are a network's arguments."""
    return {name: value for name, value in asdict(section).items() if name not in ("kind", "inputs")}


def n_prosody_channels(config: "Config") -> int:
    """Numbers of each symbol that the text encoder is told, pitch and energy, and of each frame that the decoder is, F0
    and voicing; 0 without prosody."""
    return N_VALUES if config.with_f0 else 0


def unet2d_decoder(config: "Config") -> nn.Module:
    return UNet(**sizes(config.decoder), n_speakers=config.n_speakers)


def convnext1d_decoder(config: "Config") -> nn.Module:
    widths = (config.n_latents, n_prosody_channels(config))
    return ConvNeXtScore(*widths, **sizes(config.decoder), n_speakers=config.n_speakers)


def hifigan_vocoder(config: "Config", n_inputs: int) -> Vocoder:
    return HiFiGAN(n_inputs, **sizes(config.generator), n_speakers=config.n_speakers)


def convnext_vocoder(config: "Config", n_inputs: int) -> Vocoder:
    audio = {name: getattr(config.audio, name) for name in ("n_fft", "hop_length", "sample_rate")}
    return ConvNeXtVocoder(config.generator, n_inputs, **audio, n_speakers=config.n_speakers)


def transformer_encoder(config: "Config", n_symbols: int, mark_sizes: tuple[int, ...]) -> TextEncoder:
    widths = (n_symbols, config.n_latents, mark_sizes, n_prosody_channels(config))
    return TextEncoder(config.text_encoder, *widths, n_speakers=config.n_speakers)


TEXT_ENCODERS = {"transformer": transformer_encoder}  # forward as of TextEncoder
DECODERS = {"unet2d": unet2d_decoder, "convnext1d": convnext1d_decoder}  # forward as of ConvNeXtScore
VOCODERS = {"hifigan": hifigan_vocoder, "convnext": convnext_vocoder}


def build_discriminators(config: "Config") -> Discriminators:
    """The discriminators that train against the vocoder."""
    return Discriminators(**asdict(config.discriminators))


class Networks(nn.Module):
    """The parts of a voice, and single calls of them, each in the precision it was asked to run in, giving float32.

    config: sizes and switches; n_symbols: length of the symbol list that ids count in; amp: networks run in bfloat16,
    while SDE, alignment, losses and STFT stay in float32.
    """

    latent_mean: Tensor
    latent_std: Tensor
    logw_variance: Tensor
    pause_scale: Tensor
    f0_mean: Tensor
    f0_std: Tensor

    def __init__(self, config: "Config", n_symbols: int, amp: bool = False):
        super().__init__()
        self.config, self.amp = config, amp
        n_latents, prosody = config.n_latents, config.prosody
        self.compression = None if config.latent.kind == "normalised" else Compression(config.audio.n_mels, n_latents)
        self.sde = SDE(**asdict(config.sde))
        self.mark_sizes = MARK_SIZES.get(config.text.units, ())
        self.text_encoder = TEXT_ENCODERS[config.text_encoder.kind](config, n_symbols, self.mark_sizes)
        self.prosody = None
        if config.with_f0:
            self.prosody = Prosody(prosody, n_symbols, self.mark_sizes, self.sde, amp, config.n_speakers)
        self.decoder = DECODERS[config.decoder.kind](config)
        n_channels = {"z0_hat": n_latents, "mu": n_latents, "f0": N_VALUES, "t": T_CHANNELS}
        n_inputs = sum(n_channels[name] for name in config.generator.inputs)
        self.generator = VOCODERS[config.generator.kind](config, n_inputs)
        self.denoiser = Denoiser(self.sde, self.decoder, amp)
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

    def set_precision(self, amp: bool) -> None:
        """Whether the networks run in bfloat16 from here on."""
        self.amp = self.denoiser.amp = amp
        if self.prosody is not None:
            self.prosody.set_precision(amp)

    def parts(self) -> dict[str, nn.Module]:
        """The network of each part that can be named in training.stages."""
        found: dict[str, nn.Module] = {"text_encoder": self.text_encoder}
        if self.prosody is not None:
            found["prosody"] = self.prosody.network
            if self.prosody.residual is not None:
                found["f0_residual"] = self.prosody.residual
        return found | {"decoder": self.decoder, "generator": self.generator}

    def part_of(self, name: str) -> str:
        """The part that an entry of the state dict belongs to; "" for those of the corpus."""
        if name == "logw_variance":
            return "text_encoder"
        owners = {id(network): part for part, network in self.parts().items()}
        for path, module in self.named_modules():
            if id(module) in owners and name.startswith(f"{path}."):
                return owners[id(module)]
        return ""

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
        """mel: (B, n_mels, T_mel) natural log of amplitude. Returns z0 (B, n_latents, T_mel) of about unit variance."""
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

    def normalised_f0(self, f0: Tensor) -> Tensor | None:
        """f0: (B, 2, T_mel), ln of F0 in Hz and voicing. Returns it as the networks read it: normalised, and voicing;
        None where they read none."""
        if self.prosody is None:
            return None
        return torch.cat([(f0[:, :1] - self.f0_mean) / self.f0_std, f0[:, 1:]], dim=1)

    # -- single calls

    def encode_text(self, x: Tensor, x_mask: Tensor, values: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x), values: (B, 2, T_x) pitch and energy, or None.

        Returns mu_x (B, n_latents, T_x) and logw (B, 1, T_x), log-frames.
        """
        with precision(x, self.amp):
            mu_x, logw = self.text_encoder(x, x_mask, values)
        return to_float32(mu_x), to_float32(logw)

    def vocoder_features(
        self, z0_hat: Tensor, t: Tensor | None = None, mu: Tensor | None = None, f0: Tensor | None = None
    ) -> Tensor:
        """What generator.inputs asks for, side by side, (B, n_inputs, T_mel).

        z0_hat, mu: (B, n_latents, T_mel); t: (B,) of z0_hat, None: 0; f0: (B, 2, T_mel) from normalised_f0(). What is
        not asked for may be missing.
        """
        t = z0_hat.new_zeros(z0_hat.shape[0]) if t is None else t
        values = {"z0_hat": z0_hat, "mu": mu, "f0": f0}
        given = {name: value for name, value in values.items() if value is not None}
        if "t" in self.config.generator.inputs:
            given["t"] = self.t_embedding(t)[:, :, None].expand(-1, -1, z0_hat.shape[-1])
        return torch.cat([given[name] for name in self.config.generator.inputs], dim=1)

    def source(self, f0: Tensor | None, noise: Tensor | None = None, recording: Tensor | None = None) -> Source | None:
        """What a vocoder that needs one filters, else None. f0: (B, 2, T_mel) from normalised_f0(); noise, recording:
        as of Source."""
        if not self.generator.needs_source:
            return None
        assert f0 is not None  # such a vocoder is of a voice with F0: see Config
        return Source((f0[:, :1] * self.f0_std + self.f0_mean).exp(), f0[:, 1:], noise, recording)

    def vocode(
        self, features: Tensor, mask: Tensor | None = None, source: Source | None = None, kept: slice | None = None
    ) -> Tensor:
        """features: (B, n_inputs, T_mel) of vocoder_features, mask: (B, 1, T_mel) or None; kept: frames of which alone
        the samples are made, without a mask; None: all. Returns wav (B, 1, n)."""
        generator = self.generator
        with precision(features, self.amp):
            wav = generator(features, mask, source) if kept is None else generator.part(features, source, kept)
        return to_float32(wav)

    def align(self, mu_x: Tensor, z0: Tensor, x_lengths: Tensor, mel_lengths: Tensor) -> Tensor:
        """Durations (B, T_x) in frames, by alignment.align."""
        return align(mu_x, z0, x_lengths, mel_lengths)
