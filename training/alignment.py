"""Durations of all clips, searched for every alignment.refresh_steps steps and kept in between.

A refresh is a pure function of the averaged weights and the durations before it, and what it finds stands in every
checkpoint, so that a resumed run goes on with the same ones.
"""

import logging

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from data_util import config as configuration
from data_util.config import Config
from data_util.corpus import Corpus
from training.state import State

log = logging.getLogger("train")


def is_due(config: Config, step: int) -> bool:
    """Whether the clips are to be aligned anew before this step."""
    every, since = config.alignment.refresh_steps, step - config.alignment.init_steps
    if every == 0 or step == 0 or since < 0 or since % every != 0:
        return False
    return configuration.stage_at(config, step)[0].latents == "joint"  # the others read no text


def aligned(state: State, corpus: Corpus) -> Corpus:
    """A lane's clips with the durations of the last refresh, or as they are where there was none, or of other clips."""
    if state.durations is not None and state.durations["content"] != corpus.content:
        state.durations = None
        if state.world.first:
            log.warning("the durations in the checkpoint are of other clips than these: until the next refresh every "
                        "step searches for its own")  # fmt: skip
    if state.durations is None:
        return corpus
    refreshed = corpus.subset(range(len(corpus)))
    refreshed.durations = torch.split(state.durations["frames"].long(), [len(ids) for ids in corpus.ids])
    return refreshed


def refresh(state: State, corpus: Corpus) -> None:
    """Align a lane's clips by the averaged weights. Every process takes its share, and all have the result."""
    before, size, found = aligned(state, corpus), state.config.training.batch_size, []
    order = sorted(range(len(corpus)), key=lambda i: (corpus.n_frames[i], i))  # clips of like length together
    passes = [order[i : i + size] for i in range(0, len(order), size)]
    with state.world.together():
        for number in range(state.world.rank, len(passes), state.world.size):
            found += zip(passes[number], realigned(state, before, passes[number]))
    found = dict(state.world.gather(found))
    frames = torch.cat([found[i] for i in range(len(corpus))]).int()
    log.info("step %d: %d clips aligned anew%s", state.step, len(corpus), moved(before, frames))
    state.durations = {"content": corpus.content, "frames": frames}


def moved(before: Corpus, frames: torch.Tensor) -> str:
    """How far, for the log. frames: (n_symbols,) durations of all clips, one after the other."""
    if before.durations is None:
        return ""
    shift = np.cumsum(frames.numpy() - np.concatenate(before.durations))  # of the end of every symbol
    return f": a symbol ends {np.abs(shift).mean():.2f} frames from where it did"


def realigned(state: State, corpus: Corpus, indices: list[int]) -> list[torch.Tensor]:
    """Durations (T_x,) of the clips at these indices, on the CPU.

    Searched for without alignment.noise, one draw of which would stay until the next refresh.
    """
    device, config = state.world.device, state.config
    ids = [torch.from_numpy(corpus.ids[i]) for i in indices]
    mels = [torch.from_numpy(corpus.mel(i)).mT for i in indices]  # (T_mel, n_mels)
    f0 = [torch.from_numpy(corpus.f0(i)).mT if config.with_f0 else torch.zeros(0, 2) for i in indices]
    durations = [torch.zeros_like(one) for one in ids]
    if corpus.durations is not None:
        durations = [torch.from_numpy(corpus.durations[i]) for i in indices]
    x, mel, f0, durations = (pad_sequence(each, batch_first=True).to(device) for each in (ids, mels, f0, durations))
    lengths = [torch.tensor([len(one) for one in each], device=device) for each in (ids, mels)]
    with state.ema.speaking_as(torch.from_numpy(corpus.speakers[indices])):
        found = state.ema.realign(x, lengths[0], mel.mT, lengths[1], f0.mT, durations).cpu()
    return [one[: len(each)] for one, each in zip(found, ids)]
