"""The configuration: frozen, typed, strict. config.yaml holds every value; this file holds every type and relation."""

import dataclasses
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("text_encoder", "decoder", "generator", "discriminators")


class ConfigError(ValueError):
    """A key that does not exist, a value of the wrong type, or values that do not fit together."""


@dataclass(frozen=True)
class System:
    seed: int
    num_workers: int
    log_step: int
    validation_step: int
    validation_clips: int
    sample_clips: int
    save_ckpt: int
    keep_ckpt: int


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
class Text:
    language: str
    blanks: bool


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


@dataclass(frozen=True)
class Alignment:
    init: Literal["em", "none"]
    init_steps: int
    em_iterations: int
    em_minutes: float


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
    channels: int
    multipliers: tuple[int, ...]
    groups: int
    n_heads: int
    head_channels: int


@dataclass(frozen=True)
class Generator:
    channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[int, ...]


@dataclass(frozen=True)
class Discriminators:
    periods: tuple[int, ...]
    period_channels: tuple[int, ...]
    scales: int
    scale_channels: tuple[int, ...]
    t_channels: int


@dataclass(frozen=True)
class Loss:
    duration: float
    prior: float
    score: float
    adversarial: float
    feature: float
    mel: float
    mel_blur: float


@dataclass(frozen=True)
class Stage:
    """parts: learning rates by name; share: of the steps; final: share of the rates that is left at the end.

    mu_gradient: what comes after mu trains the text encoder too; feature_gradient: the waveform's losses train the
    decoder, and through mu, where mu_gradient allows it, the text encoder: off, at_one (items at t = 1), or on.
    """

    parts: dict[str, float]
    share: float
    final: float
    mu_gradient: bool
    feature_gradient: Literal["off", "at_one", "on"]


@dataclass(frozen=True)
class Training:
    train_num_steps: int
    batch_size: int
    cut_frames: int
    segment_frames: int
    true_latents: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: dict[str, float]
    ema_decay: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Config:
    system: System
    log: Log
    dataset: Dataset
    audio: Audio
    text: Text
    text_encoder: TextEncoder
    alignment: Alignment
    sde: Sde
    decoder: Decoder
    generator: Generator
    discriminators: Discriminators
    loss: Loss
    training: Training

    @property
    def n_latents(self) -> int:
        """Channels of the latent that the decoder works on."""
        return self.audio.n_mels


def load(
    overlay: str | Path | None = None, overrides: typing.Sequence[str] = (), base: Path = ROOT / "config.yaml"
) -> "Config":
    """Read config.yaml, an overlay over it, and overrides over both.

    overlay: a file, or a name in configs/; overrides: `section.key=value`, the value in YAML.
    Returns a Config; raises ConfigError, which names the dotted key.
    """
    tree = _read(base)
    if overlay is not None:
        _merge(tree, _read(_overlay_path(overlay)), "")
    return from_dict(_override(tree, overrides))


def change(config: "Config", overrides: typing.Sequence[str]) -> "Config":
    """The same configuration with `section.key=value` laid over it, as load does it."""
    return from_dict(_override(to_dict(config), overrides))


def from_dict(tree: dict) -> Config:
    """Check a tree of plain values, as YAML or JSON gives it, and make it a Config."""
    config = _typed(Config, tree, "")
    _check(config)
    return config


def to_dict(config) -> dict:
    """The reverse of from_dict: plain dicts, lists and numbers."""
    if dataclasses.is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(value) for value in config]
    return dict(config) if isinstance(config, dict) else config


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
    return stage, warm_up * cosine


def _overlay_path(overlay):
    named = ROOT / "configs" / f"{overlay}.yaml"
    path = named if named.is_file() else Path(overlay)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "configs").glob("*.yaml")))
        raise ConfigError(f"-c {overlay}: no such file, and no such overlay in configs/ (there are: {known})")
    return path


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


def _read(path):
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
        if len(kinds) == len(value) > 0:
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
    _check_audio(config.audio)
    _check_networks(config)
    _check_training(config.training)


def _check_ranges(config):
    may_be_zero = {"system.seed", "system.num_workers", "audio.f_min", "alignment.init_steps", "text_encoder.window",
                   "training.warmup_steps", "training.weight_decay", "training.true_latents"}  # fmt: skip
    shares = {"text_encoder.prenet_dropout", "text_encoder.dropout", "sde.t_one", "sde.t_uniform",
              "training.true_latents", "training.ema_decay"}  # fmt: skip
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


def _check_audio(audio):
    _require(audio.hop_length < audio.win_length <= audio.n_fft, "audio.win_length", audio.win_length,
             f"over audio.hop_length ({audio.hop_length}) and at most audio.n_fft ({audio.n_fft})")  # fmt: skip
    _require((audio.n_fft - audio.hop_length) % 2 == 0, "audio.hop_length", audio.hop_length,
             f"even where audio.n_fft ({audio.n_fft}) is, odd where it is odd")  # fmt: skip
    _require(audio.f_min < audio.f_max <= audio.sample_rate / 2, "audio.f_max", audio.f_max,
             f"over audio.f_min and at most half of audio.sample_rate ({audio.sample_rate / 2:g})")  # fmt: skip


def _check_networks(config):
    encoder, decoder, generator, sde = config.text_encoder, config.decoder, config.generator, config.sde
    _require(encoder.channels % encoder.n_heads == 0, "text_encoder.channels", encoder.channels,
             f"a multiple of text_encoder.n_heads ({encoder.n_heads})")  # fmt: skip
    for name in ("prenet_kernel", "kernel"):
        _require(getattr(encoder, name) % 2 == 1, f"text_encoder.{name}", getattr(encoder, name), "odd")
    for kernel in generator.resblock_kernels:
        _require(kernel % 2 == 1, "generator.resblock_kernels", generator.resblock_kernels, "odd, each of them")
    _require(sde.beta_min < sde.beta_max, "sde.beta_min", sde.beta_min, f"under sde.beta_max ({sde.beta_max})")
    _require(sde.t_min < 1, "sde.t_min", sde.t_min, "under 1")
    _require(sde.t_one + sde.t_uniform <= 1, "sde.t_uniform", sde.t_uniform,
             f"at most 1 - sde.t_one ({1 - sde.t_one:g})")  # fmt: skip
    _require(decoder.channels % (2 * decoder.groups) == 0, "decoder.channels", decoder.channels,
             f"a multiple of twice decoder.groups ({decoder.groups})")  # fmt: skip
    stride = 2 ** (len(decoder.multipliers) - 1)
    right = f"a multiple of {stride}, the stride of the decoder's deepest resolution (decoder.multipliers)"
    _require(config.n_latents % stride == 0, "audio.n_mels", config.n_latents, right)
    _require(config.training.cut_frames % stride == 0, "training.cut_frames", config.training.cut_frames, right)
    rates, kernels = generator.upsample_rates, generator.upsample_kernels
    hop = config.audio.hop_length
    _require(math.prod(rates) == hop, "generator.upsample_rates", rates,
             f"factors of audio.hop_length ({hop}); their product is {math.prod(rates)}")  # fmt: skip
    _require(len(kernels) == len(rates) and all(k >= r and (k - r) % 2 == 0 for k, r in zip(kernels, rates)),
             "generator.upsample_kernels", kernels, "one a rate, each its rate plus an even number")  # fmt: skip
    _require(generator.channels % 2 ** len(rates) == 0, "generator.channels", generator.channels,
             f"a multiple of {2 ** len(rates)}: each upsampling halves it")  # fmt: skip
    scales = config.discriminators.scale_channels
    _require(len(scales) <= 7 and all(width % 16 == 0 for width in scales), "discriminators.scale_channels", scales,
             "at most seven multiples of 16, the groups of their convolutions")  # fmt: skip
    _require(config.discriminators.t_channels % 2 == 0, "discriminators.t_channels",
             config.discriminators.t_channels, "even")  # fmt: skip


def _check_training(training):
    _require(training.segment_frames <= training.cut_frames, "training.segment_frames", training.segment_frames,
             f"at most training.cut_frames ({training.cut_frames})")  # fmt: skip
    _require(set(training.clip_norm) == set(PARTS), "training.clip_norm", training.clip_norm,
             f"a norm for each of {', '.join(PARTS)}")  # fmt: skip
    _require(min(training.clip_norm.values()) > 0, "training.clip_norm", training.clip_norm, "positive")
    _require(max(training.betas) < 1, "training.betas", training.betas, "under 1, both of them")
    for i, stage in enumerate(training.stages):
        key = f"training.stages[{i}]"
        _require(stage.parts and set(stage.parts) <= set(PARTS), f"{key}.parts", stage.parts,
                 f"learning rates of some of {', '.join(PARTS)}")  # fmt: skip
        _require("generator" in stage.parts or "discriminators" not in stage.parts, f"{key}.parts", stage.parts,
                 "with generator too where the discriminators train")  # fmt: skip
        _require(min(stage.parts.values()) > 0, f"{key}.parts", stage.parts, "positive learning rates")
        _require(0 < stage.share <= 1, f"{key}.share", stage.share, "over 0 and at most 1")
        _require(0 <= stage.final <= 1, f"{key}.final", stage.final, "from 0 to 1")
        _require(stage.feature_gradient == "off" or {"decoder", "generator"} & set(stage.parts),
                 f"{key}.feature_gradient", stage.feature_gradient,
                 "off where neither decoder nor generator trains")  # fmt: skip
    total = sum(stage.share for stage in training.stages)
    _require(abs(total - 1) < 1e-9, "training.stages", f"shares that sum to {total:g}", "shares that sum to 1")
