"""Everything that lives as long as training does: how it begins, what a checkpoint has of it, and how it goes on."""

import argparse
import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from data_util import checkpoint, gpu
from data_util import config as configuration
from data_util.checkpoint import Writer
from data_util.config import Config, Stage
from data_util.run_log import Stopwatch
from data_util.world import World, seed_everything
from model import flat_start, latent
from model.discriminator import Discriminators
from model.nisets import NiSETS, build_discriminators
from training import adversarial
from training.data import Data
from training.graphs import Graphed


@dataclass
class State:
    """Everything that lives as long as training does."""

    config: Config  # of what this state trains: the run, or one of its lanes
    run_config: Config  # the run's, as files say it
    world: World
    symbols: tuple[str, ...]
    model: NiSETS
    ema: NiSETS
    discriminators: Discriminators
    optimiser: torch.optim.AdamW
    optimiser_discriminators: torch.optim.AdamW
    sounding: bool = True  # whether the generator has learnt anything, here or in a lane before
    reading: bool = True  # whether the text side has
    step: int = 0  # steps done
    # the variance part's least held-out loss, its weights there, misses since, and the last validation's step
    best_variance: dict | None = None
    rate_scale: float = 1.0  # of the learning rates, lowered by going back
    skipped: Tensor | None = None  # () 1 where an optimiser took no step in the last one, for what was not finite
    misses: int = 0  # steps in a row that were skipped so, of those that have been recorded
    pending: deque = field(default_factory=deque)  # steps made, but not yet recorded: see record_pending in train.py
    unwritten: dict | None = None  # RunLog's, where the checkpoint is of a step between two lines
    durations: dict | None = None  # of the last refresh, and of which clips they are: see training/alignment.py
    stage: Stage | None = None
    wrapped: dict[str, nn.Module] = field(default_factory=dict)  # the networks, under DDP where there are several
    watch: Stopwatch = field(default_factory=Stopwatch)
    discriminator_loss: Callable = adversarial.discriminator_loss  # or those as CUDA graphs
    generator_losses: Callable = adversarial.generator_losses
    writer: Writer = field(default_factory=Writer)  # of checkpoints


def uses_graphs(config: Config, world: World) -> bool:
    """CUDA graphs read nothing that changes but arguments and weights: no choice of a speaker. What they return is
    overwritten by the next call, so that there is a single one a step; and DDP has not been tried with them."""
    alone = world.size == config.training.accumulate == config.n_speakers == 1
    return config.system.cuda_graphs and world.device.type == "cuda" and alone


def build_state(config: Config, world: World, symbols: tuple[str, ...], amp: bool = False) -> State:
    """A fresh state, the same in every process."""
    seed_everything(config.system.seed, 0, 0)
    model = NiSETS(config, len(symbols), amp).to(world.device)
    discriminators = build_discriminators(config).to(world.device)

    def optimiser(parts: dict[str, list[nn.Module]]) -> torch.optim.AdamW:
        groups = [{"name": name, "params": list(nn.ModuleList(part).parameters())} for name, part in parts.items()]
        training = config.training
        return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, weight_decay=training.weight_decay, fused=True)

    state = State(
        config=config,
        run_config=config,
        world=world,
        symbols=symbols,
        model=model,
        ema=copy.deepcopy(model).eval().requires_grad_(False),
        discriminators=discriminators,
        optimiser=optimiser(model.parts()),
        optimiser_discriminators=optimiser({"discriminators": [discriminators]}),
    )
    model.align = state.watch.part("alignment")(model.align)
    if uses_graphs(config, world):
        model.denoise = Graphed(model.denoise, [model.decoder])
        model.generate = Graphed(model.generate, [model.generator])
        state.discriminator_loss = Graphed(adversarial.discriminator_loss, [discriminators])
        state.generator_losses = Graphed(adversarial.generator_losses, [])
    if config.system.compile:  # in place, so that the weights keep their names
        for network in (model.decoder, model.generator, model.full_band, discriminators):
            network.compile(dynamic=False)
    return state


def make_state(args: argparse.Namespace, config: Config, world: World, data: Data, project: dict | None) -> State:
    """A state to train from: fresh, with the corpus's statistics, or as the project has it."""
    amp = args.a == "true" if args.a else bool(project and project.get("amp"))
    gpu.set_precision(world.device, config.system.tf32)
    torch.backends.cudnn.benchmark = config.system.cudnn_benchmark
    state = build_state(config, world, data.clips.symbols, amp)
    if project is not None:
        restore(state, project)
        return state
    compression = latent.corpus_compression(config, data.clips)
    for model in (state.model, state.ema):
        if compression is not None:
            model.compression.load_state_dict(compression)
        model.latent_mean.fill_(data.clips.statistics()[0])
        model.latent_std.fill_(data.clips.statistics()[1])
        if config.text.units == "phones" and data.clips.durations is not None:
            model.pause_scale.fill_(flat_start.pause_scale(data.clips.ids, data.clips.durations))
        if config.with_f0:
            model.f0_mean.fill_(data.clips.f0_statistics()[0])
            model.f0_std.fill_(data.clips.f0_statistics()[1])
    return state


def project_of(state: State) -> dict:
    """All that a resumed run needs, in plain values and tensors."""
    return {
        "step": state.step,
        "amp": state.model.amp,
        "config": configuration.to_dict(state.run_config),
        "symbols": list(state.symbols),
        "model": state.model.state_dict(),
        "ema": state.ema.state_dict(),
        "discriminators": state.discriminators.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "optimiser_discriminators": state.optimiser_discriminators.state_dict(),
        "best_variance": state.best_variance,
        "rate_scale": state.rate_scale,
        "unwritten": state.unwritten,
        "durations": state.durations,
    }


def restore(state: State, project: dict) -> None:
    """Go on from what project_of gave. Raises CheckpointError where it does not fit this model and front end, and
    ConfigError where its weights would mean something else here."""
    configuration.check_meaning(state.config, project["config"], "the checkpoint")
    checkpoint.check_symbols("the checkpoint", project["symbols"], state.symbols)
    try:
        for name in ("model", "ema", "discriminators", "optimiser", "optimiser_discriminators"):
            getattr(state, name).load_state_dict(project[name])
        for optimiser in (state.optimiser, state.optimiser_discriminators):  # which brought back its settings, too
            for group in optimiser.param_groups:
                group.update(betas=state.config.training.betas, weight_decay=state.config.training.weight_decay)
    except (RuntimeError, ValueError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise checkpoint.CheckpointError(f"the checkpoint does not fit the configuration: {first}") from error
    best = project["best_variance"]
    state.best_variance = best and {"step": project["step"]} | best
    state.rate_scale, state.unwritten = project.get("rate_scale", 1.0), project.get("unwritten")
    state.durations = project.get("durations") if state.config.alignment.refresh_steps > 0 else None
    state.step, state.misses = project["step"], 0
    state.pending.clear()


def start_from(state: State, projects: dict[str, dict]) -> None:
    """Take over each part's weights, and what belongs to it, from the project of the lane that trained it.

    projects: by part. Raises CheckpointError where they do not fit.
    """
    for part, project in projects.items():
        if part == "discriminators":
            state.discriminators.load_state_dict(project["discriminators"])
            continue
        for network, saved in ((state.model, project["model"]), (state.ema, project["ema"])):
            ours = {name: value for name, value in saved.items() if network.part_of(name) == part}
            network.load_state_dict(ours, strict=False)
    if "variance" in projects:
        best = projects["variance"]["best_variance"]
        state.best_variance = best and best | {"step": 0}  # steps are counted anew
