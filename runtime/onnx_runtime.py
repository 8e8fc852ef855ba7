"""An exported voice, which speaks through ONNX Runtime: from Python Voice().speak(...), and as a command.

The same seed gives the same sound as sampling.py does, to the rounding of float32.
"""

import argparse
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from runtime import command
from runtime.chunking import BaseVoice, Piece, Reader, Settings, chunks, in_samples, noise_of, speaker_id, windows
from text import FrontEnd

GRAPHS = ("encoder", "decoder", "vocoder")
ABOUT = "voice.json"
CONTEXT = ("before", "after")  # inputs of the vocoder's graph: see context
LEAST_LENGTH = 2  # of an axis of any length, in a graph: torch.export takes 0 and 1 for constants
PACKAGE = Path(__file__).resolve().parents[1]  # the folder of the exported voice that this file is part of


class VoiceError(ValueError):
    """An exported voice that is not there, or damaged; the message says what to do."""


class Voice(BaseVoice):
    """An exported voice, ready to speak."""

    def __init__(self, folder: str | Path = PACKAGE, lexicon: str | Path | None = None, n_threads: int | None = None):
        """folder: what export.py wrote, or the module in it, the one that has this file where none is named; lexicon: a
        file instead of the voice's own; n_threads: None: of all cores.

        Raises VoiceError, and TextError where a line of the lexicon is wrong.
        """
        folder = find(Path(folder)) or Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            graphs = {name: (folder / f"{name}.onnx").read_bytes() for name in GRAPHS}
            digests = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
            damaged = [f"{name}.onnx" for name in GRAPHS if digests[name] != about["sha256"][name]]
            self.n_latents, self.stride, self.reach = (about[name] for name in ("n_latents", "stride", "reach"))
            audio, text, self.speakers = about["audio"], about["text"], about.get("speakers", [])
            self.name, self.step, symbols = about["run"], about["step"], about["symbols"]
            language, units, phonemizer, longest = (text[key] for key in ("language", "units", "phonemizer", "longest"))
            rates = audio["sample_rate"], audio["hop_length"]
        except OSError as error:
            raise VoiceError(f"{error.filename}: {error.strerror}; name a folder that export.py wrote") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise VoiceError(f"{folder / ABOUT}: damaged; export the voice again") from error
        if damaged:
            raise VoiceError(f"{folder / damaged[0]}: damaged, or of another export; export the voice again")
        if lexicon is None and (folder / "lexicon.txt").is_file():
            lexicon = folder / "lexicon.txt"
        self.front_end = FrontEnd(language, units, phonemizer, lexicon)
        if list(self.front_end.symbols) != symbols:
            raise VoiceError(f"{folder / ABOUT}: other symbols than text/ has; export the voice again")
        self.reader = Reader(self.front_end, *rates, longest)
        self.identity = self.front_end.signed(" ".join((self.name, str(self.step), phonemizer, *digests.values())))
        self.encoder, self.decoder = (_session(graphs[name], folder, n_threads) for name in GRAPHS[:2])
        self.vocoder = _session(graphs["vocoder"], folder, 1)  # threads share its windows better than its layers
        if not set(CONTEXT) <= set(_inputs(self.vocoder)):
            raise VoiceError(f"{folder}: of an earlier version; export the voice again")
        self.n_threads = n_threads or os.cpu_count() or 1
        self.workers = ThreadPoolExecutor(self.n_threads)

    def _whole(self, piece, settings):
        durations, chunks_made = self._spoken(piece, settings, whole=True)
        return next(chunks_made), durations

    def _chunks(self, piece, settings):
        return self._spoken(piece, settings, settings.loudness is not None)[1]  # which is measured over a whole piece

    def _durations(self, piece, settings):
        return self._encode(piece, settings)[0]

    def _spoken(self, piece, settings, whole):
        """durations (T_x,) frames of a piece, and its sound (n,) as it is made. whole: in one."""
        durations, values = self._latents(piece, settings)
        n_frames = int(durations.sum())
        every = slice(0, n_frames)
        parts = [(every, every)] if whole else chunks(n_frames, self.reach)
        wavs = (self.vocode(self._cut(values, read), kept) for read, kept in parts)
        heard = (self.reader.heard(wav, settings) for wav in wavs)
        return durations, self.reader.finished(heard, n_frames, piece)

    def _encode(self, piece: Piece, settings: Settings):
        """durations (T_x,) frames; the encoder's outputs and speaker () by name; and how noise goes on to be drawn."""
        generator = noise_of(settings.seed, piece.phonemes)

        def drawn(channels, length):
            return generator.standard_normal((1, channels, length), dtype=np.float32)

        speaker = {"speaker": np.array(speaker_id(settings.speaker, self.speakers), dtype=np.int64)}
        values = {"x": np.array([piece.ids]), "length_scale": np.array(settings.length_scale, dtype=np.float64)}
        if "noise_values" in _inputs(self.encoder):  # what is not read is not drawn
            values["noise_values"] = drawn(2, len(piece.ids))
        values = _run(self.encoder, values | speaker) | speaker
        durations = values["durations"][0]
        for index, n in piece.pauses.items():
            durations[index] = n
        return durations, values, drawn

    def _latents(self, piece: Piece, settings: Settings):
        """durations (T_x,) frames, and the vocoder's inputs, as of vocode."""
        durations, values, drawn = self._encode(piece, settings)
        n_frames = int(durations.sum())
        noises = {"noise_f0": drawn(1, n_frames)} if "noise_f0" in _inputs(self.decoder) else {}
        noises["noise_latents"] = np.float32(settings.temperature) * drawn(self.n_latents, n_frames)
        beyond = (0, 0), (0, 0), (0, -n_frames % self.stride)
        noises = {name: np.pad(noise, beyond) for name, noise in noises.items()}
        latents = _run(self.decoder, values | noises) | {"speaker": values["speaker"]}
        if "noise_wav" in _inputs(self.vocoder):
            latents["noise_wav"] = drawn(1, n_frames * self.reader.hop_length)
        return durations, self._cut(latents, slice(0, n_frames))

    def _cut(self, values, frames):
        """What the vocoder reads, at some frames."""
        places = {"noise_wav": (..., in_samples(frames, self.reader.hop_length)), "speaker": ...}
        names = set(_inputs(self.vocoder)) - set(CONTEXT)
        return {name: values[name][places.get(name, (..., frames))] for name in names}

    def vocode(self, values: dict[str, np.ndarray], kept: slice | None = None) -> np.ndarray:
        """The samples (n,) of those frames that are kept, None: of all, in windows side by side. values: the vocoder's
        inputs by name, (1, channels, T_mel), noise_wav (1, 1, T_mel hop_length), speaker ()."""

        def samples_of(part):
            read, ours = part
            beside = context(ours.start, read.stop - read.start - ours.stop)
            return _run(self.vocoder, self._cut(values, read) | beside)["wav"][0, 0]

        n_frames = values["features"].shape[-1]
        parts = windows(kept or slice(0, n_frames), n_frames, self.reach, self.n_threads)
        if len(parts) == 1:  # in the thread that asks, so that several who ask do not wait for each other
            return samples_of(parts[0])
        return np.concatenate(list(self.workers.map(samples_of, parts)))


def find(folder: Path) -> Path | None:
    """Where an exported voice's graphs are: in a folder, or in a module in it, as export.py wrote it; None: in neither.
    Raises VoiceError where there are several."""
    found = [path for path in (folder, *folder.glob("nisets_*")) if (path / ABOUT).is_file()]
    if len(found) > 1:
        raise VoiceError(f"{folder} has {len(found)} voices: name one of {', '.join(map(str, found))}")
    return found[0] if found else None


def context(before: int = 0, after: int = 0) -> dict[str, np.ndarray]:
    """Of the vocoder's inputs those whose lengths say how many of the first and of the last frames are context."""
    return {name: np.zeros(n + LEAST_LENGTH, dtype=np.float32) for name, n in zip(CONTEXT, (before, after))}


def _session(graph, folder, n_threads):
    # from 1.29 on it tells its maker of each machine and graph, unless this is there before it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # here, so that a help text needs no package

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # three graphs' threads take turns
    options.log_severity_level = 3  # of what it cannot fold it warns for each graph
    try:
        return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    except Exception as error:  # it has a class of its own for every reason
        raise VoiceError(f"{folder}: this onnxruntime cannot run it: {' '.join(str(error).split())}") from error


def _inputs(session):
    return [one.name for one in session.get_inputs()]


def _run(session, values):
    """The outputs of a graph by name, of those values that it reads."""
    outputs = [one.name for one in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {name: values[name] for name in _inputs(session)})))


# -- the command


def parse_args(argv: list[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description="Speak with an exported voice.", allow_abbrev=False,
                                     formatter_class=command.Help)  # fmt: skip
    command.add_arguments(parser, "a pipe is read without it")
    parser.add_argument("--voice", type=Path, default=PACKAGE, metavar="DIR", help="the folder of an exported voice")
    parser.add_argument("--threads", type=int, metavar="N", help="without it one for each core")
    return command.parse(parser, argv)


def run(args: argparse.Namespace) -> int:
    """Speak all that was asked for. Returns the exit status."""
    settings = command.settings_of(args, Settings)  # what is out of range is refused before a voice is loaded
    jobs = command.named(command.texts_of(args) or [], args.out)
    voice = Voice(args.voice, args.lexicon, args.threads)
    return command.speak_all(voice, jobs, args, settings)


def main(argv: list[str] | None = None, prog: str = "speak") -> int:
    """Returns the exit status, as of command.exit_status."""
    args = parse_args(argv, prog)
    return command.exit_status(run, args, prog)
