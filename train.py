"""Train a voice: python train.py, or bash run.sh for torchrun. Reads as the algorithm: state, step, validate, main."""

import argparse
import copy
import logging
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from data_util import checkpoint, means, measures
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.config import ROOT, Config, ConfigError, Stage
from data_util.corpus import Corpus, prepare
from data_util.dataset import Batch, batches
from data_util.features import n_cpus
from data_util.files import write_atomic
from data_util.lanes import run_all
from data_util.means import Means
from data_util.picture import save_curves, save_validation
from data_util.run_log import RunLog
from data_util.world import World, seed_everything
from model import flat_start, latent, losses, monotonic_align
from model.discriminator import Discriminators
from model.layers import full
from model.nisets import NiSETS, Output, build_discriminators
from text.symbols import label

STALE_VALIDATIONS = 5  # without a gain, after which training says so
LOGW_VARIANCE_RATE = 0.01  # of the running mean that synthesis takes its log-normal's variance from
log = logging.getLogger("train")


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
    best_variance: dict | None = None  # the variance part's least held-out loss, its weights there, misses since
    stage: Stage | None = None
    wrapped: dict[str, nn.Module] = field(default_factory=dict)  # the networks, under DDP where there are several


def build_state(config: Config, world: World, symbols: tuple[str, ...], amp: bool = False) -> State:
    """A fresh state, the same in every process."""
    seed_everything(config.system.seed, 0, 0)
    model = NiSETS(config, len(symbols), amp).to(world.device)
    discriminators = build_discriminators(config).to(world.device)

    def optimiser(parts: dict[str, list[nn.Module]]) -> torch.optim.AdamW:
        groups = [{"name": name, "params": list(nn.ModuleList(part).parameters())} for name, part in parts.items()]
        training = config.training
        return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, weight_decay=training.weight_decay, fused=True)

    return State(
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


# -- one step


def train_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """One step over all parts that the stage trains. Returns the losses of the global batch, on the device."""
    config, step = state.config, state.step
    stage, scale = configuration.stage_at(config, step)
    if state.best_variance and state.best_variance["stopped"]:
        stage = replace(stage, parts={name: rate for name, rate in stage.parts.items() if name != "variance"})
    enter_stage(state, stage, scale)
    # nothing random outlives a step, so nothing random needs to be saved
    seed_everything(config.system.seed, step, state.world.rank)
    realign = not (batch.has_durations and step < config.alignment.init_steps)

    judged = {}
    noise = configuration.search_noise(config, step)
    out: Output = state.wrapped["model"](batch, global_counts(batch, state.world), stage, realign, noise)
    if "discriminators" in stage.parts:
        judged = discriminator_step(state, out)
        out.losses.update(adversarial_losses(state, out))
    total = sum(getattr(config.loss, name.removeprefix("loss_")) * loss for name, loss in out.losses.items())
    if total.requires_grad:  # nothing trains where the variance part was alone and has stopped
        total.backward()
    norms = update(state, state.optimiser)

    values = {name: value.detach() for name, value in (out.losses | judged | norms).items()}
    values = dict(zip(values, state.world.mean(torch.stack(list(values.values())))))
    update_averages(state, values.get("loss_duration"))
    state.step += 1
    return values


def discriminator_step(state: State, out: Output) -> dict[str, Tensor]:
    """Train the discriminators on recorded and generated segments, both under the same t. Returns loss and norm."""
    both = torch.cat([out.wav, out.wav_hat.detach()])  # in one pass, since DDP wants one before each backward
    judged = judge(state.wrapped["discriminators"], both, torch.cat([out.t, out.t]), state.model.amp)
    halves = [logits.chunk(2) for logits, _ in judged]
    loss = losses.discriminator_loss([(real, []) for real, _ in halves], [(generated, []) for _, generated in halves])
    loss.backward()
    return {"loss_discriminator": loss} | update(state, state.optimiser_discriminators)


def adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """What the discriminators, now standing still, tell the generator."""
    state.discriminators.requires_grad_(False)
    with torch.no_grad():
        real = judge(state.discriminators, out.wav, out.t, state.model.amp)
    generated = judge(state.discriminators, out.wav_hat, out.t, state.model.amp)
    state.discriminators.requires_grad_(True)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


def judge(discriminators: nn.Module, wav: Tensor, t: Tensor, amp: bool) -> list[tuple[Tensor, list[Tensor]]]:
    """What each discriminator says of wav (B, 1, T_wav): its logits and features, in full precision."""
    with torch.autocast(wav.device.type, torch.bfloat16, enabled=amp):
        judged = discriminators(wav, t)
    return [(full(logits), [full(feature) for feature in features]) for logits, features in judged]


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
def update_averages(state: State, loss_duration: Tensor | None) -> None:
    """The EMA of the weights, and the variance of log-durations that a duration's mean needs."""
    step, model, ema = state.step, state.model, state.ema
    if loss_duration is not None:
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
    if stage == state.stage:
        return
    state.stage = stage
    for name, part in state.model.parts().items():
        for network in part:
            network.requires_grad_(name in stage.parts)
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
    """Measure the averaged weights on held-out clips; leave pictures and WAVs of the first few in samples/<step>/.

    Where there is a voice, it speaks those, and is measured as evaluate.py does.
    """
    config, model, rows, spoken = state.config, state.ema, [], []
    for i in range(min(config.system.validation_clips, len(corpus))):
        numbers, durations = {}, None
        x, mel, f0 = clip_tensors(state, corpus, i)
        if state.reading:
            numbers, durations = model.measure(x, mel, f0, torch.Generator().manual_seed(i))
        if i < config.system.sample_clips:
            noise = torch.Generator().manual_seed(config.system.seed)
            wavs = {"recording": corpus.wav(i)}
            if state.sounding and "mu" not in config.generator.inputs:
                seed_everything(config.system.seed, 0, 0)  # a generator may draw noise of its own
                copied = model.generate(model.latent(mel), f0=model.conditions(f0))
                numbers["copy_mel_l1"] = (model.features(copied) - mel).abs().mean()
                wavs["copy"] = copied[0, 0].cpu().numpy()
            if state.sounding and state.reading:
                wavs["one_step"] = model.synthesise(x, generator=noise).wav[0, 0].cpu().numpy()
            save_sample(state, corpus, i, folder, wavs, durations)
            if "one_step" in wavs:
                spoken.append(measure_spoken(config, wavs, corpus.clips[i].text))
        rows.append({name: float(value) for name, value in numbers.items()})
    averages = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}
    heard = measures.pooled(spoken)
    return averages | {name: heard[name] for name in measures.WATCHED if name in heard}


def measure_spoken(config: Config, wavs: dict[str, np.ndarray], text: str) -> measures.Pairs:
    """What evaluate.py measures of one_step beside recording, (T_wav,) each, as far as its packages are installed."""
    sounds = [measures.Sound.of(wavs[kind].clip(-1, 1), config) for kind in ("one_step", "recording")]
    return measures.measure(*sounds, measures.reference_of(text, config.text.language))[0]


def clip_tensors(state: State, corpus: Corpus, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """One clip as the model reads it: x (1, T_x), mel (1, n_mels, T_mel), f0 (1, 2, T_mel), empty where unread."""
    mel = corpus.mel(index)
    f0 = corpus.f0(index) if state.config.with_f0 else np.zeros((2, 0), dtype=np.float32)
    return tuple(torch.from_numpy(array)[None].to(state.world.device) for array in (corpus.ids[index], mel, f0))


def save_sample(
    state: State, corpus: Corpus, index: int, folder: Path, wavs: dict[str, np.ndarray], durations: Tensor | None
) -> None:
    """A clip's recording and what was made of it, (T_wav,) each, as WAVs; their log-mels and the path as a picture."""
    model, audio, name, mels = state.ema, state.config.audio, Path(corpus.clips[index].id).name, {}
    for kind, samples in wavs.items():
        save_wav(folder / f"{name}_{kind}.wav", samples, audio.sample_rate)
        mel = model.features(torch.from_numpy(samples)[None].to(state.world.device))
        mels[f"{name}: {kind}"] = mel[0].cpu().numpy()
    symbols = [label(int(i)) for i in corpus.ids[index]]
    seconds = audio.hop_length / audio.sample_rate
    path = None if durations is None else durations[0].cpu().numpy()
    save_validation(folder / f"{name}.png", mels, path, symbols, seconds)


def watch_variance(state: State, numbers: dict[str, float]) -> None:
    """Early stopping: keep the variance part's best weights, and go back to them for good when it gets no better.

    numbers: of a validation. Its weights are shared with no other part, so that the best ones stay the best.
    """
    stage, _ = configuration.stage_at(state.config, max(0, state.step - 1))
    best = state.best_variance
    if "variance" not in stage.parts or best is not None and best["stopped"]:
        return
    loss = sum(numbers.get(f"loss_{name}", 0.0) for name in ("variance", "f0", "voicing"))
    weights = {name: value.clone() for name, value in state.ema.variance.state_dict().items()}
    if best is None or loss < best["loss"]:
        state.best_variance = {"loss": loss, "weights": weights, "misses": 0, "stopped": False}
    else:
        best["misses"] += 1
        if best["misses"] >= state.config.variance.patience or state.step >= state.config.training.train_num_steps:
            best["stopped"] = True
            state.model.variance.load_state_dict(best["weights"])
            state.ema.variance.load_state_dict(best["weights"])
            log.info(
                "pitch, energy and contour: best at a held-out loss of %.4f; training goes on without them",
                best["loss"],
            )


# -- checkpoints


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
    state.best_variance = project["best_variance"]
    state.step = project["step"]


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
        state.best_variance = projects["variance"]["best_variance"]


# -- data


@dataclass
class Data:
    """clips: all to train on, aligned where alignment.init asks for it; own: those of this lane; valid: held out."""

    clips: Corpus
    own: Corpus
    valid: Corpus


def prepare_data(config: Config, world: World) -> Data:
    """What a configuration of one lane trains on, or of several lanes have in common.

    The first process makes what the cache does not have; the others then read it, or end where the first has failed.
    """
    check_packages(config)
    if world.first:
        with world.telling_of_failure():
            return read_data(config, progress=True)
    if world.failed_elsewhere():
        sys.exit(1)  # the first process says why
    return read_data(config, progress=False)


def read_data(config: Config, progress: bool) -> Data:
    """prepare_data of one process; progress: show bars."""
    clips = prepare(config, config.dataset.metafile_train, progress=progress)
    valid = prepare(config, config.dataset.metafile_valid, progress=progress)
    if config.alignment.init == "em":
        aligned = flat_start.corpus_alignment(config, clips, monotonic_align.search, progress=progress)
        clips.ids, clips.durations = map(list, zip(*aligned))
    latent.corpus_compression(config, clips)  # into the cache, where every process finds it
    log.info("latent: mean %.3f, standard deviation %.3f", *clips.statistics())
    if config.with_f0:
        log.info("ln F0: mean %.3f, standard deviation %.3f", *clips.f0_statistics())
    return Data(clips, clips, valid)


def check_packages(config: Config) -> None:
    """Raise ConfigError where what measures system.best_metric is not installed, before anything that takes time."""
    needed = {"cer": measures.RECOGNISER, "dnsmos": measures.DNSMOS}.get(config.system.best_metric, ())
    missing = measures.missing_packages(needed)
    if missing:
        raise ConfigError(f"system.best_metric = {config.system.best_metric}: needs {', '.join(missing)}: "
                          "pip install -r requirements-extra.txt")  # fmt: skip


def tell_of_missing_packages() -> None:
    missing = measures.missing_packages()
    if missing:
        log.info("held-out voices are measured without %s: pip install -r requirements-extra.txt", ", ".join(missing))


def own_indices(clips: str, n_clips: int) -> range:
    """The places in the list of training clips that a lane trains on. clips: all | even | odd, as in Lane."""
    return {"all": range(n_clips), "even": range(0, n_clips, 2), "odd": range(1, n_clips, 2)}[clips]


def other_indices(clips: str, n_clips: int) -> range:
    """The places that a lane writes posterior means of: those that it has not trained on, or all if there are none."""
    return own_indices({"all": "all", "even": "odd", "odd": "even"}[clips], n_clips)


@torch.no_grad()
def write_means(state: State, data: Data, clips: str, folder: Path) -> None:
    """The posterior means of clips that other lanes read, from the averaged weights, unless they are there."""
    training, indices = state.config.training, other_indices(clips, len(data.clips))
    if means.is_complete(folder):
        return
    for i in tqdm(indices, desc=f"{folder.parent.name}: posterior means", unit="clip"):
        durations = torch.from_numpy(data.clips.durations[i])[None].to(state.world.device)
        generator = torch.Generator().manual_seed(state.config.system.seed + i)
        mean = state.ema.means(*clip_tensors(state, data.clips, i), durations, training.mean_times, generator)
        means.save_mean(folder, i, mean.cpu().numpy())
    means.complete(folder, data.clips.content, training.mean_times, indices)


# -- the whole


def train(state: State, data: Data, folder: Path, run_log: RunLog | None, latents: Means | None = None) -> None:
    """From state.step to train_num_steps. run_log: the first process's; latents: what stages of means read."""
    config, world = state.config, state.world
    system, last = config.system, config.training.train_num_steps
    stream = batches(data.own, config, first_step=state.step, rank=world.rank, world_size=world.size, latents=latents)
    first_step = state.step
    if state.sounding and state.reading:
        tell_of_missing_packages()
    with (
        logging_redirect_tqdm(),
        tqdm(total=last, initial=state.step, desc=folder.name, unit="step", disable=not world.first) as bar,
    ):
        while True:
            saves, is_new = state.step % system.save_ckpt == 0 or state.step == last, state.step > first_step
            if state.step > 0 and (state.step % system.validation_step == 0 or state.step == last):
                if world.first:
                    is_new |= validate_once(state, data.valid, folder, run_log)
                state.best_variance = world.agree(state.best_variance)
            if world.first and saves and is_new:  # after the validation, which may end the variance part's training
                checkpoint.save_project(folder, state.step, project_of(state), system.keep_ckpt)
            if state.step >= last:
                break
            values = train_step(state, next(stream).to(world.device, non_blocking=True))
            bar.update()
            if not world.first:
                continue
            run_log.add(values)
            if any(state.step % each == 0 for each in (system.save_ckpt, system.log_step)) or state.step == last:
                averages = run_log.flush(state.step)
                check_finite(averages, state.step)
                bar.set_postfix(
                    {name.removeprefix("loss_"): f"{averages[name]:.3g}" for name in averages if "loss" in name}
                )


def validate_once(state: State, corpus: Corpus, folder: Path, run_log: RunLog) -> bool:
    """Validate, and write the voice that was measured, unless that has been done at this very step: whether it did."""
    if run_log.has("valid", state.step):
        return False
    numbers = validate(state, corpus, folder / "samples" / f"{state.step:08d}")
    watch_variance(state, numbers)
    if state.reading and state.sounding:
        checkpoint.save_voice(folder, state.step, state.ema.state_dict(), state.run_config, state.symbols)
    run_log.write("valid", state.step, numbers)
    log.info("step %d, held out: %s", state.step, ", ".join(f"{name} {numbers[name]:.3g}" for name in numbers))
    keep_best(state, folder, run_log)
    save_curves(folder / "curves.png", run_log.read())
    return True


def keep_best(state: State, folder: Path, run_log: RunLog) -> None:
    """Keep the best voices by system.best_metric, and the newest; say so when it has stopped getting better."""
    system = state.config.system
    lines = [line for line in run_log.read() if line["kind"] == "valid" and system.best_metric in line]
    sign = -1 if system.best_metric in measures.BETTER_IF_MORE else 1
    ranked = sorted(lines, key=lambda line: sign * line[system.best_metric])
    if not ranked:
        return
    checkpoint.keep_voices(folder, {line["step"] for line in ranked[: system.keep_best]} | {state.step})
    best, since = ranked[0], sum(line["step"] > ranked[0]["step"] for line in lines)
    if since >= STALE_VALIDATIONS:
        log.info("%s has not improved in %d validations: it was best at step %d, %.4g", system.best_metric, since,
                 best["step"], best[system.best_metric])  # fmt: skip


def check_finite(averages: dict[str, float], step: int) -> None:
    """Stop before a checkpoint is written from which nobody could go on. Raises FloatingPointError."""
    broken = [name for name, average in averages.items() if not math.isfinite(average)]
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
    parser.add_argument("-lane", metavar="NAME", help="only this one of a run's several lanes (with -id)")
    parser.add_argument(
        "-a", choices=["true", "false"], help="networks in bfloat16; a run keeps what it was started with"
    )
    parser.add_argument("-test", choices=["true", "false"], default="true", help="false: log to wandb too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.ckpt is not None and args.id is None:
        parser.error("-ckpt STEP needs -id ID, the run that it is a step of")
    if args.lane is not None and args.id is None:
        parser.error("-lane NAME needs -id ID, the run that it is a lane of")
    if args.c is not None and args.id is not None:
        parser.error("-id goes on with the run's own configuration: use section.key=value to change it, not -c")
    return args


def start_wandb(args: argparse.Namespace, config: Config, name: str | None = None):
    """The wandb run that args ask for, the same one again when it is resumed. name: its id, if it has one already."""
    if args.test == "true":
        return None
    import wandb  # here, so that nothing else needs it

    try:
        return wandb.init(project=config.log.project, name=config.log.name, id=name, resume="allow",
                          config=configuration.to_dict(config))  # fmt: skip
    except wandb.errors.Error as error:
        raise ConfigError(f"wandb: {error}. Log in with `wandb login`, or train without it: -test true") from error


def run(args: argparse.Namespace) -> int:
    """Train what args ask for. Returns the exit status."""
    world = World.join()
    config = lanes_of(args)
    if config is None:
        name = run_one(args, world)
    elif args.lane is not None:
        run_lane(args, config, world, args.lane, prepare_data(config, world))
        return 0
    else:
        name, status = run_lanes(args, config, world)
        if status != 0:
            return status
    if world.first:
        python = "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)
        script = os.path.relpath(ROOT / "sampling.py")
        samples = checkpoint.RUNS / name / "samples"
        print(f'pictures and WAVs: {samples}\nspeak with it: {python} {script} -id {name} "Any text."')
    return 0


def lanes_of(args: argparse.Namespace) -> Config | None:
    """The configuration that args ask for if it has several lanes, else None."""
    if args.id is None:
        config = configuration.load(args.c, args.overrides)
    else:
        written = checkpoint.RUNS / args.id / "config.yaml"
        if not written.is_file():
            return None  # whoever looks for the checkpoint says what there is
        config = configuration.load(None, args.overrides, base=written)
    if len(config.training.lanes) == 1:
        if args.lane is not None:
            raise ConfigError(f"-lane {args.lane}: the run has a single one; leave -lane away")
        return None
    if args.lane is not None and args.lane not in config.training.lanes:
        raise ConfigError(f"-lane {args.lane}: must be one of {', '.join(config.training.lanes)}")
    if args.ckpt is not None and args.lane is None:
        raise ConfigError("-ckpt STEP of a run of several lanes needs -lane NAME, the lane that it is a step of")
    return config


def run_one(args: argparse.Namespace, world: World) -> str:
    """A run of one lane, from the start or from its checkpoint. Returns its name."""
    project = None
    if args.id is not None:
        project = checkpoint.load_project(checkpoint.find(checkpoint.RUNS / args.id, "project", args.ckpt))
        config = configuration.change(configuration.from_dict(project["config"]), args.overrides)
    else:
        config = configuration.load(args.c, args.overrides)
    data = prepare_data(config, world)
    state = make_state(args, config, world, data, project)
    wandb_run = start_wandb(args, config, args.id) if world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or checkpoint.new_run_id())
    train(state, data, *open_folder(state, data, checkpoint.RUNS / name, wandb_run))
    return name


def make_state(args: argparse.Namespace, config: Config, world: World, data: Data, project: dict | None) -> State:
    """A state to train from: fresh, with the corpus's statistics, or as the project has it."""
    amp = args.a == "true" if args.a else bool(project and project.get("amp"))
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


def open_folder(state: State, data: Data, folder: Path, wandb_run) -> tuple[Path, RunLog | None]:
    """Make the run's folder ready for what comes after state.step: the folder, and the first process's log."""
    if not state.world.first:
        return folder, None
    checkpoint.set_aside(folder, state.step)
    write_about(state.run_config, data, folder)
    precision = "bfloat16" if state.model.amp else "float32"
    log.info("run %s from step %d on %s x %d in %s", folder.relative_to(checkpoint.RUNS), state.step,
             state.world.device, state.world.size, precision)  # fmt: skip
    return folder, RunLog(folder, state.step, wandb_run)


def write_about(config: Config, data: Data, folder: Path) -> None:
    """The configuration of a run, and the clips that it leaves out, into its folder."""
    skipped = [*data.clips.skipped, *data.valid.skipped]
    write_atomic(folder / "config.yaml", configuration.to_yaml(config).encode())
    write_atomic(folder / "skipped.txt", "".join(f"{clip}\t{why}\n" for clip, why in skipped).encode())


# -- a run of several lanes


def run_lanes(args: argparse.Namespace, config: Config, world: World) -> tuple[str, int]:
    """Every lane, one after another, or several at once on a CPU; then the voice. Returns its name and exit status."""
    data = prepare_data(config, world)  # once, before the lanes read it
    wandb_run = start_wandb(args, config, args.id) if world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or checkpoint.new_run_id())
    args.id, folder = name, checkpoint.RUNS / name
    if world.first:
        write_about(config, data, folder)
    if world.size == 1 and world.device.type == "cpu" and config.training.processes > 1:
        status = run_processes(args, config, folder)
        if status != 0:
            return name, status
    else:
        for lane in config.training.lanes:
            run_lane(args, config, world, lane, data)
    if world.first:
        state = make_state(args, config, world, data, None)
        start_from(state, last_projects(config, folder, list(config.training.lanes)))
        state.step = config.training.train_num_steps
        tell_of_missing_packages()
        validate_once(state, data.valid, folder, RunLog(folder, state.step, wandb_run))
    return name, 0


def run_processes(args: argparse.Namespace, config: Config, folder: Path) -> int:
    """Each lane in a process of its own, training.processes of them at once. Returns the exit status."""
    lanes = config.training.lanes
    todo = [name for name in lanes if not is_done(config, folder, name)]
    commands = {name: lane_command(args, name) for name in todo}
    after = {name: {*lanes[name].start, *lanes[name].means} & set(todo) for name in todo}
    return run_all(commands, after, config.training.processes, n_cpus())


def lane_command(args: argparse.Namespace, name: str) -> list[str]:
    """What trains one lane in a process of its own."""
    command = [sys.executable, str(ROOT / "train.py"), "-id", args.id, "-lane", name, "-test", args.test]
    return command + (["-a", args.a] if args.a else []) + (["--debug"] if args.debug else [])


def run_lane(args: argparse.Namespace, config: Config, world: World, name: str, data: Data) -> None:
    """Train one lane to its end, from where it stands, and write the posterior means that others read."""
    folder, lane = checkpoint.RUNS / args.id / name, config.training.lanes[name]
    own_config, project = configuration.lane_config(config, name), None
    if checkpoint.steps(folder, "project"):
        project = checkpoint.load_project(checkpoint.find(folder, "project", args.ckpt))
    state = make_state(args, own_config, world, data, project)
    state.run_config = config
    if project is None:
        start_from(state, last_projects(config, folder.parent, lane.start))
    trained = trained_parts(config, [name, *lane.start])
    state.sounding, state.reading = "generator" in trained, {"text_encoder", "decoder"} <= trained
    own = data.clips.subset(own_indices(lane.clips, len(data.clips)))
    latents = None
    if lane.means:
        folders, training = [folder.parent / one / "means" for one in lane.means], config.training
        indices = list(own_indices(lane.clips, len(data.clips)))
        latents = Means(folders, data.clips.content, training.mean_times, training.mean_shares).of(indices)
    wandb_run = start_wandb(args, own_config, f"{args.id}-{name}") if world.first else None
    data = Data(data.clips, own, data.valid)
    if world.first and state.step < own_config.training.train_num_steps:
        means.discard(folder / "means")  # of an earlier end
    train(state, data, *open_folder(state, data, folder, wandb_run), latents)
    if world.first and is_read(config, name):
        write_means(state, data, lane.clips, folder / "means")
    world.agree(True)  # nobody goes on to a lane whose means are not there yet
    if wandb_run is not None:
        wandb_run.finish()


def trained_parts(config: Config, lanes: list[str]) -> set[str]:
    return {part for stage in config.training.stages if stage.lane in lanes for part in stage.parts}


def last_projects(config: Config, folder: Path, lanes: Sequence[str]) -> dict[str, dict]:
    """The newest checkpoint that holds each part, from the last of these lanes, in the order of the list, to train it.

    Raises CheckpointError where a lane has none.
    """
    projects = {}
    for name in (name for name in config.training.lanes if name in lanes):
        project = checkpoint.load_project(checkpoint.find(folder / name, "project"))
        projects |= dict.fromkeys(trained_parts(config, [name]), project)
    return projects


def is_read(config: Config, name: str) -> bool:
    return any(name in lane.means for lane in config.training.lanes.values())


def is_done(config: Config, folder: Path, name: str) -> bool:
    """Whether a lane has come to its end, and has written what others read."""
    last = configuration.lane_config(config, name).training.train_num_steps
    trained = last in checkpoint.steps(folder / name, "project")
    return trained and (not is_read(config, name) or means.is_complete(folder / name / "means"))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, format="%(message)s")
    try:
        return run(args)
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


if __name__ == "__main__":
    sys.exit(main())
