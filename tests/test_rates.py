"""Other sample rates: the overlays for them over every size load, build, train and speak sounds of the right length."""

import numpy as np
import pytest
import torch

import text
import train
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.corpus import prepare
from data_util.dataset import batches
from data_util.prepare import overlay_of
from data_util.world import World
from experiments.runs import one_lane, stage
from training.state import build_state

RATES = {"16khz": 16000, None: 22050, "24khz": 24000, "44khz": 44100}
N_FRAMES = (40, 33, 64, 50)
TINY = ["text_encoder.channels=8", "text_encoder.ff_channels=8", "text_encoder.n_layers=1",
        "text_encoder.prenet_layers=1", "text_encoder.duration_channels=8", "text_encoder.frame_hidden_channels=8",
        "alignment.init=none", "training.batch_size=4", "training.cut_frames=32", "training.segment_frames=8",
        "system.num_workers=0", "discriminators.period_channels=[4, 4]", "discriminators.scale_channels=[16, 16]",
        "discriminators.resolution_channels=[4, 4]", "discriminators.scales=1",
        "discriminators.periods=[3]"]  # fmt: skip
UNET = ["unet2d.channels=8", "unet2d.multipliers=[1, 2]", "unet2d.groups=2", "unet2d.n_heads=1",
        "unet2d.head_channels=4"]  # fmt: skip
SMALL = ["variance.channels=8", "variance.hidden_channels=8", "variance.n_layers=1", "variance.n_timesteps=5",
         "convnext1d.channels=8", "convnext1d.hidden_channels=8", "convnext1d.n_layers=1", "convnext.channels=8",
         "convnext.hidden_channels=8", "convnext.n_layers=1", "discriminators.resolutions=[512]"]  # fmt: skip
PARTS = "text_encoder: 1.0e-3, decoder: 1.0e-3, generator: 1.0e-3, discriminators: 1.0e-3"
KINDS = {  # the overlays below, and what makes their networks tiny
    "hifigan": ((), [*UNET, "hifigan.channels=16", "hifigan.resblock_kernels=[3]", "hifigan.resblock_dilations=[1]",
                     *one_lane(stage(PARTS))]),
    "istft": ((), [*UNET, "generator.kind=istft", "istft.channels=16", "istft.resblock_kernels=[3]",
                   "istft.resblock_dilations=[1]", *one_lane(stage(PARTS))]),
    "convnext": (("small",), [*SMALL, *one_lane(stage(f"variance: 1.0e-3, course: 1.0e-3, {PARTS}"))]),
}  # fmt: skip


def of(rate, kind, overrides=()):
    below, tiny = KINDS[kind]
    return configuration.load([*below, *([rate] if rate else [])], [*TINY, *tiny, *overrides])


@pytest.fixture
def corpus(tmp_path, stub_front_end):
    """What makes a corpus of hums of N_FRAMES frames and a rest that fills none: prepared for a configuration."""
    assert text.FrontEnd is stub_front_end

    def made(rate, kind):
        lists = [f"dataset.metafile_{name}={tmp_path / 'train.txt'}" for name in ("train", "valid", "test")]
        config = of(rate, kind, [f"dataset.prtpath={tmp_path}", f"dataset.cache={tmp_path / 'cache'}", *lists])
        audio, lines = config.audio, []
        for i, n_frames in enumerate(N_FRAMES):
            times = np.arange(n_frames * audio.hop_length + 17) / audio.sample_rate
            hum = sum(np.sin(2 * np.pi * n * (110 + 10 * i) * times) / n for n in range(1, 9))
            save_wav(tmp_path / "wavs" / f"{i}.wav", 0.2 * hum, audio.sample_rate)
            lines.append(f"{i}.wav|{'abcdef'[: i + 2]}\n")
        (tmp_path / "train.txt").write_text("".join(lines))
        return config, prepare(config, config.dataset.metafile_train, progress=False)

    return made


@pytest.mark.parametrize("size", [None, "light", "small", "small-gpu"])
@pytest.mark.parametrize("rate", RATES)
def test_a_rate_goes_over_any_size_and_keeps_times(rate, size):
    config = configuration.load([name for name in (size, rate) if name])
    audio = config.audio
    assert audio.sample_rate == RATES[rate] and 8000 <= audio.f_max <= RATES[rate] / 2
    assert 0.010 <= audio.hop_length / audio.sample_rate <= 0.013
    assert audio.win_length == audio.n_fft == 4 * audio.hop_length
    assert config.convnext.n_fft == 4 * audio.hop_length


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_allows_every_latent_with_every_decoder_that_reads_it(rate):
    for decoder, kinds in (("unet2d", ("pooled",)), ("convnext1d", ("pooled", "pca", "learned"))):
        for kind in kinds:
            config = configuration.load(rate, [f"decoder.kind={decoder}", f"latent.kind={kind}"])
            assert config.n_latents < config.audio.n_mels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_it_trains_and_speaks(rate, kind, corpus):
    config, clips = corpus(rate, kind)
    assert [clips.mel(i).shape for i in range(len(clips))] == [(config.audio.n_mels, n) for n in N_FRAMES]
    state = build_state(config, World(0, 1, torch.device("cpu")), clips.symbols)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    losses = train.train_step(state, next(batches(clips, config)))
    assert losses["loss_mel"] > 0 and all(torch.isfinite(value) for value in losses.values())
    parts = {name.split(".")[0] for name, value in state.model.state_dict().items()
             if not torch.equal(value, before[name])}  # fmt: skip
    assert parts >= {"text_encoder", "decoder", "generator"}
    spoken = state.model.eval().synthesise(torch.tensor([[1, 2, 3]]))
    n_samples = int(spoken.durations.sum()) * config.audio.hop_length
    assert spoken.wav.shape == (1, 1, n_samples) and n_samples > 0 and spoken.wav.isfinite().all()


@pytest.mark.parametrize(
    ("rate", "size", "key"), [("44khz", (), "hifigan.upsample_rates"), ("16khz", ("small",), "convnext.n_fft")]
)
def test_what_preparing_writes_refuses_a_generator_of_another_rate(rate, size, key, tmp_path):
    voice, audio = tmp_path / "voice.yaml", configuration.load(rate).audio
    voice.write_text(overlay_of(tmp_path, configuration.load(rate), []))
    assert configuration.load([*size, rate, voice]).audio == audio
    with pytest.raises(configuration.ConfigError, match=rf"{key} = .*audio.hop_length .{audio.hop_length}"):
        configuration.load([*size, voice])
