"""Speak with an exported voice: python speak.py "Any text." -o any.wav, or Voice(FOLDER).speak(...) from Python.

export.py puts this file, as speak.py, beside the graphs. It needs onnxruntime, numpy and the text front end, and no
PyTorch. The same seed gives the same sound as sampling.py does, to the rounding of float32.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from runtime import timestamps
from runtime.chunking import (
    Piece,
    Reader,
    Settings,
    Speech,
    chunks,
    in_samples,
    noise_of,
    speaker_id,
    to_pcm,
    write_wav,
)
from runtime.files import write_atomic
from text import FrontEnd

GRAPHS = ("encoder", "decoder", "vocoder")
ABOUT = "voice.json"


class VoiceError(ValueError):
    """An exported voice that is not there, or damaged; the message says what to do."""


class Voice:
    """An exported voice, ready to speak."""

    def __init__(self, folder: str | Path, lexicon: str | Path | None = None, n_threads: int | None = None):
        """folder: what export.py wrote; lexicon: a file instead of the voice's own; n_threads: None: of all cores.

        Raises VoiceError, and TextError where a line of the lexicon is wrong.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            graphs = {name: (folder / f"{name}.onnx").read_bytes() for name in GRAPHS}
            digests = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
            damaged = [f"{name}.onnx" for name in GRAPHS if digests[name] != about["sha256"][name]]
            self.n_latents, self.stride, self.reach = (about[name] for name in ("n_latents", "stride", "reach"))
            audio, text, self.speakers = about["audio"], about["text"], about.get("speakers", [])
        except OSError as error:
            raise VoiceError(f"{error.filename}: {error.strerror}; name a folder that export.py wrote") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise VoiceError(f"{folder / ABOUT}: damaged; export the voice again") from error
        if damaged:
            raise VoiceError(f"{folder / damaged[0]}: damaged, or of another export; export the voice again")
        if lexicon is None and (folder / "lexicon.txt").is_file():
            lexicon = folder / "lexicon.txt"
        self.front_end = FrontEnd(text["language"], text["units"], text["phonemizer"], lexicon)
        if list(self.front_end.symbols) != about["symbols"]:
            raise VoiceError(f"{folder / ABOUT}: other symbols than text/ has; export the voice again")
        self.reader = Reader(self.front_end, audio["sample_rate"], audio["hop_length"], text["longest"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads or 0
        options.log_severity_level = 3  # of what it cannot fold it warns for each graph
        try:
            sessions = [onnxruntime.InferenceSession(graphs[name], options, ["CPUExecutionProvider"])
                        for name in GRAPHS]  # fmt: skip
        except Exception as error:  # it has a class of its own for every reason
            raise VoiceError(f"{folder}: this onnxruntime cannot run it: {' '.join(str(error).split())}") from error
        self.encoder, self.decoder, self.vocoder = sessions

    def speak(self, text: str, **settings) -> Speech:
        """Speak a text, which may have phonemes in it, `[[ fəˈniːmz ]]`, and pauses, `<break time="300ms"/>`.

        settings: the fields of runtime.chunking.Settings. Raises TextError where there is nothing to say or too much,
        ValueError for a setting out of range.
        """
        settings = Settings(**settings)
        pieces, sounds = self.reader.pieces(text, settings), []
        for piece in pieces:
            durations, values, noise = self._latents(piece, settings)
            n_frames = int(durations.sum())
            wav = self._generate(values, noise, slice(0, n_frames), settings)
            sounds.append((next(self.reader.finished([wav], n_frames, piece)), durations))
        return self.reader.joined(text, pieces, sounds)

    def stream(self, text: str, **settings) -> Iterator[np.ndarray]:
        """speak, but giving its sound as it is made, (n,) float32; what is made is not kept. Raises as speak does."""
        settings = Settings(**settings)
        pieces = self.reader.pieces(text, settings)
        return (chunk for piece in pieces for chunk in self._chunks(piece, settings))

    def timestamps(self, speech: Speech, kind: str) -> str:
        """When each phoneme and each word of a speech is said: the content of a file. kind: json, srt or textgrid."""
        return self.reader.timestamps(speech, kind)

    def _chunks(self, piece, settings):
        durations, values, noise = self._latents(piece, settings)
        n_frames = int(durations.sum())
        wavs = (self._generate(values, noise, read, settings)[in_samples(kept, self.reader.hop_length)]
                for read, kept in chunks(n_frames, self.reach))  # fmt: skip
        yield from self.reader.finished(wavs, n_frames, piece)

    def _latents(self, piece: Piece, settings: Settings):
        """durations (T_x,) frames; what the generator reads of each, (1, channels, T_mel) by name; and its noise, (1,
        1, T_mel hop_length), None where it reads none."""
        generator, speaker = noise_of(settings.seed, piece.phonemes), self._speaker(settings)

        def drawn(channels, length):
            return generator.standard_normal((1, channels, length), dtype=np.float32)

        values = {"x": np.array([piece.ids]), "length_scale": np.array(settings.length_scale, dtype=np.float64)}
        if "noise_values" in _inputs(self.encoder):  # what is not read is not drawn
            values["noise_values"] = drawn(2, len(piece.ids))
        values = _run(self.encoder, values | speaker)
        durations = values["durations"][0]
        for index, n in piece.pauses.items():
            durations[index] = n
        n_frames = int(durations.sum())
        noises = {"noise_f0": drawn(1, n_frames)} if "noise_f0" in _inputs(self.decoder) else {}
        noises["noise_latents"] = np.float32(settings.temperature) * drawn(self.n_latents, n_frames)
        beyond = (0, 0), (0, 0), (0, -n_frames % self.stride)
        noises = {name: np.pad(noise, beyond) for name, noise in noises.items()}
        latents = _run(self.decoder, values | speaker | noises)
        wanted = "noise_wav" in _inputs(self.vocoder)
        noise = drawn(1, n_frames * self.reader.hop_length) if wanted else None
        return durations, {name: value[..., :n_frames] for name, value in latents.items()}, noise

    def _speaker(self, settings):
        """What the graphs of a voice of several read of who speaks; those of one read nothing of it."""
        return {"speaker": np.array(speaker_id(settings.speaker, self.speakers), dtype=np.int64)}

    def _generate(self, values, noise, frames, settings):
        """The samples (n,) of some frames."""
        values = {name: value[..., frames] for name, value in values.items()} | self._speaker(settings)
        if noise is not None:
            values["noise_wav"] = noise[..., in_samples(frames, self.reader.hop_length)]
        return _run(self.vocoder, values)["wav"][0, 0].clip(-1, 1)


def _inputs(session):
    return [one.name for one in session.get_inputs()]


def _run(session, values):
    """The outputs of a graph by name, of those values that it reads."""
    outputs = [one.name for one in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {name: values[name] for name in _inputs(session)})))


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speak with an exported voice.", allow_abbrev=False)
    parser.add_argument("text", help="what to say, or - for standard input")
    parser.add_argument("-o", dest="out", default="speech.wav", metavar="WAV",
                        help="or - for samples of 16 bits on standard output, as they are made")  # fmt: skip
    parser.add_argument("--voice", type=Path, default=Path(__file__).resolve().parent, metavar="DIR",
                        help="the exported voice; without it the folder of this file")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the noise")
    parser.add_argument("--length-scale", type=float, default=1.0, help="over 1 slower, under 1 faster")
    parser.add_argument("--sentence-pause", type=float, metavar="SECONDS", help="between two sentences")
    parser.add_argument("--speaker", metavar="NAME", help="of a voice of several; without it the first of them")
    parser.add_argument("--timestamps", choices=list(timestamps.FORMATS), help="of words and phonemes, beside the WAV")
    parser.add_argument("-l", dest="lexicon", metavar="FILE", help="words and how they are said: word = respelling")
    parser.add_argument("--threads", type=int, metavar="N", help="without it one for each core")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    settings = {name: getattr(args, name) for name in Settings.__dataclass_fields__}
    Settings(**settings)  # what is out of range is refused before a voice is loaded
    text = sys.stdin.read() if args.text == "-" else args.text
    voice = Voice(args.voice, args.lexicon, args.threads)
    if args.out == "-":
        for chunk in voice.stream(text, **settings):
            sys.stdout.buffer.write(to_pcm(chunk))
            sys.stdout.buffer.flush()
        return
    out, sound = Path(args.out), voice.stream(text, **settings)
    if args.timestamps:
        speech = voice.speak(text, **settings)
        times, sound = voice.timestamps(speech, args.timestamps), [speech.wav]
    try:
        if args.timestamps:
            write_atomic(out.with_suffix(timestamps.SUFFIXES[args.timestamps]), times.encode("utf-8"))
        write_wav(out, sound, voice.reader.sample_rate)
    except OSError as error:
        raise OSError(f"{out} cannot be written ({error.strerror}): name another place with -o") from error


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"speak.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
