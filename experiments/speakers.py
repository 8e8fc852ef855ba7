"""Whether a model of several speakers tells them apart: python -m experiments.speakers -o DIR.

Voices of espeak-ng say the same sentences, a small model learns all of them, and then says others as each of them. A
classifier, fitted on the recordings, names who is heard. What is done is not done again.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from data_util import config as configuration
from data_util import demo
from data_util.config import Config
from data_util.corpus import prepare
from data_util.pitch import track_f0
from experiments import runs
from runtime.command import columns
from sampling import Voice
from training.distributed import Processes

STAGE = {"parts": dict.fromkeys(("text_encoder", "prosody", "decoder", "generator"), 2e-3), "final": 0.02}
VOICES = ("en-us+m3", "en-us+Andy", "en-us+f2", "en-us+linda")  # two low and two high, with different formants


def fitted(heard: np.ndarray, speakers: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A classifier that names the speaker whose mean is nearest, each number counted in its deviation within speakers:
    the linear discriminant with a diagonal covariance, the same for all.

    heard: (n_clips, n), as the classifier is given, too; speakers: (n_clips,) from 0 on, of which none is missing.
    """
    means = np.stack([heard[speakers == one].mean(0) for one in range(speakers.max() + 1)])
    scale = np.maximum((heard - means[speakers]).std(0), 1e-6)
    return lambda heard: (((heard[:, None] - means) / scale) ** 2).sum(-1).argmin(1)


def heard_in(mel: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """What the classifier is told of a clip: the mean of each band, and of ln F0 where there is voice.

    mel: (n_mels, T_mel) natural log, f0: (2, T_mel) ln of Hz and voicing. Returns (n_mels + 1,).
    """
    voiced = f0[1] > 0
    return np.append(mel.mean(1), f0[0, voiced].mean() if voiced.any() else f0[0].mean())


def heard_in_speech(voice: Voice, texts: Sequence[str], speaker: str) -> np.ndarray:
    """What is heard when a voice says texts as somebody, (n_texts, n)."""
    config, heard = voice.saved.config, []
    for text in tqdm(texts, desc=speaker, unit="text", ncols=columns()):
        wav = voice.speak(text, seed=0, speaker=speaker).wav
        mel = voice.model.features(torch.from_numpy(wav)[None])[0].numpy()
        heard.append(heard_in(mel, track_f0(wav, config.audio, config.pitch)))
    return np.stack(heard)


def config_of(args: argparse.Namespace) -> Config:
    """The overlay without discriminators: who speaks is heard long before how well."""
    root = args.out.resolve()
    names = f"speakers.names=[{', '.join(args.voices)}]"
    corpus = runs.of_corpus(root / "corpus", root / "cache")
    return runs.load(args.c, [STAGE], args.steps, [*corpus, names], args.overrides)


def measure(args: argparse.Namespace, processes: Processes) -> tuple[np.ndarray, float]:
    """(confusion, share): how often each was heard, (asked for, heard), and of held-out recordings how many were named
    right."""
    config, sentences = config_of(args), demo.sentences()
    demo.make(args.out / "corpus", config, sentences[: args.sentences], voices=args.voices)
    runs.run(config, args.out / "run", processes)
    train, valid = (prepare(config, getattr(config.dataset, f"metafile_{name}")) for name in ("train", "valid"))
    heard = [np.stack([heard_in(one.mel(i), one.f0(i)) for i in range(len(one))]) for one in (train, valid)]
    named = fitted(heard[0], train.speakers)
    share = (named(heard[1]) == valid.speakers).mean()
    voice, n = Voice.load(args.out / "run"), len(args.voices)
    confusion = np.zeros((n, n), dtype=int)
    for asked, speaker in enumerate(args.voices):
        heard = heard_in_speech(voice, sentences[len(sentences) - args.texts :], speaker)
        confusion[asked] = np.bincount(named(heard), minlength=n)
    return confusion, share


def report(confusion: np.ndarray, share: float, names: Sequence[str]) -> str:
    """Markdown: a row for each speaker that was asked for, a column for each that was heard, and what it comes to."""
    rows = [["asked for", *(f"heard {name}" for name in names)]]
    rows += [[name, *map(str, row)] for name, row in zip(names, confusion)]
    right, total = int(np.trace(confusion)), int(confusion.sum())
    said = f"{right} of {total} syntheses named right, {right / total:.1%}; of held-out recordings {share:.1%}"
    return f"{runs.table(rows)}\n{said}\n"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = runs.parser("speakers", __doc__, "demo")
    parser.add_argument("--voices", nargs="+", default=list(VOICES), metavar="VOICE", help="of espeak-ng")
    parser.add_argument("--sentences", type=int, default=80, help="of data_util/demo.txt, that each says in training")
    parser.add_argument("--texts", type=int, default=20, help="the last of them, that the model says as each")
    parser.add_argument("--steps", type=int, default=300, help="of the model")
    args = configuration.parse(parser, argv)
    most = len(demo.sentences()) - args.texts
    if args.texts < 1 or not demo.VALID_EVERY <= args.sentences <= most:
        parser.error(f"--sentences {args.sentences}: must be from {demo.VALID_EVERY} to {most}, and --texts at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return runs.command("speakers", lambda processes: report(*measure(args, processes), args.voices), args.out)


if __name__ == "__main__":
    sys.exit(main())
