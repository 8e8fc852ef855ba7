"""Whether a model of several speakers tells them apart: python -m experiments.speakers -o DIR.

Voices of espeak-ng say the same sentences, a small model learns all of them, and then says others as each of them. A
classifier, fitted on the recordings, names who is heard. What is done is not done again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_util import config as configuration
from data_util import demo
from data_util.config import Config
from data_util.corpus import Corpus, prepare
from data_util.files import write_atomic
from data_util.pitch import track_f0
from data_util.world import World
from experiments import runs
from sampling import Voice

VOICES = ("en-us+m3", "en-us+Andy", "en-us+f2", "en-us+linda")  # two low and two high, with different formants
PARTS = "text_encoder: 2.0e-3, variance: 2.0e-3, decoder: 2.0e-3, generator: 2.0e-3"


@dataclass(frozen=True)
class Classifier:
    """Names the speaker whose mean is nearest, each number counted in its deviation within speakers.

    That is the linear discriminant with a diagonal covariance, the same for all. means: (n_speakers, n), scale: (n,).
    """

    means: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, heard: np.ndarray, speakers: np.ndarray) -> "Classifier":
        """heard: (n_clips, n); speakers: (n_clips,) from 0 on, of which none is missing."""
        means = np.stack([heard[speakers == one].mean(0) for one in range(speakers.max() + 1)])
        return cls(means, np.maximum((heard - means[speakers]).std(0), 1e-6))

    def name(self, heard: np.ndarray) -> np.ndarray:
        """heard: (n_clips, n). Returns (n_clips,) speakers."""
        return (((heard[:, None] - self.means) / self.scale) ** 2).sum(-1).argmin(1)


def heard_in(mel: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """What the classifier is told of a clip: the mean of each band, and of ln F0 where there is voice.

    mel: (n_mels, T_mel) natural log, f0: (2, T_mel) ln of Hz and voicing. Returns (n_mels + 1,).
    """
    voiced = f0[1] > 0
    return np.append(mel.mean(1), f0[0, voiced].mean() if voiced.any() else f0[0].mean())


def heard_in_corpus(corpus: Corpus) -> np.ndarray:
    return np.stack([heard_in(corpus.mel(i), corpus.f0(i)) for i in range(len(corpus))])


def heard_in_speech(voice: Voice, texts: Sequence[str], speaker: str) -> np.ndarray:
    """What is heard when a voice says texts as somebody, (n_texts, n)."""
    config, heard = voice.saved.config, []
    for text in tqdm(texts, desc=speaker, unit="text"):
        wav = voice.speak(text, seed=0, speaker=speaker).wav
        mel = voice.model.features(torch.from_numpy(wav)[None])[0].numpy()
        heard.append(heard_in(mel, track_f0(wav, config.audio, config.pitch)))
    return np.stack(heard)


def config_of(args: argparse.Namespace) -> Config:
    """The overlay with one lane and without discriminators: who speaks is heard long before how well."""
    root = args.out.resolve()
    overrides = [
        *runs.one_lane(runs.stage(PARTS)),
        f"training.train_num_steps={args.steps}",
        f"system.validation_step={args.steps}",
        "system.save_ckpt=50",
        "system.keep_ckpt=1",
        "system.sample_clips=1",
        f"dataset.prtpath={root / 'corpus'}",
        f"dataset.cache={root / 'cache'}",
        *(f"dataset.metafile_{name}={root / 'corpus' / name}.txt" for name in ("train", "valid")),
        f"speakers.names=[{', '.join(args.voices)}]",
    ]
    return configuration.load(args.c, [*overrides, *args.overrides])


def measure(args: argparse.Namespace, world: World) -> tuple[np.ndarray, float]:
    """(confusion, share): how often each was heard, (asked for, heard), and of held-out recordings how many were named
    right."""
    config, sentences = config_of(args), demo.sentences()
    demo.make(args.out / "corpus", config, sentences[: args.sentences], voices=args.voices)
    runs.run(config, args.out / "run", world)
    train, valid = (prepare(config, getattr(config.dataset, f"metafile_{name}")) for name in ("train", "valid"))
    classifier = Classifier.fit(heard_in_corpus(train), train.speakers)
    share = (classifier.name(heard_in_corpus(valid)) == valid.speakers).mean()
    voice, n = Voice.load(args.out / "run"), len(args.voices)
    confusion = np.zeros((n, n), dtype=int)
    for asked, speaker in enumerate(args.voices):
        heard = heard_in_speech(voice, sentences[len(sentences) - args.texts :], speaker)
        confusion[asked] = np.bincount(classifier.name(heard), minlength=n)
    return confusion, share


def report(confusion: np.ndarray, names: Sequence[str], share: float) -> str:
    """Markdown: a row for each speaker that was asked for, a column for each that was heard, and what it comes to."""
    lines = ["| asked for | " + " | ".join(f"heard {name}" for name in names) + " |"]
    lines += ["|---|" + "---:|" * len(names)]
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(names, confusion)]
    right, total = int(np.trace(confusion)), int(confusion.sum())
    lines += ["", f"{right} of {total} syntheses named right, {right / total:.1%}; of held-out recordings {share:.1%}"]
    return "\n".join(lines) + "\n"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.speakers", description=__doc__.split("\n")[0])
    parser.add_argument("-c", default="demo", metavar="NAME_OR_FILE", help="the overlay that the model is made of")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="corpus, run and table")
    parser.add_argument("--voices", nargs="+", default=list(VOICES), metavar="VOICE", help="of espeak-ng")
    parser.add_argument("--sentences", type=int, default=80, help="of data_util/demo.txt, that each says in training")
    parser.add_argument("--texts", type=int, default=20, help="the last of them, that the model says as each")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the overlay")
    args = parser.parse_intermixed_args(argv)
    most = len(demo.sentences()) - args.texts
    if len(set(args.voices)) < max(2, len(args.voices)):
        parser.error("--voices: at least two, and different ones")
    if args.texts < 1 or not demo.VALID_EVERY <= args.sentences <= most:
        parser.error(f"--sentences {args.sentences}: must be from {demo.VALID_EVERY} to {most}, and --texts at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)

    def work(world: World) -> str:
        confusion, share = measure(args, world)
        said = report(confusion, args.voices, share)
        write_atomic(args.out / "table.md", said.encode())
        return said

    return runs.command("speakers", work)


if __name__ == "__main__":
    sys.exit(main())
