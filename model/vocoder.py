"""What a vocoder is to the rest: the one contract that training, speaking, streaming and export keep to."""

from typing import NamedTuple

from torch import Tensor, nn

from model.layers import span
from runtime.chunking import in_samples


class Source(NamedTuple):
    """The excitation of a vocoder whose needs_source is true, of the same frames as its features.

    f0: (B, 1, T) Hz, above zero in each valid frame; voicing: (B, 1, T) in [0, 1], the gain of the pulses; noise: (B,
    1, T hop_length) standard normal, None: drawn; recording: (B, 1, T hop_length), with which the pulses keep step,
    None: F0 alone; phase: (B, 1, T) of Vocoder.with_phase where these are frames of a longer text.
    """

    f0: Tensor
    voicing: Tensor
    noise: Tensor | None = None
    recording: Tensor | None = None
    phase: Tensor | None = None

    def part(self, frames: slice, samples: slice) -> "Source":
        """Some frames, and the samples that they are."""

        def cut(values: Tensor | None, places: slice) -> Tensor | None:
            return None if values is None else values[..., places]

        noise, recording = cut(self.noise, samples), cut(self.recording, samples)
        return Source(self.f0[..., frames], self.voicing[..., frames], noise, recording, cut(self.phase, frames))


class Vocoder(nn.Module):
    """Features to a waveform. A vocoder of your own subclasses this, implements forward and sets reach.

    reach: frames to either side of a frame that its samples depend on, by which a stream overlaps its parts;
    needs_source: whether forward reads a Source; its section in data_util/config.py has an attribute of that name, too.
    """

    reach: int
    needs_source: bool = False

    def forward(self, features: Tensor, mask: Tensor | None = None, source: Source | None = None) -> Tensor:
        """features: (B, n_inputs, T), see generator.inputs; mask: (B, 1, T), None where every frame is valid.

        Returns wav (B, 1, T hop_length), about [-1, 1], zero past each end.
        """
        raise NotImplementedError

    def part(self, features: Tensor, source: Source | None, kept: slice) -> Tensor:
        """forward's samples of the frames that are kept, (B, 1, n hop_length). Override it where less work will do,
        with layers.span, torch.sym_max and torch.sym_min: an export traces it for any lengths."""
        wav = self(features, None, source)
        return span(wav, in_samples(kept, wav.shape[-1] // features.shape[-1]))

    def with_phase(self, source: Source) -> Source:
        """The source of a whole text, with what any part of it has to know of the frames before it."""
        return source

    def fold(self) -> "Vocoder":
        """Make speaking cheaper, in place, where there is a way that leaves the output as it is. Returns self."""
        return self
