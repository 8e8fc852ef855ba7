"""The experiments: an ablation that is killed goes on to the same numbers, and tables say what was measured."""

import pytest

from data_util import config as configuration
from experiments import ablation, runs
from training import validation
from training.schedule import stage_at

pytest_plugins = "tests.run_fixtures"


@pytest.fixture
def command(arguments, runs, monkeypatch):  # noqa: ARG001
    """What makes the ablation train the tiny model, with a small decoder, on the tiny corpus for two steps."""
    for name in ("save_validation", "save_curves"):
        monkeypatch.setattr(validation, name, lambda *_: None)
    small = ["decoder.kind=convnext1d", "decoder.channels=8", "decoder.hidden_channels=8", "decoder.n_layers=1"]
    return [*arguments, *small, "system.save_ckpt=1", "--steps", "2", "--seeds", "1"]


def test_every_arm_is_a_configuration_and_changes_it():
    args = ablation.parse_args(["-o", "out", "--steps", "600", "--sound", "800", "900", "--arms", "v", "loss.mel=1"])
    assert (args.arms, args.overrides) == (["v"], ["loss.mel=1"])
    configs = {arm: ablation.arm_config(arm, 1, args) for arm in ablation.ARMS}
    assert len(set(map(str, configs.values()))) == len(configs)
    for config in configs.values():
        text, tone, sound = config.training.stages
        assert set(text.parts) == {"text_encoder", "prosody", "decoder"} and set(tone.parts) == {"generator"}
        assert set(sound.parts) == {"generator", "discriminators"}
        assert [stage_at(config, step)[0] for step in (599, 600, 1399, 1400)] == [text, tone, tone, sound]
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


def test_an_ablation_that_is_killed_goes_on_to_the_same_table(command, tmp_path, monkeypatch, capsys):
    arms = ["--arms", "base", "pooled"]
    assert ablation.main([*command, *arms, "-o", str(tmp_path / "whole")]) == 0
    whole, step = capsys.readouterr().out, runs.train.train_step
    assert whole.splitlines()[0].startswith("| arm | seeds | prior |") and "| pooled | 1 |" in whole

    def killed(state, batch):
        if state.step == 1 and state.config.latent.kind == "pooled":
            raise KeyboardInterrupt
        return step(state, batch)

    cut = [*command, *arms, "-o", str(tmp_path / "cut")]
    monkeypatch.setattr(runs.train, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        ablation.main(cut)
    monkeypatch.setattr(runs.train, "train_step", None)
    assert ablation.main([*cut, "loss.prior=2"]) == 1
    assert "base_1 was begun with another configuration" in capsys.readouterr().err
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
