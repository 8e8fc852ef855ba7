"""The configuration: what is right comes through unchanged, and each wrong value is named by its dotted key."""

import argparse
import copy
import dataclasses
import re

import pytest
import yaml

from data_util import config as configuration
from data_util.config import KINDS, ROOT, ConfigError, change, from_dict, load, to_dict, to_yaml
from tests import conftest

PLAIN = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
SHIPPED = load()
OVERLAYS = {path.stem: path for path in (ROOT / "configs").glob("*.yaml")}

# overrides of which one is wrong, how the message begins, and a part of what it says would be right
FAULTS = [
    ("sound.rate=1", "unknown key sound", "known here: system, dataset"),
    ("system.sead=1", "unknown key system.sead", "known here: seed, tf32"),
    ("system.seed=one", "system.seed = 'one'", "an integer"),
    ("system.seed=true", "system.seed = True", "an integer"),
    ("system.seed=1e3", "system.seed = '1e3'", "an integer"),
    ("system.seed=", "system.seed = None", "an integer"),
    ("system.seed=-1", "system.seed = -1", "zero or positive"),
    ("system.log_step=0", "system.log_step = 0", "positive"),
    ("system.wandb_project=5", "system.wandb_project = 5", "text"),
    ("dataset.fold=both", "dataset.fold = 'both'", "all, even, odd"),
    ("text.units=1", "text.units = 1", "one of blanks, characters, phones, states"),
    ("speakers.names=[a, a]", "speakers.names = ['a', 'a']", "different ones"),
    ("speakers.names=['a|b']", "speakers.names[0] = 'a|b'", "without | and spaces around"),
    ("speakers.names=['']", "speakers.names[0] = ''", "without | and spaces around"),
    ("speakers.names=[ann, ' ben']", "speakers.names[1] = ' ben'", "without | and spaces around"),
    ("pitch.f_min=500", "pitch.f_max = 450", "at least twice pitch.f_min (500.0)"),
    ("pitch.f_max=6000", "pitch.f_max = 6000", "a quarter of audio.sample_rate"),
    ("audio.f_min=low", "audio.f_min = 'low'", "a number"),
    ("audio.f_min=.nan", "audio.f_min = nan", "a number"),
    ("audio.f_min=true", "audio.f_min = True", "a number"),
    ("audio.f_min=-1", "audio.f_min = -1", "positive"),
    ("audio.f_min=8000", "audio.f_max = 8000", "over audio.f_min"),
    ("audio.f_max=11026", "audio.f_max = 11026", "half of audio.sample_rate (22050)"),
    ("audio.win_length=1025", "audio.win_length = 1025", "at most audio.n_fft (1024)"),
    ("audio.win_length=256", "audio.win_length = 256", "over audio.hop_length (256)"),
    ("audio.hop_length=255", "audio.hop_length = 255", "even"),
    ("audio.hop_length=128", "generator.upsample_rates = [8, 8, 2, 2]", "factors of audio.hop_length (128); their"),
    ("audio.n_mels=81", "latent.channels = 40", "odd where that is odd"),
    ("text_encoder.channels=191", "text_encoder.channels = 191", "a multiple of text_encoder.n_heads (2)"),
    ("text_encoder.kernel=4", "text_encoder.kernel = 4", "odd"),
    ("text_encoder.dropout=1", "text_encoder.dropout = 1", "from 0 to under 1"),
    ("sde.t_one=1.1", "sde.t_one = 1.1", "from 0 to 1"),
    ("alignment.init=true", "alignment.init = True", "em, none"),
    ("sde.beta_min=20", "sde.beta_min = 20", "under sde.beta_max (20.0)"),
    ("sde.t_min=1", "sde.t_min = 1", "under 1"),
    ("sde.t_uniform=0.7", "sde.t_uniform = 0.7", "at most 1 - sde.t_one (0.4)"),
    ("decoder.kind=unet", "decoder.kind = unet", "one of unet2d, convnext1d"),
    ("decoder.kind=[1]", "decoder.kind = [1]", "one of unet2d, convnext1d"),
    ("decoder.n_layers=2", "unknown key decoder.n_layers", "known here: kind, channels, multipliers"),
    ("decoder.channels=72", "decoder.channels = 72", "a multiple of twice decoder.groups (8)"),
    ("decoder.multipliers=[]", "decoder.multipliers = []", "one entry or more"),
    ("decoder.multipliers=[1, 2", "decoder.multipliers = '[1, 2'", "is not YAML"),
    ("decoder.multipliers=2", "decoder.multipliers = 2", "a list"),
    ("decoder.multipliers=[1, x]", "decoder.multipliers[1] = 'x'", "an integer"),
    ("decoder.multipliers=[1, 1, 1, 1, 1, 1]", "latent.channels = 40", "a multiple of 32"),
    ("generator.inputs=[mu]", "generator.inputs = ['mu']", "z0_hat, and any of"),
    ("generator.inputs=[z0_hat, z0_hat]", "generator.inputs = ['z0_hat', 'z0_hat']", "z0_hat, and any of"),
    ("generator.inputs=[z0_hat, t, mu]", "generator.inputs = ['z0_hat', 't', 'mu']", "z0_hat, and any of"),
    ("generator.inputs=[z0_hat, f0]", "prosody.kind = none", "frame, since generator.kind (hifigan) with generator."),
    ("generator.upsample_rates=[8, 8, 2]", "generator.upsample_rates = [8, 8, 2]", "their product is 128"),
    ("generator.channels=520", "generator.channels = 520", "a multiple of 16"),
    ("discriminators.resolutions=[10]", "discriminators.resolutions[0] = 10", "a multiple of 4"),
    ("discriminators.scale_channels=[16,24]", "discriminators.scale_channels[1] = 24", "a multiple of 16"),
    ("discriminators.scale_channels=[16,16,16,16,16,16,16,16]", "discriminators.scale_channels = [16, 16", "seven"),
    ("discriminators.t_channels=7", "discriminators.t_channels = 7", "a multiple of 2"),
    ("loss.stft_resolutions=[]", "loss.stft_resolutions = []", "one entry or more"),
    ("loss.phase=1.0", "loss.phase = 1.0", "convnext has one"),
    ("training.cut_frames=190", "training.cut_frames = 190", "a multiple of 4"),
    ("training.segment_frames=193", "training.segment_frames = 193", "at most training.cut_frames (192)"),
    ("training.lr_decay=1", "training.lr_decay = 1", "under 1"),
    ("training.betas=[0.8]", "training.betas = [0.8]", "two numbers"),
    ("training.betas=[0.8, 1.0]", "training.betas[1] = 1.0", "under 1"),
    ("training.clip_norm={decoder: 1}", "training.clip_norm = {'decoder': 1.0}", "each part that trains"),
    ("training.clip_norm={nose: 1}", "training.clip_norm = 'nose'", "one of text_encoder"),
    ("training.clip_norm=1", "training.clip_norm = 1", "a mapping"),
    ("training.clip_norm={generator: x}", "training.clip_norm.generator = 'x'", "a number"),
    ("training.stages=[]", "training.stages = []", "one stage or more"),
    ("training.stages=[1]", "training.stages[0]: expected keys", "1"),
    ("training.stages=[{parts: {decoder: 1}, share: 0}, {parts: {decoder: 1}}]", "training.stages[0].share", "over 0"),
    ("fine_tuning.frozen=[generator]", "fine_tuning.frozen = ['generator']", "[] without -from"),
    ("fine_tuning.frozen=[nose]", "fine_tuning.frozen[0] = 'nose'", "one of text_encoder"),
    ("fine_tuning.frozen=[text_encoder, prosody, f0_residual, decoder, generator, discriminators]",
     "fine_tuning.frozen = ['text_encoder'", "not all"),
    # of sections that have taken another kind, or need each other
    ("decoder.kind=convnext1d decoder.kernel=2", "decoder.kernel = 2", "odd"),
    ("decoder.kind=convnext1d decoder.channels=193", "decoder.channels = 193", "a multiple of 2"),
    ("decoder.kind=convnext1d decoder.multipliers=[1]", "unknown key decoder.multipliers", "kind, channels"),
    ("prosody.kernel=5", "unknown key prosody.kernel", "known here: kind"),
    ("prosody.kind=frame prosody.channels=65", "prosody.channels = 65", "a multiple of 2"),
    ("prosody.kind=frame prosody.n_timesteps=4", "prosody.n_timesteps = 4", "at least 5"),
    ("prosody.kind=frame prosody.residual_layers=2", "prosody.residual_layers = 2", "0 where no stage trains"),
    ("prosody.kind=frame prosody.residual_layers=2 training.stages=[{parts: {f0_residual: 1}}]",
     "training.stages[0].parts = {'f0_residual'", "with prosody, or come after a stage with it"),
    ("latent.channels=39", "latent.channels = 39", "at least a third of audio.n_mels (80), and odd where that is odd"),
    ("latent.channels=24", "latent.channels = 24", "at least a third of audio.n_mels (80)"),
    ("latent.channels=160", "latent.channels = 160", "at most audio.n_mels (80)"),
    ("latent.channels=30", "latent.channels = 30", "a multiple of 4"),
    ("latent.kind=normalised audio.n_mels=81", "audio.n_mels = 81", "a multiple of 4"),
    ("generator.kind=convnext", "prosody.kind = none", "frame, since generator.kind (convnext)"),
    ("generator.kind=convnext prosody.kind=frame audio.hop_length=384", "audio.n_fft = 1024", "hop_length (384)"),
    ("discriminators.periods=[] discriminators.resolutions=[]", "discriminators.periods = []", "at least one"),
    ("discriminators.periods=[2,9000]", "discriminators.periods = [2, 9000]", "at most 8192 each, the samples of"),
    ("system.best_metric=cer text.language=de", "system.best_metric = cer", "not text.language (de)"),
]  # fmt: skip

# a change to the only stage of the configuration
FAULTS_OF_STAGES = [
    ({"shares": 1}, "unknown key training.stages[0].shares", "share"),
    ({"parts": {}}, "training.stages[0].parts = {}", "one entry or more"),
    ({"parts": {"vocoder": 1e-4}}, "training.stages[0].parts = 'vocoder'", "one of text_encoder"),
    ({"parts": {"decoder": 0}}, "training.stages[0].parts.decoder = 0", "positive"),
    ({"parts": {"discriminators": 1e-4}}, "training.stages[0].parts = {'discriminators': 0.0001}", "with generator"),
    ({"parts": {"prosody": 1e-4}}, "training.stages[0].parts", "without prosody for prosody.kind (none)"),
    ({"parts": {"f0_residual": 1e-4}}, "training.stages[0].parts", "without f0_residual where"),
    ({"share": 0.9}, "training.stages[0].share = 0.9", "sum to 1, not 0.9"),
    ({"latents": "true"}, "training.stages[0].latents = true", "joint where more than generator"),
    ({"latents": "gta", "parts": {"generator": 1e-4}}, "training.stages[0].latents = gta", "gta_folders ([])"),
    ({"feature_gradient": "always"}, "training.stages[0].feature_gradient = 'always'", "off, at_one, on"),
    ({"feature_gradient": "on", "parts": {"text_encoder": 1e-4}}, "training.stages[0].feature_gradient = on",
     "off where neither decoder nor generator trains"),
    ({"parts": {"generator": 1e-4}}, "training.stages[0].parts = {'generator'", "with decoder, text_encoder, or"),
    ({"feature_gradient": "on", "parts": {"text_encoder": 1e-4, "decoder": 1e-4}}, "training.stages[0].parts = {'text_",
     "with generator, or come after a stage with it, or begin with -from"),
]  # fmt: skip


def refused(begin, right, function, *arguments, **keywords):
    error = conftest.refused(ConfigError, re.escape(right), function, *arguments, **keywords)
    assert str(error).startswith(begin)


# -- what is wrong


@pytest.mark.parametrize(("overrides", "begin", "right"), FAULTS)
def test_each_fault_names_its_key_its_value_and_what_would_be_right(overrides, begin, right):
    refused(begin, right, load, overrides=re.split(r" (?=[a-z_]+\.)", overrides), base=PLAIN)


@pytest.mark.parametrize(("changes", "begin", "right"), FAULTS_OF_STAGES)
def test_each_fault_of_a_stage_names_it(changes, begin, right):
    tree = copy.deepcopy(PLAIN)
    tree["training"]["stages"][0] |= changes
    refused(begin, right, from_dict, tree)


def test_a_key_is_needed_unless_it_has_a_default_which_is_that_of_the_file():
    for section, keys in PLAIN.items():
        refused(f"missing key {section}", section, from_dict, {name: PLAIN[name] for name in PLAIN if name != section})
        fields = {field.name: field.default for field in dataclasses.fields(getattr(SHIPPED, section))}
        for name in keys:
            tree = PLAIN | {section: {other: keys[other] for other in keys if other != name}}
            if name == "kind":
                refused(f"{section}.kind = None", "one of", from_dict, tree)
            elif fields[name] is dataclasses.MISSING:
                refused(f"missing key {section}.{name}", name, from_dict, tree)
            else:
                assert from_dict(tree) == SHIPPED
    refused("audio: expected keys", "5", from_dict, PLAIN | {"audio": 5})
    refused("the configuration: expected keys", "[]", from_dict, [])
    for wrong in (None, 5):
        refused("missing key audio.", "sample_rate", load, base=PLAIN | {"audio": wrong}, overrides=["audio.n_fft=8"])


@pytest.mark.parametrize("override", ["seed", "seed=1", "system.seed", "system.=1", "=1", ""])
def test_an_override_is_section_dot_key_equals_value(override):
    refused(repr(override), "section.key=value", load, overrides=[override])


def test_a_path_in_the_home_folder_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert configuration.load(overrides=["dataset.prtpath=~/lj"]).dataset.prtpath == "/home/ann/lj"


@pytest.mark.parametrize(
    ("content", "begin", "right"),
    [
        (b"a: [1", "{path}", "is not YAML"),
        (b"a: b: c", "{path}", "is not YAML"),
        (b"\xff\xfe\xfa", "{path}", "is not YAML"),
        (b"- 1\n- 2\n", "{path}", "found list"),
        (b"", "{path}", "found NoneType"),
        (b"!!python/object/apply:os.getcwd []\n", "{path}", "is not YAML"),
        (b"audio:\n", "audio: expected keys", "found None"),
        (b"decoder: 3\n", "decoder", "3"),
        (b"audio: {rate: 3}\n", "-c {path}/over.yaml: unknown key audio.rate", "sample_rate"),
        (b"1: 2\n", "-c {path}/over.yaml: unknown key 1", "system"),
    ],
)
def test_an_overlay_that_is_none_or_has_faults(tmp_path, content, begin, right):
    (tmp_path / "over.yaml").write_bytes(content)
    refused(begin.format(path=tmp_path), right, load, tmp_path / "over.yaml")


def test_an_overlay_that_is_not_there_lists_those_that_are(tmp_path):
    refused("heavy: No such file", ", ".join(sorted(OVERLAYS)), load, "heavy")
    refused(str(tmp_path), "Is a directory", load, tmp_path)
    refused(str(tmp_path / "none.yaml"), "No such file", load, base=tmp_path / "none.yaml")


def test_weights_that_would_mean_something_else_are_refused():
    narrower = change(SHIPPED, ["decoder.channels=32", "decoder.multipliers=[1, 2]"])
    configuration.check_same(narrower, PLAIN, configuration.MEANING, "the checkpoint")
    refused("decoder.channels = 32: must be 64; decoder.multipliers = [1, 2]: must be [1, 2, 4], as the checkpoint was",
            "prepare", configuration.check_same, narrower, PLAIN, ["audio", "decoder"], "the checkpoint",
            "; prepare")  # fmt: skip
    refused("decoder.kind = convnext1d: must be unet2d, as", "the checkpoint", configuration.check_same,
            change(SHIPPED, ["decoder.kind=convnext1d"]), PLAIN, ["audio", "decoder"], "the checkpoint")  # fmt: skip
    for override in ("latent.kind=normalised", "sde.parametrisation=v"):
        refused(override.replace("=", " = "), "as the checkpoint was trained with", configuration.check_same,
                change(SHIPPED, [override]), PLAIN, configuration.MEANING, "the checkpoint")  # fmt: skip


# -- what is right


def test_values_are_those_of_the_file():
    tree = to_dict(SHIPPED)
    for section, keys in PLAIN.items():
        assert {name: tree[section][name] for name in keys if name != "stages"} == {
            name: value for name, value in keys.items() if name != "stages"}  # fmt: skip
    (stage,) = PLAIN["training"]["stages"]
    assert tree["training"]["stages"][0] == {"latents": "joint", "share": 1.0, "mu_gradient": True,
                                             "feature_gradient": "off"} | stage  # fmt: skip


@pytest.mark.parametrize(
    ("below", "overlay"),
    [*(((), name) for name in OVERLAYS if name != "small-gpu"),
     *((("small",), name) for name in OVERLAYS if name == "small-gpu" or name.endswith("khz"))],
)  # fmt: skip
def test_every_overlay_loads_by_name_and_by_file(overlay, below):
    config, path = load([*below, overlay]), OVERLAYS[overlay]
    assert config == load([*below, path]) == load([*below, str(path)]) != load(below)
    tree = to_dict(config)
    for section, keys in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if keys.pop("where", tree[section].get("kind")) == tree[section].get("kind"):
            kept = {name: tree[section][name] for name in keys if name != "stages"}
            assert kept == {name: value for name, value in keys.items() if name != "stages"}


def test_a_configuration_comes_back_from_a_tree_and_from_yaml():
    config = load("light", ["training.weight_decay=0", "alignment.init=none", "decoder.kind=convnext1d"])
    tree = to_dict(config)
    assert from_dict(tree) == config == from_dict(yaml.safe_load(to_yaml(config)))
    tree["training"]["clip_norm"]["decoder"] = 7.0  # a copy: what is frozen stays
    assert config.training.clip_norm["decoder"] != 7.0
    for part, name in ((config, "audio"), (config.decoder, "channels"), (config.training.stages[0], "share")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 1)


def test_overrides_lie_over_the_overlay_and_the_overlay_over_the_rest():
    config = load("light", ["training.batch_size=3", "decoder.multipliers=[1, 2]", "training.batch_size=5"])
    assert (config.training.batch_size, config.decoder.multipliers, config.decoder.channels) == (5, (1, 2), 24)
    assert config.sde == SHIPPED.sde
    norms = SHIPPED.training.clip_norm | {"decoder": 7.0, "generator": 8.0}  # entries of a mapping
    assert load([], ["training.clip_norm.decoder=7", "training.clip_norm.generator=8"]).training.clip_norm == norms
    changed = change(config, ["system.seed=7"])
    assert changed.system == dataclasses.replace(config.system, seed=7)
    assert dataclasses.replace(changed, system=config.system) == config


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "0.0001", "1.0e-4"])
def test_a_number_may_be_written_as_people_do(text):
    assert load(overrides=[f"sde.t_min={text}"]).sde.t_min == 1e-4
    assert type(load(overrides=["audio.f_max=8000"]).audio.f_max) is float


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [("feature_gradient", "off", "off"), ("feature_gradient", "on", "on"), ("feature_gradient", "'on'", "on"),
     ("latents", "true", "true"), ("latents", "'true'", "true")],
)  # fmt: skip
def test_on_off_and_true_are_words_where_words_are_due(name, word, meant):
    tree = copy.deepcopy(PLAIN)
    alone = {"parts": {"generator": 1e-4}} if name == "latents" else {}
    tree["training"]["stages"][0] |= {**alone, name: yaml.safe_load(word)}
    assert getattr(from_dict(tree).training.stages[0], name) == meant


# -- kinds


def test_a_section_that_takes_another_kind_has_its_keys_alone(tmp_path):
    config = load(overrides=["decoder.channels=32", "decoder.kind=convnext1d", "decoder.n_layers=3"])
    assert to_dict(config.decoder) == {"kind": "convnext1d", "channels": 32, "hidden_channels": 384, "n_layers": 3,
                                       "kernel": 7}  # fmt: skip
    (tmp_path / "over.yaml").write_text("decoder: {kind: convnext1d, kernel: 3}\nlatent: {kind: pca, channels: 7}")
    config = load(tmp_path / "over.yaml")
    assert (config.decoder.kernel, config.decoder.channels, config.n_latents) == (3, 192, 7)
    assert load(tmp_path / "over.yaml", ["decoder.kind=convnext1d"]).decoder == config.decoder  # the same kind: kept
    assert SHIPPED.n_latents == 40 and load(overrides=["latent.kind=normalised"]).n_latents == 80


def test_small_and_light_are_one_model_but_for_the_f0_residual():
    small, light = load("small"), load("light")
    same = ("dataset", "text", "text_encoder", "alignment", "decoder", "generator", "discriminators", "loss")
    assert all(getattr(small, section) == getattr(light, section) for section in same)


def test_where_is_the_kind_that_a_section_of_an_overlay_is_for(tmp_path):
    (tmp_path / "over.yaml").write_text("generator: {where: hifigan, upsample_rates: [4, 4, 4, 4]}\n"
                                        "decoder: {where: convnext1d, n_layers: 2}")  # fmt: skip
    config = load(tmp_path / "over.yaml")
    assert config.generator.upsample_rates == (4, 4, 4, 4) and config.decoder == SHIPPED.decoder
    both = load(["demo", tmp_path / "over.yaml"])
    assert both.generator == load("demo").generator and both.decoder.n_layers == 2


def test_a_kind_of_your_own_is_one_more_entry(monkeypatch):
    class Mine(configuration.Kind):
        inputs: tuple[str, ...] = ("z0_hat",)
        size: int = 3

    refused("generator.kind = mine", "one of hifigan, convnext", load, overrides=["generator.kind=mine"])
    monkeypatch.setitem(KINDS["generator"], "mine", Mine)
    config = load(overrides=["generator.kind=mine", "generator.size=5"])
    assert config.generator == Mine(kind="mine", inputs=("z0_hat",), size=5) and from_dict(to_dict(config)) == config
    refused("generator.size = 'x'", "an integer", load, overrides=["generator.kind=mine", "generator.size=x"])


def test_a_run_may_train_some_parts_alone_and_put_a_voice_together():
    """The residual must be trained where everything else that speaks is, unless it comes with other weights."""
    small = ["prosody.kind=frame", "prosody.residual_layers=2"]
    load(overrides=[*small, "training.stages=[{parts: {text_encoder: 1.0e-3, decoder: 1.0e-3}}]"])
    load(overrides=[*small, "fine_tuning.start=[voice.safetensors]"])
    load(overrides=[*small, "training.train_num_steps=0", "training.stages=[]"])


def test_overrides_of_a_command_stand_anywhere_and_mistyped_ones_are_kept():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("-o")
    parser.add_argument("overrides", nargs="*")
    for words in ("a.b=1 -o out --arms x y system.seed=1", "--arms x y system.seed=1 -o out a.b=1"):
        args = configuration.parse(parser, words.split())
        assert (args.arms, args.o, args.overrides) == (["x", "y"], "out", ["a.b=1", "system.seed=1"])
