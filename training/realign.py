"""Durations of all clips, searched for every alignment.refresh_steps steps and kept in between.

A refresh is a pure function of the averaged weights and the durations before it, and what it finds stands in every
checkpoint, so that a resumed run goes on with the same ones.
"""

import itertools
import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_util.audio import sequence_mask
from data_util.config import Config
from data_util.corpus import Corpus
from model.nisets import NiSETS
from model.prosody import pitch_and_energy
from training.schedule import stage_at
from training.state import State

log = logging.getLogger("train")


def is_due(config: Config, step: int) -> bool:
    """Whether the clips are to be aligned anew before this step."""
    every, since = config.alignment.refresh_steps, step - config.alignment.init_steps
    if every == 0 or step == 0 or since < 0 or since % every != 0:
        return False
    return stage_at(config, step)[0].latents == "joint"  # the others read no text


def aligned(state: State, corpus: Corpus) -> Corpus:
    """The clips with the durations of the last refresh, or as they are where there was none, or of other clips."""
    if state.durations is not None and state.durations["content"] != corpus.content:
        state.durations = None
        if state.processes.is_main:
            log.warning("the durations in the checkpoint are of other clips than these: until the next refresh every "
                        "step searches for its own")  # fmt: skip
    if state.durations is None:
        return corpus
    refreshed = corpus.subset(range(len(corpus)))
    frames = torch.split(state.durations["frames"].long(), [len(ids) for ids in corpus.ids])
    refreshed.durations = [one.numpy() for one in frames]
    return refreshed


def refresh(state: State, corpus: Corpus) -> None:
    """Align the clips by the averaged weights. Every process takes its share, and all have the result.

    What is being written is written to its end: the processes that load data are started next, by a fork, which should
    find no thread in the middle of something.
    """
    before, size = aligned(state, corpus), state.config.training.batch_size
    order = sorted(range(len(corpus)), key=lambda i: (corpus.n_frames[i], i))  # clips of like length together
    micro_batches = [order[i : i + size] for i in range(0, len(order), size)]
    with state.watch.part("alignment"):
        with state.processes.raise_on_all():
            state.writer.finish()
        found = state.processes.share(lambda indices: realigned(state, before, indices), micro_batches)
    by_index: dict[int, Tensor] = dict(zip(order, itertools.chain(*found)))
    frames = torch.cat([by_index[i] for i in range(len(corpus))]).int()
    log.info("step %d: %d clips aligned anew%s", state.step, len(corpus), moved(before, frames))
    state.durations = {"content": corpus.content, "frames": frames}


def moved(before: Corpus, frames: torch.Tensor) -> str:
    """How far, for the log. frames: (n_symbols,) durations of all clips, one after the other."""
    if before.durations is None:
        return ""
    shift = np.cumsum(frames.numpy() - np.concatenate(before.durations))  # of the end of every symbol
    return f": a symbol ends {np.abs(shift).mean():.2f} frames from where it did"


def realigned(state: State, corpus: Corpus, indices: list[int]) -> list[torch.Tensor]:
    """Durations (T_x,) of the clips at these indices, on the CPU."""
    device, config = state.processes.device, state.config
    ids = [torch.from_numpy(corpus.ids[i]) for i in indices]
    mels = [torch.from_numpy(corpus.mel(i)).mT for i in indices]  # (T_mel, n_mels)
    contours = [torch.from_numpy(corpus.f0(i)).mT if config.with_f0 else torch.zeros(0, 2) for i in indices]
    before = [torch.zeros_like(one) for one in ids]
    if corpus.durations is not None:
        before = [torch.from_numpy(corpus.durations[i]) for i in indices]
    x, mel, f0, durations = (pad_sequence(each, batch_first=True).to(device) for each in (ids, mels, contours, before))
    lengths = [torch.tensor([len(one) for one in each], device=device) for each in (ids, mels)]
    with state.ema.speaking_as(torch.from_numpy(corpus.speakers[indices])):
        found = search(state.ema, x, mel.mT, f0.mT, durations, lengths).cpu()
    return [one[: len(each)] for one, each in zip(found, ids)]


@torch.no_grad()
def search(model: NiSETS, x: Tensor, mel: Tensor, f0: Tensor, durations: Tensor, lengths: Sequence[Tensor]) -> Tensor:
    """Durations (B, T_x) in frames of whole clips, as a training step would search for them.

    x: (B, T_x) ids; mel: (B, n_mels, T_mel) natural log; f0: (B, 2, T_mel) ln of Hz and voicing, empty where nothing
    reads it; durations: (B, T_x) of before, along which pitch and energy are read; lengths: (B,) of x and of mel.
    """
    x_mask, mel_mask = (sequence_mask(n, each.shape[-1]).to(mel.dtype) for n, each in zip(lengths, (x, mel)))
    contour, values = model.normalised_f0(f0), None
    if contour is not None:
        values = pitch_and_energy(model.normalised(mel) * mel_mask, contour * mel_mask, durations) * x_mask
    mu_x, _ = model.encode_text(x, x_mask, values)
    return model.align(mu_x, model.latent(mel) * mel_mask, *lengths)
