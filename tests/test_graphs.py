"""CUDA graphs, on a device that records operations and makes them again: what a graph does with kernels."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import train
from data_util import config as configuration
from data_util.dataset import fixed_batch
from tests.runs import ALONE
from training import graphs, state
from training.graphs import Graphed
from training.state import build_state

pytest_plugins = "tests.run_fixtures"


class Tape(TorchDispatchMode):
    """Stands for a CUDAGraph: replay makes the recorded operations again, in the memory of their first results."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if torch.Tag.inplace_view not in func.tags:  # which runs no kernel
            # a view of each result keeps the shape that a later inplace_view, as in torch.stft, takes from the tensor
            kept = tree_map(lambda one: one.detach() if isinstance(one, torch.Tensor) else one, out)
            self.operations.append((func, args, kwargs or {}, kept))
        return out

    def pool(self):
        return None

    def replay(self):
        for func, args, kwargs, out in self.operations:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Stream:
    def wait_stream(self, _):
        pass


@pytest.fixture
def tapes(monkeypatch):
    """Graphs are tapes."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", lambda tape, **_: tape)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def gradients_of(function, net, x, t):
    x = x.clone().requires_grad_()
    first, second = function(x, scale=2.0, t=t)
    (first.square().sum() + 3 * second.sum()).backward()
    found = [one.detach().clone() for one in (first, second, x.grad, *(p.grad for p in net.parameters()))]
    net.zero_grad(set_to_none=True)
    return found


@pytest.mark.usefixtures("tapes")
def test_a_graph_gives_the_functions_values_and_gradients_for_other_numbers():
    net, calls = network(), []

    def function(x, *, scale, t):
        calls.append(x.shape)
        y = net(x) * scale
        return y + t, y.exp()

    graphed = Graphed(function, [net])
    for seed in range(3):
        x, t = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)), torch.full((4, 1), float(seed))
        for ours, plain in zip(gradients_of(graphed, net, x, t), gradients_of(function, net, x, t)):
            assert torch.allclose(ours, plain, atol=1e-6)
        with torch.no_grad():
            net[0].weight.mul_(1.5)  # as an optimiser does: in place
    assert len(calls) == graphs.WARM_UP + 1 + 3  # the graph's own, and those to compare with


@pytest.mark.usefixtures("tapes")
def test_each_signature_has_a_graph_and_there_is_an_end_to_them(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    net = network()
    graphed = Graphed(net, [net])
    for n in (4, 5, 6, 4):
        x = torch.randn(n, 3)
        assert torch.allclose(graphed(x), net(x), atol=1e-6)
    assert len(graphed.recordings) == 2


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (RuntimeError("operation not permitted when stream is capturing"), graphs.GraphError,
         r"forward \(operation not .* go on with system.cuda_graphs=false"),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError, "CUDA out of memory"),
    ],
    ids=["any fault", "memory, which the batch is too large for"],
)  # fmt: skip
def test_where_no_graph_can_be_recorded_it_is_said_how_to_do_without(monkeypatch, fault, error, words):
    def refuse():
        raise fault

    monkeypatch.setattr(torch.cuda, "Stream", refuse)
    net = network()
    with pytest.raises(error, match=words):
        Graphed(net.forward, [net])(torch.randn(4, 3))


@pytest.mark.usefixtures("tapes")
def test_recording_draws_nothing():
    net, found = network(), []
    graphed = Graphed(lambda x: net(x) + torch.randn(4, 2), [net])
    x = torch.randn(4, 3)
    for _ in range(2):  # the first of which records
        torch.manual_seed(7)
        found.append((graphed(x).clone(), torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


@pytest.mark.usefixtures("tapes")
def test_a_training_step_of_graphs_is_the_same_step(tiny, config, monkeypatch):
    config = configuration.change(config, ["alignment.init=none"])
    made = []
    for is_graphed in (True, False):
        monkeypatch.setattr(state, "uses_graphs", lambda *_, is_graphed=is_graphed: is_graphed)
        one = build_state(config, ALONE, tiny.symbols)
        functions = (one.model.denoiser.denoise, one.model.vocode, one.discriminator_loss, one.generator_losses)
        assert {isinstance(function, Graphed) for function in functions} == {is_graphed}
        values = [train.train_step(one, fixed_batch(tiny, config, indices)) for indices in ([1, 4, 6, 9], [9, 8, 7, 5])]
        assert not is_graphed or all(len(function.recordings) >= 1 for function in functions)
        made.append((values, one.model))
    (ours, graphed), (plain, eager) = made
    for a, b in zip(ours, plain):
        assert {name: float(a[name]) for name in a} == pytest.approx({name: float(b[name]) for name in b}, rel=1e-4)
    for a, b in zip(graphed.parameters(), eager.parameters()):
        assert torch.allclose(a, b, atol=1e-5)
