"""Train a voice: python train.py, or bash run.sh for torchrun. Reads as the algorithm: state, step, validate, main."""

import argparse
import copy
import logging
import math
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from data_util import checkpoint
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.config import ROOT, Config, ConfigError, Stage
from data_util.corpus import Corpus, prepare
from data_util.dataset import Batch, batches
from data_util.files import write_atomic
from data_util.picture import save_validation
from data_util.run_log import RunLog
from data_util.world import World, seed_everything
from model import flat_start, losses, monotonic_align
from model.discriminator import Discriminators
from model.layers import full
from model.nisets import NiSETS, Output, build_discriminators

LOGW_VARIANCE_RATE = 0.01  # of the running mean that synthesis takes its log-normal's variance from
log = logging.getLogger("train")


@dataclass
class State:
    """Everything that lives as long as training does."""

    config: Config
    world: World
    symbols: tuple[str, ...]
    model: NiSETS
    ema: NiSETS
    discriminators: Discriminators
    optimiser: torch.optim.AdamW
    optimiser_discriminators: torch.optim.AdamW
    step: int = 0  # steps done
    stage: Stage | None = None
    wrapped: dict[str, nn.Module] = field(default_factory=dict)  # the networks, under DDP where there are several


def build_state(config: Config, world: World, symbols: tuple[str, ...], amp: bool = False) -> State:
    """A fresh state, the same in every process."""
    seed_everything(config.system.seed, 0, 0)
    model = NiSETS(config, len(symbols), amp).to(world.device)
    discriminators = build_discriminators(config).to(world.device)

    def optimiser(parts: dict[str, nn.Module]) -> torch.optim.AdamW:
        groups = [{"name": name, "params": list(part.parameters())} for name, part in parts.items()]
        training = config.training
        return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, weight_decay=training.weight_decay, fused=True)

    parts = {name: getattr(model, name) for name in ("text_encoder", "decoder", "generator")}
    return State(
        config=config,
        world=world,
        symbols=symbols,
        model=model,
        ema=copy.deepcopy(model).eval().requires_grad_(False),
        discriminators=discriminators,
        optimiser=optimiser(parts),
        optimiser_discriminators=optimiser({"discriminators": discriminators}),
    )


# -- one step


def train_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """One step over all parts that the stage trains. Returns the losses of the global batch, on the device."""
    config, step = state.config, state.step
    stage, scale = configuration.stage_at(config, step)
    enter_stage(state, stage, scale)
    # nothing random outlives a step, so nothing random needs to be saved
    seed_everything(config.system.seed, step, state.world.rank)
    realign = not (batch.has_durations and step < config.alignment.init_steps)

    judged = {}
    out: Output = state.wrapped["model"](batch, global_counts(batch, state.world), stage, realign)
    if "discriminators" in stage.parts:
        judged = discriminator_step(state, out)
        out.losses.update(adversarial_losses(state, out))
    total = sum(getattr(config.loss, name.removeprefix("loss_")) * loss for name, loss in out.losses.items())
    total.backward()
    norms = update(state, state.optimiser)

    values = {name: value.detach() for name, value in (out.losses | judged | norms).items()}
    values = dict(zip(values, state.world.mean(torch.stack(list(values.values())))))
    update_averages(state, values["loss_duration"])
    state.step += 1
    return values


def discriminator_step(state: State, out: Output) -> dict[str, Tensor]:
    """Train the discriminators on recorded and generated segments, both under the same t. Returns loss and norm."""
    judgement = judge(state.wrapped["discriminators"], out.wav, out.wav_hat.detach(), out.t, state.model.amp)
    loss = losses.discriminator_loss(*judgement)
    loss.backward()
    return {"loss_discriminator": loss} | update(state, state.optimiser_discriminators)


def adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """What the discriminators, now standing still, tell the generator."""
    state.discriminators.requires_grad_(False)
    real, generated = judge(state.discriminators, out.wav, out.wav_hat, out.t, state.model.amp)
    state.discriminators.requires_grad_(True)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


def judge(discriminators: nn.Module, wav: Tensor, wav_hat: Tensor, t: Tensor, amp: bool) -> tuple[list, list]:
    """The discriminators on both in one pass. Returns (logits, features) of each of them for real, generated."""
    with torch.autocast(wav.device.type, torch.bfloat16, enabled=amp):
        both = discriminators(torch.cat([wav, wav_hat]), torch.cat([t, t]))
    real, generated = [], []
    for logits, features in both:
        halves = zip(full(logits).chunk(2), zip(*(full(feature).chunk(2) for feature in features)))
        for side, half in zip((real, generated), halves):
            side.append(half)
    return real, generated


def update(state: State, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Clip each part's gradient to its norm, step, and forget the gradients. Returns the norms by part."""
    norms = {}
    for group in optimiser.param_groups:
        if group["name"] in state.stage.parts:
            norm = nn.utils.clip_grad_norm_(group["params"], state.config.training.clip_norm[group["name"]])
            norms[f"norm_{group['name']}"] = norm
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norms


@torch.no_grad()
def update_averages(state: State, loss_duration: Tensor) -> None:
    """The EMA of the weights, and the variance of log-durations that a duration's mean needs."""
    step, model, ema = state.step, state.model, state.ema
    model.logw_variance.lerp_(loss_duration, max(LOGW_VARIANCE_RATE, 1 / (step + 1)))
    decay = min(state.config.training.ema_decay, (1 + step) / (10 + step))
    get_ema_multi_avg_fn(decay)(list(ema.parameters()), list(model.parameters()), step)
    for ours, theirs in zip(ema.buffers(), model.buffers()):
        ours.copy_(theirs)


def enter_stage(state: State, stage: Stage, scale: float) -> None:
    """Set the learning rates, and at a stage's start what trains."""
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            group["lr"] = scale * stage.parts.get(group["name"], 0.0)
    if stage is state.stage:
        return
    state.stage = stage
    for name in ("text_encoder", "decoder", "generator"):
        getattr(state.model, name).requires_grad_(name in stage.parts)
    state.discriminators.requires_grad_("discriminators" in stage.parts)
    state.wrapped = {
        "model": state.world.wrap(state.model),
        "discriminators": state.world.wrap(state.discriminators),
    }


def global_counts(batch: Batch, world: World) -> Tensor:
    """(4,) symbols, frames, cut frames, segment frames: the mean over processes, what masked losses divide by."""
    lengths = (batch.x_lengths, batch.mel_lengths, batch.cut_lengths, batch.segment_lengths)
    return world.mean(torch.stack([length.sum() for length in lengths]).to(batch.mel.dtype))


# -- validation


@torch.no_grad()
def validate(state: State, corpus: Corpus, folder: Path) -> dict[str, float]:
    """Measure the averaged weights on held-out clips; leave a picture and WAVs of the first few in samples/<step>/."""
    config, model, rows = state.config, state.ema, []
    for i in range(min(config.system.validation_clips, len(corpus))):
        x = torch.from_numpy(corpus.ids[i])[None].to(state.world.device)
        mel = torch.from_numpy(corpus.mel(i))[None].to(state.world.device)
        numbers, durations = model.measure(x, mel, torch.Generator().manual_seed(i))
        if i < config.system.sample_clips:
            copied = model.generate(model.latent(mel))
            numbers["copy_mel_l1"] = (model.features(copied) - mel).abs().mean()
            spoken = model.synthesise(x, generator=torch.Generator().manual_seed(config.system.seed))
            save_sample(state, corpus, i, folder, copied, spoken.wav, durations)
        rows.append({name: float(value) for name, value in numbers.items()})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}


def save_sample(
    state: State, corpus: Corpus, index: int, folder: Path, copied: Tensor, wav: Tensor, durations: Tensor
) -> None:
    """The recording, copy synthesis and one-step synthesis of a clip as WAVs, and all of it as a picture."""
    model, audio = state.ema, state.config.audio
    name = Path(corpus.clips[index].id).name
    wavs = {"recording": corpus.wav(index), "copy": copied[0, 0].cpu().numpy(), "one_step": wav[0, 0].cpu().numpy()}
    mels = {}
    for kind, samples in wavs.items():
        save_wav(folder / f"{name}_{kind}.wav", samples, audio.sample_rate)
        mels[f"{name}: {kind}"] = model.features(torch.from_numpy(samples)[None].to(wav.device))[0].cpu().numpy()
    symbols = [corpus.symbols[i] for i in corpus.ids[index]]
    seconds = audio.hop_length / audio.sample_rate
    save_validation(folder / f"{name}.png", mels, durations[0].cpu().numpy(), symbols, seconds)


# -- checkpoints


def project_of(state: State) -> dict:
    """All that a resumed run needs, in plain values and tensors."""
    return {
        "step": state.step,
        "amp": state.model.amp,
        "config": configuration.to_dict(state.config),
        "symbols": list(state.symbols),
        "model": state.model.state_dict(),
        "ema": state.ema.state_dict(),
        "discriminators": state.discriminators.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "optimiser_discriminators": state.optimiser_discriminators.state_dict(),
    }


def restore(state: State, project: dict) -> None:
    """Go on from what project_of gave. Raises CheckpointError where it does not fit this model and front end."""
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
    state.step = project["step"]


# -- data


def prepare_data(config: Config, world: World) -> tuple[Corpus, Corpus]:
    """The training clips, aligned where alignment.init asks for it, and the held-out ones.

    The first process makes what the cache does not have; the others then read it, or end where the first has failed.
    """
    if world.first:
        with world.telling_of_failure():
            return read_data(config, progress=True)
    if world.failed_elsewhere():
        sys.exit(1)  # the first process says why
    return read_data(config, progress=False)


def read_data(config: Config, progress: bool) -> tuple[Corpus, Corpus]:
    """prepare_data of one process; progress: show bars."""
    train = prepare(config, config.dataset.metafile_train, progress=progress)
    valid = prepare(config, config.dataset.metafile_valid, progress=progress)
    if config.alignment.init == "em":
        train.durations = flat_start.corpus_durations(config, train, monotonic_align.search, progress=progress)
    log.info("latent: mean %.3f, standard deviation %.3f", *train.statistics())
    return train, valid


# -- the whole


def train(state: State, train_corpus: Corpus, valid_corpus: Corpus, folder: Path, run_log: RunLog | None) -> None:
    """From state.step to train_num_steps. run_log: the first process's."""
    config, world = state.config, state.world
    system, last = config.system, config.training.train_num_steps
    stream = batches(train_corpus, config, first_step=state.step, rank=world.rank, world_size=world.size)
    with tqdm(total=last, initial=state.step, desc=folder.name, unit="step", disable=not world.first) as bar:
        while True:
            if world.first and state.step > 0 and (state.step % system.validation_step == 0 or state.step == last):
                write_voice(state, valid_corpus, folder, run_log)
            if state.step >= last:
                break
            values = train_step(state, next(stream).to(world.device, non_blocking=True))
            bar.update()
            if not world.first:
                continue
            run_log.add(values)
            saves = state.step % system.save_ckpt == 0 or state.step == last
            if saves or state.step % system.log_step == 0:
                means = run_log.flush(state.step)
                check_finite(means, state.step)
                bar.set_postfix({name.removeprefix("loss_"): f"{means[name]:.3g}" for name in means if "loss" in name})
            if saves:
                checkpoint.save_project(folder, state.step, project_of(state), system.keep_ckpt)


def write_voice(state: State, corpus: Corpus, folder: Path, run_log: RunLog) -> None:
    """Validate, and write the voice that was measured; a run resumed at this very step does not do it again."""
    if state.step not in checkpoint.steps(folder, "voice"):
        run_log.write("valid", state.step, validate(state, corpus, folder / "samples" / f"{state.step:08d}"))
        checkpoint.save_voice(folder, state.step, state.ema.state_dict(), state.config, state.symbols)


def check_finite(means: dict[str, float], step: int) -> None:
    """Stop before a checkpoint is written from which nobody could go on. Raises FloatingPointError."""
    broken = [name for name, mean in means.items() if not math.isfinite(mean)]
    if broken:
        raise FloatingPointError(
            f"{', '.join(broken)} not finite by step {step}: -id goes on from the last checkpoint; "
            "lower the learning rates in training.stages, or train without -a true"
        )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train NiSETS.", allow_abbrev=False)
    parser.add_argument("-c", metavar="NAME_OR_FILE", help="an overlay in configs/, or a YAML file, over config.yaml")
    parser.add_argument("-id", metavar="ID", help="resume the run in checkpoint/ID")
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="from this step; without it from the newest")
    parser.add_argument(
        "-a", choices=["true", "false"], help="networks in bfloat16; a run keeps what it was started with"
    )
    parser.add_argument("-test", choices=["true", "false"], default="true", help="false: log to wandb too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.ckpt is not None and args.id is None:
        parser.error("-ckpt STEP needs -id ID, the run that it is a step of")
    if args.c is not None and args.id is not None:
        parser.error("-id goes on with the run's own configuration: use section.key=value to change it, not -c")
    return args


def start_wandb(args: argparse.Namespace, config: Config):
    """The wandb run that args ask for, the same one again when it is resumed."""
    import wandb  # here, so that nothing else needs it

    try:
        return wandb.init(project=config.log.project, name=config.log.name, id=args.id, resume="allow",
                          config=configuration.to_dict(config))  # fmt: skip
    except wandb.errors.Error as error:
        raise ConfigError(f"wandb: {error}. Log in with `wandb login`, or train without it: -test true") from error


def run(args: argparse.Namespace) -> None:
    world = World.join()
    project = None
    if args.id is not None:
        project = checkpoint.load_project(checkpoint.find(checkpoint.RUNS / args.id, "project", args.ckpt))
        config = configuration.change(configuration.from_dict(project["config"]), args.overrides)
    else:
        config = configuration.load(args.c, args.overrides)
    train_corpus, valid_corpus = prepare_data(config, world)
    amp = args.a == "true" if args.a else bool(project and project.get("amp"))
    state = build_state(config, world, train_corpus.symbols, amp)
    if project is None:
        for model in (state.model, state.ema):
            model.latent_mean.fill_(train_corpus.statistics()[0])
            model.latent_std.fill_(train_corpus.statistics()[1])
    else:
        restore(state, project)
        del project
    wandb_run = start_wandb(args, config) if args.test == "false" and world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or checkpoint.new_run_id())
    folder = checkpoint.RUNS / name
    run_log = None
    if world.first:
        checkpoint.set_aside(folder, state.step)
        skipped = [*train_corpus.skipped, *valid_corpus.skipped]
        write_atomic(folder / "config.yaml", configuration.to_yaml(config).encode())
        write_atomic(folder / "skipped.txt", "".join(f"{clip}\t{why}\n" for clip, why in skipped).encode())
        run_log = RunLog(folder, state.step, wandb_run)
        precision = "bfloat16" if amp else "float32"
        log.info("run %s from step %d on %s x %d in %s", name, state.step, world.device, world.size, precision)
    train(state, train_corpus, valid_corpus, folder, run_log)
    if world.first:
        python = "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)
        script = os.path.relpath(ROOT / "sampling.py")
        print(f'pictures and WAVs: {folder / "samples"}\nspeak with it: {python} {script} -id {name} "Any text."')


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, format="%(message)s")
    try:
        run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        if args.debug:
            raise
        if first or not isinstance(error, (ConfigError, checkpoint.CheckpointError)):  # those all processes have alike
            print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train.py: interrupted; -id goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        World.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
