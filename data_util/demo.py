"""A corpus without a download: espeak-ng speaks the sentences of demo.txt. python -m data_util.demo [FOLDER]

Laid out as LJSpeech is, wavs/ID.wav and metadata.csv, with train.txt and valid.txt over the ids.
"""

import argparse
import ctypes
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_util import config as configuration
from data_util.config import ROOT, Config
from runtime import command
from runtime.files import write_atomic

SENTENCES = Path(__file__).with_name("demo.txt")
VALID_EVERY = 20  # one sentence of so many is held out
PAUSE = 0.05  # seconds that stay of the silence at either end
SILENCE = 0.002  # an amplitude, full scale 1
_RETRIEVAL, _SENTENCE, _UTF8 = 2, 1, 1  # of speak_lib.h: the sound comes to a callback; what a position counts; text
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class DemoError(ValueError):
    """espeak-ng cannot be had, or does not do what it should."""


def sentences() -> list[str]:
    return SENTENCES.read_text(encoding="utf-8").splitlines()


def speak(texts: Iterable[str], config: Config, voice: str = "") -> Iterator[np.ndarray]:
    """What espeak-ng makes of each text: (T_wav,) float32 in [-1, 1], silence cut off at both ends.

    voice: of espeak-ng, perhaps with a variant, such as en-us+f3; "": text.language. espeak-ng has one state in a
    process and carries some of it from text to text: only the same texts in the same order from a fresh process give
    the same samples. Raises DemoError.
    """
    library, sample_rate = _start(voice or config.text.language)
    if sample_rate != config.audio.sample_rate:
        raise DemoError(f"audio.sample_rate = {config.audio.sample_rate}: must be {sample_rate} Hz, espeak-ng's rate")
    heard: list[np.ndarray] = []

    @_CALLBACK
    def listen(samples, count, _events):
        if samples and count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(listen)
    try:
        for text in texts:
            heard.clear()
            content = text.encode() + b"\0"
            status = library.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, _SENTENCE, 0, _UTF8, None, None)
            if status != 0 or not heard:
                raise DemoError(f"espeak-ng did not speak {text!r} (status {status})")
            yield _trimmed(np.concatenate(heard).astype(np.float32) / 32768, sample_rate)
    finally:
        library.espeak_Terminate()


def make(
    folder: Path,
    config: Config,
    texts: list[str] | None = None,
    progress: bool = True,
    voices: Sequence[str] = (),
) -> bool:
    """Write the corpus into a folder. Returns whether there was anything to do.

    texts: demo.txt's where None; voices: of espeak-ng, each of which says all of it and is named by the lists; ():
    text.language alone, without a name. metadata.csv comes last: where it is as it should be, so is the rest.
    Raises DemoError, OSError.
    """
    texts, voices = sentences() if texts is None else texts, voices or ("",)
    clips = {f"{voice or 'demo'}-{i:03d}": (voice, text) for voice in voices for i, text in enumerate(texts, 1)}
    lines = {clip: f"{clip}.wav|{voice}|{text}\n" if voice else f"{clip}\n" for clip, (voice, text) in clips.items()}
    valid = {clip for clip in clips if int(clip.rsplit("-", 1)[1]) % VALID_EVERY == 0}
    lists = {
        "train.txt": "".join(line for clip, line in lines.items() if clip not in valid),
        "valid.txt": "".join(line for clip, line in lines.items() if clip in valid),
        "metadata.csv": "".join(f"{clip}|{text}|{text}\n" for clip, (_, text) in clips.items()),
    }
    paths = [folder / "wavs" / f"{clip}.wav" for clip in clips]
    if all(_holds(folder / name, content) for name, content in lists.items()) and all(map(Path.is_file, paths)):
        return False
    from data_util.audio import save_wav  # here, with all that takes seconds to load: most starts find the corpus there
    from data_util.features import bar

    (folder / "metadata.csv").unlink(missing_ok=True)
    wavs = (wav for voice in voices for wav in speak(texts, config, voice))
    for path, wav in bar(zip(paths, wavs), len(paths), "speaking", progress):
        save_wav(path, wav, config.audio.sample_rate)
    for name, content in lists.items():
        write_atomic(folder / name, content.encode())
    return True


def _start(voice):
    """espeak-ng's library, ready to speak, and its sample rate in Hz."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = Path(espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise DemoError(f"espeak-ng cannot be loaded ({error}): pip install -r requirements.txt") from error
    sample_rate = library.espeak_Initialize(_RETRIEVAL, 0, str(data_path).encode(), 0)
    _, plus, variant = voice.partition("+")  # one that it does not know it leaves away without a word
    unknown = plus and not (data_path / "voices" / "!v" / variant).is_file()
    if sample_rate <= 0 or unknown or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise DemoError(f"espeak-ng has no voice {voice!r} (text.language)")
    return library, sample_rate


def _trimmed(wav, sample_rate):
    """The wav with no more than PAUSE seconds of silence at either end."""
    loud = np.flatnonzero(np.abs(wav) > SILENCE)
    if len(loud) == 0:
        return wav
    pause = round(PAUSE * sample_rate)
    return wav[max(loud[0] - pause, 0) : loud[-1] + pause + 1]


def _holds(path, content):
    try:
        return path.read_bytes() == content.encode()
    except OSError:
        return False


def run(args: argparse.Namespace) -> None:
    config = configuration.load("demo")
    make(ROOT / config.dataset.prtpath if args.folder is None else args.folder, config)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, as of command.exit_status."""
    parser = argparse.ArgumentParser(prog="python -m data_util.demo", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="default: dataset.prtpath of configs/demo.yaml")
    args = parser.parse_args(argv)
    return command.exit_status(run, args, "data_util.demo")


if __name__ == "__main__":
    sys.exit(main())
