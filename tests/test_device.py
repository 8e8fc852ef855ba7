"""What a device wants, without one: a step, a validation and speaking keep every tensor where it belongs."""
import dataclasses, sys
import numpy as np, pytest, torch
import train
from tests import fake_cuda
from data_util import config as configuration
from data_util.dataset import fixed_batch
from data_util.world import World
from training import validation
from training.data import Data
from training.state import build_state
from tests.conftest import with_keys
from tests.test_nisets import VARIANTS, SMALL

SEARCH = {"prior_scale": 1.0, "noise": 0.5}


def config_of(variant, tiny_config, names=()):
    tree = configuration.to_dict(configuration.load("tests/tiny.yaml"))
    tree["dataset"] = configuration.to_dict(tiny_config)["dataset"]
    if variant != "plain":
        tree = {s: keys | SMALL.get(s, {}) if isinstance(keys, dict) else keys for s, keys in tree.items()}
    for section, keys in VARIANTS[variant].items():
        tree[section] |= keys
    if VARIANTS[variant].get("variance"):
        tree["training"]["stages"][0]["parts"]["variance"] = 1e-3
    if VARIANTS[variant].get("variance", {}).get("course_layers"):
        tree["training"]["stages"][0]["parts"]["course"] = 1e-3
    tree["alignment"] |= SEARCH
    tree["speakers"]["names"] = list(names)
    return configuration.from_dict(tree)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("names", [(), ("ann", "ben")])
@pytest.mark.parametrize("variant", ["plain", "source", "course", "learned", "istft"])
def test_a_step_a_measure_and_speaking_keep_to_the_device(tiny_config, stub_front_end, variant, names, amp):
    from data_util.corpus import prepare
    config = config_of(variant, tiny_config)
    corpus = prepare(config, config.dataset.metafile_train, progress=False)
    config = dataclasses.replace(config, speakers=dataclasses.replace(config.speakers, names=names))
    fake_cuda.PROJECT = str(configuration.ROOT)
    with fake_cuda.pretended() as device:
        world = World.join()
        assert world.device.type == "cuda"
        state = build_state(config, world, corpus.symbols, amp)
        batch = fixed_batch(corpus, config, [1, 4, 6, 9]).pin_memory().to(world.device, non_blocking=True)
        device.reset()
        values = train.train_step(state, batch)
        assert all(value.is_cuda for value in values.values())
        waits = {place for (_, place) in device.syncs}
        assert all(any(one in place for one in ("monotonic_align", "update", "nisets.py:34")) for place in waits), waits
        with state.ema.speaking_as(0):
            x, mel = torch.from_numpy(corpus.ids[9])[None].cuda(), torch.from_numpy(corpus.mel(9))[None].cuda()
            f0 = torch.from_numpy(corpus.f0(9) if config.with_f0 else np.zeros((2, 0), np.float32))[None].cuda()
            state.ema.measure(x, mel, f0, torch.Generator().manual_seed(0))
            for n, solver in ((1, "posterior"), (3, "ancestral")):
                spoken = state.ema.synthesise(x, n, solver, length_scale=3.0, generator=np.random.default_rng(0))
            plan = state.ema.plan(x, length_scale=3.0, generator=np.random.default_rng(0))
            chunks = list(state.ema.stream(plan))
        assert spoken.wav.is_cuda and chunks[0].is_cuda
