"""training.warm_start: what a run takes of another's weights, what it says of the rest, and how it then trains."""

import json
import logging
import math
import re

import pytest
import torch

import text
import train
from data_util import checkpoint
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.config import ROOT, ConfigError, stage_at
from experiments import fine_tuning
from tests.conftest import without_judges
from training import warm_start


@pytest.fixture
def arguments(tiny_root, tmp_path):
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}", "system.sample_clips=1"]
    return paths + [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]


@pytest.fixture
def trained(arguments, tmp_path, monkeypatch, stub_front_end):
    """A run of a tiny model, of eight steps."""
    assert text.FrontEnd is stub_front_end
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(train.logging, "basicConfig", lambda **_: None)
    without_judges(monkeypatch)
    assert train.main(["-c", str(ROOT / "tests" / "tiny.yaml"), *arguments]) == 0
    (run,) = checkpoint.RUNS.iterdir()
    return run


def the_other(run):
    return next(folder for folder in checkpoint.RUNS.iterdir() if folder != run)


# What is taken, by name and by row


def test_equal_tensors_are_taken_and_the_others_named():
    theirs = {"a": torch.ones(2), "b": torch.ones(3), "gone": torch.ones(1)}
    ours = {"a": torch.zeros(2), "b": torch.zeros(4), "new": torch.zeros(1)}
    for name in warm_start.OF_THE_CORPUS:
        theirs[name], ours[name] = torch.tensor(2.0), torch.tensor(1.0)
    taken, missed = warm_start.matched(ours, theirs, ((), ()), ((), ()))
    assert set(taken) == {"a"} and taken["a"].tolist() == [1, 1]
    assert set(missed) == {"b", "new", "gone"}  # the corpus's own numbers are neither taken nor missed
    assert "(3,) in the checkpoint, (4,) here" in missed["b"] and "does not have it" in missed["new"]


def test_symbols_go_where_they_stand_now_and_new_ones_start_as_their_kind():
    table = torch.tensor([[1.0], [3.0], [10.0], [20.0], [100.0]])
    taken, missed = warm_start.matched({"text_encoder.embedding.tables.0.weight": torch.zeros(6, 1)},
                                       {"text_encoder.embedding.tables.0.weight": table},
                                       ("aetk.", "k.eaot"), ((), ()))  # fmt: skip
    assert taken["text_encoder.embedding.tables.0.weight"].flatten().tolist() == [20, 100, 3, 1, 2, 10]
    assert list(missed.values()) == ["new symbols start as the mean of their kind: o"]


def test_speakers_go_by_their_names_and_new_ones_start_in_the_middle():
    table = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    taken, missed = warm_start.matched({"decoder.speaker.weight": torch.zeros(3, 2)}, {"decoder.speaker.weight": table},
                                       ((), ()), (["ann", "ben"], ["cid", "ben", "ann"]))  # fmt: skip
    assert taken["decoder.speaker.weight"].tolist() == [[2, 2], [3, 4], [1, 0]]
    assert list(missed.values()) == ["new speakers start as the mean of those known: cid"]


# The command


def test_from_begins_with_the_weights_and_says_what_is_new(trained, arguments, caplog):
    project = torch.load(trained / "project_00000008.pt", weights_only=True)
    state = {}
    real = train.train

    def look(begun, *rest, **keys):
        state.update({name: value.clone() for name, value in begun.model.state_dict().items()})
        state["judge"] = next(begun.discriminators.parameters()).clone()
        return real(begun, *rest, **keys)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, logger="train"):
        patch.setattr(train, "train", look)
        arguments = [*arguments, "training.train_num_steps=2", "text_encoder.duration_channels=12"]
        assert train.main(["-from", trained.name, *arguments]) == 0
    judge = state.pop("judge")
    assert torch.equal(judge, next(iter(project["discriminators"].values())))
    changed = {name for name, value in state.items() if not torch.equal(value, project["ema"][name])
               or value.shape != project["ema"][name].shape}  # fmt: skip
    solved = {"text_encoder.mu.weight", "text_encoder.mu.bias"}  # on the new recordings
    assert solved < changed and all(name.startswith("text_encoder.duration.") for name in changed - solved)
    for name in changed:
        if state[name].shape != project["ema"][name].shape:
            assert f"not taken: {name}: " in caplog.text
    written = configuration.load(the_other(trained) / "config.yaml")
    assert written.fine_tuning.start == str(trained / "project_00000008.pt")
    assert written.text_encoder.channels == 16  # the checkpoint's sizes, without an overlay


def test_it_resumes_like_any_run_without_its_source(trained, arguments):
    assert train.main(["-from", str(trained), *arguments, "training.train_num_steps=4"]) == 0
    run = the_other(trained)
    for path in trained.iterdir():
        if path.is_file():
            path.unlink()
    assert train.main(["-id", run.name, "training.train_num_steps=6"]) == 0
    assert checkpoint.steps(run, "project")[-1] == 6


def test_a_voice_will_do_and_frozen_parts_stay(trained, arguments, caplog):
    voice = trained / "voice_00000008.safetensors"
    with caplog.at_level(logging.INFO, logger="train"):
        frozen = "fine_tuning.frozen=[generator, decoder]"
        assert train.main(["-from", str(voice), *arguments, "training.train_num_steps=2", frozen]) == 0
    assert "discriminators, which a voice does not have" in caplog.text
    before, after = (checkpoint.load_voice(path).weights for path in
                     (voice, the_other(trained) / "voice_00000002.safetensors"))  # fmt: skip
    moved = {name.split(".")[0] for name in after if after[name].shape and not torch.equal(before[name], after[name])}
    assert moved == {"text_encoder"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-id", "off_1"], "-id goes on with a run as it was, -from begins"),
        (["audio.n_mels=40"], "audio.n_mels = 40: must be 80"),
        (["text.units=phones"], "text.units = phones: must be blanks"),
        (["latent.kind=pooled"], "latent.kind = pooled: must be normalised, as project_00000008.pt was trained with"),
        (["sde.parametrisation=v"], "sde.parametrisation = v: must be edm"),
        (["fine_tuning.frozen=[nose]"], "fine_tuning.frozen"),
    ],
)
def test_what_does_not_go_with_it(trained, arguments, capsys, more, words):
    try:
        status = train.main(["-from", trained.name, *arguments, *more])
    except SystemExit as error:
        status = error.code
    assert status in (1, 2) and words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere", "nowhere.pt", "nowhere.safetensors"])
def test_a_checkpoint_that_is_not_there(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    assert train.main(["-from", name]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_rates_and_frozen_parts_count_with_a_start_alone():
    plain = configuration.load(ROOT / "tests" / "tiny.yaml")
    keys = ["fine_tuning.rate=0.1", "fine_tuning.frozen=[generator]"]
    without = configuration.load(ROOT / "tests" / "tiny.yaml", keys)
    tuned = configuration.load(ROOT / "tests" / "tiny.yaml", [*keys, "fine_tuning.start=x.pt"])
    for step in range(8):
        (stage, scale), (tuned_stage, tuned_scale) = stage_at(plain, step), stage_at(tuned, step)
        assert stage_at(without, step) == (stage, scale)
        assert tuned_scale == pytest.approx(0.1 * scale)
        assert set(stage.parts) - set(tuned_stage.parts) == {"generator", "discriminators"}
    with pytest.raises(ConfigError):
        configuration.load(
            overrides=["fine_tuning.frozen=[text_encoder, variance, course, decoder, generator, discriminators]"]
        )


def test_training_ends_when_nothing_gets_better(trained, arguments, monkeypatch):
    numbers = iter([5.0, 4.0, 4.5, 4.2, 4.1, 4.05, 3.0, 2.0])
    monkeypatch.setattr("training.validation.validate", lambda *_: {"latent_l1": next(numbers)})
    keys = ["training.train_num_steps=16", "system.validation_step=2", "system.patience=3"]
    assert train.main(["-from", trained.name, *arguments, *keys]) == 0
    log = [json.loads(line) for line in (the_other(trained) / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "valid"] == [2, 4, 6, 8, 10]  # best at 4, three misses
    assert checkpoint.steps(the_other(trained), "project")[-1] == 10


def test_what_is_of_the_corpus_is_in_the_model():
    from model.nisets import NiSETS

    buffers = dict(NiSETS(configuration.load(ROOT / "tests" / "tiny.yaml"), 5).named_buffers())
    assert set(warm_start.OF_THE_CORPUS) < set(buffers)
    assert {"latent_mean", "latent_std"} < set(buffers) - set(warm_start.OF_THE_CORPUS)


# The experiment


def test_the_first_minutes_of_a_list(tmp_path):
    for i in range(4):
        save_wav(tmp_path / "wavs" / f"{i}.wav", torch.zeros(16000).numpy(), 16000)
    lines = [f"{i}.wav|ann|Sentence {i}.\n" for i in range(4)]
    (tmp_path / "train.txt").write_text("".join(lines))
    for minutes, n in ((2.5 / 60, 2), (3 / 60, 3), (math.inf, 4)):
        assert fine_tuning.first_minutes(tmp_path / "train.txt", tmp_path, minutes) == "".join(lines[:n])


def test_losses_of_other_units_are_brought_to_the_same():
    """The same error of 0.6 nats of log-mel, where latents are log-mels over 2 and over 3."""

    def line(latent_std):
        return {"kind": "valid", "step": 4, "cer": 9.0, "loss_duration": 0.5, "latent_l1": 0.8,
                "loss_prior": 0.5 * ((0.6 / latent_std) ** 2 + math.log(2 * math.pi))}  # fmt: skip

    (two,), (three,) = (fine_tuning.in_units([line(std)], std, 2.0) for std in (2.0, 3.0))
    assert two == pytest.approx(three) and two["loss_prior"] == pytest.approx(line(2.0)["loss_prior"])
    assert two["loss"] == pytest.approx(0.5 + two["loss_prior"]) and "cer" not in two


def test_the_table_says_at_which_step_it_was_as_low():
    scratch = [{"step": step, "loss": loss, "latent_l1": 1.0} for step, loss in ((20, 3.0), (40, 2.0), (60, 2.5))]
    tuned = [{"step": step, "loss": loss, "latent_l1": 1.5} for step, loss in ((5, 2.5), (10, 2.0), (15, 1.75))]
    said = fine_tuning.table(scratch, tuned).splitlines()
    assert said[2:4] == ["| all losses, summed | 2.000 | 1.750 | 10 |", "| one-step L1, nats | 1.000 | 1.500 |  |"]
    assert said[-1] == "as low a loss as from scratch: after 10 steps, 17% of its 60"
    assert fine_tuning.table(scratch, tuned[:1]).endswith("as low a loss as from scratch: not in 5 of its 60\n")


def test_the_fine_tuned_run_differs_by_its_start_and_steps(tmp_path, capsys):
    args = fine_tuning.parse_args(["-o", str(tmp_path), "--steps", "80"])
    start = f"fine_tuning.start='{tmp_path / 'a voice: it.safetensors'}'"
    scratch = configuration.to_dict(fine_tuning.config_of(args, "b", 80, 10))
    tuned = configuration.to_dict(fine_tuning.config_of(args, "b", 20, 2, [start]))
    assert tuned["fine_tuning"].pop("start") == str(tmp_path / "a voice: it.safetensors")
    assert scratch["fine_tuning"].pop("start") == ""
    assert (tuned["training"].pop("train_num_steps"), scratch["training"].pop("train_num_steps")) == (20, 80)
    assert (tuned["system"].pop("validation_step"), scratch["system"].pop("validation_step")) == (2, 10)
    assert scratch == tuned
    for wrong in (["--second", "en-us+m3"], ["--steps", "15"]):
        with pytest.raises(SystemExit):
            fine_tuning.parse_args(["-o", str(tmp_path), *wrong])
    capsys.readouterr()


@pytest.mark.slow
def test_another_voice_is_learnt_in_a_quarter_of_the_steps(tmp_path, capsys, monkeypatch):
    without_judges(monkeypatch)
    assert fine_tuning.main(["-o", str(tmp_path)]) == 0  # less than its five minutes and 100 steps are too little
    step, last = map(int, re.search(r"after (\d+) steps, \d+% of its (\d+)", capsys.readouterr().out).groups())
    assert last == 400 and step <= 100
