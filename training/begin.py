"""The weights that a fresh training begins with: another's, or drawn ones of which the last of the text encoder's are
solved for, so that mu says something from the first step on."""

import logging

import numpy as np
import torch
from torch import Tensor

from data_util.corpus import Corpus
from model.losses import LOG_TWO_PI
from model.nisets import NiSETS, stretch
from training.state import State
from training.warm_start import warm_start

log = logging.getLogger("train")


def begin(state: State, clips: Corpus) -> None:
    """Give a fresh state its weights. Raises CheckpointError, and what reading a clip raises."""
    config = state.config
    learns = any("text_encoder" in stage.parts for stage in config.training.stages)
    if config.fine_tuning.start:
        warm_start(state)
    elif learns and config.alignment.solve_minutes > 0 and clips.durations is not None:
        with state.world.together():
            loss, n_clips = solve_mean(state.model, clips)
        state.ema.text_encoder.mu.load_state_dict(state.model.text_encoder.mu.state_dict())
        log.info("mu: solved for on %d clips; prior loss %.3f there before the first step", n_clips, loss)


@torch.no_grad()
def solve_mean(model: NiSETS, corpus: Corpus) -> tuple[float, int]:
    """Give the text encoder's last layer the weights with which mu is nearest to z0 along corpus.durations.

    Also without training the features behind mu tell a symbol, its marks and its neighbours apart. Fitted on clips that
    the seed draws, alignment.solve_minutes of them or one. Returns the prior's loss along those durations, nats a
    channel, and how many clips these are.
    """
    config, layer, was_training = model.config, model.text_encoder.mu, model.training
    device = layer.weight.device
    n_frames = config.alignment.solve_minutes * 60 * config.audio.sample_rate / config.audio.hop_length
    order = np.random.default_rng(config.system.seed).permutation(len(corpus))
    drawn = order[: max(1, int((np.cumsum(corpus.n_frames[order]) <= n_frames).sum()))]
    moments = 0.0  # of (h, 1, z0) over all frames
    model.eval()
    for i in drawn:
        x, durations = (torch.from_numpy(each[i])[None].to(device) for each in (corpus.ids, corpus.durations))
        mel = torch.from_numpy(corpus.mel(i))[None].to(device)
        with model.speaking_as(int(corpus.speakers[i])):
            _, _, h = model.encode(x, torch.ones_like(x[:, None], dtype=mel.dtype))
        mask = torch.ones_like(mel[:, :1])
        rows = torch.cat([stretch(h.to(mel.dtype), durations, mask), mask, model.latent(mel)], dim=1)[0].double()
        moments = moments + (rows @ rows.T).cpu()  # in float64: squares of thousands of frames add up
    model.train(was_training)
    weight, bias, error = least_squares(moments, layer.in_channels, config.alignment.solve_ridge)
    layer.weight.copy_(weight[:, :, None])
    layer.bias.copy_(bias)
    return 0.5 * (error + LOG_TWO_PI), len(drawn)


def least_squares(moments: Tensor, n_inputs: int, ridge: float) -> tuple[Tensor, Tensor, float]:
    """The W and b of least squared error |W h + b - z|^2 + ridge mean(h^2) |W|^2 (Hoerl & Kennard 1970), of means.

    moments: float64, the sum of the outer products of (h, 1, z); n_inputs: of h. Returns W (n_outputs, n_inputs),
    b (n_outputs,) and the mean over frames and outputs of the squared error.
    """
    n = n_inputs + 1
    inner, cross, squares = moments[:n, :n], moments[:n, n:], moments[n:, n:].trace()
    penalty = ridge * inner.diagonal()[:n_inputs].mean()
    ridges = torch.diag(torch.cat([penalty.expand(n_inputs), penalty.new_zeros(1)]))  # the bias is free
    solution = torch.linalg.solve(inner + ridges, cross)  # (n, n_outputs)
    error = squares - 2 * (solution * cross).sum() + (solution * (inner @ solution)).sum()
    return solution[:-1].T, solution[-1], float(error / (inner[-1, -1] * cross.shape[1]))
