"""The configuration: what is right comes through unchanged, and each wrong value is named by its dotted key."""

import copy
import dataclasses
import re

import pytest
import yaml

from data_util.config import (
    ROOT,
    ConfigError,
    change,
    completed,
    from_dict,
    lane_config,
    load,
    search_noise,
    stage_at,
    to_dict,
    to_yaml,
)

PLAIN = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
SHIPPED = load()

# an override that is wrong, and how the message begins; the second part is what would be right
FAULTS = [
    ("sound.rate=1", "unknown key sound", "known here: system, log"),
    ("system.sead=1", "unknown key system.sead", "known here: seed, tf32"),
    ("system.seed=one", "system.seed = 'one'", "int"),
    ("system.seed=1.5", "system.seed = 1.5", "int"),
    ("system.seed=true", "system.seed = True", "int"),
    ("system.seed=1e3", "system.seed = '1e3'", "int"),
    ("system.seed=", "system.seed = None", "int"),
    ("system.seed=-1", "system.seed = -1", "positive"),
    ("system.log_step=0", "system.log_step = 0", "positive"),
    ("log.name=5", "log.name = 5", "str"),
    ("log.name=[a]", "log.name = ['a']", "str"),
    ("text.units=1", "text.units = 1", "one of blanks, characters, phones"),
    ("text.phonemizer=festival", "text.phonemizer = 'festival'", "one of espeak, cmudict"),
    ("text.longest=1.5", "text.longest = 1.5", "int"),
    ("text.longest=0", "text.longest = 0", "positive"),
    ("text.lexicon=", "text.lexicon = None", "str"),
    ("text.units=letters", "text.units = 'letters'", "one of blanks, characters, phones"),
    ("pitch.f_min=500", "pitch.f_max = 450", "at least twice pitch.f_min"),
    ("pitch.f_max=6000", "pitch.f_max = 6000", "a quarter of audio.sample_rate"),
    ("text_encoder.frame_kernel=4", "text_encoder.frame_kernel = 4", "odd"),
    ("variance.kind=word", "variance.kind = 'word'", "off, phone, frame"),
    ("variance.dropout=2", "variance.dropout = 2", "from 0 to 1"),
    ("variance.course_layers=2", "variance.course_layers = 2", "0 where variance.kind is off"),
    ("variance.course_timesteps=3", "variance.course_timesteps = 3", "at least 5"),
    ("variance.n_timesteps=0", "variance.n_timesteps = 0", "positive"),
    ("decoder.kind=unet", "decoder.kind = 'unet'", "unet2d, convnext1d"),
    ("convnext1d.kernel=2", "convnext1d.kernel = 2", "odd"),
    ("generator.kind=vocos", "generator.kind = 'vocos'", "hifigan, istft, convnext"),
    ("generator.inputs=[mu]", "generator.inputs = ('mu',)", "z0_hat among them"),
    ("generator.inputs=[z0_hat, z0_hat]", "generator.inputs = ('z0_hat', 'z0_hat')", "different"),
    ("generator.inputs=[z0_hat, f0]", "variance.kind = off", "frame, since the generator"),
    ("discriminators.resolutions=[10]", "discriminators.resolutions", "a multiple of 4"),
    ("loss.stft_resolutions=[]", "loss.stft_resolutions = []", "something in it"),
    ("loss.phase=1.0", "loss.phase = 1.0", "convnext.head source"),
    ("training.mean_times=[1.0, 1.5]", "training.mean_times", "at most 1"),
    ("training.mean_shares=[1.0]", "training.mean_shares", "one for each of training.mean_times (3)"),
    ("training.mean_shares=[1.0, 1.0, 1.0]", "training.mean_shares", "1 in all"),
    ("training.lanes={}", "training.stages[0].lane = main", "one of training.lanes"),
    ("training.lanes={main: {clips: some, start: [], means: []}}", "training.lanes.main.clips = 'some'", "all, even"),
    ("training.lanes={main: {clips: all, start: [main], means: []}}", "training.lanes.main = main", "a lane before it"),
    ("training.lanes={main: {clips: all, start: [], means: []}, b: {clips: all, start: [], means: []}}",
     "training.stages = shares that sum to 0 in lane b", "over 0"),
    ("training.lanes={a b: {clips: all, start: [], means: []}, main: {clips: all, start: [], means: []}}",
     "training.lanes.a b = a b", "a name"),
    ("audio.f_min=low", "audio.f_min = 'low'", "float"),
    ("audio.f_min=.nan", "audio.f_min = nan", "float"),
    ("audio.f_min=.inf", "audio.f_min = inf", "float"),
    ("audio.f_min=true", "audio.f_min = True", "float"),
    ("audio.f_min=-1", "audio.f_min = -1", "positive"),
    ("audio.f_min=8000", "audio.f_max = 8000", "over audio.f_min"),
    ("audio.f_max=11026", "audio.f_max = 11026", "half of audio.sample_rate (11025)"),
    ("audio.win_length=1025", "audio.win_length = 1025", "at most audio.n_fft (1024)"),
    ("audio.win_length=256", "audio.win_length = 256", "over audio.hop_length (256)"),
    ("audio.hop_length=255", "audio.hop_length = 255", "even"),
    ("audio.hop_length=128", "hifigan.upsample_rates = (8, 8, 2, 2)", "their product is 256"),
    ("audio.n_mels=81", "audio.n_mels = 81", "a multiple of 4"),
    ("text_encoder.channels=191", "text_encoder.channels = 191", "a multiple of text_encoder.n_heads (2)"),
    ("text_encoder.kernel=4", "text_encoder.kernel = 4", "odd"),
    ("text_encoder.prenet_kernel=2", "text_encoder.prenet_kernel = 2", "odd"),
    ("text_encoder.dropout=1.1", "text_encoder.dropout = 1.1", "from 0 to 1"),
    ("text_encoder.prenet_dropout=-0.1", "text_encoder.prenet_dropout = -0.1", "from 0 to 1"),
    ("text_encoder.window=-1", "text_encoder.window = -1", "positive"),
    ("alignment.init=mfa", "alignment.init = 'mfa'", "em, none"),
    ("alignment.init=true", "alignment.init = True", "em, none"),
    ("alignment.em_minutes=0", "alignment.em_minutes = 0", "positive"),
    ("alignment.prior_scale=-1", "alignment.prior_scale = -1", "positive"),
    ("alignment.noise_steps=0", "alignment.noise_steps = 0", "positive"),
    ("latent.kind=mel", "latent.kind = 'mel'", "normalised, pooled, pca, learned"),
    ("latent.channels=0", "latent.channels = 0", "positive"),
    ("latent.kind=pca", "latent.kind = pca", "normalised or pooled where decoder.kind is unet2d"),
    ("sde.beta_min=20", "sde.beta_min = 20", "under sde.beta_max (20.0)"),
    ("sde.sigma_data=0", "sde.sigma_data = 0", "positive"),
    ("sde.parametrisation=epsilon", "sde.parametrisation = 'epsilon'", "edm, v, z0, noise"),
    ("sde.t_min=1", "sde.t_min = 1.0", "under 1"),
    ("sde.t_one=1.5", "sde.t_one = 1.5", "from 0 to 1"),
    ("sde.t_uniform=0.7", "sde.t_uniform = 0.7", "at most 1 - sde.t_one (0.6)"),
    ("unet2d.channels=72", "unet2d.channels = 72", "a multiple of twice unet2d.groups (8)"),
    ("unet2d.multipliers=[]", "unet2d.multipliers = []", "something in it"),
    ("unet2d.multipliers=2", "unet2d.multipliers = 2", "tuple"),
    ("unet2d.multipliers=[1, x]", "unet2d.multipliers[1] = 'x'", "int"),
    ("unet2d.multipliers=[1, 0]", "unet2d.multipliers = [1, 0]", "positive"),
    ("unet2d.multipliers=[1, 1, 1, 1, 1, 1]", "audio.n_mels = 80", "a multiple of 32"),
    ("hifigan.upsample_rates=[8, 8, 4]", "hifigan.upsample_kernels = (16, 16, 4, 4)", "one a rate"),
    ("hifigan.upsample_rates=[8, 8, 2]", "hifigan.upsample_rates = (8, 8, 2)", "their product is 128"),
    ("hifigan.upsample_kernels=[16, 16, 4, 5]", "hifigan.upsample_kernels = (16, 16, 4, 5)", "an even number"),
    ("hifigan.upsample_kernels=[16, 16, 4, 1]", "hifigan.upsample_kernels = (16, 16, 4, 1)", "one a rate"),
    ("hifigan.resblock_kernels=[3, 4]", "hifigan.resblock_kernels = (3, 4)", "odd"),
    ("hifigan.channels=520", "hifigan.channels = 520", "a multiple of 16"),
    ("discriminators.scale_channels=[16,24]", "discriminators.scale_channels = (16, 24)", "multiples of 16"),
    ("discriminators.scale_channels=[16,16,16,16,16,16,16,16]", "discriminators.scale_channels = (16, 16", "seven"),
    ("discriminators.t_channels=7", "discriminators.t_channels = 7", "even"),
    ("discriminators.periods=[2, -3]", "discriminators.periods = [2, -3]", "positive"),
    ("loss.mel=-1", "loss.mel = -1", "zero or positive"),
    ("training.cut_frames=190", "training.cut_frames = 190", "a multiple of 4"),
    ("training.segment_frames=193", "training.segment_frames = 193", "at most training.cut_frames (192)"),
    ("training.true_latents=1.5", "training.true_latents = 1.5", "from 0 to 1"),
    ("training.betas=[0.8]", "training.betas = [0.8]", "float"),
    ("training.betas=[0.8, 0.9, 0.9]", "training.betas = [0.8, 0.9, 0.9]", "float"),
    ("training.betas=[0.8, 1.0]", "training.betas = (0.8, 1.0)", "under 1"),
    ("training.clip_norm={decoder: 1}", "training.clip_norm = {'decoder': 1.0}", "each part that trains"),
    ("training.clip_norm=1", "training.clip_norm = 1", "dict"),
    ("training.clip_norm={text_encoder: 1, variance: 1, decoder: 1, generator: x, discriminators: 1}",
     "training.clip_norm.generator = 'x'", "float"),
    ("training.clip_norm={text_encoder: 1, variance: 1, decoder: 1, generator: -1, discriminators: 1}",
     "training.clip_norm = {", "positive"),
    ("training.stages=[]", "training.stages = []", "something in it"),
    ("training.stages=[1]", "training.stages[0]: expected keys", "1"),
]  # fmt: skip

# a change to the first stage of the configuration
STAGE_FAULTS = [
    ({"shares": 1}, "unknown key training.stages[0].shares", "share"),
    ({"parts": {}}, "training.stages[0].parts = {}", "some of text_encoder"),
    ({"parts": {"vocoder": 1e-4}}, "training.stages[0].parts = {'vocoder': 0.0001}", "some of text_encoder"),
    ({"parts": {"decoder": 0}}, "training.stages[0].parts = {'decoder': 0.0}", "positive learning rates"),
    ({"parts": {"decoder": "fast"}}, "training.stages[0].parts.decoder = 'fast'", "float"),
    ({"parts": {"discriminators": 1e-4}}, "training.stages[0].parts = {'discriminators': 0.0001}", "generator too"),
    ({"share": 0}, "training.stages[0].share = 0.0", "over 0"),
    ({"share": 0.9}, "training.stages = shares that sum to 0.9", "sum to 1"),
    ({"final": 1.1}, "training.stages[0].final = 1.1", "from 0 to 1"),
    ({"lane": "side"}, "training.stages[0].lane = side", "one of training.lanes (main)"),
    ({"parts": {"variance": 1e-4}}, "training.stages[0].parts", "without variance where variance.kind is off"),
    ({"parts": {"course": 1e-4}}, "training.stages[0].parts", "without course where variance.course_layers is 0"),
    ({"latents": "true"}, "training.stages[0].latents = true", "joint where more than generator"),
    ({"latents": "means", "parts": {"generator": 1e-4}}, "training.stages[0].latents = means", "means names no lane"),
    ({"mu_gradient": "yes"}, "training.stages[0].mu_gradient = 'yes'", "bool"),
    ({"feature_gradient": "always"}, "training.stages[0].feature_gradient = 'always'", "off, at_one, on"),
    ({"feature_gradient": "on", "parts": {"text_encoder": 1e-4}}, "training.stages[0].feature_gradient = on",
     "off where neither decoder nor generator trains"),
]  # fmt: skip


# a change to the lanes of tests/tiny_lanes.yaml, in their order even, tone, odd, sound, text
LANE_FAULTS = [
    ({"sound": {"means": ["even"]}}, "training.lanes.sound.means = ('even',)", "one of the even and one of the odd"),
    ({"odd": {"clips": "even"}}, "training.lanes.sound.means = ('even', 'odd')", "one lane of all clips"),
    ({"sound": {"means": ["text"]}}, "training.lanes.sound = text", "a lane before it (even, tone, odd)"),
    ({"sound": {"means": ["tone"]}}, "training.lanes.sound.means = tone", "a stage whose latents are joint"),
    ({"sound": {"means": []}}, "training.stages[3].latents = means", "training.lanes.sound.means names no lane"),
    ({"sound": {"start": ["nobody"]}}, "training.lanes.sound = nobody", "a lane before it"),
    ({"even": {"start": ["even"]}}, "training.lanes.even = even", "(there is none)"),
    ({"text": {"steps": 3}}, "unknown key training.lanes.text.steps", "clips, start, means"),
]  # fmt: skip


def refused(begin, right, function, *arguments, **keywords):
    with pytest.raises(ConfigError, match=re.escape(right)) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert message.startswith(begin)
    assert "\n" not in message


def plain() -> dict:
    return copy.deepcopy(PLAIN)


def test_what_is_shipped_loads():
    config = load()
    assert config.n_latents == config.audio.n_mels == 80
    assert config.hifigan.upsample_rates == (8, 8, 2, 2)
    assert [stage.feature_gradient for stage in config.training.stages] == ["off"]
    assert [stage.feature_gradient for stage in load("light").training.stages] == ["off", "at_one"]


@pytest.mark.parametrize("overlay", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_every_overlay_loads_by_name_and_by_file(overlay):
    config, path = load(overlay), ROOT / "configs" / f"{overlay}.yaml"
    assert config == load(path) == load(str(path))
    over = yaml.safe_load(path.read_text(encoding="utf-8"))
    under = plain() if "over" not in over else to_dict(load(over["over"]))
    expected = {section: keys | over.get(section, {}) for section, keys in under.items()}
    assert to_dict(config) == to_dict(from_dict(expected))
    assert config != load()


def test_there_and_back():
    config = load("light", ["training.weight_decay=0", "alignment.init=none"])
    tree = to_dict(config)
    assert from_dict(tree) == config
    assert from_dict(yaml.safe_load(to_yaml(config))) == config
    assert isinstance(tree["training"]["stages"][0]["parts"], dict)
    assert isinstance(tree["unet2d"]["multipliers"], list)
    tree["training"]["clip_norm"]["decoder"] = 7.0  # a copy: what is frozen stays
    assert config.training.clip_norm["decoder"] != 7.0


def test_overrides_lie_over_the_overlay_and_the_overlay_over_the_rest():
    config = load("light", ["training.batch_size=3", "unet2d.multipliers=[1, 2]", "training.batch_size=5"])
    assert (config.training.batch_size, config.unet2d.multipliers, config.unet2d.channels) == (5, (1, 2), 16)
    assert config.sde == load().sde
    changed = change(config, ["system.seed=7"])
    assert changed.system == dataclasses.replace(config.system, seed=7)
    assert dataclasses.replace(changed, system=config.system) == config


def test_nothing_can_be_assigned():
    config = load()
    for part, name in ((config, "audio"), (config.system, "seed"), (config.training.stages[0], "share")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 1)


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "0.0001", "1.0e-4"])
def test_a_number_may_be_written_as_people_do(text):
    assert load(overrides=[f"sde.t_min={text}"]).sde.t_min == 1e-4
    assert load(overrides=["audio.f_max=8000"]).audio.f_max == 8000.0


@pytest.mark.parametrize(("word", "meant"), [("off", "off"), ("on", "on"), ("'on'", "on"), ("at_one", "at_one")])
def test_on_and_off_are_words_where_words_are_due(word, meant):
    tree = plain()
    tree["training"]["stages"][0]["feature_gradient"] = yaml.safe_load(word)
    assert from_dict(tree).training.stages[0].feature_gradient == meant
    assert load(overrides=["variance.kind=off"]).variance.kind == "off"


@pytest.mark.parametrize(("override", "begin", "right"), FAULTS)
def test_each_fault_names_its_key_its_value_and_what_would_be_right(override, begin, right):
    refused(begin, right, change, SHIPPED, [override])


def test_the_recogniser_ranks_voices_of_english_only():
    refused("system.best_metric = cer", "another where text.language is de", change, SHIPPED,
            ["system.best_metric=cer", "text.language=de"])  # fmt: skip
    assert change(SHIPPED, ["system.best_metric=mcd", "text.language=de"]).system.best_metric == "mcd"


@pytest.mark.parametrize(("changes", "begin", "right"), STAGE_FAULTS)
def test_each_fault_of_a_stage_names_it(changes, begin, right):
    tree = plain()
    tree["training"]["stages"][0] |= changes
    refused(begin, right, from_dict, tree)


@pytest.mark.parametrize(("changes", "begin", "right"), LANE_FAULTS)
def test_each_fault_of_a_lane_names_it(changes, begin, right):
    tree = to_dict(load(ROOT / "tests" / "tiny_lanes.yaml"))
    for name, keys in changes.items():
        tree["training"]["lanes"][name] |= keys
    refused(begin, right, from_dict, tree)


def test_one_lane_of_all_clips_may_write_the_means_too():
    tree = to_dict(load(ROOT / "tests" / "tiny_lanes.yaml"))
    tree["training"]["lanes"]["odd"]["clips"] = "all"
    tree["training"]["lanes"]["sound"]["means"] = ["odd"]
    assert from_dict(tree).training.lanes["sound"].means == ("odd",)


def two_lanes(shares, n_steps=1000):
    """A configuration of lanes a and b, whose stages have these shares: by turns of a and of b."""
    tree = plain()
    stage = tree["training"]["stages"][0]
    tree["training"] |= {
        "train_num_steps": n_steps,
        "lanes": {name: {"clips": "all", "start": [], "means": []} for name in "ab"},
        "stages": [stage | {"lane": "ab"[i % 2], "share": share} for i, share in enumerate(shares)],
    }
    return tree


def test_a_lane_alone_has_its_own_stages_and_their_steps():
    config = from_dict(two_lanes([0.3, 0.5, 0.1]))
    one, other = lane_config(config, "a").training, lane_config(config, "b").training
    assert one.train_num_steps == 400 and other.train_num_steps == 500
    assert [stage.lane for stage in one.stages] == ["a", "a"] and [stage.share for stage in other.stages] == [1.0]
    assert [stage.share for stage in one.stages] == pytest.approx([0.75, 0.25])
    assert stage_at(lane_config(config, "a"), 299)[0] == one.stages[0]
    assert stage_at(lane_config(config, "a"), 300)[0] == one.stages[1]
    assert dataclasses.replace(lane_config(config, "a"), training=config.training) == config
    assert lane_config(from_dict(two_lanes([0.1, 1.0], n_steps=2)), "a").training.train_num_steps == 1  # at least
    assert lane_config(SHIPPED, "main") == SHIPPED


def test_lanes_may_share_all_of_the_steps_each():
    assert from_dict(two_lanes([1.0, 1.0])).training.lanes.keys() == {"a", "b"}
    refused("training.stages = shares that sum to 1.1 in lane a", "at most 1", from_dict, two_lanes([0.6, 1.0, 0.5]))
    refused("training.stages = shares that sum to 0 in lane b", "over 0", from_dict, two_lanes([1.0]))


def test_every_key_is_needed():
    for section, keys in plain().items():
        tree = plain()
        del tree[section]
        refused(f"missing key {section}", section, from_dict, tree)
        for name in keys:
            tree = plain()
            del tree[section][name]
            refused(f"missing key {section}.{name}", name, from_dict, tree)
    tree = plain()
    del tree["training"]["stages"][0]["share"]
    refused("missing key training.stages[0].share", "share", from_dict, tree)
    refused("audio: expected keys", "5", from_dict, plain() | {"audio": 5})
    refused("the configuration: expected keys", "[]", from_dict, [])


@pytest.mark.parametrize("override", ["seed", "seed=1", "system.seed", "system.=1", "=1", ""])
def test_an_override_is_section_dot_key_equals_value(override):
    refused(repr(override), "section.key=value", load, overrides=[override])


def test_a_fault_on_the_command_line_is_one_of_the_tree_too():
    for override, begin, right in FAULTS[:: len(FAULTS) // 8]:
        refused(begin, right, load, overrides=[override])


def test_an_override_that_is_not_yaml():
    refused("unet2d.multipliers = '[1, 2'", "is not YAML", load, overrides=["unet2d.multipliers=[1, 2"])


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (b"a: [1", "is not YAML"),
        (b"a: b: c", "is not YAML"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"- 1\n- 2\n", "found list"),
        (b"", "found NoneType"),
        (b"!!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_an_overlay_that_is_no_mapping(tmp_path, content, right):
    path = tmp_path / "over.yaml"
    path.write_bytes(content)
    refused(str(path), right, load, path)


def test_an_overlay_with_faults(tmp_path):
    path = tmp_path / "over.yaml"
    for content, begin in [
        ("audio:\n", "audio: expected keys, found None"),
        ("audio: 3\n", "audio: expected keys, found 3"),
        ("audio: {rate: 3}\n", "unknown key audio.rate"),
        ("1: 2\n", "unknown key 1"),
    ]:
        path.write_text(content, encoding="utf-8")
        refused(begin, begin, load, path)


def test_an_overlay_lies_over_another(tmp_path):
    for name, content in (("low", "log: {name: low, project: low}"), ("high", "over: {}\nlog: {{name: high}}")):
        (tmp_path / f"{name}.yaml").write_text(content.format(tmp_path / "low.yaml") if name == "high" else content)
    log = load(tmp_path / "high.yaml").log
    assert (log.name, log.project) == ("high", "low")
    low, high = (tmp_path / f"{name}.yaml" for name in ("low", "high"))
    low.write_text(f"over: {high}")
    with pytest.raises(ConfigError, match="lies over itself"):
        load(high)
    low.write_text("over: nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        load(high)


def test_an_overlay_that_is_not_there_lists_those_that_are(tmp_path):
    refused("-c heavy: no such file", "light", load, "heavy")
    refused("-c ", "no such file", load, tmp_path)  # a folder is none
    refused(str(tmp_path / "none.yaml"), "No such file", load, base=tmp_path / "none.yaml")


def test_values_are_those_of_the_file():
    for section, keys in plain().items():
        for name, value in keys.items():
            if isinstance(value, (bool, int, float, str)):
                assert getattr(getattr(SHIPPED, section), name) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["latent.kind=pooled", "latent.channels=30"], "latent.channels = 30: must be a divisor of audio.n_mels (80)"),
        (["latent.kind=pooled", "latent.channels=160"], "latent.channels = 160: must be at most audio.n_mels (80)"),
        (["latent.kind=pooled", "latent.channels=10"], "latent.channels = 10: must be a multiple of 4"),
        (["latent.kind=learned", "decoder.kind=convnext1d", "latent.channels=81"], "at most audio.n_mels (80)"),
    ],
)
def test_a_latent_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(overrides=changes)


def test_channels_of_the_latent_are_its_own():
    assert load(overrides=["latent.channels=7"]).n_latents == 80  # which counts for the others alone
    assert load(overrides=["latent.kind=pooled", "latent.channels=20"]).n_latents == 20
    assert load(overrides=["latent.kind=pca", "decoder.kind=convnext1d"]).n_latents == SHIPPED.latent.channels


def test_noise_on_the_search_falls_to_zero_along_a_line():
    assert [search_noise(SHIPPED, step) for step in (0, 10_000)] == [0, 0]
    config = load(overrides=["alignment.noise=0.2", "alignment.noise_steps=100"])
    assert [search_noise(config, step) for step in (0, 25, 100, 101)] == pytest.approx([0.2, 0.15, 0, 0])


def test_what_an_earlier_version_wrote_is_completed():
    """Sections and keys that have come since are those of config.yaml; what was written stays."""
    tree = to_dict(load(overrides=["alignment.em_iterations=3"]))
    del tree["latent"], tree["alignment"]["noise"]
    assert from_dict(completed(tree)) == load(overrides=["alignment.em_iterations=3"])
    for nonsense in ([], None, {"alignment": 5}):
        assert completed(nonsense) == nonsense
    with pytest.raises(ConfigError, match="unknown key alignment.sound"):
        from_dict(completed(tree | {"alignment": {"sound": 1}}))
