"""The configuration: frozen, typed, strict. config.yaml holds the values; this file holds their types and ranges.

A section whose parts come in kinds (`decoder: {kind: unet2d, ...}`) has the keys of the chosen kind alone; KINDS lists
them. Each section checks itself, and Config what several of them have to agree on.
"""

import copy
import dataclasses
import math
import os
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("text_encoder", "prosody", "f0_residual", "decoder", "generator", "discriminators")
# what the numbers stand for that networks read and give: with another of these the same weights mean something else
MEANING = (("latent", "kind"), ("latent", "channels"), ("sde", "parametrisation"))


class ConfigError(ValueError):
    """A key that does not exist, a value of the wrong type, or values that do not fit together."""


@dataclass(frozen=True)
class Rule:
    """holds(value) or the value is refused, with these words."""

    words: str
    holds: Callable[[typing.Any], bool]


Count = Annotated[int, Rule("positive", lambda n: n > 0)]
Whole = Annotated[int, Rule("zero or positive", lambda n: n >= 0)]
Odd = Annotated[int, Rule("odd", lambda n: n > 0 and n % 2 == 1)]
Positive = Annotated[float, Rule("positive", lambda x: x > 0)]
NotNegative = Annotated[float, Rule("zero or positive", lambda x: x >= 0)]
Share = Annotated[float, Rule("from 0 to 1", lambda x: 0 <= x <= 1)]
N_FFTs = tuple[Annotated[int, Rule("a multiple of 4", lambda n: n > 0 and n % 4 == 0)], ...]
Evaluations = Annotated[int, Rule("1, the mean, or at least 5: fewer give no sample", lambda n: n == 1 or n > 4)]
Names = tuple[str, ...]
NotEmpty = Rule("a list with something in it", lambda values: len(values) > 0)
Sizes = Annotated[tuple[Count, ...], NotEmpty]


def require(truth: bool, key: str, value: object, right: str) -> None:
    """Raise ConfigError, which says what the key must be, unless it is."""
    if not truth:
        raise ConfigError(f"{key} = {value}: must be {right}")


# -- the sections, in the order of config.yaml


@dataclass(frozen=True, kw_only=True)
class System:
    """recogniser: of faster-whisper, a model's name or a folder that has one, for the error rates of speech."""

    seed: Whole
    tf32: bool
    cudnn_benchmark: bool
    cuda_graphs: bool
    num_workers: Whole
    log_step: Count
    validation_step: Count
    validation_clips: Count
    sample_clips: Count
    save_ckpt: Count
    keep_ckpt: Count
    best_metric: Literal[
        "latent_l1", "copy_mel_l1", "loss_prior", "loss_frame", "loss_duration", "cer", "distillmos", "dnsmos", "mcd"
    ]
    patience: Whole
    keep_best: Count
    wandb_project: str
    recogniser: str = "base.en"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """fold: of the list, the clips to train on, all or every second one."""

    prtpath: str
    metafile_train: str
    metafile_valid: str
    metafile_test: str
    fold: Literal["all", "even", "odd"] = "all"
    cache: str


@dataclass(frozen=True, kw_only=True)
class Audio:
    sample_rate: Count
    n_fft: Count
    hop_length: Count
    win_length: Count
    n_mels: Count
    f_min: NotNegative
    f_max: Positive

    def __post_init__(self):
        hop, n_fft = self.hop_length, self.n_fft
        require(hop < self.win_length <= n_fft, "audio.win_length", self.win_length,
                f"over audio.hop_length ({hop}) and at most audio.n_fft ({n_fft})")  # fmt: skip
        require((n_fft - hop) % 2 == 0, "audio.hop_length", hop,
                f"even where audio.n_fft ({n_fft}) is, odd where it is odd")  # fmt: skip
        require(self.f_min < self.f_max <= self.sample_rate / 2, "audio.f_max", self.f_max,
                f"over audio.f_min and at most half of audio.sample_rate ({self.sample_rate / 2:g})")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pitch:
    f_min: Positive
    f_max: Positive


@dataclass(frozen=True, kw_only=True)
class Text:
    language: str
    phonemizer: Literal["espeak", "cmudict"]
    units: Literal["blanks", "characters", "phones"]
    longest: Count
    lexicon: str


@dataclass(frozen=True, kw_only=True)
class Speakers:
    """names: of those that the lists name, in the order of their ids; () for one voice that needs no name."""

    names: Names
    balanced: bool

    def __post_init__(self):
        good = all(name.strip() == name != "" and "|" not in name for name in self.names)
        require(good and len(set(self.names)) == len(self.names), "speakers.names", list(self.names),
                "different names, none empty, without | and spaces around")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    kind: str
    channels: Count
    n_layers: Count
    n_heads: Count
    window: Whole
    ff_channels: Count
    kernel: Odd
    dropout: Share
    duration_channels: Count
    prenet_layers: Count
    prenet_kernel: Odd
    prenet_dropout: Share

    def __post_init__(self):
        require(self.channels % self.n_heads == 0, "text_encoder.channels", self.channels,
                f"a multiple of text_encoder.n_heads ({self.n_heads})")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A kind that has nothing to choose."""

    kind: str


@dataclass(frozen=True, kw_only=True)
class ConvNeXtFramesSizes:
    kind: str
    n_layers: Count = 2
    hidden_channels: Count = 384
    kernel: Odd = 5


@dataclass(frozen=True, kw_only=True)
class Prosody:
    """Pitch and energy of each symbol. n_timesteps: evaluations that sample them, at least 5; or 1: their means;
    patience: validations without a gain on held-out clips, after which this part stops training."""

    kind: str
    channels: Count = 128
    hidden_channels: Count = 256
    n_layers: Count = 4
    kernel: Odd = 7
    dropout: Share = 0.2
    n_timesteps: Evaluations = 8
    pitch_temperature: NotNegative = 1.0
    energy_temperature: NotNegative = 0.0
    patience: Count = 4


@dataclass(frozen=True, kw_only=True)
class FrameProsody(Prosody):
    """F0 and voicing of each frame, too: a contour and, where residual_layers is over 0, a score network over F0 about
    it, which is the part f0_residual. residual_timesteps, residual_temperature: as the other two."""

    kind: str
    frame_layers: Count = 2
    residual_layers: Whole = 0
    residual_timesteps: Evaluations = 1
    residual_temperature: NotNegative = 0.7


@dataclass(frozen=True, kw_only=True)
class FewerChannels:
    kind: str
    channels: Count = 40


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """em_minutes: of speech that the Gaussians are fitted on, all of which is aligned; shortest_pause: seconds of
    silence between two words that make a pause of it, where units are phones; solve_ridge: on how far the weights that
    give mu are from 0, or from what -from has, times the mean square of what they weigh."""

    init: Literal["em", "none"]
    init_steps: Whole
    refresh_steps: Whole
    em_iterations: Count
    em_minutes: Positive = 60.0
    shortest_pause: Positive = 0.07
    solve_minutes: NotNegative
    solve_ridge: Positive = 0.03


@dataclass(frozen=True, kw_only=True)
class Sde:
    beta_min: Positive
    beta_max: Positive
    sigma_data: Positive
    parametrisation: Literal["edm", "v", "z0", "noise"]
    t_one: Share
    t_uniform: Share
    t_min: Positive
    t_log_mean: float
    t_log_std: Positive

    def __post_init__(self):
        require(self.beta_min < self.beta_max, "sde.beta_min", self.beta_min, f"under sde.beta_max ({self.beta_max})")
        require(self.t_min < 1, "sde.t_min", self.t_min, "under 1")
        require(self.t_one + self.t_uniform <= 1, "sde.t_uniform", self.t_uniform,
                f"at most 1 - sde.t_one ({1 - self.t_one:g})")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UNet2dSizes:
    kind: str
    channels: Count = 64
    multipliers: Sizes = (1, 2, 4)
    groups: Count = 8
    n_heads: Count = 4
    head_channels: Count = 32

    def __post_init__(self):
        require(self.channels % (2 * self.groups) == 0, "decoder.channels", self.channels,
                f"a multiple of twice decoder.groups ({self.groups})")  # fmt: skip

    def check(self, config: "Config") -> None:
        stride = 2 ** (len(self.multipliers) - 1)
        right = f"a multiple of {stride}, the stride of the decoder's deepest resolution (decoder.multipliers)"
        name = "audio.n_mels" if config.latent.kind == "normalised" else "latent.channels"
        require(config.n_latents % stride == 0, name, config.n_latents, right)
        require(config.training.cut_frames % stride == 0, "training.cut_frames", config.training.cut_frames, right)
        require(config.latent.kind != "pca", "latent.kind", config.latent.kind,
                "normalised or pooled where decoder.kind is unet2d, which reads channels as neighbours")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ConvNeXt1dSizes:
    kind: str
    channels: Count = 192
    hidden_channels: Count = 384
    n_layers: Count = 6
    kernel: Odd = 7


Inputs = Annotated[tuple[Literal["z0_hat", "mu", "f0", "t"], ...], NotEmpty]


@dataclass(frozen=True, kw_only=True)
class HiFiGANSizes:
    kind: str
    inputs: Inputs = ("z0_hat",)
    channels: Count = 512
    upsample_rates: Sizes = (8, 8, 2, 2)
    resblock_kernels: Annotated[tuple[Odd, ...], NotEmpty] = (3, 7, 11)
    resblock_dilations: Sizes = (1, 3, 5)

    def __post_init__(self):
        parts = 2 ** len(self.upsample_rates)
        require(self.channels % parts == 0, "generator.channels", self.channels,
                f"a multiple of {parts}: each upsampling halves it")  # fmt: skip

    def check(self, config: "Config") -> None:
        hop, product = config.audio.hop_length, math.prod(self.upsample_rates)
        require(product == hop, "generator.upsample_rates", self.upsample_rates,
                f"factors of audio.hop_length ({hop}); their product is {product}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSizes:
    kind: str
    inputs: Inputs = ("z0_hat",)
    channels: Count = 384
    hidden_channels: Count = 1152
    n_layers: Count = 8
    kernel: Odd = 7
    head: Literal["plain", "source"] = "source"

    @property
    def needs_source(self) -> bool:
        return self.head == "source"

    def check(self, config: "Config") -> None:
        hop, n_fft = config.audio.hop_length, config.audio.n_fft
        require(n_fft >= 2 * hop and n_fft % hop == 0, "audio.n_fft", n_fft,
                f"a multiple of audio.hop_length ({hop}), twice it or more, for generator.kind convnext")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Discriminators:
    periods: tuple[Count, ...]
    period_channels: Sizes
    scales: Whole
    scale_channels: Sizes
    resolutions: N_FFTs
    resolution_channels: Sizes
    t_channels: Annotated[int, Rule("even", lambda n: n > 0 and n % 2 == 0)]

    def __post_init__(self):
        widths = self.scale_channels
        require(len(widths) <= 7 and all(width % 16 == 0 for width in widths), "discriminators.scale_channels", widths,
                "at most seven multiples of 16, the groups of their convolutions")  # fmt: skip
        require(bool(self.periods or self.scales or self.resolutions), "discriminators.periods", self.periods,
                "at least one, where there are no scales and no resolutions")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Weights in the sum that encoder, decoder and vocoder minimise. frame: the prior's loss once more, of the refined
    mu; prosody: pitch and energy; stft: several resolutions (n_fft, samples), weighed over t as mel is; phase: voiced
    frames, for generator.head source, whose pulses are in step with the recording."""

    duration: NotNegative
    prior: NotNegative
    frame: NotNegative = 1.0
    prosody: NotNegative = 1.0
    f0: NotNegative = 1.0
    voicing: NotNegative = 1.0
    f0_residual: NotNegative = 1.0
    score: NotNegative
    adversarial: NotNegative
    feature: NotNegative
    mel: NotNegative
    mel_blur: NotNegative
    stft: NotNegative = 0.0
    stft_resolutions: Annotated[N_FFTs, NotEmpty] = (512, 1024, 2048)
    phase: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """parts: learning rates by name; share: of train_num_steps; final: share of the rates that is left at the end.

    latents: what the vocoder is given: joint, posterior means as the step makes them; true latents; or the
    teacher-forced ones of training.gta_folders.

    mu_gradient: what comes after mu, the score loss first of all, trains the text encoder too; feature_gradient: the
    waveform's losses train the decoder, and through mu, where mu_gradient allows it, the text encoder: off, at_one
    (items at t = 1), or on.
    """

    parts: dict[str, Positive]
    latents: Literal["joint", "true", "gta"] = "joint"
    share: Share = 1.0
    final: Share = 0.01
    mu_gradient: bool = True
    feature_gradient: Literal["off", "at_one", "on"] = "off"

    def check(self, config: "Config", key: str) -> None:
        parts = set(self.parts)
        require(bool(parts) and parts <= set(PARTS), f"{key}.parts", self.parts,
                f"learning rates of some of {', '.join(PARTS)}")  # fmt: skip
        require("generator" in parts or "discriminators" not in parts, f"{key}.parts", self.parts,
                "with generator too where the discriminators train")  # fmt: skip
        require("prosody" not in parts or config.prosody.kind != "none", f"{key}.parts", self.parts,
                "without prosody where prosody.kind is none")  # fmt: skip
        require("f0_residual" not in parts or config.has_f0_residual, f"{key}.parts", self.parts,
                "without f0_residual where prosody has no residual_layers")  # fmt: skip
        require(self.share > 0, f"{key}.share", self.share, "over 0 and at most 1")
        require(self.feature_gradient == "off" or bool({"decoder", "generator"} & parts), f"{key}.feature_gradient",
                self.feature_gradient, "off where neither decoder nor generator trains")  # fmt: skip
        if self.latents != "joint":
            require(parts <= {"generator", "discriminators"} and self.feature_gradient == "off", f"{key}.latents",
                    self.latents, "joint where more than generator and discriminators train")  # fmt: skip
            require("mu" not in config.generator.inputs, f"{key}.latents", self.latents,
                    "joint where generator.inputs has mu")  # fmt: skip
        require(self.latents != "gta" or bool(config.training.gta_folders), f"{key}.latents", self.latents,
                "joint or true where training.gta_folders names no folder")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """lr_decay: what learning rates are multiplied by after max_skipped; gta_folders: of teacher-forced latents, which
    training.extract writes, for stages with latents: gta."""

    train_num_steps: Whole
    batch_size: Count
    batch_frames: Whole
    accumulate: Count
    rate_power: Share
    max_skipped: Count
    lr_decay: Share = 0.5
    cut_frames: Count
    segment_frames: Count
    true_latents: Share
    warmup_steps: Whole
    betas: tuple[Positive, Positive]
    weight_decay: NotNegative
    clip_norm: dict[str, Positive]
    ema_decay: Share
    gta_folders: Names = ()
    stages: tuple[Stage, ...]

    def __post_init__(self):
        require(self.segment_frames <= self.cut_frames, "training.segment_frames", self.segment_frames,
                f"at most training.cut_frames ({self.cut_frames})")  # fmt: skip
        trained = {part for stage in self.stages for part in stage.parts}
        require(trained & set(PARTS) <= set(self.clip_norm) <= set(PARTS), "training.clip_norm", self.clip_norm,
                f"a norm for each part that trains, of {', '.join(PARTS)}")  # fmt: skip
        require(max(self.betas) < 1, "training.betas", self.betas, "under 1, both of them")
        total = sum(stage.share for stage in self.stages)
        require(abs(total - 1) < 1e-9 or self.train_num_steps == 0, "training.stages", f"shares that sum to {total:g}",
                "shares that sum to 1")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """start: the checkpoints whose weights a run begins with, which -from sets: each all that it has, or, as
    `PART,PART=CHECKPOINT`, some of its parts. rate and frozen count with one alone."""

    start: Names = ()
    rate: Positive
    frozen: Names = ()

    def __post_init__(self):
        require(set(self.frozen) < set(PARTS), "fine_tuning.frozen", list(self.frozen),
                f"some of {', '.join(PARTS)}, and not all")  # fmt: skip


# of the sections that have a kind, what each kind's keys are; a kind of your own is one more entry
KINDS: dict[str, dict[str, type]] = {
    "text_encoder": {"transformer": TransformerSizes},
    "frame_encoder": {"none": Plain, "convnext1d": ConvNeXtFramesSizes},
    "prosody": {"none": Plain, "phone": Prosody, "frame": FrameProsody},
    "latent": {"normalised": Plain, "pooled": FewerChannels, "pca": FewerChannels},
    "decoder": {"unet2d": UNet2dSizes, "convnext1d": ConvNeXt1dSizes},
    "generator": {"hifigan": HiFiGANSizes, "convnext": ConvNeXtSizes},
}


@dataclass(frozen=True, kw_only=True)
class Config:
    system: System
    dataset: Dataset
    audio: Audio
    pitch: Pitch
    text: Text
    speakers: Speakers
    text_encoder: typing.Any  # where it says Any: of the kind that KINDS has under the section's name
    frame_encoder: typing.Any
    prosody: typing.Any
    latent: typing.Any
    alignment: Alignment
    sde: Sde
    decoder: typing.Any
    generator: typing.Any
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
        """Whether the vocoder filters a source, of which F0 is a part."""
        return getattr(self.generator, "needs_source", False)

    @property
    def has_f0_residual(self) -> bool:
        return getattr(self.prosody, "residual_layers", 0) > 0

    @property
    def n_speakers(self) -> int:
        return max(1, len(self.speakers.names))

    @property
    def vocoder_needs_f0(self) -> bool:
        """Whether the vocoder is given F0 and voicing."""
        return self.has_source or "f0" in self.generator.inputs

    @property
    def with_f0(self) -> bool:
        """Whether training reads F0."""
        return self.prosody.kind != "none"

    def __post_init__(self):
        audio, latent, inputs = self.audio, self.latent, self.generator.inputs
        require(2 * self.pitch.f_min <= self.pitch.f_max <= audio.sample_rate / 4, "pitch.f_max", self.pitch.f_max,
                f"at least twice pitch.f_min and at most a quarter of audio.sample_rate "
                f"({audio.sample_rate / 4:g})")  # fmt: skip
        require(self.n_latents <= audio.n_mels, "latent.channels", self.n_latents,
                f"at most audio.n_mels ({audio.n_mels})")  # fmt: skip
        require(latent.kind != "pooled" or audio.n_mels % self.n_latents == 0, "latent.channels", self.n_latents,
                f"a divisor of audio.n_mels ({audio.n_mels}) where latent.kind is pooled")  # fmt: skip
        require("z0_hat" in inputs and len(set(inputs)) == len(inputs), "generator.inputs", inputs,
                "different ones, z0_hat among them")  # fmt: skip
        require(self.prosody.kind == "frame" or not self.vocoder_needs_f0, "prosody.kind", self.prosody.kind,
                "frame, since the vocoder (generator.inputs, generator.head) needs F0")  # fmt: skip
        require(self.loss.phase == 0 or self.has_source, "loss.phase", self.loss.phase,
                "0, but for generator.kind convnext with generator.head source")  # fmt: skip
        for section in (self.decoder, self.generator):
            if hasattr(section, "check"):
                section.check(self)
        for i, stage in enumerate(self.training.stages):
            stage.check(self, f"training.stages[{i}]")
        trained = {part for stage in self.training.stages for part in stage.parts}
        makes_voice = {"text_encoder", "decoder", "generator"} <= trained and not self.fine_tuning.start
        require("f0_residual" in trained or not makes_voice or not self.has_f0_residual, "prosody.residual_layers",
                getattr(self.prosody, "residual_layers", 0), "0 where no stage trains f0_residual")  # fmt: skip
        require(self.system.best_metric != "cer" or self.text.language.startswith("en"), "system.best_metric", "cer",
                f"another where text.language is {self.text.language}: the recogniser knows English only")  # fmt: skip


# -- files


def load(
    overlays: str | Path | None | Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    base: Path | dict = ROOT / "config.yaml",
) -> Config:
    """Read config.yaml, overlays over it, one over the other, and overrides over all.

    overlays: files, or names in configs/; a single one may stand alone. overrides: `section.key=value`, the value in
    YAML; base: a file, or a configuration's tree. Returns a Config; raises ConfigError, which names the dotted key.
    """
    tree = copy.deepcopy(base) if isinstance(base, dict) else read_tree(base)
    if overlays is None or isinstance(overlays, (str, Path)):
        overlays = () if overlays is None else (overlays,)
    for overlay in overlays:
        layer = read_tree(_overlay_path(overlay))
        try:
            _merge(tree, layer, "")
        except ConfigError as error:
            raise ConfigError(f"-c {overlay}: {error}") from error
    return from_dict(_override(tree, overrides))


def change(config: Config, overrides: Sequence[str]) -> Config:
    """The same configuration with `section.key=value` laid over it, as load does it."""
    return from_dict(_override(to_dict(config), overrides))


def from_dict(tree: dict) -> Config:
    """Check a tree of plain values, as YAML or JSON gives it, and make it a Config."""
    return _typed_section(Config, tree, "")


def check_same(config: Config, before: dict, keys: Iterable[tuple[str, str]], where: str, advice: str = "") -> None:
    """Raise ConfigError where a key, (section, name), has another value than in the tree that `where` was trained with.

    advice: what to do then, after the message.
    """
    for section, name in keys:
        then, now = before[section].get(name), getattr(getattr(config, section), name, None)
        if then != now:
            raise ConfigError(f"{section}.{name} = {now}: must be {then}, as {where} was trained with{advice}")


def check_meaning(config: Config, before: dict, where: str) -> None:
    """Raise ConfigError where weights of `where`, trained with the tree `before`, would mean something else here."""
    check_same(config, before, MEANING, where)


def different_sizes(config: Config, before: dict) -> str:
    """The keys of the networks' sections that have other values than in a tree, each with both; "" for none."""
    found = []
    for section in (*KINDS, "discriminators", "speakers"):
        now = to_dict(getattr(config, section))
        for name in dict.fromkeys([*before[section], *now]):
            then = before[section].get(name)
            if then != now.get(name):
                found.append(f"{section}.{name} = {now.get(name)}: must be {then}")
    return "; ".join(found)


def to_dict(config) -> dict:
    """The reverse of from_dict: plain dicts, lists and numbers."""
    if dataclasses.is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(value) for value in config]
    return {key: to_dict(value) for key, value in config.items()} if isinstance(config, dict) else config


def to_yaml(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


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


def _overlay_path(overlay):
    named = ROOT / "configs" / f"{overlay}.yaml"
    path = named if named.is_file() else Path(overlay)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "configs").glob("*.yaml")))
        raise ConfigError(f"-c {overlay}: no such file, and no such overlay in configs/ (there are: {known})")
    return path


def _override(tree, overrides):
    for override in sorted(overrides, key=lambda one: ".kind=" not in one):  # a kind first, whose keys the others are
        key, equals, value = override.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and name):
            raise ConfigError(f"{override!r} is not of the form section.key=value")
        try:
            given = yaml.safe_load(value)
            name, dot, entry = name.partition(".")
            if dot and isinstance(tree.get(section, {}).get(name), dict):  # one entry of a mapping
                given = tree[section][name] | {entry: given}
            elif dot:
                name = f"{name}.{entry}"
            _merge(tree, {section: {name: given}}, "")
        except yaml.YAMLError as error:
            raise ConfigError(f"{key} = {value!r} is not YAML: {' '.join(str(error).split())}") from error
    return tree


def _merge(tree, over, prefix):
    """Lay `over` over `tree`, in place. Only sections merge; a list or a mapping inside one is replaced, and so is a
    section that takes another kind. A section of an overlay with `where: KIND` counts for that kind alone."""
    for key, value in over.items():
        if key not in tree:
            raise ConfigError(f"unknown key {prefix}{key} (known here: {', '.join(tree)})")
        if prefix == "" and isinstance(value, dict):
            _merge_section(tree, key, dict(value))
        else:
            tree[key] = value


def _merge_section(tree, key, value):
    section, kinds = tree[key], KINDS.get(key, {})
    where = value.pop("where", section.get("kind"))
    if where != section.get("kind"):
        return
    kind = value.get("kind", where)
    if kind != where:
        tree[key] = value
        return
    section_type = kinds.get(kind, Plain) if kinds else typing.get_type_hints(Config)[key]
    known = [field.name for field in dataclasses.fields(section_type)]
    for name in value:
        if name not in known:
            raise ConfigError(f"unknown key {key}.{name} (known here: {', '.join(known)})")
    section.update(value)


# -- types


def _typed(kind, value, key):
    """Give `value` the annotated type `kind`, or raise a ConfigError that names `key`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        value = _typed(args[0], value, key)
        require(args[1].holds(value), key, value, args[1].words)
        return value
    if dataclasses.is_dataclass(kind):
        return _typed_section(kind, value, key)
    if origin is Literal:
        words = {True: ("on", "true"), False: ("off", "false")}[value] if isinstance(value, bool) else (value,)
        for word in words:  # YAML 1.1 reads off as false
            if word in args:
                return word
        raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(args)}")
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(_typed(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict and isinstance(value, dict):
        return {_typed(args[0], k, key): _typed(args[1], v, f"{key}.{k}") for k, v in value.items()}
    return _typed_plain(kind, value, key)


def _typed_plain(kind, value, key):
    """A number, a word or a truth value."""
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    if kind in (int, bool, str) and type(value) is kind:
        return os.path.expanduser(value) if kind is str and value.startswith("~/") else value
    wanted = kind.__name__ if isinstance(kind, type) and typing.get_origin(kind) is None else str(kind)
    raise ConfigError(f"{key} = {value!r}: must be of type {wanted}")


def _typed_section(kind, value, key):
    if not isinstance(value, dict):
        raise ConfigError(f"{key or 'the configuration'}: expected keys, found {value!r}")
    hints, dot = typing.get_type_hints(kind, include_extras=True), f"{key}." if key else ""
    for name in value:
        if name not in hints:
            raise ConfigError(f"unknown key {dot}{name} (known here: {', '.join(hints)})")
    for field in dataclasses.fields(kind):
        if field.name not in value and field.default is dataclasses.MISSING:
            raise ConfigError(f"missing key {dot}{field.name}")
    return kind(**{name: _typed_key(hints[name], one, f"{dot}{name}") for name, one in value.items()})


def _typed_key(hint, value, key):
    if key in KINDS and isinstance(value, dict):
        kind = value.get("kind")
        require(kind in KINDS[key], f"{key}.kind", kind, f"one of {', '.join(KINDS[key])}")
        return _typed_section(KINDS[key][kind], value, key)
    return _typed(hint, value, key)
