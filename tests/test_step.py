"""A training step: what learns from what, at which rate, under which durations, and what does not depend on chance."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from data_util.dataset import batches, fixed_batch
from model import monotonic_align
from model.nisets import NiSETS
from tests.conftest import even_durations, with_keys
from tests.runs import ALONE, break_losses, copied, differences, moved, spy
from training import step as step_module
from training.data import prepare_data
from training.distributed import Processes
from training.recording import Run
from training.schedule import stage_at
from training.state import build_state, checkpoint_of, restore
from training.step import (
    adversarial_losses,
    enter_stage,
    forward,
    global_counts,
    set_learning_rates,
    step_discriminators,
    update_averages,
)

pytest_plugins = "tests.run_fixtures"
CLIPS = [1, 4, 6, 9]


def test_losses_fall(config, tiny):
    """On the same clips, cut and noised the same way."""
    config = with_keys(config, "training", train_num_steps=100)
    state, batch = build_state(config, ALONE, tiny.symbols), fixed_batch(tiny, config, CLIPS)
    state.model.latent_mean.fill_(tiny.statistics()[0])
    state.model.latent_std.fill_(tiny.statistics()[1])
    rows = [{name: value.item() for name, value in train.train_step(state, batch).items()} for _ in range(16)]
    for name in ("loss_duration", "loss_prior", "loss_score", "loss_mel", "loss_discriminator"):
        first, last = (np.mean([row[name] for row in part]) for part in (rows[:5], rows[-5:]))
        assert last < 0.95 * first, name


def test_a_run_that_goes_back_to_a_stages_first_step_enters_that_stage_again(config, tiny):
    (stage, *_) = config.training.stages
    stages = [dataclasses.replace(stage, share=0.5, parts={part: 1e-3}) for part in ("text_encoder", "decoder")]
    state = build_state(with_keys(config, "training", stages=tuple(stages)), ALONE, tiny.symbols)
    set_learning_rates(state, 1)
    state.step = config.training.train_num_steps // 2
    ckpt = checkpoint_of(state)
    for _ in range(2):
        set_learning_rates(state, 1)
        assert state.trained == {"text_encoder", "decoder"}
        restore(state, ckpt)
        assert state.trained == {"text_encoder"}


def test_ema_follows_its_recursion(config, tiny):
    """Which begins anew with each part: where the generator begins, nothing of the drawn weights should last."""
    (stage, *_) = config.training.stages
    parts = {part: 1e-3 for part in ("text_encoder", "decoder")}
    stages = dataclasses.replace(stage, share=0.25, parts=parts), dataclasses.replace(stage, share=0.75)
    config = with_keys(config, "training", stages=stages)
    state, stream = build_state(config, ALONE, tiny.symbols), batches(tiny, config)
    wanted = {name: p.detach().double().clone() for name, p in state.model.named_parameters()}
    for step in range(5):
        train.train_step(state, next(stream))
        for name, parameter in state.model.named_parameters():
            n_before = step - (2 if name.startswith("generator") else 0)
            decay = min(config.training.ema_decay, (1 + n_before) / (10 + n_before)) if n_before >= 0 else 1.0
            wanted[name] = decay * wanted[name] + (1 - decay) * parameter.detach()
    for name, parameter in state.ema.named_parameters():
        assert torch.allclose(parameter.double(), wanted[name], atol=1e-6), name


def test_the_variance_of_log_durations_is_a_mean_that_soon_forgets(config, tiny):
    """Of all losses at first, then with a weight of a hundredth for the last."""
    state = build_state(config, ALONE, tiny.symbols)
    set_learning_rates(state, 1)
    losses = torch.rand(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = 0.0
    for state.step, loss in enumerate(losses):
        update_averages(state, loss.float())
        wanted = losses[: state.step + 1].mean() if state.step < 100 else 0.99 * wanted + 0.01 * loss
        assert state.model.logw_variance.item() == pytest.approx(float(wanted), rel=1e-4), state.step


def test_what_is_random_differs_between_processes_micro_batches_and_steps_and_never_otherwise(config, tiny):
    """Dropout, and whatever else may draw: two processes with two micro-batches each, of two steps."""
    drawn = {}
    for rank in (0, 1):
        state = build_state(config, ALONE, tiny.symbols)
        state.processes = SimpleNamespace(size=2, rank=rank)
        batch = fixed_batch(tiny, config, CLIPS)
        for step in (0, 1):
            state.step = step
            for number in (0, 1, 1):
                draw = forward(state, batch, number, None, lambda *_, **__: tuple(torch.rand(3).tolist()))
                drawn.setdefault((step, number, rank), set()).add(draw)
    assert [len(draws) for draws in drawn.values()] == [1] * 8 and len(set.union(*drawn.values())) == 8


def test_masked_losses_divide_by_the_mean_of_what_all_processes_have(config, tiny, monkeypatch):
    one, other = (fixed_batch(tiny, config, clips) for clips in (CLIPS, [0, 2, 3, 5]))
    alone = [global_counts([batch], ALONE) for batch in (one, other)]
    assert all(a != b for a, b in zip(*alone))
    monkeypatch.setattr(Processes, "mean", lambda _, counts: (counts + torch.stack(list(alone[1]))) / 2)
    assert list(global_counts([one], ALONE)) == [(a + b) / 2 for a, b in zip(*alone)]


def test_each_part_is_clipped_to_its_own_norm(config, tiny, monkeypatch):
    norms = {"text_encoder": 1e-3, "decoder": 1e9, "generator": 2e-3, "discriminators": 3e-3}
    config = with_keys(config, "training", clip_norm=norms)
    state, clipped = build_state(config, ALONE, tiny.symbols), {}

    def watched(optimiser, _):
        for group in optimiser.param_groups:
            squares = [parameter.grad.square().sum() for parameter in group["params"] if parameter.grad is not None]
            clipped[group["name"]] = float(torch.stack(squares).sum().sqrt())

    monkeypatch.setattr(step_module, "step_if_finite", watched)
    values = train.train_step(state, fixed_batch(tiny, config, CLIPS))
    assert clipped.keys() == norms.keys()
    for part, most in norms.items():
        whole = float(values[f"norm_{part}"])
        assert clipped[part] == pytest.approx(min(whole, most), rel=1e-3) and (whole > most) == (part != "decoder")


# -- learning rates


@pytest.mark.parametrize(("power", "factor"), [(0, 1), (0.5, 2), (1, 4)])
def test_learning_rates_follow_the_global_batch(config, power, factor):
    config = with_keys(config, "training", rate_power=power)
    for size, n_micro_batches in ((1, 4), (2, 2)):
        state = build_state(config, ALONE, ("_", "a"))
        state.processes, state.lr_scale = Processes(0, size, torch.device("cpu")), 0.5
        state.processes.wrap = lambda network: network
        set_learning_rates(state, n_micro_batches)
        stage, scale = stage_at(config, 0)
        for optimiser in (state.optimiser, state.optimiser_discriminators):
            for group in optimiser.param_groups:
                assert group["lr"] == pytest.approx(0.5 * factor * scale * stage.parts[group["name"]]), group["name"]


def test_learning_rates_warm_up_fall_and_follow_the_stages(config):
    config = with_keys(config, "training", train_num_steps=100, warmup_steps=5)
    first, second = config.training.stages
    stages = [stage_at(config, step)[0] for step in (0, 74, 75, 99, 150)]
    assert stages == [first, first, second, second, second]
    scales = [stage_at(config, step)[1] for step in range(100)]
    assert scales[0] == pytest.approx(0.2, rel=1e-3)
    assert scales[75] == pytest.approx(0.4, rel=1e-3)  # a tenth of 25 steps
    assert scales[4:75] == sorted(scales[4:75], reverse=True)
    assert scales[74] == pytest.approx(first.final, abs=1e-2)
    halfway = first.final + (1 - first.final) * 0.5
    assert 0.5 * (scales[37] + scales[38]) == pytest.approx(halfway, abs=1e-3)


# -- what learns


def test_a_step_of_one_side_leaves_the_other_alone(config, tiny):
    """And both are told the t of the latent that was vocoded."""
    state = build_state(config, ALONE, tiny.symbols)
    batch, told = fixed_batch(tiny, config, CLIPS), []
    batch.true_latent[:] = torch.tensor([True, False, False, False])
    enter_stage(state, config.training.stages[0], 1.0)
    model, discriminators = copied(state.model.state_dict()), copied(state.discriminators.state_dict())
    state.discriminators.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    output = state.model(batch, global_counts([batch], ALONE), state.stage, realign=True)
    step_discriminators(state, [output])
    assert differences(model, state.model.state_dict()) == []
    assert all(p.grad is None for p in state.model.parameters())
    assert moved(discriminators, state.discriminators.state_dict()) == {"members"}

    discriminators = copied(state.discriminators.state_dict())
    sum(adversarial_losses(state, output).values()).backward()
    train.step_optimiser(state, state.optimiser, torch.zeros(()))
    assert all(p.grad is None and p.requires_grad for p in state.discriminators.parameters())
    assert differences(discriminators, state.discriminators.state_dict()) == []
    assert "generator" in moved(model, state.model.state_dict())

    t = state.model.sde.t_from_uniform(batch.u).masked_fill(batch.true_latent, 0.0)
    assert t[0] == 0 and len(set(t.tolist())) > 1
    assert differences(told, [torch.cat([t, t]), t, t]) == []  # recordings and generated sound, and each alone


@pytest.mark.parametrize("part", ["text_encoder", "decoder", "generator"])
def test_parts_that_a_stage_leaves_out_stay_as_they_are(config, tiny, part):
    parts = {name: rate for name, rate in config.training.stages[0].parts.items() if name != part}
    if part == "generator":
        del parts["discriminators"]
    stage = dataclasses.replace(config.training.stages[0], parts=parts, share=1.0)
    config = with_keys(config, "fine_tuning", start=("any.pt",))
    state = build_state(with_keys(config, "training", stages=(stage,)), ALONE, tiny.symbols)
    with torch.no_grad():
        for parameter in state.ema.parameters():
            parameter.add_(1)  # as averages of a run before may be far from the weights
    before = [copied(dict(network.named_parameters())) for network in (state.model, state.ema)]
    train.train_step(state, fixed_batch(tiny, config, CLIPS))
    for network, weights in zip((state.model, state.ema), before):
        assert moved(weights, dict(network.named_parameters())) == {"text_encoder", "decoder", "generator"} - {part}


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("alone", [False, True])
def test_a_prosody_that_has_stopped_is_left_alone(prosody_config, alone):
    if alone:
        stage = dataclasses.replace(prosody_config.training.stages[0], parts={"prosody": 1e-3})
        prosody_config = with_keys(prosody_config, "training", stages=(stage,))
    clips = prepare_data(prosody_config, ALONE).clips
    state, stream = build_state(prosody_config, ALONE, clips.symbols), batches(clips, prosody_config)
    before = [copied(state.model.state_dict())]
    for stopped in (False, True):
        state.best_prosody = {"stopped": stopped, "loss": 0.0, "n_since": 0, "weights": {}, "step": 0}
        if stopped:
            state.ema.prosody.load_state_dict(state.model.prosody.state_dict())  # as a validation leaves them
        values = train.train_step(state, next(stream))
        names = {"loss_prosody", "norm_prosody"}
        assert names & set(values) == (set() if stopped else names)
        before.append(copied(state.model.state_dict()))
    changed = [moved(*pair) - {"logw_variance"} for pair in zip(before, before[1:])]
    others = set() if alone else {"text_encoder", "decoder"}
    assert changed == [{"prosody"} | others, others]
    assert differences(dict(state.ema.prosody.named_parameters()), dict(state.model.prosody.named_parameters())) == []


def test_what_does_not_train_is_read_without_dropout(prosody_config):
    (stage,) = prosody_config.training.stages
    state = build_state(prosody_config, ALONE, ("_", "a"))
    for parts in ({"decoder"}, {"text_encoder", "prosody"}):
        enter_stage(state, dataclasses.replace(stage, parts=dict.fromkeys(parts, 1e-3)), 1.0)
        for name, network in state.model.parts().items():
            assert {module.training for module in network.modules()} == {name in parts}, name


def test_a_parameter_of_no_part_is_refused(config, monkeypatch):
    """Neither optimiser nor average would know of it."""
    begin = NiSETS.__init__

    def with_more(self, *arguments):
        begin(self, *arguments)
        self.extra = torch.nn.Parameter(torch.zeros(()))

    monkeypatch.setattr(NiSETS, "__init__", with_more)
    with pytest.raises(ValueError, match="extra: of no part"):
        build_state(config, ALONE, ("a", "b"))


# -- durations


@pytest.mark.parametrize(("has_durations", "steps"), [(True, [2, 3]), (False, [0, 1, 2, 3])])
def test_the_search_takes_over_from_the_flat_start(config, tiny, monkeypatch, has_durations, steps):
    """After alignment.init_steps, which are 2."""
    tiny.durations = even_durations(tiny) if has_durations else None
    state, stream = build_state(config, ALONE, tiny.symbols), batches(tiny, config)
    searches = []
    spy(monkeypatch, monotonic_align, "search", lambda *_: searches.append(state.step))
    for _ in range(4):
        train.train_step(state, next(stream))
    assert searches == steps


# -- what is not finite


@pytest.mark.parametrize("broken", ["loss_mel", "loss_score"])
def test_a_step_that_is_not_finite_changes_nothing(config, tiny, monkeypatch, broken):
    """Not even what is known of durations, whose loss and gradient are finite."""
    state, batch = build_state(config, ALONE, tiny.symbols), fixed_batch(tiny, config, CLIPS)
    train.train_step(state, batch)
    before = copied(state.model.state_dict())
    break_losses(monkeypatch, lambda _: True, broken)
    break_losses(monkeypatch, lambda _: True, "loss_duration", 1e25)
    train.train_step(state, batch)
    assert float(state.skipped) == 1 and before["logw_variance"] > 0
    assert differences(before, state.model.state_dict()) == []
    monkeypatch.undo()
    train.train_step(state, batch)
    assert float(state.skipped) == 0 and moved(before, state.model.state_dict()) > {"text_encoder", "decoder"}


def test_a_search_among_numbers_that_are_not_finite_skips_the_step(config, tiny, monkeypatch):
    encode_text = NiSETS.encode_text
    monkeypatch.setattr(NiSETS, "encode_text", lambda *rest: [each * torch.nan for each in encode_text(*rest)])
    state = build_state(config, ALONE, tiny.symbols)
    train.train_step(state, fixed_batch(tiny, config, CLIPS))
    assert float(state.skipped) == 1


@pytest.mark.parametrize(
    ("skipped", "known", "lost"),
    [
        ("0000", [0, 0, 0, 0], []),
        ("0100", [0, 0, 1, 0], []),
        ("0110", [0, 0, 1, 0], []),  # the last one, which had begun, was a good one
        ("0111", [0, 0, 1, 3], [4]),
    ],
)
def test_on_a_gpu_a_step_is_known_when_the_next_has_begun(config, tiny, monkeypatch, skipped, known, lost):
    """The host then waits for nothing that is not done; before a run goes back it asks for the last one, too."""
    config = with_keys(with_keys(config, "training", max_skipped=2), "system", log_step=100, save_ckpt=100)
    state, run, recorded = build_state(config, ALONE, tiny.symbols), Run(None, None), []
    state.processes = Processes(0, 1, torch.device("cuda"))
    monkeypatch.setattr(Run, "_record", lambda _, __, step, *___: recorded.append(step))
    batch, seen, in_a_row = fixed_batch(tiny, config, [1, 4]), [], []
    for step, flag in enumerate(skipped, 1):
        state.step, state.skipped = step, torch.tensor(float(flag))
        run.record(state, [batch], {})
        if train.has_skipped_too_many(state):
            seen.append(step)
        assert recorded == list(range(1, len(recorded) + 1)) and len(recorded) >= step - 1
        in_a_row.append(state.skipped_steps)
    assert seen == lost and in_a_row == known
    run.record_pending(state)
    assert recorded == list(range(1, len(skipped) + 1))
