"""What the alignment costs, and what it saves.

python -m benchmarks.alignment search: the search beside others that are installed, on the same scores.
python -m benchmarks.alignment start: the text encoder alone, with a search in each step from the first one on, and with
a flat start whose durations are kept and along which its last layer is solved for: seconds until the prior's loss of
held-out clips, each along its likeliest path, is as low as --target, and both curves.
"""

import argparse
import importlib
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from data_util import config as configuration
from data_util.audio import sequence_mask
from data_util.config import Config
from data_util.corpus import Corpus, prepare
from data_util.dataset import Batch, batches
from data_util.world import seed_everything
from model import flat_start, losses, monotonic_align
from model.monotonic_align import fallback
from model.nisets import NiSETS, stretch
from training.begin import solve_mean

GLOW = ("monotonic_alignment_search", "monotonic_align")  # Glow-TTS's kernel, packaged
PEERS = (*GLOW, "masearch")  # and one in numba
SHAPE = (16, 200, 900)  # items, symbols, frames
RATE, WARM_UP, CLIP_NORM = 1e-3, 100, 2.0  # of the text encoder alone
EVERY = 10  # steps between two points of a curve


# -- the search


def candidates(scores: torch.Tensor, x_lengths: torch.Tensor, mel_lengths: torch.Tensor) -> dict[str, Callable]:
    """What can search here, by name; each gives durations (B, T_x). scores: (B, T_x, T_mel), as every one is given."""
    frames = scores.transpose(1, 2).contiguous().transpose(1, 2)
    lengths = x_lengths.numpy().astype(np.int32), mel_lengths.numpy().astype(np.int32)
    optional = np.zeros(scores.shape[:2], dtype=bool)
    mask = sequence_mask(x_lengths).transpose(1, 2) & sequence_mask(mel_lengths)  # (B, T_x, T_mel)

    def numpy() -> np.ndarray:
        return fallback.search(np.ascontiguousarray(scores.numpy().transpose(0, 2, 1)), *lengths, optional)

    found = {
        "ours, as the model gives scores": lambda: monotonic_align.search(frames, x_lengths, mel_lengths),
        "ours, of scores in symbol-major memory": lambda: monotonic_align.search(scores, x_lengths, mel_lengths),
        "ours in numpy": numpy,
    }
    for name in GLOW:
        peer = importable(name)
        if peer is not None:
            found[name] = lambda peer=peer: peer.maximum_path(scores.clone(), mask.float()).sum(2)
    numba = importable("masearch")
    if numba is not None:
        frame_mask, frame_scores = mask.transpose(1, 2).contiguous(), scores.transpose(1, 2).contiguous()
        found["masearch"] = lambda: numba.maximum_path(frame_scores, frame_mask.int()).sum(1)
    return found


def importable(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def compare_searches(n_rounds: int) -> str:
    """A table of medians over rounds in which all take turns. Raises ValueError where two paths are worth unlike."""
    items, symbols, frames = SHAPE
    generator = torch.Generator().manual_seed(0)
    scores = -(torch.randn(*SHAPE, generator=generator) ** 2)
    x_lengths, mel_lengths = torch.full((items,), symbols), torch.full((items,), frames)
    searches = candidates(scores, x_lengths, mel_lengths)
    spent, worth = {name: [] for name in searches}, {}
    for _ in range(n_rounds + 1):
        for name, search in searches.items():
            start = time.perf_counter()
            durations = search()
            spent[name].append(time.perf_counter() - start)
            worth[name] = along(scores, torch.as_tensor(np.asarray(durations)).long())
    best = worth["ours in numpy"]
    for name, value in worth.items():
        if not torch.allclose(value, best, rtol=1e-5):
            raise ValueError(f"{name} finds other paths: {value.tolist()}, should be {best.tolist()}")
    medians = {name: 1000 * statistics.median(seconds[1:]) for name, seconds in spent.items()}
    ours = medians["ours, as the model gives scores"]
    lines = [f"{items} items of {symbols} symbols and {frames} frames, parallel: {monotonic_align.is_parallel()}", "",
             "| search | ms | over ours |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {median:.1f} | {median / ours:.2f} |" for name, median in medians.items()]
    if not any(name in medians for name in PEERS):
        lines += ["", f"no other search is installed: {', '.join(PEERS)}"]
    return "\n".join(lines)


def along(scores: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
    """(B,): the sum of scores (B, T_x, T_mel) along the paths of durations (B, T_x)."""
    index = torch.stack([torch.repeat_interleave(torch.arange(len(one)), one) for one in durations])  # (B, T_mel)
    return scores.double().gather(1, index[:, None])[:, 0].sum(1)


# -- the start


def curve(
    config: Config, corpus: Corpus, valid: Corpus, before: float, target: float, limit: float
) -> list[tuple[float, float, int]]:
    """(seconds, held-out prior loss, step), from step 0 every EVERY steps of the text encoder alone, until the loss is
    at the target or the limit, seconds, is over. before: seconds already spent. Where the corpus has no durations they
    are searched for, and the last layer is as it was drawn."""
    seed_everything(config.system.seed, 0, 0)
    model = NiSETS(config, len(corpus.symbols))
    mean, std = corpus.statistics()
    model.latent_mean.fill_(mean)
    model.latent_std.fill_(std)
    parameters = list(model.text_encoder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=RATE, betas=config.training.betas, fused=True)
    start = time.perf_counter() - before
    if corpus.durations is not None and config.alignment.solve_minutes > 0:
        solve_mean(config, model, corpus)
    points = [(time.perf_counter() - start, held_out_prior(model, valid), 0)]
    if points[0][1] <= target:
        return points
    start, stream = time.perf_counter() - points[0][0], batches(corpus, config)  # measuring is not training
    name = "search" if corpus.durations is None else "flat start"
    for step, batch in enumerate(tqdm(stream, desc=name, unit="step", mininterval=10), 1):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / WARM_UP)
        prior, duration = text_losses(model, batch)
        (prior + duration).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()
        if step % EVERY == 0:
            now = time.perf_counter()
            points.append((now - start, held_out_prior(model, valid), step))
            start += time.perf_counter() - now
            if points[-1][0] > limit or points[-1][1] <= target:
                break
    stream.close()
    return points


@torch.no_grad()
def held_out_prior(model: NiSETS, valid: Corpus) -> float:
    """The prior's loss of clips of which nothing was learnt, along the likeliest path of each."""
    model.eval()
    total, n_frames = 0.0, 0
    for i in range(len(valid)):
        x, mel = torch.from_numpy(valid.ids[i])[None], torch.from_numpy(valid.mel(i))[None]
        mask, z0 = torch.ones(1, 1, mel.shape[2]), model.latent(mel)
        with model.speaking_as(int(valid.speakers[i])):
            mu_x, _, _ = model.encode(x, torch.ones(1, 1, x.shape[1]))
        durations = model.align(mu_x, z0, torch.tensor([x.shape[1]]), torch.tensor([mel.shape[2]]))
        total += losses.prior_loss(z0, stretch(mu_x, durations, mask), mask, mask.sum()).item() * mel.shape[2]
        n_frames += mel.shape[2]
    model.train()
    return total / n_frames


def text_losses(model: NiSETS, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The prior's loss and the durations', of the path that is searched or that the batch has."""
    mel_mask = sequence_mask(batch.mel_lengths, batch.mel.shape[2]).to(batch.mel.dtype)
    x_mask = sequence_mask(batch.x_lengths, batch.x.shape[1]).to(batch.mel.dtype)
    z0 = model.latent(batch.mel) * mel_mask
    with model.speaking_as(batch.speaker):
        mu_x, logw, _ = model.encode(batch.x, x_mask)
    durations = batch.durations
    if not batch.has_durations:
        durations = model.align(mu_x, z0, batch.x_lengths, batch.mel_lengths)
    mu = stretch(mu_x, durations, mel_mask)
    duration = losses.duration_loss(logw, durations, x_mask, x_mask.sum())
    return losses.prior_loss(z0, mu, mel_mask, mel_mask.sum()), duration


def compare_starts(config: Config, target: float, limit: float, output: Path) -> str:
    """What both ways took, in words; the curves as a picture and as text beside it. The flat start makes its durations
    anew, and that counts."""
    with tempfile.TemporaryDirectory() as cache:
        config = replace(config, dataset=replace(config.dataset, cache=cache),
                         system=replace(config.system, num_workers=0),
                         variance=replace(config.variance, kind="off"))  # fmt: skip
        lists = config.dataset
        corpus, valid = (prepare(config, one) for one in (lists.metafile_train, lists.metafile_valid))
        corpus.statistics()
        curves = {}
        start = time.perf_counter()
        aligned = flat_start.corpus_alignment(config, corpus, monotonic_align.search, progress=True)
        spent = time.perf_counter() - start
        searched_ids = corpus.ids
        corpus.ids, corpus.durations = map(list, zip(*aligned))
        curves["flat start"] = curve(config, corpus, valid, spent, target, limit)
        corpus.durations, corpus.ids = None, searched_ids
        curves["search"] = curve(config, corpus, valid, 0.0, target, limit)
    save_curves(curves, target, output)
    lines = [f"flat start: {spent:.0f} s for the durations of {len(corpus)} clips; {len(valid)} clips held out"]
    lowest = {name: min(loss for _, loss, _ in points) for name, points in curves.items()}
    for name, points in curves.items():
        seconds, _, steps = points[-1]
        reached = f"{target} after {seconds:.0f} s" if lowest[name] <= target else f"{lowest[name]:.3f} at best"
        lines.append(f"{name}: {reached}, {steps} steps in {seconds:.0f} s")
    if lowest["flat start"] <= target:
        at_least = "" if lowest["search"] <= target else "more than "
        ratio = curves["search"][-1][0] / curves["flat start"][-1][0]
        lines.append(f"the search takes {at_least}{ratio:.1f} times as long as the flat start and its steps")
    return "\n".join(lines)


def save_curves(curves: dict[str, list[tuple[float, float, int]]], target: float, output: Path) -> None:
    """output: a .png; the numbers go into a .txt beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    rows = []
    for name, points in curves.items():
        seconds, lost, _ = zip(*points)
        axes.plot(seconds, lost, label=name, marker=".")  # of one point a line shows nothing
        rows += [f"{name}\t{seconds:.1f}\t{loss:.4f}\t{step}\n" for seconds, loss, step in points]
    axes.axhline(target, color="grey", linewidth=0.8)
    axes.set(xlabel="seconds, the flat start's own among them", ylabel="held-out prior loss, nats")
    axes.set_ylim(target - 0.05, 1.7)
    axes.legend()
    figure.savefig(output)
    plt.close(figure)
    output.with_suffix(".txt").write_text("".join(rows))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["search", "start"])
    parser.add_argument("-c", metavar="NAME_OR_FILE", help="an overlay in configs/, or a YAML file, over config.yaml")
    parser.add_argument("-o", type=Path, metavar="PNG", default=Path("alignment.png"), help="where the curves go")
    parser.add_argument("--rounds", type=int, default=30, help="of the search (30)")
    parser.add_argument("--target", type=float, default=1.083, help="of the prior's loss (1.083)")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for each way to start (1800)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="training.batch_size=8, for example")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.what == "search":
        print(compare_searches(args.rounds))
        return 0
    matplotlib.use("Agg")
    print(compare_starts(configuration.load(args.c, args.overrides), args.target, args.limit, args.o))
    return 0


if __name__ == "__main__":
    sys.exit(main())
