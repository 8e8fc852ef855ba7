"""What each solver makes of more evaluations, from one trained voice: python -m experiments.solvers -o DIR.

A table and a picture of held-out clips. latent L1 is the distance, in nats, of the log-mel that a solver ends with from
the recording's, along the recording's own alignment: a mean is nearer than any sample, however well that sounds. CER
and DNSMOS are of the speech as it is spoken, with its own durations, as evaluate.py measures them. What has been
measured is kept in DIR/solvers.json, and is not measured again.
"""

import argparse
import io
import logging
import sys
from pathlib import Path

import torch

from data_util import checkpoint, measures
from data_util.corpus import Corpus, prepare
from data_util.features import bar
from data_util.files import read_json, write_atomic, write_json
from model.sde import ONE_STEP, SOLVERS
from sampling import Voice, newest_run

COLUMNS = {"latent_l1": "latent L1, nats", "cer": "CER", "dnsmos": "DNSMOS", "mcd": "MCD, dB"}


def ways(solvers: list[str], steps: list[int]) -> list[tuple[str, int]]:
    """(solver, n_timesteps) of all that is asked for; a solver of one step only has that."""
    return [(solver, n) for solver in solvers for n in ([1] if solver in ONE_STEP else steps)]


def measure_way(voice: Voice, corpus: Corpus, n_clips: int, solver: str, n_timesteps: int) -> dict[str, float]:
    """Means over the first clips of a corpus, by the names of COLUMNS."""
    config, pairs = voice.saved.config, []
    for i in bar(range(n_clips), n_clips, f"{solver}, {n_timesteps}", True):
        clip, mel = corpus.clips[i], torch.from_numpy(corpus.mel(i))[None]
        f0 = torch.from_numpy(corpus.f0(i))[None] if config.with_f0 else mel.new_zeros(1, 2, 0)
        x = torch.from_numpy(corpus.ids[i])[None]
        given = (each.to(voice.device) for each in (x, mel, f0))
        made = voice.model.copy_latent(*given, n_timesteps, solver, torch.Generator().manual_seed(i)).cpu()
        speech = voice.speak(clip.text, n_timesteps=n_timesteps, solver=solver, seed=i)
        sounds = [measures.Sound.of(wav, config) for wav in (speech.wav, corpus.wav(i))]
        found, _ = measures.measure(*sounds, measures.reference_of(clip.text, config.text.language))
        pairs.append(found)
        pairs[-1]["latent_l1"] = ((made - mel).abs().sum().item(), mel.numel())
    sums = {name: [sum(one[name][k] for one in pairs if name in one) for k in (0, 1)] for name in COLUMNS}
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
            rows = [(int(way.split()[1]), one[name]) for way, one in results.items() if way.split()[0] == solver]
            if rows:
                axis.plot(*zip(*sorted(rows)), "o-", linewidth=1, markersize=4, label=solver)
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
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="table.md and solvers.png")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Measure what has not been measured yet. Returns the table."""
    folder = newest_run() if args.id is None else checkpoint.RUNS / args.id
    path = checkpoint.find(folder, "voice", args.ckpt)
    voice = Voice(checkpoint.load_voice(path), args.device)
    config = voice.saved.config
    corpus = prepare(config, args.ids or config.dataset.metafile_test)
    n_clips = min(args.clips, len(corpus))
    about = {"voice": f"{folder.name}/{path.name}", "clips": [clip.id for clip in corpus.clips[:n_clips]]}
    kept = read_json(args.out / "solvers.json")
    results = kept["results"] if isinstance(kept, dict) and kept.get("about") == about else {}
    wanted = ways(args.solvers, args.steps)
    for solver, n in wanted:
        if f"{solver} {n}" not in results:
            results[f"{solver} {n}"] = measure_way(voice, corpus, n_clips, solver, n)
            write_json(args.out / "solvers.json", {"about": about, "results": results})
    results = {f"{solver} {n}": results[f"{solver} {n}"] for solver, n in wanted}
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
