"""What each latent costs and keeps: python -m experiments.latents, for the configuration of -c.

parameters, in millions: of the decoder, and of all that speaks. GFLOP: of one second of speech, a multiplication and an
addition counted as two, convolutions and matrix products alone. kept: share of the variance of held-out log-mels that
comes back from the latent; L1: the distance of what comes back, in nats.
"""

import argparse
import logging
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from data_util import config as configuration
from data_util.config import Config, ConfigError
from data_util.corpus import Corpus, prepare
from model.latent import corpus_compression
from model.nisets import NiSETS

KINDS = ("normalised", "pooled", "pca", "learned")
DECODERS = ("unet2d", "convnext1d")


def model_of(config: Config, clips: Corpus) -> NiSETS:
    """An untrained model with the latent of a corpus."""
    model = NiSETS(config, len(clips.symbols)).eval()
    model.latent_mean.fill_(clips.statistics()[0])
    model.latent_std.fill_(clips.statistics()[1])
    if model.compression is not None:
        model.compression.load_state_dict(corpus_compression(config, clips))
    return model


@torch.no_grad()
def costs(model: NiSETS) -> dict[str, float]:
    """Parameters in millions and GFLOP a second of speech: of one evaluation of the decoder, and of the generator."""
    audio, n_latents = model.config.audio, model.config.n_latents
    n_frames = round(audio.sample_rate / audio.hop_length)
    z0, mask, t = torch.zeros(1, n_latents, n_frames), torch.ones(1, 1, n_frames), torch.ones(1)
    f0 = None if model.config.variance.kind == "off" else torch.zeros(1, 2, n_frames)
    with model.speaking_as(0):  # whoever it is costs as much
        with FlopCounterMode(display=False) as decoder:
            model.denoise(z0, z0, mask, t, f0)
        with FlopCounterMode(display=False) as generator:
            model.generate(z0, mu=z0, f0=f0, t=t)
    return {
        "decoder, M": sum(p.numel() for p in model.decoder.parameters()) / 1e6,
        "all, M": sum(p.numel() for p in model.parameters()) / 1e6,
        "decoder, GFLOP": decoder.get_total_flops() / 1e9,
        "generator, GFLOP": generator.get_total_flops() / 1e9,
    }


@torch.no_grad()
def fidelity(model: NiSETS, held_out: Corpus) -> dict[str, float]:
    """How much of held-out log-mels comes back from the latent."""
    lost, total, distance, n_values = 0.0, 0.0, 0.0, 0
    frames = torch.cat([torch.from_numpy(mel) for mel in held_out.mels], dim=1)  # (n_mels, n_frames)
    mean = frames.mean(1, keepdim=True)
    for mel in (torch.from_numpy(one)[None] for one in held_out.mels):
        back = model.mel(model.latent(mel))
        lost += ((back - mel) ** 2).sum().item()
        total += ((mel - mean) ** 2).sum().item()
        distance += (back - mel).abs().sum().item()
        n_values += mel.numel()
    return {"kept, %": 100 * (1 - lost / total), "L1, nats": distance / n_values}


def rows(overlay: str | None, overrides: list[str]) -> dict[str, dict[str, float]]:
    """{"decoder | latent | channels": numbers} of every pair that fits together."""
    found, corpora = {}, None
    for decoder in DECODERS:
        for kind in KINDS:
            try:
                config = configuration.load(overlay, [f"decoder.kind={decoder}", f"latent.kind={kind}", *overrides])
            except ConfigError as error:
                if not str(error).startswith("latent.kind"):
                    raise
                continue  # a latent without an order of its channels is nothing for a 2-D network
            if corpora is None:
                dataset = config.dataset
                corpora = [prepare(config, one) for one in (dataset.metafile_train, dataset.metafile_test)]
            model = model_of(config, corpora[0])
            found[f"{decoder} | {kind} | {config.n_latents}"] = costs(model) | fidelity(model, corpora[1])
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown, a row a pair."""
    names = list(next(iter(found.values())))
    lines = ["| decoder | latent | channels | " + " | ".join(names) + " |", "|---|---|" + "---:|" * (len(names) + 1)]
    for pair, numbers in found.items():
        lines.append(f"| {pair} | " + " | ".join(f"{number:.2f}" for number in numbers.values()) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.latents", description=__doc__.split("\n")[0])
    parser.add_argument("-c", metavar="NAME_OR_FILE", help="an overlay in configs/, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(table(rows(args.c, args.overrides)), end="")
    except (ValueError, OSError) as error:
        print(f"latents: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
