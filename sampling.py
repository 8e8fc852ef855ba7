"""Speak with a trained voice: python sampling.py "Any text.", or Voice.load(...).speak(...) from Python."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_util.config import ROOT
from data_util.corpus import make_front_end, read_metafile
from data_util.pitch import track_f0
from evaluation.held_out import plan_along
from model.nisets import NiSETS, Plan
from model.sde import SOLVERS, default_solver, solver_times
from model.tiled import tile
from runtime import chunking, command
from runtime.chunking import BaseVoice, Piece, Reader, Speech, check_texts, noise_of, speaker_id, within
from text import TextError
from training import checkpoint, gpu, voices

BATCH_FRAMES = 4096  # that are spoken at once, padding included


@dataclass(frozen=True)
class Settings(chunking.Settings):
    """How a text is spoken, beyond what any runtime can do; ValueError for a value out of range.

    n_timesteps: evaluations of the score network, 0: none, the encoder's mean alone; solver: posterior (only for 1, the
    default there), dpm2m (the default beyond), ddim, ancestral (ddim with fresh noise in every step), sde, euler or,
    for 1 alone, original, for 0 none.
    """

    n_timesteps: int = 1
    solver: str | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "solver", self.solver or default_solver(self.n_timesteps))
        if self.solver not in SOLVERS:
            raise ValueError(f"solver {self.solver!r}: must be one of {', '.join(SOLVERS)}")
        solver_times(self.solver, self.n_timesteps)  # refuses what the solver cannot do


class NoCopy(ValueError):
    """A voice whose vocoder reads more than a recording has."""


class Voice(BaseVoice):
    """A trained model and its front end, ready to speak."""

    settings = Settings

    def __init__(self, saved: checkpoint.Voice, device: torch.device | str = "cpu", lexicon: str | Path | None = None):
        """lexicon: a file of words and how they are said, instead of the one that the voice's configuration names.

        Raises CheckpointError where the weights do not fit their own config, or the front end's symbols differ,
        TextError where a line of the lexicon is wrong.
        """
        self.saved, self.device = saved, torch.device(device)
        self.name, self.step, self.speakers = saved.path.parent.name, saved.step, saved.config.speakers.names
        audio, text = saved.config.audio, saved.config.text
        self.front_end = make_front_end(text, lexicon)
        checkpoint.check_symbols(saved.path, saved.symbols, self.front_end.symbols)
        self.reader = Reader(self.front_end, audio.sample_rate, audio.hop_length, text.longest)
        self.model = NiSETS(saved.config, len(saved.symbols)).eval().requires_grad_(False)
        try:
            self.model.load_state_dict(saved.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise checkpoint.CheckpointError(f"{saved.path}: weights and config do not fit: {reason}") from error
        self.model.generator.fold()
        self.model.to(self.device)
        if self.device.type == "cpu":
            tile(self.model.generator)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu", lexicon: str | Path | None = None) -> "Voice":
        """path: a run's folder, of which the newest voice is taken, or a .safetensors. Raises as Voice does."""
        path = Path(path)
        if path.suffix != ".safetensors":
            path = checkpoint.find(path, "voice")
        return cls(checkpoint.load_voice(path), device, lexicon)

    @property
    def identity(self) -> str:
        """What a manifest knows the voice by: its run, step, weights and phonemizer, and the lexicon's words."""
        saved = self.saved
        known = self.name, str(self.step), saved.sha256, saved.config.text.phonemizer
        return self.front_end.signed(" ".join(known))

    def speak_batch(self, texts: Sequence[str], **settings) -> list[Speech]:
        """speak for each text, several at once: the same durations, and samples to the rounding of float32.

        Raises as speak does, for the first text that it would raise for.
        """
        check_texts(texts)
        chosen = Settings(**settings)
        rows = [self.reader.pieces(text, chosen) for text in texts]
        pieces = [piece for row in rows for piece in row]
        sounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for batch in self._batches(pieces, chosen):
            sounds.update(zip(batch, self._decode([pieces[i] for i in batch], list(batch.values()), chosen)))
        in_order = (sounds[i] for i in range(len(pieces)))
        return [self.reader.joined(text, row, [next(in_order) for _ in row]) for text, row in zip(texts, rows)]

    def _batches(self, pieces: list[Piece], settings: Settings) -> Iterator[dict[int, Plan]]:
        """The plans of pieces that are decoded together, of about one length, by their index."""
        batch: dict[int, Plan] = {}
        for i in sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids)):
            plan = self._plan(pieces[i], settings)
            longest = max(one.mu.shape[-1] for one in (*batch.values(), plan))
            if batch and longest * (len(batch) + 1) > BATCH_FRAMES:
                yield batch
                batch = {}
            batch[i] = plan
        if batch:
            yield batch

    def _whole(self, piece, settings):
        return self._decode([piece], [self._plan(piece, settings)], settings)[0]

    def _durations(self, piece, settings):
        return self._plan(piece, settings).durations[0].cpu().numpy()

    def _plan(self, piece, settings):
        x = torch.tensor(piece.ids, device=self.device)[None]
        noise = noise_of(settings.seed, piece.phonemes)
        with self._speaking_as(settings.speaker):
            return self.model.plan(x, settings.temperature, settings.length_scale, noise, piece.pauses)

    def _speaking_as(self, speaker):
        return self.model.speaking_as(speaker_id(speaker, self.speakers))

    def _decode(self, pieces, plans, settings):
        """wav (T_wav,) with the silence after it and durations (T_x,), of each piece."""
        with self._speaking_as(settings.speaker):
            spoken = self.model.decode(plans, settings.n_timesteps, settings.solver)
        return [(next(self._finished([one.wav], plan, piece, settings)), one.durations[0].cpu().numpy())
                for one, plan, piece in zip(spoken, plans, pieces)]  # fmt: skip

    def _chunks(self, piece, settings):
        """The sound of a piece as it is made; between two parts of it others may speak."""
        if settings.loudness is not None:
            yield self._whole(piece, settings)[0]
            return
        plan = self._plan(piece, settings)
        wavs = self.model.stream(plan, settings.n_timesteps, settings.solver)
        wavs = within(lambda: self._speaking_as(settings.speaker), wavs)
        yield from self._finished(wavs, plan, piece, settings)

    def _finished(self, wavs, plan, piece, settings):
        """wavs: (1, 1, n) each, together a piece. Gives (n,) as they are heard."""
        sounds = (self.reader.heard(wav[0, 0].cpu().numpy(), settings) for wav in wavs)
        return self.reader.finished(sounds, plan.mu.shape[-1], piece)

    @torch.no_grad()
    def copy(self, wav: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Copy synthesis: the generator on the true latent of a recording.

        wav: (T_wav,) in [-1, 1] at the voice's sample rate; speaker: as of speak(). Returns (T_mel hop_length,) float32
        in [-1, 1]; raises NoCopy where the generator also reads mu, which a recording alone does not have, ValueError
        for a speaker whom the voice has not learnt.
        """
        config, model = self.saved.config, self.model
        if "mu" in config.generator.inputs:
            raise NoCopy("no copy synthesis: this voice's generator reads mu, which needs a text")
        mel, contour = self._features(wav, config.vocoder_needs_f0)
        z0, f0 = model.latent(mel), model.normalised_f0(contour)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, 1, z0.shape[-1] * config.audio.hop_length, generator=generator)
        with self._speaking_as(speaker):
            features, source = model.vocoder_features(z0, f0=f0), model.source(f0, noise.to(self.device))
            copied = model.vocode(features, source=source)
        return copied[0, 0].clamp(-1, 1).cpu().numpy()

    @torch.no_grad()
    def speak_along(self, wav: np.ndarray, text: str, speaker: str | None = None, seed: int = 0) -> np.ndarray:
        """One step along the durations, pitch, energy and F0 of a recording of the text.

        wav, speaker, result: as of copy(); raises TextError as speak() does, and for a text that is spoken in pieces.
        """
        piece, *more = self.reader.pieces(text, Settings())
        if more:
            raise TextError(f"a text of {len(text)} characters is spoken in pieces, a recording along one")
        clip = torch.tensor(piece.ids, device=self.device)[None], *self._features(wav, self.saved.config.with_f0)
        with self._speaking_as(speaker):
            plan = plan_along(self.model, clip, noise_of(seed, piece.phonemes))
            spoken = self.model.decode([plan])[0]
        return spoken.wav[0, 0].clamp(-1, 1).cpu().numpy()

    def _features(self, wav, with_f0):
        """Log-mel (1, n_mels, T_mel) of a recording, and its F0 and voicing (1, 2, T_mel), empty without."""
        config = self.saved.config
        mel = self.model.features(torch.from_numpy(wav).to(self.device)[None])
        contour = track_f0(wav, config.audio, config.pitch) if with_f0 else np.zeros((2, 0), dtype=np.float32)
        return mel, torch.from_numpy(contour).to(self.device)[None]


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sampling.py", description="Speak with a trained voice.", allow_abbrev=False,
                                     formatter_class=command.Help)  # fmt: skip
    command.add_arguments(parser, "without any the voice's validation list")
    voices.add_arguments(parser)
    voices.add_phonemizer(parser)
    parser.add_argument("--list", action="store_true", help="the runs and voices that there are, and end")
    parser.add_argument(
        "-n", "--n-timesteps", type=int, default=1, metavar="N", help="evaluations of the score network"
    )
    parser.add_argument("--solver", choices=list(SOLVERS), help="by default posterior for -n 1, dpm2m beyond")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    return command.parse(parser, argv)


def validation_texts(voice: Voice) -> command.Texts:
    """The clips of the voice's validation list, by name."""
    dataset = voice.saved.config.dataset
    try:
        clips = read_metafile(ROOT / dataset.metafile_valid, ROOT / dataset.prtpath)
    except ValueError as error:  # which says what to set in training
        where = f"{dataset.metafile_valid} of {dataset.prtpath}"
        raise ValueError(f"no text was given, and the voice's validation list, {where}, cannot be read") from error
    return [(clip.id, clip.text) for clip in clips if clip.text]


def run(args: argparse.Namespace) -> int:
    """Speak all that was asked for. Returns the exit status."""
    if args.list:
        print(voices.table())
        return 0
    settings = command.settings_of(args, Settings)  # what is out of range is refused before a voice is loaded
    texts = command.texts_of(args)
    jobs = None if texts is None else command.named(texts, args.out)
    path, which = voices.find(args.id, args.ckpt)
    voice = Voice(checkpoint.load_voice(path, args.overrides), args.device, args.lexicon)
    gpu.set_precision(args.device, voice.saved.config.system.tf32)
    print(f"{which}, on {args.device}", file=sys.stderr if args.out == command.STDOUT else sys.stdout)
    return command.speak_all(voice, jobs or command.named(validation_texts(voice), args.out), args, settings)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return command.exit_status(run, args, "sampling.py")


if __name__ == "__main__":
    sys.exit(main())
