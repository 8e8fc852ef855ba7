"""training.fine_tuning: what a run takes of another's weights, what it says of the rest, and how it then trains."""

import shutil
from types import SimpleNamespace

import pytest
import torch

import train
from data_util import config as configuration
from data_util.config import ROOT, ConfigError
from evaluation import metrics
from model.nisets import NiSETS
from tests.child import fake_f0
from tests.conftest import corpus_keys, quick_runs, refused, save_tiny
from tests.runs import load
from training import checkpoint, fine_tuning
from training.schedule import stage_at

TINY = ["-c", str(ROOT / "tests" / "tiny.yaml")]
ALL_FROZEN = "fine_tuning.frozen=[text_encoder, decoder, generator]"
SOLVED = {"text_encoder.mu.weight", "text_encoder.mu.bias"}  # on a run's own recordings, before its first step


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A corpus of four clips, as overrides that also make a run of two steps."""
    root = save_tiny(tmp_path_factory.mktemp("corpus"), (20, 33, 40, 64))
    return [*corpus_keys(root, root / "cache"), "system.sample_clips=1", "training.train_num_steps=2"]


def quicker_runs(patch, root):
    quick_runs(patch, root)
    patch.setattr(metrics, "track_f0", fake_f0)


@pytest.fixture(scope="module")
def first(arguments, tmp_path_factory):
    """A run of a tiny model."""
    root = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        quicker_runs(patch, root)
        assert train.main([*TINY, *arguments, "-name", "first"]) == 0
    return root / "checkpoint" / "first"


@pytest.fixture
def runs(first, tmp_path, monkeypatch, caplog):
    """Where that run is again, to begin others with; what is said of that is in caplog."""
    caplog.set_level("INFO", logger="train")
    quicker_runs(monkeypatch, tmp_path)
    shutil.copytree(first, tmp_path / "checkpoint" / "first")
    return tmp_path / "checkpoint"


@pytest.fixture
def begun(runs, monkeypatch):  # noqa: ARG001
    """Runs end before their first step: gives the weights that the last one had there."""
    weights = {}

    def look(state, *_):
        networks = {"model": state.model, "ema": state.ema, "discriminators": state.discriminators}
        weights.update(checkpoint.to_host({name: network.state_dict() for name, network in networks.items()}))
        weights["trained"] = sorted(state.trained)

    monkeypatch.setattr(train, "train", look)
    return weights


def different(weights, others):
    """The names of tensors that are not the same."""
    return {name for name, value in weights.items() if not torch.equal(value, others[name])}


def test_a_voice_of_no_steps_does_not_say_how_many_to_train():
    """The bundled voice, whose parts were trained apart."""
    args = SimpleNamespace(start=[str(checkpoint.BUNDLED)], c=None, overrides=[])
    refused(ConfigError, "training.train_num_steps = 0, as -from has it", fine_tuning.configuration_of, args)
    args.c = ["small"]
    assert fine_tuning.configuration_of(args).training.train_num_steps == 3000


@pytest.mark.usefixtures("begun")
def test_latents_that_no_stage_reads_need_not_be_there(arguments):
    """As where a run begins with one that has read them."""
    assert train.main(["-from", "first", *arguments, "training.gta_folders=[nowhere]"]) == 0


# -- what is taken, by name and by row


def test_equal_tensors_are_taken_and_the_others_named():
    theirs = {"a": torch.ones(2), "b": torch.ones(3)}
    theirs |= dict.fromkeys(("new.gone.a", "new.gone.b", "no.part.a"), torch.ones(1))  # each with one line
    ours = {"a": torch.zeros(2), "b": torch.zeros(4), "new.one": torch.zeros(1)}
    for name in fine_tuning.OF_THE_CORPUS:
        theirs[name], ours[name] = torch.tensor(2.0), torch.tensor(1.0)
    taken, missed = fine_tuning.matched(ours, theirs)
    assert set(taken) == {"a"} and taken["a"].tolist() == [1, 1]
    assert set(missed) == {"b", "new.one", "new.gone", "no"}  # the corpus's own numbers are neither taken nor missed
    assert "(3,) in the checkpoint, (4,) here" in missed["b"] and "does not have it" in missed["new.one"]
    buffers = dict(NiSETS(configuration.load(TINY[1]), 5).named_buffers())
    assert set(fine_tuning.OF_THE_CORPUS) < set(buffers)
    assert {"latent_mean", "latent_std"} < set(buffers) - set(fine_tuning.OF_THE_CORPUS)


def test_symbols_go_where_they_stand_now_and_new_ones_start_as_their_kind():
    table = torch.tensor([[1.0], [3.0], [10.0], [20.0], [100.0]])
    taken, missed = fine_tuning.matched({"text_encoder.embedding.tables.0.weight": torch.zeros(6, 1)},
                                        {"text_encoder.embedding.tables.0.weight": table},
                                        ("aetk.", "k.eaot"))  # fmt: skip
    assert taken["text_encoder.embedding.tables.0.weight"].flatten().tolist() == [20, 100, 3, 1, 2, 10]
    assert list(missed.values()) == ["new symbols start as the mean of their kind: o"]


def test_speakers_go_by_their_names_and_new_ones_start_in_the_middle():
    table = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    ours, theirs = {"decoder.speaker.weight": torch.zeros(3, 2)}, {"decoder.speaker.weight": table}
    taken, missed = fine_tuning.matched(ours, theirs, speakers=(["ann", "ben"], ["cid", "ben", "ann"]))
    assert taken["decoder.speaker.weight"].tolist() == [[2, 2], [3, 4], [1, 0]]
    assert list(missed.values()) == ["new speakers start as the mean of those known: cid"]
    missed = fine_tuning.matched({"decoder.bias": torch.zeros(1)}, theirs, speakers=(["ann", "ben"], ["cid"]))[1]
    assert missed.keys() == {"decoder.bias", "speakers"} and "list them in speakers.names" in missed["speakers"]
    assert fine_tuning.matched(ours, {}, speakers=([], ["cid", "ann"]))[1].keys() == {"speakers"}


@pytest.mark.parametrize(
    ("entry", "parsed"),
    [
        ("run", (None, "run")),
        ("decoder=run", (("decoder",), "run")),
        ("decoder,generator=a/b=c.pt", (("decoder", "generator"), "a/b=c.pt")),
        ("a=b/run", (None, "a=b/run")),
    ],
)
def test_parts_may_stand_before_a_checkpoint(entry, parsed):
    assert fine_tuning.parse_start(entry) == parsed


# -- the command


def test_a_run_may_have_any_name(runs, arguments):
    (runs / "first").rename(runs / "\U0001f399 ß")
    config = fine_tuning.configuration_of(train.parse_args(["-from", "\U0001f399 ß", *arguments]))
    assert config.fine_tuning.start == (str(checkpoint.find(runs / "\U0001f399 ß", "project")),)


def test_from_begins_with_the_weights_and_says_what_is_new(begun, arguments, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()  # the corpus, say, that the run has its name from
    words = ["-from", "first", "-name", "second", "text_encoder.duration_channels=12"]
    assert train.main([*words, *arguments]) == 0
    source = load(checkpoint.RUNS / "first")
    assert not different(begun["discriminators"], source["discriminators"])
    for which in ("model", "ema"):
        changed = different(begun[which], source["ema"])  # of both networks, since those are heard
        assert changed > SOLVED and all(name.startswith("text_encoder.duration.") for name in changed - SOLVED)
        for name in changed:
            resized = begun[which][name].shape != source["ema"][name].shape
            assert (f"not taken: {name}: " in caplog.text) == resized
    written = configuration.load(base=checkpoint.RUNS / "second" / "config.yaml")
    assert written.fine_tuning.start == (str(checkpoint.RUNS / "first" / "project_00000002.pt"),)
    assert written.text_encoder.channels == 16  # the checkpoint's sizes, without an overlay


def test_some_parts_of_some_checkpoints(begun, arguments, caplog):
    """The configuration is then config.yaml's; the other parts are as the seed has them."""
    first, other = (load(checkpoint.RUNS / "first") for _ in range(2))
    network = NiSETS(configuration.load(TINY[1]), 27)
    for which in ("model", "ema"):
        other[which] = {name: value + bool(network.part_of(name)) for name, value in other[which].items()}
    checkpoint.save_checkpoint(checkpoint.RUNS / "other", 2, other, 1)
    keys = [*TINY, *arguments, "alignment.solve_minutes=0"]
    assert train.main(keys) == 0
    fresh = dict(begun)
    assert train.main([*keys, "-from", "decoder,discriminators=first", "-from", "text_encoder=other"]) == 0
    for which in ("model", "ema"):
        assert {network.part_of(name) for name in different(begun[which], fresh[which])} == {"decoder", "text_encoder"}
        for name in (name for name in begun[which] if network.part_of(name) in ("decoder", "text_encoder")):
            source = first if network.part_of(name) == "decoder" else other
            assert torch.equal(begun[which][name], source["ema"][name]), name
    assert not different(begun["discriminators"], first["discriminators"]) and "not taken" not in caplog.text
    assert train.main([*keys, "-from", "decoder=first"]) == 0
    assert not different(begun["discriminators"], fresh["discriminators"])


def compressed(path, scale):
    """What fine_tuning.check_latents reads of a source."""
    one, matrix = torch.tensor(1.0), scale * torch.eye(2, 3)
    weights = {"latent_mean": one, "latent_std": one, "compression.encode_matrix": matrix}
    return SimpleNamespace(path=path, weights=weights)


def test_with_parts_that_read_latents_go_the_latents_statistics(begun, arguments, capsys):
    """And what was learnt of latents of other statistics does not go together."""
    other, keys = load(checkpoint.RUNS / "first"), [*TINY, *arguments, "alignment.solve_minutes=0"]
    for which in ("model", "ema"):
        other[which] |= {"latent_mean": torch.tensor(-7.0), "latent_std": torch.tensor(3.0)}
    checkpoint.save_checkpoint(checkpoint.RUNS / "louder", 2, other, 1)
    assert train.main([*keys, "-from", "decoder=louder"]) == 0
    assert begun["model"]["latent_mean"] == -7 and begun["ema"]["latent_std"] == 3
    assert train.main([*keys, "-from", "decoder=louder", "-from", "generator=first"]) == 1
    assert "latent_mean is -7 in" in capsys.readouterr().err
    with pytest.raises(checkpoint.CheckpointError, match="latents are compressed otherwise in a than in b"):
        fine_tuning.check_latents([compressed("a", 1.0), compressed("b", 1.0), compressed("b", 0.5)])
    fine_tuning.check_latents([compressed("a", 1.0), compressed("b", 1.0)])
    assert train.main([*keys, "-from", "discriminators=louder"]) == 0  # which read no latents
    assert not different(begun["discriminators"], other["discriminators"]) and begun["model"]["latent_mean"] != -7


def test_a_part_of_which_nothing_fits_has_not_learnt(begun, arguments, caplog):
    keys = [*TINY, *arguments, "-from", "first", "decoder.kind=convnext1d", "decoder.n_layers=1"]
    assert train.main([*keys, "training.stages=[{parts: {generator: 1.e-3}}]"]) == 0
    assert begun["trained"] == ["generator", "text_encoder"]
    assert "not taken: decoder: the checkpoint has nothing that fits" in caplog.text
    keys = ["-from", "first", *arguments, "generator.channels=8", "training.stages=[{parts: {decoder: 1.e-3}}]"]
    assert train.main(keys) == 0  # of the generator some biases alone fit
    assert begun["trained"] == ["decoder", "text_encoder"]


def test_a_part_that_would_compute_something_else_from_its_weights_starts_afresh(begun, arguments, caplog):
    changes = ["decoder.groups=1", "discriminators.periods=[2, 5]"]
    assert train.main(["-from", "first", *arguments, *changes]) == 0
    source = load(checkpoint.RUNS / "first")
    parts = {name.partition(".")[0] for name in different(begun["model"], source["ema"])}
    assert parts == {"decoder", "text_encoder"} and begun["trained"] == ["generator", "text_encoder"]
    assert {name for name in different(begun["model"], source["ema"]) if name.startswith("text")} == SOLVED
    assert different(begun["discriminators"], source["discriminators"])
    for key, right in (("decoder.groups = 1", "2"), ("discriminators.periods = [2, 5]", "[2, 3]")):
        named = f"not taken: {key.partition('.')[0]}: {key}: must be {right}, as project_00000002.pt was trained with"
        assert f"{named}; it starts afresh" in caplog.text


def test_it_resumes_like_any_run_without_its_source(runs, arguments):
    assert train.main(["-from", str(runs / "first"), *arguments, "-name", "second"]) == 0
    shutil.rmtree(runs / "first")
    assert train.main(["-id", "second", "training.train_num_steps=4", ALL_FROZEN]) == 1  # nothing would train
    assert train.main(["-id", "second", "training.train_num_steps=4"]) == 0
    assert checkpoint.steps(runs / "second", "project")[-1] == 4


def test_a_voice_will_do_and_frozen_parts_stay(runs, arguments, caplog):
    voice = checkpoint.find(runs / "first", "voice")
    words = ["-from", str(voice), "-name", "second", "fine_tuning.frozen=[generator, decoder]"]
    assert train.main([*words, *arguments]) == 0
    assert "not taken: the discriminators: a voice does not have them" in caplog.text
    after = checkpoint.load_voice(checkpoint.find(runs / "second", "voice")).weights
    before = checkpoint.load_voice(voice).weights
    moved = {name.split(".")[0] for name in different(after, before) if after[name].shape}
    assert moved == {"text_encoder"}


@pytest.mark.usefixtures("runs")
def test_a_run_that_begins_with_one_of_a_fold_has_all_clips(arguments):
    assert train.main([*TINY, "-name", "even", *arguments, "dataset.fold=even"]) == 0
    assert fine_tuning.configuration_of(train.parse_args(["-from", "even"])).dataset.fold == "all"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-id", "off_1"], "-id goes on with a run as it was, -from and -name begin a new one"),
        (["audio.n_mels=40"], "audio.n_mels = 40: must be 80"),
        (["text.units=phones"], "text.units = phones: must be blanks"),
        (["latent.kind=pooled"], "latent.kind = pooled: must be normalised, as project_00000002.pt was trained with"),
        (["sde.beta_max=10"], "sde.beta_max = 10.0: must be 20.0"),
        (["sde.parametrisation=v"], "sde.parametrisation = v: must be edm"),
        ([ALL_FROZEN], "fine_tuning.frozen = ['text_encoder', 'decoder', 'generator']: must be fewer"),
        (["-from", "nowhere"], "no run nowhere"),
        (["-from", "decoder=nowhere.pt"], "nowhere.pt: no such file"),
        (["-from", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["-from", "prosody=first"], "project_00000002.pt: has nothing that fits this model"),
    ],
)
@pytest.mark.usefixtures("begun")
def test_what_does_not_go_with_it(arguments, capsys, more, words):
    try:
        status = train.main(["-from", "first", *arguments, *more])
    except SystemExit as error:
        status = error.code
    assert status in (1, 2) and words in capsys.readouterr().err.splitlines()[-1]


def test_a_rate_counts_with_a_start_alone_and_frozen_parts_stay():
    keys = ["fine_tuning.rate=0.1", "fine_tuning.start=[x.pt]", "fine_tuning.frozen=[generator]"]
    plain, slow, tuned = (configuration.load(TINY[1], keys[:n]) for n in (0, 1, 3))
    for step in range(8):
        (stage, scale), (tuned_stage, tuned_scale) = stage_at(plain, step), stage_at(tuned, step)
        assert stage_at(slow, step) == (stage, scale)
        assert tuned_scale == pytest.approx(0.1 * scale)
        assert set(stage.parts) - set(tuned_stage.parts) == {"generator", "discriminators"}
