"""Other sample rates: the overlays for them over every size load, build, train and speak sounds of the right length."""

import numpy as np
import pytest
import torch

import train
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.config import ROOT
from data_util.corpus import prepare
from data_util.dataset import batches
from data_util.prepare import overlay_of
from tests.conftest import corpus_keys
from tests.runs import ALONE, copied, moved
from training.state import build_state

RATES = {"16khz": 16000, None: 22050, "24khz": 24000, "44khz": 44100}
N_FRAMES = (40, 33, 64, 50)
TINY, FRAMES = str(ROOT / "tests" / "tiny.yaml"), str(ROOT / "tests" / "tiny_frames.yaml")


@pytest.mark.parametrize("size", [(), ("light",), ("small",), ("small", "small-gpu")])
@pytest.mark.parametrize("rate", RATES)
def test_a_rate_goes_over_any_size_and_keeps_times(rate, size):
    audio = configuration.load([*size, *([rate] if rate else [])]).audio
    assert audio.sample_rate == RATES[rate] and 8000 <= audio.f_max <= RATES[rate] / 2
    assert 0.010 <= audio.hop_length / audio.sample_rate <= 0.013
    assert audio.win_length == audio.n_fft == 4 * audio.hop_length


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate])
@pytest.mark.parametrize("decoder", ["unet2d", "convnext1d"])
@pytest.mark.parametrize("kind", ["pooled", "pca"])
def test_a_rate_allows_every_latent_with_every_decoder(rate, decoder, kind, tmp_path):
    (tmp_path / "over.yaml").write_text(f"latent: {{kind: {kind}}}\ndecoder: {{kind: {decoder}}}")
    config = configuration.load([tmp_path / "over.yaml", rate])
    assert config.n_latents < config.audio.n_mels


def corpus(folder, overlays):
    """A configuration, and for it a corpus of hums of N_FRAMES frames and a rest that fills none."""
    config = configuration.load(overlays, corpus_keys(folder, folder / "cache"))
    audio, lines = config.audio, []
    for i, n_frames in enumerate(N_FRAMES):
        times = np.arange(n_frames * audio.hop_length + 17) / audio.sample_rate
        hum = sum(np.sin(2 * np.pi * n * (110 + 10 * i) * times) / n for n in range(1, 9))
        save_wav(folder / "wavs" / f"{i}.wav", 0.2 * hum, audio.sample_rate)
        lines.append(f"{i}.wav|{'abcdef'[: i + 2]}\n")
    (folder / "train.txt").write_text("".join(lines))
    return config, prepare(config, config.dataset.metafile_train, progress=False)


@pytest.mark.usefixtures("stub_front_end")
@pytest.mark.parametrize("size", [(TINY,), (TINY, FRAMES)], ids=["hifigan", "convnext"])
@pytest.mark.parametrize("rate", [rate for rate in RATES if rate])
def test_it_trains_and_speaks(rate, size, tmp_path):
    config, clips = corpus(tmp_path, [*size, rate])
    assert [clips.mel(i).shape for i in range(len(clips))] == [(config.audio.n_mels, n) for n in N_FRAMES]
    state = build_state(config, ALONE, clips.symbols)
    before = copied(state.model.state_dict())
    losses = train.train_step(state, next(batches(clips, config)))
    assert losses["loss_mel"] > 0 and all(torch.isfinite(value) for value in losses.values())
    assert moved(before, state.model.state_dict()) >= {"text_encoder", "decoder", "generator"}
    spoken = state.model.eval().synthesise(torch.tensor([[1, 2, 3]]))
    n_samples = int(spoken.durations.sum()) * config.audio.hop_length
    assert spoken.wav.shape == (1, 1, n_samples) and n_samples > 0 and spoken.wav.isfinite().all()


def test_what_preparing_writes_goes_over_any_generator_that_can_make_its_rate(tmp_path):
    voice, config = tmp_path / "voice.yaml", configuration.load("44khz")
    voice.write_text(overlay_of(tmp_path, config, []))
    for below in (["44khz"], ["small"], ["small", "44khz"]):
        assert configuration.load([*below, voice]).audio == config.audio
    with pytest.raises(configuration.ConfigError, match="latent.channels = 40: .*third of audio.n_mels .128"):
        configuration.load(voice)
