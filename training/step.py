"""What a training step is made of: train.train_step calls these in the order in which they stand here."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from data_util.config import Stage
from data_util.dataset import Batch
from model.nisets import Output
from model.prosody import Counts
from training.distributed import Processes, seed_everything
from training.schedule import first_step, stage_at, without
from training.state import State

LOGW_VARIANCE_RATE = 0.01  # of the running mean that synthesis takes its log-normal's variance from


def set_learning_rates(state: State, n_micro_batches: int) -> None:
    """The learning rates of state.step, and where a stage begins which parts train."""
    config = state.config
    stage, scale = stage_at(config, state.step)
    if state.best_prosody and state.best_prosody["stopped"]:
        stage = without(stage, ["prosody"])
    n_parallel = state.processes.size * n_micro_batches
    enter_stage(state, stage, scale * state.lr_scale * n_parallel**config.training.rate_power)


def enter_stage(state: State, stage: Stage, scale: float) -> None:
    """Set the learning rates, and at a stage's start what trains; what does not is read without dropout."""
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            group["lr"] = scale * stage.parts.get(group["name"], 0.0)
    if stage == state.stage:
        return
    state.stage, state.trained = stage, state.trained | set(stage.parts)
    for name, part in state.model.parts().items():
        part.requires_grad_(name in stage.parts).train(name in stage.parts)
    state.discriminators.requires_grad_("discriminators" in stage.parts)
    state.wrapped = {
        "model": state.processes.wrap(state.model),
        "discriminators": state.processes.wrap(state.discriminators),
    }


def global_counts(micro_batches: Sequence[Batch], processes: Processes) -> Counts:
    """The counts of a micro-batch, the mean over micro-batches and processes: what masked losses divide by."""
    counts = []
    for batch in micro_batches:
        lengths = (batch.x_lengths, batch.mel_lengths, batch.cut_lengths, batch.segment_lengths)
        counts.append(processes.mean(torch.stack([length.sum() for length in lengths]).to(batch.mel.dtype)))
    return Counts(*torch.stack(counts).mean(0).unbind())


def forward(state: State, batch: Batch, number: int, counts: Counts, model: nn.Module) -> Output:
    """The forward pass of one micro-batch, the same whenever it is made.

    number: of the micro-batch in the step; counts: of global_counts; model: wrapped by DDP or not.
    """
    config, step = state.config, state.step
    # nothing random outlives a step, so nothing random needs to be saved
    seed_everything(config.system.seed, step, number * state.processes.size + state.processes.rank)
    keeps = step < config.alignment.init_steps or state.durations is not None
    with state.watch.part("forward"):
        return model(batch, counts, state.stage, realign=not (keeps and batch.has_durations))


def step_discriminators(state: State, outputs: list[Output]) -> dict[str, Tensor]:
    """Train the discriminators on the recorded and generated segments of all micro-batches, both under the same t.

    Returns their loss and the norm of its gradient.
    """
    total, network = torch.zeros((), device=state.processes.device), state.wrapped["discriminators"]
    with state.watch.part("discriminators"):
        for i, output in enumerate(outputs):
            with state.processes.no_sync(network, i < len(outputs) - 1):
                assert output.wav_hat is not None  # a stage that trains discriminators makes sound
                given = (output.wav, output.wav_hat.detach(), output.t, state.model.amp)
                loss = state.discriminator_loss(network, *given) / len(outputs)
                loss.backward()
            total = total + loss.detach()
    return {"loss_discriminator": total} | step_optimiser(state, state.optimiser_discriminators, total)


def adversarial_losses(state: State, output: Output) -> dict[str, Tensor]:
    """The generator's losses against the discriminators, which stand still."""
    state.discriminators.requires_grad_(False)
    given = (output.wav, output.wav_hat, output.t, state.model.amp)
    adversarial, feature = state.generator_losses(state.discriminators, *given)
    state.discriminators.requires_grad_(True)
    return {"loss_adversarial": adversarial, "loss_feature": feature}


def weighted_sum(state: State, values: dict[str, Tensor]) -> Tensor:
    """The loss that encoder, decoder and generator minimise. values: losses by name, loss_<key of the section loss>."""
    return sum(getattr(state.config.loss, name.removeprefix("loss_")) * one for name, one in values.items())


def step_optimiser(state: State, optimiser: torch.optim.Optimizer, loss: Tensor) -> dict[str, Tensor]:
    """Clip each part's gradient to its norm, step, and forget the gradients; where the loss or a norm is not finite,
    set state.skipped instead of a step.

    loss: what the gradients are of, in this process, detached. Returns the norms by part, the same in every process.
    """
    norms = {}
    with state.watch.part("update"):
        for group in optimiser.param_groups:
            if state.trains(group["name"]):
                norm = nn.utils.clip_grad_norm_(group["params"], state.config.training.clip_norm[group["name"]])
                norms[f"norm_{group['name']}"] = norm
        numbers = torch.stack([state.processes.mean(loss.clone()), *norms.values()])
        is_broken = (~numbers.isfinite().all()).float()
        step_if_finite(optimiser, is_broken)
        optimiser.zero_grad(set_to_none=True)
    state.skipped = is_broken if state.skipped is None else torch.maximum(state.skipped, is_broken)
    return norms


def step_if_finite(optimiser: torch.optim.Optimizer, is_broken: Tensor) -> None:
    """A step of a fused optimiser, or where is_broken (), on its device, is 1, none: that the host need not know."""
    vars(optimiser)["found_inf"] = is_broken  # an attribute that fused optimisers read, and do not declare
    optimiser.step()
    del vars(optimiser)["found_inf"]


@torch.no_grad()
def update_averages(state: State, loss_duration: Tensor | None) -> None:
    """The EMA of the weights of each part that trains, which forgets faster in the part's first steps, and, where the
    text encoder trains, the variance of log-durations, which a duration's mean needs."""
    model, ema = state.model, state.ema
    if loss_duration is not None and state.trains("text_encoder"):
        n_before = state.step - first_step(state.config, "text_encoder")
        new = model.logw_variance.lerp(loss_duration, max(LOGW_VARIANCE_RATE, 1 / (n_before + 1)))
        is_good = new.isfinite() if state.skipped is None else new.isfinite() & (state.skipped == 0)
        model.logw_variance.copy_(torch.where(is_good, new, model.logw_variance))
    for name, part in model.parts().items():
        if state.trains(name):
            n_before = state.step - first_step(state.config, name)
            decay = min(state.config.training.ema_decay, (1 + n_before) / (10 + n_before))
            get_ema_multi_avg_fn(decay)(list(ema.parts()[name].parameters()), list(part.parameters()), n_before)
    for buffer, source in zip(ema.buffers(), model.buffers()):
        buffer.copy_(source)
