"""Speak with a trained voice: python sampling.py "Any text.", or Voice.load(...).speak(...) from Python."""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio
from tqdm import tqdm

from data_util.audio import save_wav
from data_util.config import ROOT
from data_util.corpus import make_front_end, read_metafile
from data_util.pitch import track_f0
from data_util.tables import decode, parts_of
from model.nisets import NiSETS, Plan
from model.sde import SOLVERS, default_solver, solver_times
from model.tiled import tile
from runtime import chunking, timestamps
from runtime.chunking import Reader, Speech, noise_of, speaker_id, write_wav
from runtime.files import check_folder, write_atomic
from text import TextError
from training import checkpoint, gpu

STEM_LENGTH = 40  # characters of a text that its file is named by
BATCH_FRAMES = 4096  # that are spoken at once, padding included
BATCH_TEXTS = 64  # of a file, between two moves of the progress bar
LOUDNESS_BLOCK = 0.4  # seconds, what loudness is measured over
QUIETEST = -70.0  # LUFS, under which nothing is measured
PEAK = 0.99  # of full scale, which no gain exceeds


@dataclass(frozen=True)
class Settings(chunking.Settings):
    """How a text is spoken, beyond what any runtime can do; ValueError for a value out of range.

    n_timesteps: evaluations of the score network; solver: posterior (only for 1, the default there), dpm2m (the
    default beyond), ddim, ancestral (ddim with fresh noise in every step), sde, euler or, for 1 alone, original;
    loudness: LUFS that each piece is brought to, over -70 and at most 0, by a gain alone and less where the peaks would
    pass full scale; None: as the voice speaks.
    """

    n_timesteps: int = 1
    solver: str | None = None
    loudness: float | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "solver", self.solver or default_solver(self.n_timesteps))
        if self.solver not in SOLVERS:
            raise ValueError(f"solver {self.solver!r}: must be one of {', '.join(SOLVERS)}")
        solver_times(self.solver, self.n_timesteps)  # refuses what the solver cannot do
        if self.loudness is not None and not QUIETEST < self.loudness <= 0:
            raise ValueError(f"loudness = {self.loudness}: must be over {QUIETEST:g} and at most 0 LUFS")


class Voice:
    """A trained model and its front end, ready to speak."""

    def __init__(self, saved: checkpoint.Voice, device: torch.device | str = "cpu", lexicon: str | Path | None = None):
        """lexicon: a file of words and how they are said, instead of the one that the voice's configuration names.

        Raises CheckpointError where the weights do not fit their own config, or the front end's symbols differ,
        TextError where a line of the lexicon is wrong.
        """
        self.saved, self.device = saved, torch.device(device)
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

    def speak(self, text: str, **settings) -> Speech:
        """Speak a text, which may have phonemes in it, `[[ fəˈniːmz ]]`, and pauses, `<break time="300ms"/>`.

        settings: the fields of Settings. A text longer than text.longest is spoken in pieces, one after another.
        Raises TextError where there is nothing to say or too much, ValueError for a setting out of range.
        """
        chosen = Settings(**settings)
        pieces = self.reader.pieces(text, chosen)
        return self.reader.joined(text, pieces, [self._decode([piece], chosen)[0] for piece in pieces])

    def save(self, text: str, path: Path, **settings) -> float:
        """speak into a WAV, one piece after another, none of which is kept. Returns the seconds of speech.

        Raises as speak does, and OSError.
        """
        chosen = Settings(**settings)
        pieces = self.reader.pieces(text, chosen)
        return write_wav(path, (self._decode([piece], chosen)[0][0] for piece in pieces), self.reader.sample_rate)

    def stream(self, text: str, **settings) -> Iterator[np.ndarray]:
        """speak, but giving its sound as it is made, (n,) float32; together it is speak's, to the rounding of float32.

        The first comes when less than half a second of it is made, but with a loudness, which is measured over a whole
        piece. What is made is not kept, so that the memory needed does not grow with the text's sound. Raises as speak
        does.
        """
        chosen = Settings(**settings)
        pieces = self.reader.pieces(text, chosen)
        return (chunk for piece in pieces for chunk in self._chunks(piece, chosen))

    def speak_batch(self, texts: Sequence[str], **settings) -> list[Speech]:
        """speak for each text, several at once: the same durations, and samples to the rounding of float32.

        Raises as speak does, for the first text that it would raise for.
        """
        chosen = Settings(**settings)
        pieces = [self.reader.pieces(text, chosen) for text in texts]
        places = [(i, j) for i, row in enumerate(pieces) for j in range(len(row))]
        decoded: list[list] = [[None] * len(row) for row in pieces]
        batch: list[tuple[int, int]] = []
        plans: list[Plan] = []
        for i, j in sorted(places, key=lambda place: len(pieces[place[0]][place[1]].ids)):
            plan = self._plan(pieces[i][j], chosen)
            longest = max(one.mu.shape[-1] for one in [*plans, plan])
            if plans and longest * (len(plans) + 1) > BATCH_FRAMES:
                self._decode_into(decoded, pieces, batch, plans, chosen)
                batch, plans = [], []
            batch.append((i, j))
            plans.append(plan)
        if plans:
            self._decode_into(decoded, pieces, batch, plans, chosen)
        return [self.reader.joined(*each) for each in zip(texts, pieces, decoded)]

    def check(self, text: str) -> None:
        """Raise TextError where speak would."""
        self.reader.pieces(text, Settings())

    def timestamps(self, speech: Speech, kind: str) -> str:
        """When each phoneme and each word of a speech is said: the content of a file. kind: json, srt or textgrid."""
        return self.reader.timestamps(speech, kind)

    def _plan(self, piece, settings):
        x = torch.tensor(piece.ids, device=self.device)[None]
        noise = noise_of(settings.seed, piece.phonemes)
        with self.model.speaking_as(self._speaker_id(settings.speaker)):
            return self.model.plan(x, settings.temperature, settings.length_scale, noise, piece.pauses)

    def _speaker_id(self, speaker):
        return speaker_id(speaker, self.saved.config.speakers.names)

    def _decode(self, pieces, settings, plans=None):
        """wav (T_wav,) with the silence after it and durations (T_x,), of each piece."""
        plans = plans or [self._plan(piece, settings) for piece in pieces]
        with self.model.speaking_as(self._speaker_id(settings.speaker)):
            spoken = self.model.decode(plans, settings.n_timesteps, settings.solver)
        return [(next(self._finished([one.wav], plan, piece, settings)), one.durations[0].cpu().numpy())
                for one, plan, piece in zip(spoken, plans, pieces)]  # fmt: skip

    def _decode_into(self, decoded, pieces, batch, plans, settings):
        for (i, j), result in zip(batch, self._decode([pieces[i][j] for i, j in batch], settings, plans)):
            decoded[i][j] = result

    def _chunks(self, piece, settings):
        """The sound of a piece as it is made."""
        plan = self._plan(piece, settings)
        if settings.loudness is None:
            wavs = self.model.stream(plan, settings.n_timesteps, settings.solver)
        else:
            with self.model.speaking_as(self._speaker_id(settings.speaker)):
                wavs = [one.wav for one in self.model.decode([plan], settings.n_timesteps, settings.solver)]
        wavs = self._spoken_by(settings.speaker, iter(wavs))
        yield from self._finished(wavs, plan, piece, settings)

    def _spoken_by(self, speaker, wavs):
        """Each of what an iterator makes, made as this speaker; between two of them others may speak."""
        while True:
            with self.model.speaking_as(self._speaker_id(speaker)):
                wav = next(wavs, None)
            if wav is None:
                return
            yield wav

    def _finished(self, wavs, plan, piece, settings):
        """wavs: (1, 1, n) each, together a piece. Gives (n,) as they are heard."""
        sounds = (self._sound(wav[0, 0], settings) for wav in wavs)
        return self.reader.finished(sounds, plan.mu.shape[-1], piece)

    def _sound(self, wav, settings):
        if settings.loudness is not None:
            wav = wav * _gain(wav, self.reader.sample_rate, settings.loudness)
        return wav.clamp(-1, 1).cpu().numpy()

    def copy(self, wav: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Copy synthesis: the generator on the true latent of a recording.

        wav: (T_wav,) in [-1, 1] at the voice's sample rate; speaker: as of speak(). Returns (T_mel hop_length,) float32
        in [-1, 1]; raises ValueError where the generator also reads mu, which a recording alone does not have, and for
        a speaker whom the voice has not learnt.
        """
        config, model = self.saved.config, self.model
        if "mu" in config.generator.inputs:
            raise ValueError("no copy synthesis: this voice's generator reads mu, which needs a text")
        with torch.no_grad():
            z0 = model.latent(model.features(torch.from_numpy(wav).to(self.device)[None]))
            f0 = None
            if config.vocoder_needs_f0:
                tracked = torch.from_numpy(track_f0(wav, config.audio, config.pitch)).to(self.device)
                f0 = model.normalised_f0(tracked[None])
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(1, 1, z0.shape[-1] * config.audio.hop_length, generator=generator)
            with model.speaking_as(self._speaker_id(speaker)):
                features, source = model.vocoder_features(z0, f0=f0), model.source(f0, noise.to(self.device))
                copied = model.vocode(features, source=source)
        return copied[0, 0].clamp(-1, 1).cpu().numpy()


def _gain(wav, sample_rate, loudness):
    """What brings a sound (T_wav,) to a loudness in LUFS (ITU-R BS.1770, as torchaudio computes it), 1 for silence."""
    wav = wav.detach().cpu()
    # a sound shorter than the block is measured as if it went on
    n_times = -(-round(LOUDNESS_BLOCK * sample_rate) // len(wav))
    measured = torchaudio.functional.loudness(wav.repeat(n_times)[None], sample_rate).item()
    if not np.isfinite(measured) or measured <= QUIETEST:
        return 1.0
    return min(10 ** ((loudness - measured) / 20), PEAK / wav.abs().max().item())


# -- the command


def texts_of(args: argparse.Namespace, voice: Voice) -> list[tuple[str | None, str]]:
    """(name or None, text) of all that is to be spoken; the voice's validation list where nothing is named."""
    if args.file is not None:
        pairs = [(line.split("|")[0] if "|" in line else None, line.split("|")[-1]) for line in _lines(args.file)]
        return [(Path(parts_of(name)[-1]).stem if name and parts_of(name) else None, text) for name, text in pairs]
    if args.text == ["-"]:
        return [(None, line) for line in _lines("-")]
    if args.text:
        return [(None, text) for text in args.text]
    dataset = voice.saved.config.dataset
    clips = read_metafile(ROOT / dataset.metafile_valid, ROOT / dataset.prtpath)
    return [(Path(clip.id).name, clip.text) for clip in clips if clip.text]


def _lines(file):
    """The lines of a file of any encoding, or of standard input, that are not blank."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"-f {file}: {error.strerror}. Name a file with a text a line, or name|text") from error
    text, _ = decode(content, "standard input" if file == "-" else file)
    return [line.strip() for line in text.split("\n") if line.strip()]


def named(texts: list[tuple[str | None, str]], out: Path) -> Iterator[tuple[Path, str]]:
    """The WAV of each text: OUT itself for one text if it is a .wav, else a file in the folder OUT."""
    if out.suffix == ".wav":
        if len(texts) != 1:
            raise ValueError(f"-o {out} names one WAV for {len(texts)} texts: name a folder")
        yield out, texts[0][1]
        return
    twice = [name for name, count in Counter(name for name, _ in texts).items() if name and count > 1]
    if twice:
        raise ValueError(f"{len(twice)} names stand for several texts, {twice[0]} for one: give each text its own")
    for i, (name, text) in enumerate(texts):
        stem = "".join(c if c.isalnum() else "_" for c in text)[:STEM_LENGTH].strip("_")
        yield out / f"{name or f'{i:03d}_{stem}'}.wav", text


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speak with a trained voice.", allow_abbrev=False)
    parser.add_argument("text", nargs="*", help="what to say, or - for standard input; nothing: the validation list")
    parser.add_argument("-f", dest="file", metavar="FILE", help="one text a line, or path|text; what is there stays")
    parser.add_argument("-id", metavar="ID", help="the run in checkpoint/; without it the newest")
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="the voice of this step; without it the newest")
    parser.add_argument("-o", dest="out", type=Path, default=Path("speech"), help="a WAV for one text, else a folder")
    parser.add_argument("-n", dest="n_timesteps", type=int, default=1, help="evaluations of the score network")
    parser.add_argument("--solver", choices=list(SOLVERS), help="posterior for -n 1, dpm2m beyond")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the noise")
    parser.add_argument("--length-scale", type=float, default=1.0, help="over 1 slower, under 1 faster")
    parser.add_argument("--sentence-pause", type=float, metavar="SECONDS", help="between two sentences")
    parser.add_argument("--loudness", type=float, metavar="LUFS", help="to bring the sound to, for example -23")
    parser.add_argument("--speaker", metavar="NAME", help="of a voice of several; without it the first of them")
    parser.add_argument("--timestamps", choices=list(timestamps.FORMATS), help="of words and phonemes, beside each WAV")
    parser.add_argument("-l", dest="lexicon", metavar="FILE", help="words and how they are said: word = respelling")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_intermixed_args(argv)  # options may stand between texts
    if args.file is not None and args.text:
        parser.error("give texts or -f FILE, not both")
    return args


def outputs(path: Path, args: argparse.Namespace) -> list[Path]:
    """The files that one text becomes."""
    return [path, *([path.with_suffix(timestamps.SUFFIXES[args.timestamps])] if args.timestamps else [])]


def save(voice: Voice, speech: Speech, path: Path, args: argparse.Namespace) -> None:
    wav, *others = outputs(path, args)
    for other in others:  # the WAV comes last: where it is, all is
        write_atomic(other, voice.timestamps(speech, args.timestamps).encode("utf-8"))
    save_wav(wav, speech.wav, speech.sample_rate)


def speak_each(voice: Voice, jobs: list[tuple[Path, str]], args: argparse.Namespace, settings: dict) -> int:
    """Speak texts one by one, a line for each. Returns how many had nothing to say."""
    unspoken = 0
    for path, text in jobs:
        start = time.perf_counter()
        try:
            if args.timestamps:
                speech = voice.speak(text, **settings)
                save(voice, speech, path, args)
                seconds = speech.seconds
            else:
                seconds = voice.save(text, path, **settings)
        except TextError as error:
            unspoken += 1
            print(f"sampling.py: {error}", file=sys.stderr)
            continue
        spent = time.perf_counter() - start
        print(f"{path}: {seconds:.2f} s, real-time factor {spent / seconds:.3f}")
    return unspoken


def speak_file(voice: Voice, jobs: list[tuple[Path, str]], args: argparse.Namespace, settings: dict) -> int:
    """Speak the texts whose files are not there, in batches, with a progress bar. Returns as speak_each does."""
    todo = [(path, text) for path, text in jobs if not all(map(Path.exists, outputs(path, args)))]
    unspoken, seconds, start = 0, 0.0, time.perf_counter()
    with tqdm(total=len(todo), desc="speaking", disable=not todo) as progress:
        for i in range(0, len(todo), BATCH_TEXTS):
            good = []
            for path, text in todo[i : i + BATCH_TEXTS]:
                try:
                    voice.check(text)
                    good.append((path, text))
                except TextError as error:
                    unspoken += 1
                    progress.write(f"sampling.py: {path.name}: {error}", file=sys.stderr)
            for (path, _), speech in zip(good, voice.speak_batch([text for _, text in good], **settings)):
                save(voice, speech, path, args)
                seconds += speech.seconds
            progress.update(len(todo[i : i + BATCH_TEXTS]))
    spent = time.perf_counter() - start
    speed = f", {seconds:.2f} s, real-time factor {spent / seconds:.3f}" if seconds else ""
    print(f"{args.out}: {len(todo) - unspoken} texts spoken{speed}; {len(jobs) - len(todo)} were there")
    return unspoken


def run(args: argparse.Namespace) -> int:
    """Speak all that was asked for; a text with nothing to say does not stop the others. Returns the exit status."""
    settings = {name: getattr(args, name) for name in Settings.__dataclass_fields__}
    Settings(**settings)  # what is out of range is refused before a voice is loaded
    folder = checkpoint.newest_run() if args.id is None else checkpoint.RUNS / args.id
    voice = Voice(checkpoint.load_voice(checkpoint.find(folder, "voice", args.ckpt)), args.device, args.lexicon)
    gpu.set_precision(args.device, voice.saved.config.system.tf32)
    print(f"run {folder.name}, step {voice.saved.step}, on {args.device}")
    jobs = list(named(texts_of(args, voice), args.out))
    check_folder(args.out.parent if args.out.suffix == ".wav" else args.out)
    speak = speak_each if args.file is None else speak_file
    return 1 if speak(voice, jobs, args, settings) else 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return run(args)
    except (ValueError, OSError, RuntimeError) as error:
        if args.debug:
            raise
        print(f"sampling.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
