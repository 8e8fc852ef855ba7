"""The experiments: an ablation that is killed goes on to the same numbers, and tables say what was measured."""

import pytest
import torch

import text
from data_util import config as configuration
from data_util.config import ROOT
from experiments import ablation, runs, solvers
from model.nisets import NiSETS
from model.sde import ONLY, SOLVERS
from tests.conftest import StubFrontEnd, without_judges
from training import checkpoint, validation
from training.schedule import stage_at


@pytest.fixture
def of_corpus(tiny_root, tmp_path):
    """Overrides for the tiny corpus and a small decoder, as a configuration with tests/tiny.yaml takes them."""
    lists = [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    small = ["decoder.kind=convnext1d", "decoder.channels=8", "decoder.hidden_channels=8", "decoder.n_layers=1"]
    return [*paths, *lists, *small]


@pytest.fixture
def command(of_corpus, monkeypatch, stub_front_end):
    """What makes the ablation train the tiny model on the tiny corpus for two steps."""
    assert text.FrontEnd is stub_front_end
    without_judges(monkeypatch)
    for name in ("save_validation", "save_curves"):
        monkeypatch.setattr(validation, name, lambda *_: None)
    tiny = ["-c", str(ROOT / "tests" / "tiny.yaml"), "--steps", "2", "--save-every", "1", "--seeds", "1"]
    return [*of_corpus, *tiny]


def test_every_arm_is_a_configuration_and_changes_it():
    args = ablation.parse_args(["-o", "out", "--steps", "600", "--sound", "800", "900"])
    configs = {arm: ablation.arm_config(arm, 1, args) for arm in ablation.ARMS}
    assert len(set(map(str, configs.values()))) == len(configs)
    for arm, config in configs.items():
        text, tone, sound = config.training.stages
        assert set(text.parts) == {"text_encoder", "prosody", "decoder"} and set(tone.parts) == {"generator"}
        joint = {"text_encoder", "decoder"} if arm in ("joint", "at_one") else set()
        assert sound.feature_gradient == ("at_one" if arm == "at_one" else "off")
        assert set(sound.parts) == {"generator", "discriminators"} | joint
        assert [stage_at(config, step)[0] for step in (599, 600, 1399, 1400)] == [text, tone, tone, sound]
    assert [configs[arm].loss.stft for arm in ("base", "mel_45", "mel_15")] == [2.5, 2.5, 2.5 / 3]
    assert configs["base"].system.seed == 1 and configs["base"].training.train_num_steps == 2300
    assert len(ablation.arm_config("base", 1, ablation.parse_args(["-o", "out"])).training.stages) == 1


def test_stages_become_overrides():
    base = configuration.load("small")
    alone, both = ({"parts": dict.fromkeys(names, 1e-3)} for names in (("prosody",), ("prosody", "f0_residual")))
    for stages, layers in (([alone], 0), ([both], 6), ([alone | {"share": 0.5}, both | {"share": 0.5}], 6)):
        config = configuration.load("small", runs.overrides_of(stages, base))
        assert config.prosody.residual_layers == layers
        assert [set(stage.parts) for stage in config.training.stages] == [set(stage["parts"]) for stage in stages]
    assert len(runs.overrides_of([alone], configuration.load("light"))) == 1


def test_arms_that_need_a_vocoder_are_refused_without_one(capsys):
    with pytest.raises(SystemExit):
        ablation.parse_args(["-o", "out", "--arms", "at_one"])
    assert "needs --sound" in capsys.readouterr().err


def test_an_ablation_that_is_killed_goes_on_to_the_same_table(command, tmp_path, monkeypatch, capsys):
    arms = ["--arms", "base", "pca"]
    assert ablation.main([*command, *arms, "-o", str(tmp_path / "whole")]) == 0
    whole, step = capsys.readouterr().out, runs.train.train_step
    assert whole.splitlines()[0].startswith("| arm | seeds | prior |") and "| pca | 1 |" in whole

    def killed(state, batch):
        if state.step == 1 and state.config.latent.kind == "pca":
            raise KeyboardInterrupt
        return step(state, batch)

    cut = [*command, *arms, "-o", str(tmp_path / "cut")]
    monkeypatch.setattr(runs.train, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        ablation.main(cut)
    monkeypatch.setattr(runs.train, "train_step", None)
    for more in ([], ["--table"]):
        assert ablation.main([*cut, *more, "loss.prior=2"]) == 1
        assert "base_1 was begun with another configuration" in capsys.readouterr().err
    assert ablation.main([*cut, "--table"]) == 0 and "| pca | 0 |" in capsys.readouterr().out
    done = []
    monkeypatch.setattr(runs.train, "train_step", lambda *args: done.append(args[0].step) or step(*args))
    assert ablation.main(cut) == 0
    assert done == [1]  # the first arm not at all, the second from its checkpoint
    assert capsys.readouterr().out == whole == (tmp_path / "cut" / "table.md").read_text()
    assert list((tmp_path / "cut").rglob("*.pt")) == []


def test_a_signal_ends_in_one_line(command, tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise runs.Stopped(15, 3)

    monkeypatch.setattr(runs.train, "train", stopped)
    assert ablation.main([*command, "--arms", "base", "-o", str(tmp_path)]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "ablation: stopped; the same command goes on from here"


def test_a_table_has_means_and_half_the_range_over_seeds():
    results = {"base": [{"loss_prior": 1.0}, {"loss_prior": 1.5, "cer": 0.25}], "v": []}
    assert ablation.table(results).splitlines() == [
        "| arm | seeds | prior | CER |",
        "|---|---:|---:|---:|",
        "| base | 2 | 1.250 ± 0.250 | 0.250 |",
        "| v | 0 |  |  |",
    ]


# -- solvers


class Reading(StubFrontEnd):
    """A front end that a voice can speak with."""

    def phonemise(self, text):
        return self.phonemise_many([text])[0]

    def pauses(self, _):
        return {}

    def words_of(self, ids):
        return [0] * len(ids)


@pytest.fixture
def measured(of_corpus, tiny_root, tmp_path, monkeypatch):
    """What runs the experiment on a tiny voice of two speakers, off_a: gives the table, and (measure, clip, speaker)
    of all that was measured; the weights of the voice are drawn from a seed."""
    monkeypatch.setattr(text, "FrontEnd", Reading)
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    without_judges(monkeypatch)
    lines = [f"tiny-{i}.wav|{('ann', 'ben')[i % 2]}|{'abcdefghij'[: i + 1]}\n" for i in range(4, 9)]
    (tiny_root / "train.txt").write_text("".join(lines))
    config = configuration.load(ROOT / "tests" / "tiny.yaml", [*of_corpus, "speakers.names=[ben, ann]"])
    asked, copy_latent, speak = [], solvers.copy_latent, solvers.Voice.speak

    def spied_copy(model, clip, *rest):
        asked.append(("latent", clip[0].shape[1], int(model.decoder.speaker.chosen)))
        return copy_latent(model, clip, *rest)

    def spied_speak(voice, words, **settings):
        asked.append(("speech", len(words), settings["speaker"]))
        return speak(voice, words, **settings)

    monkeypatch.setattr(solvers, "copy_latent", spied_copy)
    monkeypatch.setattr(solvers.Voice, "speak", spied_speak)

    def run(seed, *more):
        torch.manual_seed(seed)
        model = NiSETS(config, len(Reading.symbols))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.text_encoder.duration.out.bias.data.fill_(1.5)  # frames enough to be compared
        checkpoint.save_voice(checkpoint.RUNS / "off_a", 4, model.state_dict(), config, Reading.symbols)
        asked.clear()
        assert solvers.main(["-id", "off_a", "-o", str(tmp_path / "out"), "-n", "2", "--clips", "3", *more]) == 0
        return (tmp_path / "out" / "table.md").read_text(), list(asked)

    return run


def test_solvers_are_measured_once_for_each_voice_as_each_clips_own_speaker(measured, capsys):
    table, asked = measured(0, "--solvers", "ddim")
    ben, ann = 0, 1
    who = {5: ann, 6: ben, 7: ann}  # by the letters of the clip
    assert asked == [("latent", n, who[n]) for n in who] + [("speech", n, ("ben", "ann")[who[n]]) for n in who]
    assert table.splitlines()[0] == "| solver | n | latent L1, nats | MCD, dB |" and table in capsys.readouterr().out
    assert measured(0, "--solvers", "ddim") == (table, [])
    more, asked = measured(0, "--solvers", "ddim", "posterior", "--clips", "4")
    assert len(asked) == 2 * (1 + 4) and "| posterior | 1 |" in more and "| ddim | 2 |" in more
    other, asked = measured(1, "--solvers", "ddim")  # of the same name, and not the same
    assert len(asked) == 2 * 3 and other != table


def test_measures_of_clips_are_pooled_and_shown():
    ways = solvers.ways(list(SOLVERS), [2, 4])
    assert len(set(ways)) == len(ways) == 2 * (len(SOLVERS) - len(ONLY)) + len(ONLY)
    assert all(n == ONLY[solver] for solver, n in ways if solver in ONLY)
    results = {
        ("posterior", 1): solvers.pooled([{"latent_l1": (3.0, 4), "cer": (1, 10)}, {"latent_l1": (1.0, 4)}]),
        ("ddim", 2): solvers.pooled([{"latent_l1": (4.0, 4)}]),
    }
    assert results["posterior", 1] == {"latent_l1": 0.5, "cer": 0.1}
    assert solvers.table(results).splitlines() == [
        "| solver | n | latent L1, nats | CER |",
        "|---|---:|---:|---:|",
        "| posterior | 1 | 0.500 | 0.100 |",
        "| ddim | 2 | 1.000 |  |",
    ]
