"""Everything that lives as long as training does: how it begins, what a checkpoint has of it, and how it goes on."""

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from data_util import config as configuration
from data_util.config import Config, ConfigError, Stage
from model import discriminator
from model.discriminator import Discriminators
from model.networks import build_discriminators
from model.nisets import NiSETS
from text.symbols import MARK_SIZES
from training import checkpoint, gpu, initial_alignment, memory_formats
from training.checkpoint import Writer
from training.data import Data, corpus_compression
from training.distributed import Processes, seed_everything
from training.graphs import Graphed
from training.run_log import Stopwatch

# of a State, in every checkpoint
WITH_STATE_DICT = ("model", "ema", "discriminators", "optimiser", "optimiser_discriminators")
AS_THEY_ARE = ("best_prosody", "lr_scale", "unwritten", "durations")


@dataclass
class State:
    """Everything that lives as long as training does."""

    config: Config
    processes: Processes
    symbols: tuple[str, ...]
    model: NiSETS
    ema: NiSETS
    discriminators: Discriminators
    optimiser: torch.optim.AdamW
    optimiser_discriminators: torch.optim.AdamW
    trained: set[str] = field(default_factory=set)  # the parts that have begun to learn, here or in a run before
    step: int = 0  # steps done
    # the prosody's least held-out loss, its weights there, validations since, and the last validation's step
    best_prosody: dict | None = None
    lr_scale: float = 1.0  # of the learning rates, lowered by a rollback
    skipped: Tensor | None = None  # () 1 where an optimiser took no step in the last one, for what was not finite
    skipped_steps: int = 0  # steps in a row that were skipped so, of those that have been recorded
    pending: deque = field(default_factory=deque)  # steps made, but not yet recorded: see training/recording.py
    unwritten: dict | None = None  # RunLog's, where the checkpoint is of a step between two lines
    durations: dict | None = None  # of the last refresh, and of which clips they are: see training/realign.py
    stage: Stage | None = None
    wrapped: dict[str, nn.Module] = field(default_factory=dict)  # the networks, under DDP where there are several
    watch: Stopwatch = field(default_factory=Stopwatch)
    discriminator_loss: Callable = discriminator.discriminator_loss  # or those as CUDA graphs
    generator_losses: Callable = discriminator.generator_losses
    writer: Writer = field(default_factory=Writer)  # of checkpoints

    def trains(self, part: str) -> bool:
        """Whether the stage of the step that is being made trains a part."""
        return self.stage is not None and part in self.stage.parts

    @property
    def trained_at_the_end(self) -> set[str]:
        return self.trained | {part for stage in self.config.training.stages for part in stage.parts}

    @property
    def has_vocoder(self) -> bool:
        return "generator" in self.trained

    @property
    def has_acoustic_model(self) -> bool:
        return {"text_encoder", "decoder"} <= self.trained


def uses_graphs(config: Config, processes: Processes) -> bool:
    """CUDA graphs read nothing that changes but arguments and weights: no choice of a speaker. What they return is
    overwritten by the next call, so that there is a single one a step; and DDP has not been tried with them."""
    alone = processes.size == config.training.accumulate == config.n_speakers == 1
    return config.system.cuda_graphs and processes.device.type == "cuda" and alone


def build_state(config: Config, processes: Processes, symbols: tuple[str, ...], amp: bool = False) -> State:
    """A fresh state, the same in every process."""
    seed_everything(config.system.seed, 0, 0)
    model = NiSETS(config, len(symbols), amp).to(processes.device)
    discriminators = build_discriminators(config).to(processes.device)
    for part, name in config.system.memory_formats.items():
        memory_formats.use((model.parts() | {"discriminators": discriminators})[part], name)
    if lost := [name for name, _ in model.named_parameters() if not model.part_of(name)]:
        raise ValueError(f"{', '.join(lost)}: of no part of Networks.parts, and so of no optimiser")

    def optimiser(parts: dict[str, nn.Module]) -> torch.optim.AdamW:
        groups = [{"name": name, "params": list(part.parameters())} for name, part in parts.items()]
        training = config.training
        return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, weight_decay=training.weight_decay, fused=True)

    state = State(
        config=config,
        processes=processes,
        symbols=symbols,
        model=model,
        ema=copy.deepcopy(model).eval().requires_grad_(False),
        discriminators=discriminators,
        optimiser=optimiser(model.parts()),
        optimiser_discriminators=optimiser({"discriminators": discriminators}),
    )
    # of this one model, not of its class
    model.align = state.watch.part("alignment")(model.align)  # type: ignore[method-assign]
    if uses_graphs(config, processes):
        model.denoiser.denoise = Graphed(model.denoiser.denoise, [model.decoder])  # type: ignore[method-assign]
        model.vocode = Graphed(model.vocode, [model.generator])  # type: ignore[method-assign]
        state.discriminator_loss = Graphed(discriminator.discriminator_loss, [discriminators])
        state.generator_losses = Graphed(discriminator.generator_losses, [])
    return state


def make_state(
    config: Config, processes: Processes, data: Data, ckpt: dict | None = None, amp: bool | None = None
) -> State:
    """A state to train from: fresh, with the corpus's statistics, or as a checkpoint has it.

    amp: whether networks run in bfloat16; None: as in the checkpoint, else not.
    """
    amp = bool(ckpt and ckpt["amp"]) if amp is None else amp
    gpu.set_precision(processes.device, config.system.tf32)
    torch.backends.cudnn.benchmark = config.system.cudnn_benchmark
    config = memory_formats.complete(config, processes, len(data.clips.symbols), amp)
    state = build_state(config, processes, data.clips.symbols, amp)
    if ckpt is not None:
        restore(state, ckpt)
        return state
    compression = corpus_compression(config, data.clips)
    for model in (state.model, state.ema):
        if compression is not None and model.compression is not None:
            model.compression.load_state_dict(compression)
        model.latent_mean.fill_(data.clips.statistics()[0])
        model.latent_std.fill_(data.clips.statistics()[1])
        if config.text.units in MARK_SIZES and data.clips.durations is not None:
            model.pause_scale.fill_(initial_alignment.pause_scale(data.clips.ids, data.clips.durations))
        if config.with_f0:
            model.f0_mean.fill_(data.clips.f0_statistics()[0])
            model.f0_std.fill_(data.clips.f0_statistics()[1])
    return state


def checkpoint_of(state: State) -> dict:
    """All that a resumed run needs, in plain values and tensors."""
    return {
        "version": checkpoint.VERSION,
        "step": state.step,
        "amp": state.model.amp,
        "trained": sorted(state.trained),
        "config": configuration.to_dict(state.config),
        "symbols": list(state.symbols),
        **{name: getattr(state, name).state_dict() for name in WITH_STATE_DICT},
        **{name: getattr(state, name) for name in AS_THEY_ARE},
    }


def load_agreed(folder: Path, step: int | None, processes: Processes) -> dict:
    """The checkpoint of a step, or the newest that is whole, the same in every process: the first one chooses.

    Raises CheckpointError there; the others then end.
    """
    with processes.main_first():
        ckpt = checkpoint.load_newest(folder, step) if processes.is_main else None
    step = processes.broadcast(ckpt and ckpt["step"])
    return ckpt or checkpoint.load_checkpoint(checkpoint.path_of(folder, "project", step))


def restore(state: State, ckpt: dict) -> None:
    """Go on from what checkpoint_of gave. Raises CheckpointError where it does not fit this model and front end, and
    ConfigError where its weights would mean something else here, or it has more steps than are asked for."""
    if ckpt["step"] > (last := state.config.training.train_num_steps):
        raise ConfigError(f"training.train_num_steps = {last}: must be at least {ckpt['step']}, the checkpoint's step")
    unshaped = (key for keys in configuration.UNSHAPED.values() for key in keys)
    same = ("audio", *configuration.MEANING, *unshaped, "speakers.names")
    configuration.check_same(state.config, ckpt["config"], same, "the checkpoint")
    checkpoint.check_symbols("the checkpoint", ckpt["symbols"], state.symbols)
    try:
        for name in WITH_STATE_DICT:
            getattr(state, name).load_state_dict(ckpt[name])
        for optimiser in (state.optimiser, state.optimiser_discriminators):  # which brought back its settings, too
            for group in optimiser.param_groups:
                group.update(betas=state.config.training.betas, weight_decay=state.config.training.weight_decay)
    except (RuntimeError, ValueError, KeyError) as error:
        of_networks = (*configuration.KINDS, "discriminators", "speakers")
        configuration.check_same(state.config, ckpt["config"], of_networks, "the checkpoint")
        why = " ".join(str(error).split())[:200]
        raise checkpoint.CheckpointError(f"the checkpoint does not fit the configuration: {why}") from error
    for name in AS_THEY_ARE:
        setattr(state, name, ckpt[name])
    if state.config.alignment.refresh_steps == 0:
        state.durations = None
    state.stage, state.trained = None, set(ckpt["trained"])  # the next step enters its stage
    state.step, state.skipped_steps = ckpt["step"], 0
    state.pending.clear()
