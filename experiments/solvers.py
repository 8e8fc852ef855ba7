"""What each solver makes of more evaluations, from one trained voice: python -m experiments.solvers -o DIR.

A table and a picture of held-out clips. latent L1 is the distance, in nats, of the log-mel that a solver ends with from
the recording's, along the recording's own alignment: a mean is nearer than any sample, however well that sounds. CER
and DNSMOS are of the speech as it is spoken, with its own durations, as evaluate.py measures them. A voice of several
speakers says each clip as its own. What has been measured is kept in DIR/solvers.json, and is not measured again.
"""

import argparse
import hashlib
import io
import logging
import sys
from pathlib import Path

import torch

from data_util import checkpoint, measures
from data_util.corpus import Corpus, prepare
from data_util.features import bar, digest
from data_util.files import read_json, write_atomic, write_json
from model.sde import ONE_STEP, SOLVERS
from sampling import Voice

COLUMNS = {"latent_l1": "latent L1, nats", "cer": "CER", "dnsmos": "DNSMOS", "mcd": "MCD, dB"}


def ways(solvers: list[str], steps: list[int]) -> list[tuple[str, int]]:
    """(solver, n_timesteps) of all that is asked for; a solver of one step only has that."""
    return [(solver, n) for solver in solvers for n in ([1] if solver in ONE_STEP else steps)]


def clip_name(corpus: Corpus, i: int) -> str:
    """A clip's id, and a digest of what is read of it: other features are other measurements."""
    f0 = corpus.f0(i).tobytes().hex() if corpus.has_f0 else ""
    content = digest(corpus.mel(i).tobytes().hex(), f0, corpus.ids[i].tobytes().hex(), str(corpus.speakers[i]))
    return f"{corpus.clips[i].id} {content[:8]}"


def voice_digest(path: Path) -> str:
    """Of a voice's weights and of the JSON that says how to use them: another of the same name is another."""
    return hashlib.sha256(path.read_bytes() + path.with_suffix(".json").read_bytes()).hexdigest()


def latent_distance(voice: Voice, corpus: Corpus, i: int, solver: str, n_timesteps: int) -> measures.Pairs:
    """latent_l1 of one clip."""
    mel = torch.from_numpy(corpus.mel(i))[None]
    f0 = torch.from_numpy(corpus.f0(i))[None] if voice.saved.config.with_f0 else mel.new_zeros(1, 2, 0)
    given = (each.to(voice.device) for each in (torch.from_numpy(corpus.ids[i])[None], mel, f0))
    with voice.model.speaking_as(int(corpus.speakers[i])):
        made = voice.model.copy_latent(*given, n_timesteps, solver, torch.Generator().manual_seed(i)).cpu()
    return {"latent_l1": ((made - mel).abs().sum().item(), mel.numel())}


def spoken_quality(voice: Voice, corpus: Corpus, i: int, solver: str, n_timesteps: int) -> measures.Pairs:
    """The other measures of one clip's text."""
    clip, config = corpus.clips[i], voice.saved.config
    names = config.speakers.names
    speaker = names[corpus.speakers[i]] if names else None
    speech = voice.speak(clip.text, n_timesteps=n_timesteps, solver=solver, seed=i, speaker=speaker)
    sounds = [measures.Sound.of(wav, config) for wav in (speech.wav, corpus.wav(i))]
    found, _ = measures.measure(*sounds, measures.reference_of(clip.text, config.text.language))
    return {name: pair for name, pair in found.items() if name in COLUMNS}


def pooled(clips: list[measures.Pairs]) -> dict[str, float]:
    """{measure: value} over clips: the sum of the first numbers by that of the second."""
    sums = {name: [sum(one[name][k] for one in clips if name in one) for k in (0, 1)] for name in COLUMNS}
    return {name: first / second for name, (first, second) in sums.items() if second}


def table(results: dict[str, dict[str, float]]) -> str:
    """Markdown, a row a solver and number of evaluations. results: {"solver n": numbers}."""
    names = [name for name in COLUMNS if any(name in one for one in results.values())]
    lines = [
        "| solver | n | " + " | ".join(COLUMNS[name] for name in names) + " |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    for way, numbers in results.items():
        cells = [f"{numbers[name]:.3f}" if name in numbers else "" for name in names]
        lines.append("| " + " | ".join([*way.split(), *cells]) + " |")
    return "\n".join(lines) + "\n"


def picture(results: dict[str, dict[str, float]]) -> bytes:
    """A PNG: a panel a measure, a line a solver, over the number of evaluations."""
    from matplotlib.figure import Figure

    names = [name for name in COLUMNS if any(name in one for one in results.values())]
    figure = Figure(figsize=(3.6 * len(names), 3.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        for solver in SOLVERS:
            ours = {way: one for way, one in results.items() if way.split()[0] == solver and name in one}
            rows = sorted((int(way.split()[1]), one[name]) for way, one in ours.items())
            if rows:
                axis.plot(*zip(*rows), "o-", linewidth=1, markersize=4, label=solver)
        steps = sorted({int(way.split()[1]) for way in results})
        axis.set(xscale="log", xlabel="evaluations", title=COLUMNS[name])
        axis.set_xticks(steps, steps)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=90)
    return memory.getvalue()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.solvers", description=__doc__.split("\n")[0])
    parser.add_argument("-id", metavar="ID", help="the run in checkpoint/; without it the newest")
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="the voice of this step; without it the newest")
    parser.add_argument("--ids", metavar="FILE", help="the clips; without it dataset.metafile_test of the voice")
    parser.add_argument("--clips", type=int, default=8, help="how many of them")
    parser.add_argument("-n", dest="steps", type=int, nargs="+", default=[1, 2, 4, 10, 50], metavar="N")
    parser.add_argument("--solvers", nargs="+", choices=list(SOLVERS), default=list(SOLVERS))
    parser.add_argument("--latents-only", action="store_true", help="without speaking, which takes most of the time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="table.md and solvers.png")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Measure what has not been measured yet. Returns the table."""
    folder = checkpoint.newest_run() if args.id is None else checkpoint.RUNS / args.id
    path = checkpoint.find(folder, "voice", args.ckpt)
    voice = Voice(checkpoint.load_voice(path), args.device)
    config = voice.saved.config
    corpus = prepare(config, args.ids or config.dataset.metafile_test)
    n_clips = min(args.clips, len(corpus))
    kept, spoken_by = read_json(args.out / "solvers.json"), voice_digest(path)
    pairs = kept["pairs"] if isinstance(kept, dict) and kept.get("voice") == spoken_by else {}
    wanted = ways(args.solvers, args.steps)
    kinds = {"latent": latent_distance} | ({} if args.latents_only else {"speech": spoken_quality})
    todo = [(kind, solver, n, i) for kind in kinds for solver, n in wanted for i in range(n_clips)]
    names = [clip_name(corpus, i) for i in range(n_clips)]
    for kind, solver, n, i in bar(todo, len(todo), "clips", True):
        key = f"{solver} {n}|{kind}|{names[i]}"
        if key not in pairs:
            pairs[key] = kinds[kind](voice, corpus, i, solver, n)
            write_json(args.out / "solvers.json", {"voice": spoken_by, "pairs": pairs}, durable=False)
    asked = {f"{kind}|{name}" for kind in kinds for name in names}
    results = {f"{solver} {n}": pooled([pairs[f"{solver} {n}|{one}"] for one in sorted(asked)]) for solver, n in wanted}
    write_atomic(args.out / "table.md", table(results).encode())
    write_atomic(args.out / "solvers.png", picture(results))
    return table(results)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(run(args), end="")
    except (ValueError, OSError) as error:
        print(f"solvers: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
