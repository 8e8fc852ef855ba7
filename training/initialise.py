"""The weights that a fresh training begins with: another's, or drawn ones. The layer that gives mu is then solved for,
so that mu says what these recordings are like from the first step on."""

import logging

import torch
from torch import Tensor

from data_util.config import Config
from data_util.corpus import Corpus
from model.alignment import length_regulate
from model.losses import LOG_TWO_PI
from model.nisets import NiSETS
from model.prosody import pitch_and_energy
from training.data import clip_tensors
from training.fine_tuning import warm_start
from training.initial_alignment import draw_clips
from training.state import State

log = logging.getLogger("train")


def initialise(state: State, clips: Corpus) -> None:
    """Give a fresh state its weights.

    Raises CheckpointError, and ValueError or OSError where a clip cannot be read by any of the processes.
    """
    config = state.config
    taken = warm_start(state) if config.fine_tuning.start else ()
    untaught = set(state.model.parts()) - state.trained_at_the_end
    if untaught and state.processes.is_main and not {"text_encoder", "decoder", "generator"} & untaught:
        log.warning("as drawn, since no stage trains it and nothing of it was taken: %s", ", ".join(sorted(untaught)))
    learnt = {part for stage in config.training.stages for part in stage.parts} - set(config.fine_tuning.frozen)
    is_solved_for = "text_encoder" in learnt and config.alignment.solve_minutes > 0 and clips.durations is not None
    if is_solved_for and config.training.train_num_steps > 0:  # else a run only puts parts together
        with state.processes.raise_on_all():
            loss, n_clips = solve_mean(config, state.model, clips, keeps="text_encoder.mu.weight" in taken)
        state.ema.text_encoder.mu.load_state_dict(state.model.text_encoder.mu.state_dict())
        log.info("mu: solved for on %d clips, where the prior loss is %.3f without dropout", n_clips, loss)


@torch.no_grad()
def solve_mean(config: Config, model: NiSETS, corpus: Corpus, keeps: bool = False) -> tuple[float, int]:
    """Give the layer that gives mu the weights with which mu is nearest to z0 along corpus.durations.

    Also without training the features behind mu tell a symbol, its marks and its neighbours apart. Fitted without
    dropout on clips that the seed draws, alignment.solve_minutes of them, or one. keeps: what these leave open stays as
    the weights have it; else it is 0. Returns the prior's loss along those durations, nats a channel and frame, and how
    many clips these are.
    """
    layer, was_training = model.text_encoder.mu, model.training
    assert corpus.durations is not None and layer.bias is not None
    device = layer.weight.device
    drawn = draw_clips(config, corpus.n_frames, config.alignment.solve_minutes)
    moments, inputs = torch.zeros((), dtype=torch.float64), []
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model.eval()
    for i in drawn:
        x, mel, f0 = clip_tensors(config, corpus, i, device)
        durations, contour = torch.from_numpy(corpus.durations[i])[None].to(device), model.normalised_f0(f0)
        values = None if contour is None else pitch_and_energy(model.normalised(mel), contour, durations)
        with model.speaking_as(int(corpus.speakers[i])):
            model.text_encoder(x, torch.ones_like(x[:, None], dtype=mel.dtype), values)
        mask, h = torch.ones_like(mel[:, :1]), inputs.pop()
        rows = torch.cat([length_regulate(h, durations, mask), mask, model.latent(mel)], dim=1)[0].double()
        moments = moments + (rows @ rows.T).cpu()  # in float64: squares of thousands of frames add up
    hook.remove()
    model.train(was_training)
    start = layer.weight[:, :, 0].double().cpu() * keeps
    weight, bias, error = least_squares(moments, start, config.alignment.solve_ridge)
    layer.weight.copy_(weight[:, :, None])
    layer.bias.copy_(bias)
    return 0.5 * (error + LOG_TWO_PI), len(drawn)


def least_squares(moments: Tensor, start: Tensor, ridge: float) -> tuple[Tensor, Tensor, float]:
    """The W and b with the least mean over frames of |W h + b - z0|^2, plus ridge times mean(h^2) times |W - start|^2.

    Ridge regression (Hoerl & Kennard 1970). moments: float64, square, the sum over frames of the outer products of
    (h, 1, z0) with themselves; start: (n_outputs, n_inputs) float64. Returns W (n_outputs, n_inputs), b (n_outputs,)
    and the mean over frames and outputs of the squared error.
    """
    n_inputs = start.shape[1]
    n = n_inputs + 1
    inner, cross, squares = moments[:n, :n], moments[:n, n:], moments[n:, n:].trace()
    penalty = ridge * inner.diagonal()[:n_inputs].mean()
    ridges = torch.diag(torch.cat([penalty.expand(n_inputs), penalty.new_zeros(1)]))  # the bias is free
    pull = ridges @ torch.cat([start, start[:, :1]], dim=1).T  # the last row has no ridge, whatever stands there
    solution = torch.linalg.solve(inner + ridges, cross + pull)  # (n, n_outputs)
    error = squares - 2 * (solution * cross).sum() + (solution * (inner @ solution)).sum()
    return solution[:-1].T, solution[-1], float(error / (inner[-1, -1] * cross.shape[1]))
