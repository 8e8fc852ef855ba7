"""The configuration: frozen, typed, strict. config.yaml holds the values; this file holds their types and ranges.

A section whose parts come in kinds (`decoder: {kind: unet2d, ...}`) has the keys of the chosen kind alone; KINDS lists
them. Each key is explained where its value stands: in config.yaml, or here where it has a default.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml

ROOT = Path(__file__).resolve().parent.parent
Part = Literal["text_encoder", "prosody", "f0_residual", "decoder", "generator", "discriminators"]
PARTS = get_args(Part)
FormattedPart = Literal["decoder", "generator", "discriminators"]  # whose convolutions may have two memory formats
MemoryFormat = Literal["contiguous", "channels_last"]
# what the numbers stand for that networks read and give: with another of these the same weights mean something else
MEANING = ("text.units", "latent.kind", "latent.channels", "sde.beta_min", "sde.beta_max", "sde.sigma_data",
           "sde.parametrisation")  # fmt: skip
UNSHAPED: dict[str, tuple[str, ...]] = {  # the same of single parts: keys that no shape of their weights tells
    "text_encoder": ("text_encoder.n_heads",),
    "decoder": ("decoder.groups", "decoder.n_heads"),
    "generator": ("generator.resblock_dilations",),
    "discriminators": ("discriminators.periods", "discriminators.resolutions"),
}


class ConfigError(ValueError):
    """A key that does not exist, a value of the wrong type, or values that do not fit together."""


class Rule(NamedTuple):
    """A value is refused, with these words, unless holds(value)."""

    words: str
    holds: Callable[[Any], bool]


def multiple_of(n: int) -> Rule:
    return Rule(f"a multiple of {n}", lambda value: value > 0 and value % n == 0)


Count = Annotated[int, Rule("positive", lambda n: n > 0)]
Whole = Annotated[int, Rule("zero or positive", lambda n: n >= 0)]
Odd = Annotated[int, Rule("odd", lambda n: n > 0 and n % 2 == 1)]
Even = Annotated[int, multiple_of(2)]  # channels of an embedding of t: as many sines as cosines
Positive = Annotated[float, Rule("positive", lambda x: x > 0)]
NotNegative = Annotated[float, Rule("zero or positive", lambda x: x >= 0)]
Share = Annotated[float, Rule("from 0 to 1", lambda x: 0 <= x <= 1)]
BelowOne = Annotated[float, Rule("from 0 to under 1", lambda x: 0 <= x < 1)]
OpenShare = Annotated[float, Rule("over 0 and under 1", lambda x: 0 < x < 1)]
Evaluations = Annotated[int, Rule("1, the mean, or at least 5: fewer give no sample", lambda n: n == 1 or n > 4)]
N_FFTs = tuple[Annotated[int, multiple_of(4)], ...]
Name = Annotated[str, Rule("a name without | and spaces around", lambda s: s.strip() == s != "" and "|" not in s)]
NotEmpty = Rule("one entry or more", bool)
Different = Rule("different ones", lambda values: len(set(values)) == len(values))
Sizes = Annotated[tuple[Count, ...], NotEmpty]
Input = Literal["z0_hat", "mu", "f0", "t"]
# in one order, so that weights never mean something else only because a list was written otherwise
InOrder = Rule("z0_hat, and any of mu, f0, t, in this order",
               lambda names: names == tuple(n for n in get_args(Input) if n in ("z0_hat", *names)))  # fmt: skip
Inputs = Annotated[tuple[Input, ...], InOrder]
Checks = Iterator[tuple[bool, str, str]]  # whether it holds, the key to name, and what that key must be


class Section:
    """Subclasses are frozen dataclasses, whose fields are a section's keys; files may leave out those with defaults."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # tells mypy that replace() and asdict() take sections

    def __init_subclass__(cls):
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)


class Kind(Section):
    """A section that comes in kinds, and the whole of it where a kind has nothing to choose."""

    kind: str
    needs_source = False  # a vocoder's: whether it filters a source, of which F0 is a part
    residual_layers = 0  # where the prosody has no such key

    def checks(self, config: "Config") -> Checks:  # noqa: ARG002
        """What its keys have to agree on, also with other sections. Messages show the values of the keys in them."""
        yield from ()


# -- the sections, in the order of config.yaml


class System(Section):
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
    best_metric: Literal["latent_l1", "copy_mel_l1", "loss_prior", "loss_duration", "cer", "distillmos", "mcd"]
    patience: Whole
    keep_best: Count
    wandb_project: str
    # of the parts that train; on a CPU a run tries both where none is named, and keeps the faster here
    memory_formats: dict[FormattedPart, MemoryFormat] = dataclasses.field(default_factory=dict)
    tensorboard: bool = False  # whether a run writes what TensorBoard shows
    recogniser: str = "base.en"  # for error rates: a model's name in faster-whisper, or a folder that has one


class Dataset(Section):
    prtpath: str
    metafile_train: str
    metafile_valid: str
    metafile_test: str
    fold: Literal["all", "even", "odd"] = "all"  # of metafile_train, the clips to train on: all or every second one
    cache: str


class Audio(Section):
    sample_rate: Count
    n_fft: Count
    hop_length: Count
    win_length: Count
    n_mels: Count
    f_min: NotNegative
    f_max: Positive


class Pitch(Section):
    f_min: Positive
    f_max: Positive


class Text(Section):
    language: str
    phonemizer: Literal["espeak", "cmudict"]
    units: Literal["blanks", "characters", "phones", "states"]
    longest: Count
    lexicon: str


class Speakers(Section):
    names: Annotated[tuple[Name, ...], Different]  # in the order of their ids
    balanced: bool


class TransformerSizes(Kind):
    channels: Count
    n_layers: Count
    n_heads: Count
    window: Whole
    ff_channels: Count
    kernel: Odd
    dropout: BelowOne
    duration_channels: Count
    prenet_layers: Count
    prenet_kernel: Odd
    prenet_dropout: BelowOne

    def checks(self, config):  # noqa: ARG002
        yield self.channels % self.n_heads == 0, "text_encoder.channels", "a multiple of text_encoder.n_heads"


class Prosody(Kind):
    """Pitch and energy of each symbol, F0 and voicing of each frame."""

    channels: Even = 128
    hidden_channels: Count = 256
    n_layers: Count = 4
    kernel: Odd = 7
    dropout: BelowOne = 0.2
    n_timesteps: Evaluations = 8  # evaluations of the score network that sample them; 1: their means
    pitch_temperature: NotNegative = 1.0
    energy_temperature: NotNegative = 0.0
    patience: Count = 4  # validations without a gain on held-out clips, after which this part stops training
    frame_layers: Count = 2
    residual_layers: Whole = 0  # of the part f0_residual, a score network over F0 about its contour; 0: there is none
    residual_timesteps: Evaluations = 1  # as n_timesteps
    residual_temperature: NotNegative = 0.7


class FewerChannels(Kind):
    channels: Count = 40

    def checks(self, config):
        n_mels = config.audio.n_mels
        yield self.channels <= n_mels, "latent.channels", "at most audio.n_mels"
        fits = self.kind != "pooled" or (3 * self.channels >= n_mels and (n_mels - self.channels) % 2 == 0)
        yield fits, "latent.channels", "at least a third of audio.n_mels, and odd where that is odd, for latent.kind"


class Alignment(Section):
    init: Literal["em", "none"]
    init_steps: Whole
    refresh_steps: Whole
    em_iterations: Count
    em_minutes: Positive = 60.0  # of speech that the Gaussians are fitted on; all of it is aligned
    shortest_pause: Positive = 0.07  # seconds of silence between two words that are a pause, in units phones, states
    solve_minutes: NotNegative
    solve_ridge: Positive = 0.03  # on how far mu's weights go from 0, or -from's; times the mean square of their inputs


class Sde(Section):
    beta_min: Positive
    beta_max: Positive
    sigma_data: Positive
    parametrisation: Literal["edm", "v", "z0", "noise"]
    t_one: Share
    t_uniform: Share
    t_min: OpenShare
    t_log_mean: float
    t_log_std: Positive


class UNet2dSizes(Kind):
    channels: Count = 64
    multipliers: Sizes = (1, 2, 4)
    groups: Count = 8
    n_heads: Count = 4
    head_channels: Count = 32

    def checks(self, config):
        yield self.channels % (2 * self.groups) == 0, "decoder.channels", "a multiple of twice decoder.groups"
        stride = 2 ** (len(self.multipliers) - 1)
        right = f"a multiple of {stride}, the stride of the deepest of decoder.multipliers"
        name = "audio.n_mels" if config.latent.kind == "normalised" else "latent.channels"
        yield config.n_latents % stride == 0, name, right
        yield config.training.cut_frames % stride == 0, "training.cut_frames", right


class ConvNeXt1dSizes(Kind):
    channels: Even = 192
    hidden_channels: Count = 384
    n_layers: Count = 6
    kernel: Odd = 7


class HiFiGANSizes(Kind):
    inputs: Inputs = ("z0_hat",)
    channels: Count = 512
    upsample_rates: Sizes = (8, 8, 2, 2)
    resblock_kernels: Annotated[tuple[Odd, ...], NotEmpty] = (3, 7, 11)
    resblock_dilations: Sizes = (1, 3, 5)

    def checks(self, config):
        parts, product = 2 ** len(self.upsample_rates), math.prod(self.upsample_rates)
        yield self.channels % parts == 0, "generator.channels", f"a multiple of {parts}: each upsampling halves it"
        right = f"factors of audio.hop_length; their product is {product}"
        yield product == config.audio.hop_length, "generator.upsample_rates", right


class ConvNeXtSizes(Kind):
    inputs: Inputs = ("z0_hat",)
    channels: Count = 384
    hidden_channels: Count = 1152
    n_layers: Count = 8
    kernel: Odd = 7
    needs_source = True

    def checks(self, config):
        hop, n_fft = config.audio.hop_length, config.audio.n_fft
        fits = n_fft >= 2 * hop and n_fft % hop == 0
        yield fits, "audio.n_fft", "a multiple of audio.hop_length, twice it or more, for generator.kind"


class Discriminators(Section):
    periods: tuple[Count, ...]
    period_channels: Sizes
    scales: Whole
    scale_channels: Annotated[
        tuple[Annotated[int, multiple_of(16)], ...], Rule("one to seven counts", lambda x: 0 < len(x) < 8)
    ]
    resolutions: N_FFTs
    resolution_channels: Sizes
    t_channels: Even


class Loss(Section):
    """Weights in the sum that encoder, decoder and vocoder minimise."""

    duration: NotNegative
    prior: NotNegative
    prosody: NotNegative = 1.0  # pitch and energy
    f0: NotNegative = 1.0
    voicing: NotNegative = 1.0
    f0_residual: NotNegative = 1.0
    score: NotNegative
    adversarial: NotNegative
    feature: NotNegative
    mel: NotNegative
    stft: NotNegative = 0.0  # of several resolutions
    stft_resolutions: Annotated[N_FFTs, NotEmpty] = (512, 1024, 2048)  # samples, the n_fft of each
    phase: NotNegative = 0.0  # of voiced frames; for generator.kind convnext, whose pulses follow the recording


class Stage(Section):
    """Parts that train for a share of the steps; config.yaml says what each key is."""

    parts: Annotated[dict[Part, Positive], NotEmpty]  # learning rates
    latents: Literal["joint", "true", "gta"] = "joint"
    share: Annotated[float, Rule("over 0 and at most 1", lambda x: 0 < x <= 1)] = 1.0
    final: Share = 0.01
    mu_gradient: bool = True
    feature_gradient: Literal["off", "at_one", "on"] = "off"

    def checks(self, config: "Config", key: str, learnt: set[str]) -> Checks:
        """What its keys have to agree on. learnt: the parts that it, a stage before it or -from teaches."""
        parts, latents, trains = f"{key}.parts", f"{key}.latents", set(self.parts)
        yield "generator" in trains or "discriminators" not in trains, parts, "with generator beside discriminators"
        yield config.with_f0 or "prosody" not in trains, parts, "without prosody for prosody.kind"
        has_residual = config.has_f0_residual or "f0_residual" not in trains
        yield has_residual, parts, "without f0_residual where prosody has no residual_layers"
        is_off, reached = self.feature_gradient == "off", bool(trains & {"decoder", "generator"})
        yield is_off or reached, f"{key}.feature_gradient", "off where neither decoder nor generator trains"
        if self.latents != "joint":
            alone = is_off and trains <= {"generator", "discriminators"}
            yield alone, latents, "joint where more than generator and discriminators train"
            yield "mu" not in config.generator.inputs, latents, "joint where mu is among generator.inputs"
        is_there = self.latents != "gta" or bool(config.training.gta_folders)
        yield is_there, latents, "joint or true, since training.gta_folders names none"
        needed = {"text_encoder", "decoder"} if "generator" in trains and self.latents == "joint" else set()
        needed |= (set() if is_off else {"generator"}) | ({"prosody"} if "f0_residual" in trains else set())
        unlearnt = sorted(needed - learnt)
        right = f"with {', '.join(unlearnt)}, or come after a stage with it, or begin with -from, which gives it"
        yield not unlearnt, parts, right


class Training(Section):
    train_num_steps: Whole
    batch_size: Count
    batch_frames: Whole
    accumulate: Count
    rate_power: Share
    max_skipped: Count
    lr_decay: OpenShare = 0.5  # what learning rates are multiplied by after max_skipped
    cut_frames: Count
    segment_frames: Count
    true_latents: Share
    warmup_steps: Whole
    betas: Annotated[tuple[BelowOne, BelowOne], Rule("two numbers", lambda betas: len(betas) == 2)]
    weight_decay: NotNegative
    clip_norm: dict[Part, Positive]
    ema_decay: Share
    gta_folders: tuple[str, ...] = ()  # what training.extract wrote, for stages with latents: gta
    stages: tuple[Stage, ...]


def parse_start(entry: str) -> tuple[tuple[str, ...] | None, str]:
    """An entry of fine_tuning.start or -from: the parts to take, None for all, and the checkpoint."""
    names, equals, checkpoint = entry.partition("=")
    parts = tuple(names.split(","))
    if not equals or not set(parts) <= set(PARTS):
        return None, entry
    return parts, checkpoint


class FineTuning(Section):
    start: tuple[str, ...] = ()  # what -from gives: CHECKPOINT, all that it has, or PART,PART=CHECKPOINT
    rate: Positive  # counts with -from alone
    frozen: Annotated[tuple[Part, ...], Rule("some of the parts, not all", lambda parts: set(parts) < set(PARTS))] = ()

    @property
    def given(self) -> set[str]:
        """The parts that -from may give."""
        return {part for entry in self.start for part in parse_start(entry)[0] or PARTS}


# of the sections that have a kind, what each kind's keys are; a kind of your own is one more entry
KINDS: dict[str, dict[str, type]] = {
    "text_encoder": {"transformer": TransformerSizes},
    "prosody": {"none": Kind, "frame": Prosody},
    "latent": {"normalised": Kind, "pooled": FewerChannels, "pca": FewerChannels},
    "decoder": {"unet2d": UNet2dSizes, "convnext1d": ConvNeXt1dSizes},
    "generator": {"hifigan": HiFiGANSizes, "convnext": ConvNeXtSizes},
}


class Config(Section):
    system: System
    dataset: Dataset
    audio: Audio
    pitch: Pitch
    text: Text
    speakers: Speakers
    text_encoder: Any  # where it says Any: of the kind that KINDS has under the section's name
    prosody: Any
    latent: Any
    alignment: Alignment
    sde: Sde
    decoder: Any
    generator: Any
    discriminators: Discriminators
    loss: Loss
    training: Training
    fine_tuning: FineTuning

    @property
    def n_latents(self) -> int:
        """Channels of the latent that the decoder works on."""
        return self.audio.n_mels if self.latent.kind == "normalised" else self.latent.channels

    @property
    def has_f0_residual(self) -> bool:
        return self.prosody.residual_layers > 0

    @property
    def shortest_pause(self) -> int:
        """Frames of silence between two words from which on they are a pause."""
        return max(1, round(self.alignment.shortest_pause * self.audio.sample_rate / self.audio.hop_length))

    @property
    def n_speakers(self) -> int:
        return max(1, len(self.speakers.names))

    @property
    def vocoder_needs_f0(self) -> bool:
        """Whether the vocoder is given F0 and voicing."""
        return self.generator.needs_source or "f0" in self.generator.inputs

    @property
    def with_f0(self) -> bool:
        """Whether training reads F0."""
        return self.prosody.kind != "none"

    def __post_init__(self):
        for holds, key, right in self.checks():
            if not holds:
                explained = re.sub(r"[a-z]\w*\.\w+", lambda named: f"{named[0]} ({_value(self, named[0])})", right)
                raise ConfigError(f"{key} = {_value(self, key)}: must be {explained}")

    def checks(self) -> Checks:
        """What the keys of all sections have to agree on."""
        audio, pitch, sde, training = self.audio, self.pitch, self.sde, self.training
        hop, n_fft, rate = audio.hop_length, audio.n_fft, audio.sample_rate
        yield hop < audio.win_length <= n_fft, "audio.win_length", "over audio.hop_length and at most audio.n_fft"
        yield (n_fft - hop) % 2 == 0, "audio.hop_length", "even where audio.n_fft is, odd where it is odd"
        yield audio.f_min < audio.f_max <= rate / 2, "audio.f_max", "over audio.f_min, up to half of audio.sample_rate"
        right = "at least twice pitch.f_min and at most a quarter of audio.sample_rate"
        yield 2 * pitch.f_min <= pitch.f_max <= rate / 4, "pitch.f_max", right
        yield sde.beta_min < sde.beta_max, "sde.beta_min", "under sde.beta_max"
        yield sde.t_one + sde.t_uniform <= 1, "sde.t_uniform", "at most 1 - sde.t_one"
        has_f0 = self.with_f0 or not self.vocoder_needs_f0
        yield has_f0, "prosody.kind", "frame, since generator.kind with generator.inputs needs F0"
        for name in KINDS:
            yield from getattr(self, name).checks(self)
        networks = self.discriminators
        some = bool(networks.periods or networks.scales or networks.resolutions)
        yield some, "discriminators.periods", "at least one, where there are no scales and no resolutions"
        samples = training.segment_frames * hop
        right = f"at most {samples} each, the samples of training.segment_frames"
        yield max(networks.periods, default=0) <= samples, "discriminators.periods", right
        right = "0 for generator.kind, which has no source; convnext has one"
        yield self.loss.phase == 0 or self.generator.needs_source, "loss.phase", right
        yield training.segment_frames <= training.cut_frames, "training.segment_frames", "at most training.cut_frames"
        trained = {part for stage in training.stages for part in stage.parts}
        yield trained <= set(training.clip_norm), "training.clip_norm", "a norm for each part that trains"
        total, is_trained = sum(stage.share for stage in training.stages), training.train_num_steps > 0
        yield total > 0 or not is_trained, "training.stages", "one stage or more for training.train_num_steps"
        right = f"what makes the shares of all stages sum to 1, not {total:g}"
        yield abs(total - 1) < 1e-9 or not is_trained, "training.stages[0].share", right
        learnt = self.fine_tuning.given if is_trained else set(PARTS)
        for i, stage in enumerate(training.stages):
            learnt |= set(stage.parts)
            yield from stage.checks(self, f"training.stages[{i}]", learnt)
        tuned = bool(self.fine_tuning.start or not self.fine_tuning.frozen)
        yield tuned, "fine_tuning.frozen", "[] without -from, which gives those parts"
        learns = bool(trained - {*self.fine_tuning.frozen, "discriminators"}) or not is_trained  # these not alone
        yield learns, "fine_tuning.frozen", "fewer, so that a stage has a part left to train"
        makes_voice = {"text_encoder", "decoder", "generator"} <= trained and not self.fine_tuning.start
        is_taught = not self.has_f0_residual or "f0_residual" in trained or not makes_voice
        yield is_taught, "prosody.residual_layers", "0 where no stage trains f0_residual"
        knows = self.system.best_metric != "cer" or self.text.language.startswith("en")
        yield knows, "system.best_metric", "another, since the recogniser knows English only, not text.language"


# -- files


def load(
    overlays: str | Path | Sequence[str | Path] | None = (),
    overrides: Sequence[str] = (),
    base: Path | dict = ROOT / "config.yaml",
) -> Config:
    """Read config.yaml, overlays over it, one over the other, and overrides over all.

    overlays: files, or names in configs/; a single one may stand alone. overrides: `section.key=value`, the value in
    YAML; base: a file, or a configuration's tree. Returns a Config; raises ConfigError, which names the dotted key.
    """
    tree = base if isinstance(base, dict) else read_tree(base)
    for overlay in [overlays] if isinstance(overlays, (str, Path)) else overlays or ():
        tree = _laid_over(tree, read_tree(overlay), f"-c {overlay}: ")
    for override in sorted(overrides, key=lambda one: ".kind=" not in one):  # a kind first, whose keys the others are
        tree = _laid_over(tree, _tree_of(override, tree))
    return from_dict(tree)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """A command's arguments, whose overrides may stand anywhere, also behind an option of several values."""
    words, sections = sys.argv[1:] if argv is None else argv, "|".join(one.name for one in dataclasses.fields(Config))
    overrides = [word for word in words if re.match(rf"({sections})\.\w[\w.]*=", word)]
    args = parser.parse_intermixed_args([word for word in words if word not in overrides])
    args.overrides = [*args.overrides, *overrides]  # of an unknown section, too, which load() names
    return args


def change(config: Config, overrides: Sequence[str]) -> Config:
    """The same configuration with `section.key=value` laid over it, as load does it."""
    return load((), overrides, to_dict(config))


def from_dict(tree: dict) -> Config:
    """Check a tree of plain values, as YAML or JSON gives it, and make it a Config."""
    return _typed_section(Config, tree, "")


def to_dict(config: Section) -> dict:
    """The reverse of from_dict: plain dicts, lists and numbers."""
    return json.loads(json.dumps(dataclasses.asdict(config)))  # which makes lists of tuples


def to_yaml(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def _value(config, key):
    """The value of a dotted key, such as training.stages[0].parts, as a file has it."""
    value = to_dict(config)
    for name in re.findall(r"\w+", key):
        value = value[int(name) if name.isdigit() else name]
    return value


def check_same(config: Config, before: dict, keys: Iterable[str], where: str, advice: str = "") -> None:
    """Raise ConfigError where keys have other values than in the tree that `where` was trained with.

    keys: `section.name`, or a section for all of its keys, of which another kind's are not compared; advice: what to do
    then, after the message.
    """
    now, found = to_dict(config), []
    for section, _, name in (key.partition(".") for key in keys):
        then, here = before[section], now[section]
        same_kind = then.get("kind") == here.get("kind")
        for one in [name] if name else then | here:
            if then.get(one) != here.get(one) and (same_kind or one == "kind"):
                found.append(f"{section}.{one} = {here.get(one)}: must be {then.get(one)}")
    if found:
        raise ConfigError(f"{'; '.join(found)}, as {where} was trained with{advice}")


def read_tree(path: str | Path) -> dict:
    """A configuration file as it is, unchecked, or one of configs/ by its name. Raises ConfigError."""
    folder = ROOT / "configs"
    named = folder / f"{path}.yaml"
    try:
        tree = _parse((named if named.is_file() else Path(path)).read_bytes(), str(path))
    except OSError as error:
        known = ", ".join(sorted(one.stem for one in folder.glob("*.yaml")))
        raise ConfigError(f"{path}: {error.strerror} (overlays in configs/: {known})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections with keys, found {type(tree).__name__}")
    return tree


def _parse(text, name):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from error


def _tree_of(override, tree):
    """The tree of a single key that `section.key=value` is, where the key may be a mapping's: section.key.entry."""
    key, equals, text = override.partition("=")
    section, _, name = key.partition(".")
    if not (equals and name):
        raise ConfigError(f"{override!r} is not of the form section.key=value")
    value = _parse(text, f"{key} = {text!r}")
    mapping, _, entry = name.partition(".")
    keys = tree.get(section)
    if entry and isinstance(keys, dict) and isinstance(keys.get(mapping), dict):
        name, value = mapping, keys[mapping] | {entry: value}
    return {section: {name: value}}


def _laid_over(tree, over, source=""):
    """A tree with another over it. Only sections merge: a list or a mapping in one is replaced, and so is a section of
    another kind. A section with `where: KIND` counts for that kind alone. source: what errors begin with."""
    _check_known(over, Config, source=source)
    laid = dict(tree)
    for name, given in over.items():
        before, keys = tree[name], given
        if isinstance(given, dict) and isinstance(before, dict):  # from_dict refuses what is no section
            keys, kind = dict(given), before.get("kind")
            if keys.pop("where", kind) != kind:
                continue
            if keys.get("kind", kind) == kind:
                _check_known(keys, _class_of(name, before), f"{name}.", source)
                keys = before | keys
        laid[name] = keys
    return laid


# -- types

WANTED = {int: "an integer", float: "a number", bool: "true or false", str: "text", tuple: "a list", dict: "a mapping"}


def _check_known(keys, section_class, prefix="", source=""):
    known = [field.name for field in dataclasses.fields(section_class)]
    for key in keys:
        if key not in known:
            raise ConfigError(f"{source}unknown key {prefix}{key} (known here: {', '.join(known)})")


def _class_of(name, section):
    """The class of a section of Config, which is its kind's where it has one."""
    if name not in KINDS:
        return get_type_hints(Config)[name]
    if section.get("kind") not in tuple(KINDS[name]):
        raise ConfigError(f"{name}.kind = {section.get('kind')}: must be one of {', '.join(KINDS[name])}")
    return KINDS[name][section["kind"]]


def _typed_section(section_class, tree, key):
    if not isinstance(tree, dict):
        raise ConfigError(f"{key or 'the configuration'}: expected keys, found {tree!r}")
    if section_class is Any:
        section_class = _class_of(key, tree)
    prefix = f"{key}." if key else ""
    _check_known(tree, section_class, prefix)
    for field in dataclasses.fields(section_class):
        if field.name not in tree and field.default is field.default_factory:  # both are MISSING
            raise ConfigError(f"missing key {prefix}{field.name}")
    hints = get_type_hints(section_class, include_extras=True)
    return section_class(**{name: _typed(hints[name], value, f"{prefix}{name}") for name, value in tree.items()})


def _typed(kind, value, key):
    """Give a value the annotated type `kind`, or raise a ConfigError that names its key."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        typed = _typed(args[0], value, key)
        for rule in args[1:]:
            if not rule.holds(typed):
                raise ConfigError(f"{key} = {value!r}: must be {rule.words}")
        return typed
    if kind is Any or dataclasses.is_dataclass(kind):
        return _typed_section(kind, value, key)
    if origin is Literal:
        for word in args:
            if value == word or value is yaml.safe_load(word):  # YAML 1.1 reads on, off and true as no words
                return word
        raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(args)}")
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_typed(args[0], one, f"{key}[{i}]") for i, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {_typed(args[0], name, key): _typed(args[1], one, f"{key}.{name}") for name, one in value.items()}
    if kind is float and type(value) in (int, float, str):
        with contextlib.suppress(ValueError):
            if math.isfinite(number := float(value)):  # YAML 1.1 reads 1e-4 as text
                return number
    elif type(value) is kind:
        return os.path.expanduser(value) if kind is str and value.startswith("~/") else value
    raise ConfigError(f"{key} = {value!r}: must be {WANTED.get(origin or kind, kind)}")
