"""Several speakers in one model: what conditions it, that one is as none, how clips are balanced, and who speaks."""

import copy
import re

import numpy as np
import pytest
import torch

from data_util import config as configuration
from data_util import dataset
from data_util.config import ROOT, ConfigError
from data_util.corpus import MetafileError, prepare
from data_util.dataset import BatchOrder
from experiments import speakers
from model.layers import SpeakerEmbedding
from model.nisets import NiSETS
from tests.conftest import with_keys, without_judges
from tests.runs import ALONE, stirred
from text import SYMBOLS
from training.state import build_state, checkpoint_of, restore

KINDS = {"tiny": ["tiny.yaml"], "frames": ["tiny.yaml", "tiny_frames.yaml"]}
N_SYMBOLS = 30


def of(kind, names=()):
    overlays = [ROOT / "tests" / name for name in KINDS[kind]]
    return configuration.load(overlays, [f"speakers.names=[{','.join(names)}]"])


def built(config):
    torch.manual_seed(0)
    return NiSETS(config, N_SYMBOLS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_speaker_is_a_model_without_speakers_and_several_start_as_it(kind):
    none, one, several = (built(of(kind, names)).state_dict() for names in ((), ("ann",), ("ann", "ben", "cid")))
    assert none.keys() == one.keys() and all(torch.equal(none[name], one[name]) for name in none)
    extra = {name: value for name, value in several.items() if name not in none}
    assert extra and all(name.endswith("speaker.weight") and value.shape[0] == 3 for name, value in extra.items())
    assert all(not value.any() for value in extra.values())
    assert all(torch.equal(none[name], several[name]) for name in none)  # the same draws
    parts = {name.split(".")[0] for name in extra}
    assert parts == {"text_encoder", "decoder", "generator"} | ({"prosody"} if kind == "frames" else set())
    assert "text_encoder.duration_speaker.weight" in extra


def test_a_run_goes_on_with_the_speakers_that_it_has_learnt():
    """Their rows go by their order."""
    ckpt = checkpoint_of(build_state(of("tiny", ("ann", "ben")), ALONE, SYMBOLS))
    for names in (("ben", "ann"), ("cid", "dan")):
        with pytest.raises(ConfigError, match=r"speakers.names = .*must be \['ann', 'ben'\]"):
            restore(build_state(of("tiny", names), ALONE, SYMBOLS), ckpt)


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_tells_speakers_apart(kind):
    model = stirred(of(kind, ("ann", "ben")), N_SYMBOLS, 0.1).eval()
    x, random = torch.tensor([[1, 5, 9, 3]]), torch.Generator().manual_seed(2)
    z0, mask, t = torch.randn(1, 80, 16, generator=random), torch.ones(1, 1, 16), torch.tensor([0.5])
    f0 = model.normalised_f0(torch.cat([5 + 0.1 * torch.randn(1, 1, 16, generator=random), torch.ones(1, 1, 16)], 1))
    values = None if f0 is None else torch.zeros(1, 2, 4)
    source = model.source(f0, torch.randn(1, 1, 16 * 256, generator=random))

    def outputs(speaker):
        with torch.no_grad(), model.speaking_as(speaker):
            mu_x, logw = model.encode_text(x, torch.ones(1, 1, 4), values)
            r_0_hat, _ = model.denoiser.denoise(z0, t, mask, mu=z0, f0=f0)
            found = [mu_x, logw, r_0_hat, model.vocode(model.vocoder_features(z0, f0=f0), source=source)]
            if model.prosody is not None:
                found.append(model.prosody.network.encode(x, torch.ones(1, 1, 4)))
            return found

    ann, ben, again = outputs(0), outputs(1), outputs(0)
    assert all(torch.equal(a, b) for a, b in zip(ann, again))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(ann, ben))


def test_a_batch_of_speakers_equals_each_alone():
    model = stirred(of("tiny", ("ann", "ben", "cid")), N_SYMBOLS, 0.1).eval()
    x, x_mask = torch.tensor([[1, 5, 9, 3]] * 3), torch.ones(3, 1, 4)
    with torch.no_grad():
        with model.speaking_as(torch.tensor([2, 0, 1])):
            together = model.encode_text(x, x_mask)
        for row, speaker in enumerate((2, 0, 1)):
            with model.speaking_as(speaker):
                alone = model.encode_text(x[:1], x_mask[:1])
            for a, b in zip(together, alone):
                assert torch.allclose(a[row], b[0], atol=1e-5)


def test_nobody_speaks_unless_somebody_is_chosen():
    model = built(of("tiny", ("ann", "ben")))
    with pytest.raises(ValueError, match="choose one"):
        model.encode_text(torch.tensor([[1]]), torch.ones(1, 1, 1))
    with pytest.raises(RuntimeError), model.speaking_as(1):
        raise RuntimeError
    assert all(part.chosen is None for part in model.modules() if isinstance(part, SpeakerEmbedding))
    with model.speaking_as(0):
        with model.speaking_as(1):
            pass
        assert model.text_encoder.speaker.chosen.tolist() == [0]
        assert copy.deepcopy(model) is not None
    with built(of("tiny")).speaking_as(0):  # of one speaker nothing depends on it
        pass


def test_balance_hears_each_speaker_equally_often_and_every_clip():
    speakers = np.array([0] * 20 + [1] * 5 + [2] * 10)
    order = BatchOrder(np.arange(1, 36), 4, seed=3, window=5, groups=speakers)
    drawn = np.concatenate([order.indices(step) for step in range(15)])  # 60 clips: an epoch
    counts = np.bincount(drawn, minlength=35)
    assert [counts[speakers == one].sum() for one in range(3)] == [20, 20, 20]
    assert counts[:20].tolist() == [1] * 20 and counts[20:25].tolist() == [4] * 5 and counts[25:].tolist() == [2] * 10
    later = BatchOrder(np.arange(1, 36), 4, seed=3, window=5, groups=speakers)
    assert np.array_equal(later.indices(13), order.indices(13))  # a pure function of the step
    plain, none = BatchOrder(np.arange(1, 36), 4, seed=3), BatchOrder(np.arange(1, 36), 4, seed=3, groups=np.zeros(35))
    assert all(np.array_equal(plain.indices(step), none.indices(step)) for step in range(40))


@pytest.fixture
def voices(tiny_root, tiny_config, stub_front_end):  # noqa: ARG001
    """The tiny corpus, said by ann and ben in turn."""
    lines = [f"tiny-{i}.wav|{('ann', 'ben')[i % 2]}|{'abcdefghij'[: i + 1]}\n" for i in range(10)]
    (tiny_root / "train.txt").write_text("".join(lines))
    return with_keys(tiny_config, "speakers", names=("ben", "ann"), balanced=False)


def test_lists_say_who_speaks_and_batches_carry_it(voices):
    corpus = prepare(voices, voices.dataset.metafile_train, progress=False)
    said = {clip.id: int(speaker) for clip, speaker in zip(corpus.clips, corpus.speakers)}
    assert all(speaker == (1 if int(name[-1]) % 2 == 0 else 0) for name, speaker in said.items())
    batch = dataset.fixed_batch(corpus, voices, [3, 0, 5])
    assert batch.speaker.tolist() == [int(corpus.speakers[i]) for i in (3, 0, 5)]
    assert corpus.subset([4, 1]).speakers.tolist() == [int(corpus.speakers[i]) for i in (4, 1)]


def test_who_is_unknown_is_left_out_and_forgotten_names_are_an_error(voices):
    corpus = prepare(with_keys(voices, "speakers", names=("ann", "cid")), voices.dataset.metafile_train, progress=False)
    assert {reason for _, reason in corpus.skipped if "speaker" in reason} == {"speaker ben is not in speakers.names"}
    with pytest.raises(MetafileError, match="names several speakers.*ann, ben.*speakers.names"):
        prepare(with_keys(voices, "speakers", names=()), voices.dataset.metafile_train, progress=False)


# The experiment


def test_a_speaker_is_named_by_the_nearest_mean_in_its_own_deviation():
    random = np.random.default_rng(0)
    speaker = np.repeat([0, 1, 2], 200)
    middles = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 30.0]])
    heard = middles[speaker] + random.standard_normal((600, 2)) * (0.1, 10.0)
    named = speakers.fitted(heard, speaker)
    # 0.3 is nearer to the first than to the second; 10 away counts as little as 0.1; 20 is nearer to 30 than to 0
    assert named(np.array([[0.3, 10.0], [0.8, -10.0], [0.0, 20.0]])).tolist() == [0, 1, 2]


def test_what_is_heard_is_the_mean_spectrum_and_the_pitch_where_there_is_voice():
    mel = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 7.0]])
    f0 = np.array([[5.0, 6.0, 9.0], [1.0, 1.0, 0.0]])
    assert speakers.heard_in(mel, f0).tolist() == [2.0, 5.0, 5.5]
    f0[1] = 0
    assert speakers.heard_in(mel, f0)[-1] == pytest.approx(20 / 3)


def test_the_table_says_who_was_heard_for_whom(tmp_path, capsys):
    said = speakers.report(np.array([[19, 1], [0, 20]]), 1.0, ["a", "b"])
    assert said.splitlines() == [
        "| asked for | heard a | heard b |", "|---|---:|---:|", "| a | 19 | 1 |", "| b | 0 | 20 |", "",
        "39 of 40 syntheses named right, 97.5%; of held-out recordings 100.0%",
    ]  # fmt: skip
    config = speakers.config_of(speakers.parse_args(["-o", str(tmp_path), "--steps", "7", "training.batch_size=3"]))
    assert config.speakers.names == speakers.VOICES and config.training.batch_size == 3
    assert config.training.train_num_steps == 7 and len(config.training.stages) == 1
    for wrong in (["--sentences", "5"], ["--texts", "400"]):
        with pytest.raises(SystemExit):
            speakers.parse_args(["-o", str(tmp_path), *wrong])
    capsys.readouterr()
    assert speakers.main(["-o", str(tmp_path), "--voices", "en-us", "en-us"]) == 1
    assert "speakers: speakers.names = ['en-us', 'en-us']: must be different" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_model_learns_to_tell_voices_apart(tmp_path, capsys, monkeypatch):
    without_judges(monkeypatch)
    voices = ["--voices", "en-us+m3", "en-us+Andy", "en-us+f2"]
    assert speakers.main(["-o", str(tmp_path), *voices, "--sentences", "40", "--texts", "8", "--steps", "300"]) == 0
    right, total = map(int, re.search(r"(\d+) of (\d+) syntheses named right", capsys.readouterr().out).groups())
    assert total == 24 and right / total >= 0.95
