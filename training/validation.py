"""Held-out clips: what the averaged weights make of them, and which voices are kept for it."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_util.audio import save_wav
from data_util.config import Config
from data_util.corpus import Corpus, file_names
from evaluation import held_out, metrics
from model.nisets import Plan
from text.symbols import label, phones_along
from training import checkpoint
from training.data import Data, clip_tensors
from training.distributed import seed_everything
from training.initial_alignment import Aligned
from training.plots import save_curves, save_validation
from training.recording import Run
from training.run_log import RunLog
from training.schedule import stage_at
from training.state import State

SEEN = ("loss_prior", "score_ratio_1", "latent_l1")  # of a voice, also measured on clips of training
LONGEST_SPEECH = 2  # times its recording's length, at which what a clip's text is spoken as is cut
STALE_VALIDATIONS = 5  # without a gain, after which training says so
log = logging.getLogger("train")


def validate_once(state: State, data: Data, run: Run, ending_at_once: AbstractContextManager) -> tuple[bool, bool]:
    """Validate, each process its share of the clips, and write the voice that was measured. Returns whether there is
    anything that a checkpoint should know, and whether system.patience is at its end. ending_at_once: within which a
    signal ends the measuring, but no writing.

    Where it was done at this very step, and then the process was killed, what it said is read from the log.
    """
    processes, folder, run_log = state.processes, run.folder, run.log
    lines = [] if run_log is None else run_log.read()
    done = [one for one in lines if one["kind"] == "valid" and one["step"] == state.step]
    line = processes.broadcast(done[0] if done else None)
    with ending_at_once:
        samples = folder / "samples" / f"{state.step:08d}"
        numbers = line or validate(state, data.valid, samples, data.valid_alignment) | measure_seen(state, data.own)
    is_news = watch_prosody(state, numbers) or line is None
    heard = lines if done else [*lines, {"kind": "valid", "step": state.step, **numbers}]
    is_over = processes.broadcast(has_stopped_improving(state.config, heard))
    settle_prosody(state, is_over or state.step >= state.config.training.train_num_steps)
    with processes.raise_on_all():
        if run_log is not None:
            write_validation(state, folder, run_log, numbers, line is None, is_news)
    return is_news, is_over


def write_validation(
    state: State, folder: Path, run_log: RunLog, numbers: dict[str, float], is_measured: bool, is_news: bool
) -> None:
    """The voice, the line of the log and the curves, by the first process."""
    is_missing = state.step not in checkpoint.steps(folder, "voice")
    if state.has_acoustic_model and state.has_vocoder and (is_news or is_missing):
        checkpoint.save_voice(folder, state.step, state.ema.state_dict(), state.config, state.symbols)
    if is_measured:
        run_log.write("valid", state.step, numbers)
        run_log.write_samples(state.step, folder / "samples" / f"{state.step:08d}")
        log.info("step %d, held out: %s", state.step, ", ".join(f"{name} {numbers[name]:.3g}" for name in numbers))
    keep_best(state, folder, run_log)
    save_curves(folder / "curves.png", run_log.read())


@torch.no_grad()
def validate(state: State, corpus: Corpus, folder: Path, alignment: list[Aligned] | None = None) -> dict[str, float]:
    """Measure the averaged weights on held-out clips; leave pictures and WAVs of the first few in samples/<step>/.

    Where there is a voice, it speaks those, and is measured as evaluate.py does. alignment: of each clip, the initial
    one, which its durations are compared with; None: with the best path of mu.
    """

    def of_clip(i: int) -> tuple[dict[str, float], dict[str, dict]]:
        with state.ema.speaking_as(int(corpus.speakers[i])):
            aligned = None if alignment is None else alignment[i]
            numbers, sounds = validate_clip(state, corpus, i, folder, aligned)
        return {name: float(value) for name, value in numbers.items()}, sounds

    clips = state.processes.share(of_clip, range(min(state.config.system.validation_clips, len(corpus))))
    rows, spoken = [row for row, _ in clips], [sounds for _, sounds in clips if sounds]
    metrics.compare_speakers(spoken, [corpus.speakers[i] for i, (_, sounds) in enumerate(clips) if sounds])
    averages = {name: float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}
    measured = metrics.pooled([sounds["one_step"]["pairs"] for sounds in spoken])
    return averages | {name: measured[name] for name in metrics.WATCHED if name in measured}


@torch.no_grad()
def measure_seen(state: State, corpus: Corpus) -> dict[str, float]:
    """The means of SEEN over as many clips of training, spread over the list, under train_<name>: what held-out clips
    are worse by has been learnt by heart. {} where there is no acoustic model."""
    if not state.has_acoustic_model:
        return {}

    def of_clip(i: int) -> list[float]:
        with state.ema.speaking_as(int(corpus.speakers[i])):
            clip = clip_tensors(state.config, corpus, i, state.processes.device)
            numbers, _ = held_out.measure(state.ema, clip, torch.Generator().manual_seed(i))
        return [float(numbers[name]) for name in SEEN]

    n_clips = min(state.config.system.validation_clips, len(corpus))
    indices = np.linspace(0, len(corpus) - 1, n_clips).round().astype(int).tolist()
    rows = state.processes.share(of_clip, indices)
    return {f"train_{name}": float(value) for name, value in zip(SEEN, np.mean(rows, axis=0))}


def validate_clip(
    state: State, corpus: Corpus, i: int, folder: Path, aligned: Aligned | None
) -> tuple[dict, dict[str, dict]]:
    """validate of one clip: its numbers, and what is measured of what was spoken, as measure_spoken gives it, or {}."""
    config, model = state.config, state.ema
    numbers: dict[str, Tensor] = {}
    durations = None
    x, mel, f0 = clip_tensors(config, corpus, i, state.processes.device)
    if state.has_acoustic_model:
        reference = None
        if aligned is not None:
            ids, frames = (torch.from_numpy(each)[None].to(x.device) for each in aligned)
            reference = ids, frames
        numbers, durations = held_out.measure(model, (x, mel, f0), torch.Generator().manual_seed(i), reference)
    if i >= config.system.sample_clips:
        return numbers, {}
    noise = np.random.default_rng(config.system.seed)
    wavs = {"recording": corpus.wav(i)}
    if state.has_vocoder and "mu" not in config.generator.inputs:
        seed_everything(config.system.seed, 0, 0)  # the vocoder may draw noise of its own
        contour = model.normalised_f0(f0)
        features = model.vocoder_features(model.latent(mel), f0=contour)
        copied = model.vocode(features, source=model.source(contour))
        numbers["copy_mel_l1"] = (model.features(copied) - mel).abs().mean()
        wavs["copy"] = copied[0, 0].cpu().numpy()
    if state.has_vocoder and state.has_acoustic_model:
        plan, most = model.plan(x, generator=noise), LONGEST_SPEECH * mel.shape[-1]
        numbers["speech_cut"] = torch.tensor(float(plan.mu.shape[-1] > most))
        wavs["one_step"] = model.decode([shortened(plan, most)])[0].wav[0, 0].cpu().numpy()
    save_sample(state, corpus, i, folder, wavs, durations)
    return numbers, measure_spoken(config, wavs, corpus.clips[i].text) if "one_step" in wavs else {}


def shortened(plan: Plan, n_frames: int) -> Plan:
    """A plan of n_frames at most: the last symbols lose theirs."""
    mu, r_1 = plan.mu[..., :n_frames], plan.r_1[..., :n_frames]
    ends = plan.durations.cumsum(1).clamp(max=n_frames)
    f0 = None if plan.f0 is None else plan.f0[..., :n_frames]
    return Plan(mu, ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1])), f0, r_1, plan.generator)


def measure_spoken(config: Config, wavs: dict[str, np.ndarray], text: str | None) -> dict[str, dict]:
    """What evaluate.py measures of one_step, as far as its packages are installed, beside what compare_speakers needs
    of the recording, {system: as of metrics.measure}. wavs: (T_wav,) each."""
    sound, recording = (metrics.Sound.of(wavs[kind].clip(-1, 1), config) for kind in ("one_step", "recording"))
    reference = metrics.reference_of(text, config.text.language)
    measured = metrics.measure(sound, recording, reference, config.system.recogniser)
    return {"one_step": measured, "recording": {"pairs": {}, "embedding": metrics.embedding_of(recording)}}


def save_sample(
    state: State, corpus: Corpus, index: int, folder: Path, wavs: dict[str, np.ndarray], durations: Tensor | None
) -> None:
    """A clip's recording and what was made of it, (T_wav,) each, as WAVs; their log-mels and the path as a picture."""
    model, audio, name, mels = state.ema, state.config.audio, file_names(corpus.clips)[index], {}
    for kind, samples in wavs.items():
        save_wav(folder / f"{name}_{kind}.wav", samples, audio.sample_rate)
        mel = model.features(torch.from_numpy(samples)[None].to(state.processes.device))
        mels[f"{name}: {kind}"] = mel[0].cpu().numpy()
    ids, seconds = corpus.ids[index].tolist(), audio.hop_length / audio.sample_rate
    firsts, path = phones_along(ids, [0] * len(ids) if durations is None else durations[0].tolist())
    symbols = [label(ids[k]) for k in firsts]
    save_validation(folder / f"{name}.png", mels, None if durations is None else np.array(path), symbols, seconds)


def watch_prosody(state: State, numbers: dict[str, float]) -> bool:
    """Early stopping: keep the prosody's best weights, and say when it gets no better. Returns whether it heard
    anything new.

    numbers: of a validation. Its weights are shared with no other part, so that the best ones stay the best.
    """
    prosody, best = state.ema.prosody, state.best_prosody
    if prosody is None or best is not None and best["stopped"]:
        return False
    since = max(state.step - state.config.system.validation_step, best["step"] if best is not None else 0)
    if not any("prosody" in stage_at(state.config, step)[0].parts for step in range(since, state.step)):
        return False
    loss = sum(numbers.get(f"loss_{name}", 0.0) for name in ("prosody", "f0", "voicing"))
    if best is None or loss < best["loss"]:
        weights = {name: value.cpu().clone() for name, value in prosody.network.state_dict().items()}
        state.best_prosody = {"loss": loss, "weights": weights, "n_since": 0, "stopped": False, "step": state.step}
        return True
    best |= {"n_since": best["n_since"] + 1, "step": state.step}
    if best["n_since"] >= state.config.prosody.patience:
        best["stopped"] = True
        log.info(
            "pitch, energy and contour: best at a held-out loss of %.4f; training goes on without them", best["loss"]
        )
    return True


def settle_prosody(state: State, is_over: bool) -> None:
    """Give the prosody its best weights where it has stopped, its stage is over, or the run is_over."""
    best = state.best_prosody
    if best is None:
        return
    if not best["stopped"] and not is_over and "prosody" in stage_at(state.config, state.step)[0].parts:
        return
    for model in (state.model, state.ema):
        assert model.prosody is not None  # whose weights these are
        model.prosody.network.load_state_dict(best["weights"])


def keep_best(state: State, folder: Path, run_log: RunLog) -> None:
    """Keep the best voices by system.best_metric, and the newest; say so when it has stopped getting better."""
    system = state.config.system
    lines = [line for line in run_log.read() if line["kind"] == "valid" and system.best_metric in line]
    is_more_better = system.best_metric in metrics.BETTER_IF_MORE
    ranked = sorted(lines, key=lambda line: line[system.best_metric], reverse=is_more_better)
    if not ranked:
        if system.patience or checkpoint.steps(folder, "voice"):
            log.warning("system.best_metric = %s is not measured here: all voices stay, and system.patience waits",
                        system.best_metric)  # fmt: skip
        return
    there = checkpoint.steps(folder, "voice")  # none of the validations of an acoustic model or a vocoder alone
    kept = [line["step"] for line in ranked if line["step"] in there][: system.keep_best]
    checkpoint.keep_voices(folder, {*kept, state.step})
    best, since = ranked[0], n_stale(lines, system.best_metric)
    if since >= STALE_VALIDATIONS:
        log.info("%s has not improved in %d validations: it was best at step %d, %.4g", system.best_metric, since,
                 best["step"], best[system.best_metric])  # fmt: skip


def has_stopped_improving(config: Config, lines: Sequence[dict]) -> bool:
    """Whether system.best_metric was best system.patience validations ago. lines: of the run's log."""
    return 0 < config.system.patience <= n_stale(lines, config.system.best_metric)


def n_stale(lines: Sequence[dict], metric: str) -> int:
    """Validations since a metric was best. lines: of the log."""
    values = [line[metric] for line in lines if line["kind"] == "valid" and metric in line]
    best = max if metric in metrics.BETTER_IF_MORE else min
    return len(values) - 1 - values.index(best(values)) if values else 0


def tell_of_missing_packages() -> None:
    missing = metrics.missing_packages()
    if missing:
        log.info("held-out voices are measured without %s: pip install -r requirements-extra.txt", ", ".join(missing))
    elif metrics.missing_packages(metrics.SPEAKER):
        log.info(metrics.NO_SPEAKER)
