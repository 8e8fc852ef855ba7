"""What each solver makes of more evaluations, from one trained voice: python -m experiments.solvers -o DIR.

A table of held-out clips. latent L1 is the distance, in nats, of the log-mel that a solver ends with from the
recording's, along the recording's own alignment: a mean is nearer than any sample, however well that sounds. The other
measures are of the speech as it is spoken, with its own durations, as evaluate.py has them. A voice of several speakers
says each clip as its own. What has been measured is kept in DIR/solvers.json, and is not measured again.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch

from data_util.corpus import Corpus, prepare
from data_util.features import bar
from evaluation import metrics
from evaluation.held_out import copy_latent
from experiments import runs
from model.sde import ONLY, SOLVERS
from runtime import command
from runtime.files import read_json, write_json
from sampling import Voice
from training import voices
from training.data import clip_tensors

COLUMNS = {"latent_l1": "latent L1, nats", "cer": "CER", "distillmos": "DistillMOS", "mcd": "MCD, dB"}


def ways(solvers: list[str], steps: list[int]) -> list[tuple[str, int]]:
    """(solver, n_timesteps) of all that is asked for; a solver that takes one number only has that."""
    return [(solver, n) for solver in solvers for n in ([ONLY[solver]] if solver in ONLY else steps)]


def latent_distance(voice: Voice, corpus: Corpus, i: int, solver: str, n_timesteps: int) -> metrics.Pairs:
    """latent_l1 of one clip."""
    clip, generator = clip_tensors(voice.saved.config, corpus, i, voice.device), np.random.default_rng(i)
    with voice.model.speaking_as(int(corpus.speakers[i])):
        made = copy_latent(voice.model, clip, n_timesteps, solver, generator)
    return {"latent_l1": ((made - clip[1]).abs().sum().item(), made.numel())}


def spoken_quality(voice: Voice, corpus: Corpus, i: int, solver: str, n_timesteps: int) -> metrics.Pairs:
    """The other measures of one clip's text."""
    clip, config = corpus.clips[i], voice.saved.config
    names = config.speakers.names
    speaker = names[corpus.speakers[i]] if names else None
    speech = voice.speak(clip.text, n_timesteps=n_timesteps, solver=solver, seed=i, speaker=speaker)
    sounds = [metrics.Sound.of(wav, config) for wav in (speech.wav, corpus.wav(i))]
    reference = metrics.reference_of(clip.text, config.text.language)
    found = metrics.measure(*sounds, reference, config.system.recogniser)["pairs"]
    return {name: pair for name, pair in found.items() if name in COLUMNS}


def pooled(clips: list[metrics.Pairs]) -> dict[str, float]:
    """{measure: value} over clips: the sum of the first numbers by that of the second."""
    sums = {name: [sum(one[name][k] for one in clips if name in one) for k in (0, 1)] for name in COLUMNS}
    return {name: first / second for name, (first, second) in sums.items() if second}


def table(results: dict[tuple[str, int], dict[str, float]]) -> str:
    """A row a solver and number of evaluations."""
    names = [name for name in COLUMNS if any(name in one for one in results.values())]
    rows = [["solver", "n", *(COLUMNS[name] for name in names)]]
    for (solver, n), numbers in results.items():
        rows.append([solver, str(n), *(f"{numbers[name]:.3f}" if name in numbers else "" for name in names)])
    return runs.table(rows)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.solvers", description=__doc__.split("\n")[0],
                                     formatter_class=command.Help)  # fmt: skip
    voices.add_arguments(parser)
    parser.add_argument("--ids", metavar="FILE", help="the clips; without it dataset.metafile_test of the voice")
    parser.add_argument("--clips", type=int, default=8, help="how many of them")
    parser.add_argument("-n", "--n-timesteps", dest="steps", type=int, nargs="+", default=[1, 2, 4, 10, 50],
                        metavar="N", help="evaluations of the score network")  # fmt: skip
    parser.add_argument("--solvers", nargs="+", choices=list(SOLVERS), default=list(SOLVERS),
                        help="those to measure")  # fmt: skip
    parser.add_argument("--latents-only", action="store_true", help="without speaking, which takes most of the time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="solvers.json and table.md")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> str:
    """Measure what has not been measured yet. Returns the table."""
    path, which = voices.find(args.id, args.ckpt)
    print(which)
    voice = Voice.load(path, args.device)
    config = voice.saved.config
    corpus = prepare(config, args.ids or config.dataset.metafile_test)
    n_clips = min(args.clips, len(corpus))
    # another voice of the same name is another
    spoken_by = hashlib.sha256(path.read_bytes() + path.with_suffix(".json").read_bytes()).hexdigest()
    kept = read_json(args.out / "solvers.json")
    pairs = kept["pairs"] if isinstance(kept, dict) and kept.get("voice") == spoken_by else {}
    kinds = {"latent": latent_distance} | ({} if args.latents_only else {"speech": spoken_quality})
    results = {way: [] for way in ways(args.solvers, args.steps)}
    todo = [(kind, way, i) for kind in kinds for way in results for i in range(n_clips)]
    for kind, way, i in bar(todo, len(todo), "clips", True):
        key = f"{way[0]} {way[1]}|{kind}|{corpus.clips[i].id}"
        if key not in pairs:
            pairs[key] = kinds[kind](voice, corpus, i, *way)
            write_json(args.out / "solvers.json", {"voice": spoken_by, "pairs": pairs}, durable=False)
        results[way].append(pairs[key])
    return table({way: pooled(found) for way, found in results.items()})


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return runs.command("solvers", lambda _: measure(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
