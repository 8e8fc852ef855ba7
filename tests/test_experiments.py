"""The experiments: an ablation that is killed goes on to the same numbers, and tables say what was measured."""

import dataclasses

import pytest
import torch

import text
from data_util import checkpoint
from data_util import config as configuration
from data_util.config import ROOT
from data_util.world import World
from experiments import ablation, latents, runs, solvers
from model.nisets import NiSETS
from model.sde import ONE_STEP, SOLVERS
from tests.conftest import StubFrontEnd, without_judges
from training import validation

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def command(tiny_root, tmp_path, monkeypatch, stub_front_end):
    """What makes the ablation train the tiny model on the tiny corpus for four steps."""
    assert text.FrontEnd is stub_front_end
    without_judges(monkeypatch)
    for name in ("save_validation", "save_curves"):
        monkeypatch.setattr(validation, name, lambda *_: None)
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    lists = [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]
    tiny = ["-c", str(ROOT / "tests" / "tiny.yaml"), "--steps", "4", "--save-every", "2", "--seeds", "1"]
    return [*paths, *lists, "decoder.kind=convnext1d", "convnext1d.channels=8", *tiny]


def test_every_arm_is_a_configuration_and_changes_it():
    args = ablation.parse_args(["-o", "out", "--steps", "600", "--sound", "800", "900"])
    configs = {arm: ablation.arm_config(arm, 1, args) for arm in ablation.ARMS}
    assert len(set(map(str, configs.values()))) == len(configs)
    assert len(args.arms) <= ablation.MAX_ARMS
    for arm, config in configs.items():
        text, tone, sound = config.training.stages
        assert set(text.parts) == {"text_encoder", "variance", "decoder"} and set(tone.parts) == {"generator"}
        joint = {"text_encoder", "decoder"} if arm in ("joint", "at_one") else set()
        assert sound.feature_gradient == ("at_one" if arm == "at_one" else "off")
        assert set(sound.parts) == {"generator", "discriminators"} | joint
        assert [configuration.stage_at(config, step)[0] for step in (599, 600, 1399, 1400)] == [text, tone, tone, sound]
    assert [configs[arm].loss.stft for arm in ("base", "mel_45", "mel_15")] == [2.5, 2.5, 2.5 / 3]
    assert configs["base"].system.seed == 1 and configs["base"].training.train_num_steps == 2300


def test_arms_of_the_last_stage_begin_with_one_run(command, tmp_path, monkeypatch, capsys):
    step, done = runs.train.train_step, []

    def spied(state, batch):
        done.append((state.step, state.config.loss.mel_blur, set(state.config.training.stages[-1].parts)))
        return step(state, batch)

    monkeypatch.setattr(runs.train, "train_step", spied)
    more = ["--arms", "base", "mel_45", "uniform_t", "--sound", "2", "3", "-o", str(tmp_path)]
    assert ablation.main([*command, *more]) == 0
    sound = [6, 7, 8]
    assert [one for one, *_ in done] == [*range(6), *sound, *sound, *range(6), *sound]
    assert {blur for one, blur, _ in done[:6]} == {0.15} and {blur for one, blur, _ in done[9:12]} == {0.0}
    assert "discriminators" in done[6][2] and "discriminators" not in done[5][2]
    assert "| mel_45 | 1 |" in capsys.readouterr().out
    done.clear()
    assert ablation.main([*command, *more]) == 0 and done == []


def test_too_many_arms_are_refused(capsys):
    with pytest.raises(SystemExit):
        ablation.parse_args(["-o", "out", "--arms", *list(ablation.ARMS)[: ablation.MAX_ARMS + 1]])
    assert "9 arms: at most 8" in capsys.readouterr().err
    args = ablation.parse_args(["-o", "out", "--sound", "1", "1", "--table", "--arms", *ablation.ARMS])
    assert args.arms == list(ablation.ARMS)  # what lies there is shown, however much it is
    with pytest.raises(SystemExit):
        ablation.parse_args(["-o", "out", "--arms", "at_one"])
    assert "needs --sound" in capsys.readouterr().err


def test_an_ablation_that_is_killed_goes_on_to_the_same_table(command, tmp_path, monkeypatch, capsys):
    arms = ["--arms", "base", "pca"]
    assert ablation.main([*command, *arms, "-o", str(tmp_path / "whole")]) == 0
    whole, step = capsys.readouterr().out, runs.train.train_step
    assert whole.splitlines()[0].startswith("| arm | seeds | prior |") and "| pca | 1 |" in whole

    def killed(state, batch):
        if state.step == 3 and state.config.latent.kind == "pca":
            raise KeyboardInterrupt
        return step(state, batch)

    cut = [*command, *arms, "-o", str(tmp_path / "cut")]
    monkeypatch.setattr(runs.train, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        ablation.main(cut)
    done = []
    monkeypatch.setattr(runs.train, "train_step", lambda *args: done.append(args[0].step) or step(*args))
    assert ablation.main(cut) == 0
    assert done == [2, 3]  # the first arm not at all, the second from its checkpoint
    assert capsys.readouterr().out == whole == (tmp_path / "cut" / "table.md").read_text()
    assert list((tmp_path / "cut").rglob("*.pt")) == []


def test_a_signal_ends_in_one_line(command, tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise runs.train.Stopped(15, 3)

    monkeypatch.setattr(runs.train, "train", stopped)
    assert ablation.main([*command, "--arms", "base", "-o", str(tmp_path)]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "ablation: stopped; the same command goes on from here"


def test_a_folder_of_another_configuration_is_refused(command, tmp_path, monkeypatch, capsys):
    step = runs.train.train_step

    def killed(state, batch):
        if state.step == 3:
            raise KeyboardInterrupt
        return step(state, batch)

    monkeypatch.setattr(runs.train, "train_step", killed)
    arguments = [*command, "--arms", "base", "-o", str(tmp_path / "out")]
    with pytest.raises(KeyboardInterrupt):
        ablation.main(arguments)
    capsys.readouterr()
    for more in ([], ["--table"]):
        assert ablation.main([*arguments, *more, "loss.prior=2"]) == 1
        assert "base_1 was begun with another configuration" in capsys.readouterr().err
    assert ablation.main([*arguments, "--table"]) == 0
    assert "| base | 0 |" in capsys.readouterr().out


def test_a_table_has_means_and_half_the_range_over_seeds():
    results = {"base": {1: {"loss_prior": 1.0}, 2: {"loss_prior": 1.5, "cer": 0.25}}, "v": {}}
    assert ablation.table(results).splitlines() == [
        "| arm | seeds | prior | CER |",
        "|---|---:|---:|---:|",
        "| base | 2 | 1.250 ± 0.250 | 0.250 |",
        "| v | 0 |  |  |",
    ]


def test_costs_are_those_of_the_products_and_halve_with_the_bands():
    def costs(overrides):
        config = configuration.load("tests/tiny.yaml", overrides)
        model = NiSETS(config, 27)
        return model, latents.costs(model)

    (_, all_bands), (_, half) = costs([]), costs(["latent.kind=pooled", "latent.channels=40"])
    assert half["decoder, GFLOP"] == pytest.approx(all_bands["decoder, GFLOP"] / 2, rel=0.02)
    assert half["decoder, M"] == all_bands["decoder, M"]
    small = ["decoder.kind=convnext1d", "convnext1d.channels=8", "convnext1d.hidden_channels=24",
             "convnext1d.n_layers=1", "latent.kind=pca"]  # fmt: skip
    model, found = costs(small)
    frames, width, hidden, n, kernel = 86, 8, 24, 40, 7  # a second, and the sizes
    per_frame = 2 * n * width * kernel + width * kernel + 2 * width * hidden + width * n
    once = sum(layer.in_features * layer.out_features for layer in model.decoder.modules()
               if isinstance(layer, torch.nn.Linear) and (layer.in_features, layer.out_features)
               not in ((width, hidden), (hidden, width)))  # fmt: skip
    assert found["decoder, GFLOP"] == pytest.approx(2e-9 * (frames * per_frame + once), rel=1e-6)


def test_costs_of_several_speakers_are_those_of_one():
    one, several = (latents.costs(NiSETS(configuration.load("tests/tiny.yaml", names), 27))
                    for names in ([], ["speakers.names=[ann, ben]"]))  # fmt: skip
    assert several["decoder, M"] > one["decoder, M"]
    assert several["decoder, GFLOP"] == pytest.approx(one["decoder, GFLOP"], rel=1e-3)


def test_fidelity_is_the_share_of_variance_that_comes_back(tiny):
    config = dataclasses.replace(configuration.load("tests/tiny.yaml"))
    model = NiSETS(config, 27)
    model.latent_mean.fill_(-5)
    model.latent_std.fill_(2)
    assert latents.fidelity(model, tiny) == pytest.approx({"kept, %": 100, "L1, nats": 0}, abs=1e-4)
    model.latent = torch.zeros_like
    mels = torch.cat([torch.from_numpy(mel) for mel in tiny.mels], dim=1)
    lost = ((mels + 5) ** 2).sum() / ((mels - mels.mean(1, keepdim=True)) ** 2).sum()
    wanted = {"kept, %": 100 * (1 - lost.item()), "L1, nats": (mels + 5).abs().mean().item()}
    assert latents.fidelity(model, tiny) == pytest.approx(wanted, rel=1e-4)


def test_latents_lists_what_fits_together(tiny_root, tmp_path, stub_front_end, monkeypatch, capsys):
    assert text.FrontEnd is stub_front_end
    monkeypatch.setattr(latents, "KINDS", ("normalised", "pooled", "pca"))
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    lists = [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]
    assert latents.main(["-c", str(ROOT / "tests" / "tiny.yaml"), *paths, *lists]) == 0
    rows = [line.split(" | ")[:3] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [
        ["| unet2d", "normalised", "80"], ["| unet2d", "pooled", "40"],
        ["| convnext1d", "normalised", "80"], ["| convnext1d", "pooled", "40"], ["| convnext1d", "pca", "40"],
    ]  # fmt: skip
    assert latents.main(["latent.channels=0"]) == 1
    assert "latents: latent.channels = 0" in capsys.readouterr().err


def test_solvers_of_one_step_are_asked_for_one():
    ways = solvers.ways(list(SOLVERS), [2, 4])
    assert len(set(ways)) == len(ways) == 2 * (len(SOLVERS) - len(ONE_STEP)) + len(ONE_STEP)
    assert all((n == 1) == (solver in ONE_STEP) for solver, n in ways)


class Reading(StubFrontEnd):
    """A front end that a voice can speak with."""

    def phonemise(self, text):
        return self.phonemise_many([text])[0]

    def pauses(self, _):
        return {}

    def words_of(self, ids):
        return [0] * len(ids)


@pytest.fixture
def measured(tiny_root, tmp_path, monkeypatch):
    """What runs the experiment on a tiny voice of two speakers, off_a: gives the table, and (measure, clip, speaker)
    of all that was measured; the weights of the voice are drawn from a seed."""
    monkeypatch.setattr(text, "FrontEnd", Reading)
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    without_judges(monkeypatch)
    lines = [f"tiny-{i}.wav|{('ann', 'ben')[i % 2]}|{'abcdefghij'[: i + 1]}\n" for i in range(4, 9)]
    (tiny_root / "train.txt").write_text("".join(lines))
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    lists = [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]
    small = ["decoder.kind=convnext1d", "convnext1d.channels=8", "speakers.names=[ben, ann]"]
    config = configuration.load(ROOT / "tests" / "tiny.yaml", [*paths, *lists, *small])
    asked, copy_latent, speak = [], NiSETS.copy_latent, solvers.Voice.speak

    def spied_copy(model, x, *rest):
        asked.append(("latent", x.shape[1], int(model.decoder.speaker.chosen)))
        return copy_latent(model, x, *rest)

    def spied_speak(voice, words, **settings):
        asked.append(("speech", len(words), settings["speaker"]))
        return speak(voice, words, **settings)

    monkeypatch.setattr(NiSETS, "copy_latent", spied_copy)
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
        assert solvers.main(["-o", str(tmp_path / "out"), "-n", "2", "--clips", "3", *more]) == 0
        return (tmp_path / "out" / "table.md").read_text(), list(asked)

    return run


def test_solvers_are_measured_once_for_each_voice(measured, capsys):
    two = ["--solvers", "dpm2m", "ancestral"]
    table, asked = measured(0, *two)
    assert [line.split(" | ")[0] for line in table.splitlines()] == ["| solver", "|---|---:|---:|---:|", "| dpm2m",
                                                                     "| ancestral"]  # fmt: skip
    assert table.splitlines()[0] == "| solver | n | latent L1, nats | MCD, dB |" and table in capsys.readouterr().out
    assert len(asked) == 2 * 2 * 3
    assert measured(0, *two) == (table, [])
    more, asked = measured(0, *two, "posterior", "--clips", "4")
    assert len(asked) == 2 * (2 * 1 + 4) and "| posterior | 1 |" in more
    other, asked = measured(1, *two)  # of the same name, and not the same
    assert len(asked) == 2 * 2 * 3 and other != table


def test_each_clip_is_measured_as_its_own_speaker(measured):
    _, asked = measured(0, "--solvers", "ddim")
    ben, ann = 0, 1
    who = {5: ann, 6: ben, 7: ann}  # by the letters of the clip
    assert asked == [("latent", n, who[n]) for n in who] + [("speech", n, ("ben", "ann")[who[n]]) for n in who]


def test_measures_of_clips_are_pooled_and_shown():
    results = {
        "posterior 1": solvers.pooled([{"latent_l1": (3.0, 4), "cer": (1, 10)}, {"latent_l1": (1.0, 4)}]),
        "ddim 2": solvers.pooled([{"latent_l1": (4.0, 4)}]),
    }
    assert results["posterior 1"] == {"latent_l1": 0.5, "cer": 0.1}
    assert solvers.table(results).splitlines() == [
        "| solver | n | latent L1, nats | CER |",
        "|---|---:|---:|---:|",
        "| posterior | 1 | 0.500 | 0.100 |",
        "| ddim | 2 | 1.000 |  |",
    ]
    assert solvers.picture(results).startswith(b"\x89PNG")
