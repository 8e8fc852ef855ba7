"""The configuration: frozen, typed, strict. config.yaml holds every value; this file holds every type and relation."""

import copy
import dataclasses
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("text_encoder", "variance", "course", "decoder", "generator", "discriminators")
# what the numbers stand for that networks read and give: with another of these the same weights mean something else
MEANING = (("latent", "kind"), ("latent", "channels"), ("sde", "parametrisation"))


class ConfigError(ValueError):
    """A key that does not exist, a value of the wrong type, or values that do not fit together."""


@dataclass(frozen=True)
class System:
    seed: int
    tf32: bool
    cudnn_benchmark: bool
    cuda_graphs: bool
    compile: bool
    num_workers: int
    log_step: int
    validation_step: int
    validation_clips: int
    sample_clips: int
    save_ckpt: int
    keep_ckpt: int
    patience: int
    best_metric: Literal[
        "latent_l1", "copy_mel_l1", "loss_prior", "loss_frame", "loss_duration", "cer", "dnsmos", "mcd"
    ]
    keep_best: int


@dataclass(frozen=True)
class Log:
    project: str
    name: str


@dataclass(frozen=True)
class Dataset:
    prtpath: str
    metafile_train: str
    metafile_valid: str
    metafile_test: str
    cache: str


@dataclass(frozen=True)
class Audio:
    sample_rate: int
    n_fft: int
    hop_length: int
    win_length: int
    n_mels: int
    f_min: float
    f_max: float


@dataclass(frozen=True)
class Pitch:
    f_min: float
    f_max: float


@dataclass(frozen=True)
class Text:
    language: str
    phonemizer: Literal["espeak", "cmudict"]
    units: Literal["blanks", "characters", "phones"]
    longest: int
    lexicon: str


@dataclass(frozen=True)
class Speakers:
    """names: of those that the lists name, in the order of their ids; () for one voice that needs no name."""

    names: tuple[str, ...]
    balanced: bool


@dataclass(frozen=True)
class TextEncoder:
    channels: int
    prenet_layers: int
    prenet_kernel: int
    prenet_dropout: float
    n_layers: int
    n_heads: int
    window: int
    ff_channels: int
    kernel: int
    dropout: float
    duration_channels: int
    frame_layers: int
    frame_hidden_channels: int
    frame_kernel: int


@dataclass(frozen=True)
class Variance:
    kind: Literal["off", "phone", "frame"]
    channels: int
    hidden_channels: int
    n_layers: int
    kernel: int
    dropout: float
    frame_layers: int
    course_layers: int
    n_timesteps: int
    course_timesteps: int
    pitch_temperature: float
    energy_temperature: float
    course_temperature: float
    patience: int


@dataclass(frozen=True)
class Latent:
    kind: Literal["normalised", "pooled", "pca", "learned"]
    channels: int


@dataclass(frozen=True)
class Alignment:
    init: Literal["em", "none"]
    init_steps: int
    refresh_steps: int
    em_iterations: int
    em_minutes: float
    shortest_pause: float
    solve_minutes: float
    solve_ridge: float
    prior_scale: float
    noise: float
    noise_steps: int


@dataclass(frozen=True)
class Sde:
    beta_min: float
    beta_max: float
    sigma_data: float
    parametrisation: Literal["edm", "v", "z0", "noise"]
    t_one: float
    t_uniform: float
    t_min: float
    t_log_mean: float
    t_log_std: float


@dataclass(frozen=True)
class Decoder:
    kind: Literal["unet2d", "convnext1d"]


@dataclass(frozen=True)
class UNet2d:
    channels: int
    multipliers: tuple[int, ...]
    groups: int
    n_heads: int
    head_channels: int


@dataclass(frozen=True)
class ConvNeXt1d:
    channels: int
    hidden_channels: int
    n_layers: int
    kernel: int


@dataclass(frozen=True)
class Generator:
    kind: Literal["hifigan", "istft", "convnext"]
    inputs: tuple[Literal["z0_hat", "mu", "f0", "t"], ...]


@dataclass(frozen=True)
class HiFiGan:
    channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[int, ...]


@dataclass(frozen=True)
class Istft:
    channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[int, ...]
    n_fft: int
    hop_length: int


@dataclass(frozen=True)
class ConvNeXt:
    channels: int
    hidden_channels: int
    n_layers: int
    kernel: int
    head: Literal["plain", "source"]
    n_fft: int


@dataclass(frozen=True)
class Discriminators:
    periods: tuple[int, ...]
    period_channels: tuple[int, ...]
    scales: int
    scale_channels: tuple[int, ...]
    resolutions: tuple[int, ...]
    resolution_channels: tuple[int, ...]
    t_channels: int


@dataclass(frozen=True)
class Loss:
    duration: float
    prior: float
    frame: float
    variance: float
    f0: float
    voicing: float
    course: float
    score: float
    adversarial: float
    feature: float
    mel: float
    mel_blur: float
    stft: float
    phase: float
    stft_resolutions: tuple[int, ...]


@dataclass(frozen=True)
class FineTuning:
    """start: the checkpoint whose weights a run begins with, which -from sets; '' for none. The others count with one
    alone."""

    start: str
    rate: float
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class Lane:
    """A training of its own. clips: all of the list, or every second one; start: lanes whose last weights it begins
    with, of each part those of the last lane that trains it; means: lanes whose posterior means its generator reads.
    """

    clips: Literal["all", "even", "odd"]
    start: tuple[str, ...]
    means: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """lane: that it is a stage of; parts: learning rates by name; share: of train_num_steps; final: share of the rates
    that is left at the end.

    latents: what the generator is given: joint, posterior means as the step makes them, true latents, or the means that
    other lanes have written.

    mu_gradient: what comes after mu trains the text encoder too; feature_gradient: the waveform's losses train the
    decoder, and through mu, where mu_gradient allows it, the text encoder: off, at_one (items at t = 1), or on.
    """

    lane: str
    parts: dict[str, float]
    latents: Literal["joint", "true", "means"]
    share: float
    final: float
    mu_gradient: bool
    feature_gradient: Literal["off", "at_one", "on"]


@dataclass(frozen=True)
class Training:
    train_num_steps: int
    batch_size: int
    batch_frames: int
    accumulate: int
    rate_power: float
    max_skipped: int
    back_off: float
    cut_frames: int
    segment_frames: int
    true_latents: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: dict[str, float]
    ema_decay: float
    mean_times: tuple[float, ...]
    mean_shares: tuple[float, ...]
    processes: int
    lanes: dict[str, Lane]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Config:
    system: System
    log: Log
    dataset: Dataset
    audio: Audio
    pitch: Pitch
    text: Text
    speakers: Speakers
    text_encoder: TextEncoder
    variance: Variance
    latent: Latent
    alignment: Alignment
    sde: Sde
    decoder: Decoder
    unet2d: UNet2d
    convnext1d: ConvNeXt1d
    generator: Generator
    hifigan: HiFiGan
    istft: Istft
    convnext: ConvNeXt
    discriminators: Discriminators
    loss: Loss
    training: Training
    fine_tuning: FineTuning

    @property
    def n_latents(self) -> int:
        """Channels of the latent that the decoder works on."""
        return self.audio.n_mels if self.latent.kind == "normalised" else self.latent.channels

    @property
    def has_source(self) -> bool:
        """Whether the generator filters pulses at F0."""
        return self.generator.kind == "convnext" and self.convnext.head == "source"

    @property
    def n_speakers(self) -> int:
        return max(1, len(self.speakers.names))

    @property
    def generator_needs_f0(self) -> bool:
        """Whether the generator is given F0 and voicing."""
        return self.has_source or "f0" in self.generator.inputs

    @property
    def with_f0(self) -> bool:
        """Whether training reads F0."""
        return self.variance.kind != "off"


def load(
    overlays: str | Path | None | typing.Sequence[str | Path] = (),
    overrides: typing.Sequence[str] = (),
    base: Path | dict = ROOT / "config.yaml",
) -> "Config":
    """Read config.yaml, overlays over it, one over the other, and overrides over all.

    overlays: files, or names in configs/, each of which may lie over another, `over: NAME`; a single one may stand
    alone. overrides: `section.key=value`, the value in YAML; base: a file, or the tree of a configuration.
    Returns a Config; raises ConfigError, which names the dotted key.
    """
    if isinstance(base, dict):
        tree = copy.deepcopy(base)
    else:
        tree = read_tree(base) if base == ROOT / "config.yaml" else completed(read_tree(base))
    if overlays is None or isinstance(overlays, (str, Path)):
        overlays = () if overlays is None else (overlays,)
    for layer in (layer for overlay in overlays for layer in _layers(overlay, ())):
        _merge(tree, layer, "")
    return from_dict(_override(tree, overrides))


def change(config: "Config", overrides: typing.Sequence[str]) -> "Config":
    """The same configuration with `section.key=value` laid over it, as load does it."""
    return from_dict(_override(to_dict(config), overrides))


def from_dict(tree: dict) -> Config:
    """Check a tree of plain values, as YAML or JSON gives it, and make it a Config."""
    config = _typed(Config, tree, "")
    _check(config)
    return config


def check_same(config: Config, before: dict, keys: typing.Iterable[tuple[str, str]], where: str, advice="") -> None:
    """Raise ConfigError where a key, (section, name), has another value than in the tree that `where` was trained with.

    advice: what to do then, after the message.
    """
    for section, name in keys:
        then, now = before[section][name], getattr(getattr(config, section), name)
        if then != now:
            raise ConfigError(f"{section}.{name} = {now}: must be {then}, as {where} was trained with{advice}")


def check_meaning(config: Config, before: dict, where: str) -> None:
    """Raise ConfigError where weights of `where`, trained with the tree `before`, would mean something else here."""
    all_bands = config.latent.kind == "normalised"  # however many channels another kind would have
    check_same(config, before, [key for key in MEANING if not (all_bands and key == ("latent", "channels"))], where)


def completed(tree: dict) -> dict:
    """A configuration that an earlier version wrote, with the keys that it did not have, as config.yaml has them.

    What is no tree of sections is given back as it is, for from_dict to refuse.
    """
    shipped = read_tree(ROOT / "config.yaml")
    if not isinstance(tree, dict) or not all(isinstance(tree.get(name, {}), dict) for name in shipped):
        return tree
    return tree | {name: keys | tree.get(name, {}) for name, keys in shipped.items()}


def to_dict(config) -> dict:
    """The reverse of from_dict: plain dicts, lists and numbers."""
    if dataclasses.is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(value) for value in config]
    return {key: to_dict(value) for key, value in config.items()} if isinstance(config, dict) else config


def to_yaml(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def stage_at(config: Config, step: int) -> tuple[Stage, float]:
    """The stage that a step belongs to, and by how much its learning rates are scaled there: warm-up, then cosine."""
    training, start = config.training, 0.0
    for stage in training.stages:
        first = round(start * training.train_num_steps)
        end = round((start + stage.share) * training.train_num_steps)
        if step < end or stage is training.stages[-1]:
            break
        start += stage.share
    progress = min(1.0, (step - first) / max(1, end - first))
    cosine = stage.final + (1 - stage.final) * 0.5 * (1 + math.cos(math.pi * progress))
    warm_up = min(1.0, (step - first + 1) / max(1, min(training.warmup_steps, 0.1 * (end - first))))
    if not config.fine_tuning.start:
        return stage, warm_up * cosine
    return without(stage, config.fine_tuning.frozen), config.fine_tuning.rate * warm_up * cosine


def without(stage: Stage, frozen: typing.Sequence[str]) -> Stage:
    """The stage, but that some parts do not train: then neither do those that have nobody left to train against."""
    parts = {name: rate for name, rate in stage.parts.items() if name not in frozen}
    if "generator" not in parts:
        parts.pop("discriminators", None)
    gradient = stage.feature_gradient if {"decoder", "generator"} & set(parts) else "off"
    return dataclasses.replace(stage, parts=parts, feature_gradient=gradient)


def search_noise(config: Config, step: int) -> float:
    """The noise on the alignment search at a step, in standard deviations of its scores."""
    alignment = config.alignment
    return alignment.noise * max(0.0, 1 - step / alignment.noise_steps)


def lane_config(config: Config, name: str) -> Config:
    """The configuration of one lane alone: its own stages, and the steps that they have together."""
    training = config.training
    stages = [stage for stage in training.stages if stage.lane == name]
    total = sum(stage.share for stage in stages)
    stages = tuple(dataclasses.replace(stage, share=stage.share / total) for stage in stages)
    steps = max(1, round(total * training.train_num_steps))
    return dataclasses.replace(config, training=dataclasses.replace(training, stages=stages, train_num_steps=steps))


def _overlay_path(overlay):
    named = ROOT / "configs" / f"{overlay}.yaml"
    path = named if named.is_file() else Path(overlay)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "configs").glob("*.yaml")))
        raise ConfigError(f"-c {overlay}: no such file, and no such overlay in configs/ (there are: {known})")
    return path


def _layers(overlay, above):
    """The overlay's keys, after those of the one that it lies over. above: those that lie over this one."""
    path = _overlay_path(overlay)
    if path in above:
        raise ConfigError(f"{path} lies over itself (over: {overlay})")
    tree = read_tree(path)
    under = tree.pop("over", None)
    return [*([] if under is None else _layers(under, (*above, path))), tree]


def _override(tree, overrides):
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and name):
            raise ConfigError(f"{override!r} is not of the form section.key=value")
        try:
            _merge(tree, {section: {name: yaml.safe_load(value)}}, "")
        except yaml.YAMLError as error:
            raise ConfigError(f"{key} = {value!r} is not YAML: {' '.join(str(error).split())}") from error
    return tree


def read_tree(path: str | Path) -> dict:
    """A configuration file as it is, unchecked. Raises ConfigError where it is not there or no YAML of sections."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections with keys, found {type(tree).__name__}")
    return tree


def _merge(tree, over, prefix):
    """Lay `over` over `tree`, in place. Only sections merge; a list or a mapping inside one is replaced."""
    for key, value in over.items():
        if key not in tree:
            raise ConfigError(f"unknown key {prefix}{key} (known here: {', '.join(tree)})")
        if prefix == "" and isinstance(value, dict):
            _merge(tree[key], value, f"{key}.")
        else:
            tree[key] = value


def _typed(kind, value, key):
    """Give `value` the annotated type `kind`, or raise a ConfigError that names `key`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _typed_section(kind, value, key)
    if origin is Literal:
        word = {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML 1.1 reads off as false
        if word in args:
            return word
        raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(args)}")
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(_typed(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict and isinstance(value, dict):
        return {_typed(args[0], k, key): _typed(args[1], v, f"{key}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    if kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise ConfigError(f"{key} = {value!r}: must be of type {wanted}")


def _typed_section(kind, value, key):
    if not isinstance(value, dict):
        raise ConfigError(f"{key or 'the configuration'}: expected keys, found {value!r}")
    hints, dot = typing.get_type_hints(kind), f"{key}." if key else ""
    for name in value:
        if name not in hints:
            raise ConfigError(f"unknown key {dot}{name} (known here: {', '.join(hints)})")
    for name in hints:
        if name not in value:
            raise ConfigError(f"missing key {dot}{name}")
    return kind(**{name: _typed(hint, value[name], f"{dot}{name}") for name, hint in hints.items()})


def _require(truth, key, value, right):
    if not truth:
        raise ConfigError(f"{key} = {value}: must be {right}")


def _check(config):
    """Relations between keys that one type cannot state."""
    _check_ranges(config)
    _check_audio(config.audio, config.pitch)
    _check_networks(config)
    _check_training(config)
    names = config.speakers.names
    _require(len(set(names)) == len(names) and all(name.strip() == name != "" and "|" not in name for name in names),
             "speakers.names", list(names), "different names, none empty, without | and spaces around")  # fmt: skip
    _require(set(config.fine_tuning.frozen) < set(PARTS), "fine_tuning.frozen", list(config.fine_tuning.frozen),
             f"some of {', '.join(PARTS)}, and not all")  # fmt: skip
    _require(config.system.best_metric != "cer" or config.text.language.startswith("en"), "system.best_metric", "cer",
             f"another where text.language is {config.text.language}: the recogniser knows English only")  # fmt: skip


def _check_ranges(config):
    may_be_zero = {"system.seed", "system.patience", "system.num_workers", "audio.f_min",
                   "alignment.init_steps", "alignment.refresh_steps", "alignment.solve_minutes", "text_encoder.window",
                   "text_encoder.frame_layers", "variance.dropout", "variance.course_layers",
                   "variance.pitch_temperature", "variance.energy_temperature", "variance.course_temperature",
                   "alignment.prior_scale", "alignment.noise", "discriminators.scales",
                   "training.warmup_steps", "training.weight_decay", "training.true_latents",
                   "training.batch_frames", "training.rate_power"}  # fmt: skip
    may_be_empty = {"discriminators.periods", "discriminators.resolutions", "speakers.names", "fine_tuning.frozen"}
    shares = {"text_encoder.prenet_dropout", "text_encoder.dropout", "variance.dropout", "sde.t_one", "sde.t_uniform",
              "training.true_latents", "training.ema_decay", "training.back_off", "training.rate_power"}  # fmt: skip
    for section, keys in to_dict(config).items():
        for name, value in keys.items():
            key = f"{section}.{name}"
            numbers = value if isinstance(value, list) else [value]
            for number in numbers:
                if isinstance(number, bool) or not isinstance(number, (int, float)):
                    continue
                if key in shares:
                    _require(0 <= number <= 1, key, value, "from 0 to 1")
                elif section != "loss" and key != "sde.t_log_mean":
                    _require(number > 0 or number == 0 and key in may_be_zero, key, value, "positive")
                elif section == "loss":
                    _require(number >= 0, key, value, "zero or positive")
            _require(value != [] or key in may_be_empty, key, value, "a list with something in it")


def _check_audio(audio, pitch):
    _require(audio.hop_length < audio.win_length <= audio.n_fft, "audio.win_length", audio.win_length,
             f"over audio.hop_length ({audio.hop_length}) and at most audio.n_fft ({audio.n_fft})")  # fmt: skip
    _require((audio.n_fft - audio.hop_length) % 2 == 0, "audio.hop_length", audio.hop_length,
             f"even where audio.n_fft ({audio.n_fft}) is, odd where it is odd")  # fmt: skip
    _require(2 * pitch.f_min <= pitch.f_max <= audio.sample_rate / 4, "pitch.f_max", pitch.f_max,
             "at least twice pitch.f_min and at most a quarter of audio.sample_rate "
             f"({audio.sample_rate / 4:g})")  # fmt: skip
    _require(audio.f_min < audio.f_max <= audio.sample_rate / 2, "audio.f_max", audio.f_max,
             f"over audio.f_min and at most half of audio.sample_rate ({audio.sample_rate / 2:g})")  # fmt: skip


def _check_networks(config):
    encoder, sde, discriminators = config.text_encoder, config.sde, config.discriminators
    _require(encoder.channels % encoder.n_heads == 0, "text_encoder.channels", encoder.channels,
             f"a multiple of text_encoder.n_heads ({encoder.n_heads})")  # fmt: skip
    for section, name in (("text_encoder", "prenet_kernel"), ("text_encoder", "kernel"),
                          ("text_encoder", "frame_kernel"), ("variance", "kernel"), ("convnext1d", "kernel"),
                          ("convnext", "kernel")):  # fmt: skip
        value = getattr(getattr(config, section), name)
        _require(value % 2 == 1, f"{section}.{name}", value, "odd")
    _require(sde.beta_min < sde.beta_max, "sde.beta_min", sde.beta_min, f"under sde.beta_max ({sde.beta_max})")
    _require(sde.t_min < 1, "sde.t_min", sde.t_min, "under 1")
    _require(sde.t_one + sde.t_uniform <= 1, "sde.t_uniform", sde.t_uniform,
             f"at most 1 - sde.t_one ({1 - sde.t_one:g})")  # fmt: skip
    for name in ("n_timesteps", "course_timesteps"):
        n_timesteps = getattr(config.variance, name)
        _require(n_timesteps == 1 or n_timesteps >= 5, f"variance.{name}", n_timesteps,
                 "1, the mean, or at least 5: fewer give something between the mean and a sample")  # fmt: skip
    _require(config.variance.course_layers == 0 or config.variance.kind == "frame", "variance.course_layers",
             config.variance.course_layers, f"0 where variance.kind is {config.variance.kind}")  # fmt: skip
    _check_latent(config)
    if config.decoder.kind == "unet2d":
        _check_unet(config)
    _check_generator(config)
    scales = discriminators.scale_channels
    _require(len(scales) <= 7 and all(width % 16 == 0 for width in scales), "discriminators.scale_channels", scales,
             "at most seven multiples of 16, the groups of their convolutions")  # fmt: skip
    _require(discriminators.periods or discriminators.scales or discriminators.resolutions, "discriminators.periods",
             discriminators.periods, "at least one, where there are no scales and no resolutions")  # fmt: skip
    for n_fft in (*discriminators.resolutions, *config.loss.stft_resolutions):
        _require(n_fft % 4 == 0, "discriminators.resolutions, loss.stft_resolutions", n_fft, "a multiple of 4")
    _require(discriminators.t_channels % 2 == 0, "discriminators.t_channels", discriminators.t_channels, "even")


def _check_latent(config):
    kind, channels, n_mels = config.latent.kind, config.latent.channels, config.audio.n_mels
    if kind == "normalised":
        return
    _require(channels <= n_mels, "latent.channels", channels, f"at most audio.n_mels ({n_mels})")
    _require(kind != "pooled" or n_mels % channels == 0, "latent.channels", channels,
             f"a divisor of audio.n_mels ({n_mels}) where latent.kind is pooled")  # fmt: skip
    _require(kind == "pooled" or config.decoder.kind == "convnext1d", "latent.kind", kind,
             "normalised or pooled where decoder.kind is unet2d, which reads channels as neighbours")  # fmt: skip


def _check_unet(config):
    unet = config.unet2d
    _require(unet.channels % (2 * unet.groups) == 0, "unet2d.channels", unet.channels,
             f"a multiple of twice unet2d.groups ({unet.groups})")  # fmt: skip
    stride = 2 ** (len(unet.multipliers) - 1)
    right = f"a multiple of {stride}, the stride of the decoder's deepest resolution (unet2d.multipliers)"
    name = "audio.n_mels" if config.latent.kind == "normalised" else "latent.channels"
    _require(config.n_latents % stride == 0, name, config.n_latents, right)
    _require(config.training.cut_frames % stride == 0, "training.cut_frames", config.training.cut_frames, right)


def _check_generator(config):
    generator, hop = config.generator, config.audio.hop_length
    _require("z0_hat" in generator.inputs and len(set(generator.inputs)) == len(generator.inputs), "generator.inputs",
             generator.inputs, "different ones, z0_hat among them")  # fmt: skip
    if config.generator_needs_f0:
        _require(config.variance.kind == "frame", "variance.kind", config.variance.kind,
                 "frame, since the generator (generator.inputs, convnext.head) needs F0")  # fmt: skip
    _require(config.loss.phase == 0 or config.has_source, "loss.phase", config.loss.phase,
             "0, but for generator.kind convnext with convnext.head source")  # fmt: skip
    if generator.kind == "convnext":
        n_fft = config.convnext.n_fft
        _require(n_fft >= 2 * hop and n_fft % hop == 0 and (n_fft - hop) % 2 == 0, "convnext.n_fft", n_fft,
                 f"a multiple of audio.hop_length ({hop}), at least twice it, and both even or odd")  # fmt: skip
        return
    name = generator.kind
    section = getattr(config, name)
    rates, kernels = section.upsample_rates, section.upsample_kernels
    own_hop = section.hop_length if name == "istft" else 1
    _require(math.prod(rates) * own_hop == hop, f"{name}.upsample_rates", rates,
             f"factors of audio.hop_length ({hop}); their product is {math.prod(rates) * own_hop}")  # fmt: skip
    _require(len(kernels) == len(rates) and all(k >= r and (k - r) % 2 == 0 for k, r in zip(kernels, rates)),
             f"{name}.upsample_kernels", kernels, "one a rate, each its rate plus an even number")  # fmt: skip
    _require(section.channels % 2 ** len(rates) == 0, f"{name}.channels", section.channels,
             f"a multiple of {2 ** len(rates)}: each upsampling halves it")  # fmt: skip
    for kernel in section.resblock_kernels:
        _require(kernel % 2 == 1, f"{name}.resblock_kernels", section.resblock_kernels, "odd, each of them")
    if name == "istft":
        _require(section.n_fft % section.hop_length == 0 and section.n_fft >= 2 * section.hop_length,
                 "istft.n_fft", section.n_fft,
                 f"a multiple of istft.hop_length ({section.hop_length}), at least twice it")  # fmt: skip


def _check_training(config):
    training = config.training
    _require(training.segment_frames <= training.cut_frames, "training.segment_frames", training.segment_frames,
             f"at most training.cut_frames ({training.cut_frames})")  # fmt: skip
    trained = {part for stage in training.stages for part in stage.parts}
    _require(trained & set(PARTS) <= set(training.clip_norm) <= set(PARTS), "training.clip_norm", training.clip_norm,
             f"a norm for each part that trains, of {', '.join(PARTS)}")  # fmt: skip
    _require(min(training.clip_norm.values()) > 0, "training.clip_norm", training.clip_norm, "positive")
    _require(max(training.betas) < 1, "training.betas", training.betas, "under 1, both of them")
    times, shares = training.mean_times, training.mean_shares
    _require(max(times) <= 1, "training.mean_times", times, "at most 1, each of them")
    _require(len(times) == len(shares) and abs(sum(shares) - 1) < 1e-9, "training.mean_shares", shares,
             f"one for each of training.mean_times ({len(times)}), and 1 in all")  # fmt: skip
    _require(config.variance.course_layers == 0 or "course" in trained or config.fine_tuning.start,
             "variance.course_layers", config.variance.course_layers, "0 where no stage trains course")  # fmt: skip
    for i, stage in enumerate(training.stages):
        _check_stage(config, f"training.stages[{i}]", stage)
    _check_lanes(training)


def _check_stage(config, key, stage):
    _require(stage.lane in config.training.lanes, f"{key}.lane", stage.lane,
             f"one of training.lanes ({', '.join(config.training.lanes)})")  # fmt: skip
    _require(stage.parts and set(stage.parts) <= set(PARTS), f"{key}.parts", stage.parts,
             f"learning rates of some of {', '.join(PARTS)}")  # fmt: skip
    _require("generator" in stage.parts or "discriminators" not in stage.parts, f"{key}.parts", stage.parts,
             "with generator too where the discriminators train")  # fmt: skip
    _require("variance" not in stage.parts or config.variance.kind != "off", f"{key}.parts", stage.parts,
             "without variance where variance.kind is off")  # fmt: skip
    _require("course" not in stage.parts or config.variance.course_layers, f"{key}.parts", stage.parts,
             "without course where variance.course_layers is 0")  # fmt: skip
    _require(min(stage.parts.values()) > 0, f"{key}.parts", stage.parts, "positive learning rates")
    _require(0 < stage.share <= 1, f"{key}.share", stage.share, "over 0 and at most 1")
    _require(0 <= stage.final <= 1, f"{key}.final", stage.final, "from 0 to 1")
    _require(stage.feature_gradient == "off" or {"decoder", "generator"} & set(stage.parts),
             f"{key}.feature_gradient", stage.feature_gradient,
             "off where neither decoder nor generator trains")  # fmt: skip
    if stage.latents != "joint":
        _require(set(stage.parts) <= {"generator", "discriminators"} and stage.feature_gradient == "off",
                 f"{key}.latents", stage.latents,
                 "joint where more than generator and discriminators train")  # fmt: skip
        _require("mu" not in config.generator.inputs, f"{key}.latents", stage.latents,
                 "joint where generator.inputs has mu")  # fmt: skip
    _require(stage.latents != "means" or config.training.lanes[stage.lane].means, f"{key}.latents", stage.latents,
             f"joint or true where training.lanes.{stage.lane}.means names no lane")  # fmt: skip


def _check_lanes(training):
    before = {}
    for name, lane in training.lanes.items():
        key = f"training.lanes.{name}"
        _require(name.isidentifier(), key, name, "a name of letters, digits and underscores")
        for which in (*lane.start, *lane.means):
            _require(which in before, key, which, f"a lane before it ({', '.join(before) or 'there is none'})")
        _require(not lane.means or sorted(before[one].clips for one in lane.means) in (["all"], ["even", "odd"]),
                 f"{key}.means", lane.means,
                 "one lane of all clips, or one of the even and one of the odd")  # fmt: skip
        for one in lane.means:
            reads = [stage.latents for stage in training.stages if stage.lane == one]
            _require("joint" in reads, f"{key}.means", one, "a lane with a stage whose latents are joint")
        before[name] = lane
    for name in training.lanes:
        total = sum(stage.share for stage in training.stages if stage.lane == name)
        right = "shares that sum to 1" if len(training.lanes) == 1 else "shares that sum to at most 1, over 0"
        good = abs(total - 1) < 1e-9 if len(training.lanes) == 1 else 0 < total < 1 + 1e-9
        _require(good, "training.stages", f"shares that sum to {total:g} in lane {name}", right)
