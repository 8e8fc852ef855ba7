"""Functions of tensors of fixed shapes as CUDA graphs: the host asks once for all of a function's kernels.

A step of training launches some ten thousand kernels, most of which take less time than asking for them does. A graph
of them (torch.cuda.CUDAGraph) is recorded once, and from then on replayed.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_flatten, tree_unflatten

WARM_UP = 3  # calls before a recording, in which libraries choose their algorithms
MOST_GRAPHS = 8  # of one function, each of which holds its activations; what comes after those is not recorded


class GraphError(ValueError):
    """A graph that cannot be recorded; the message says how to do without."""


class Graphed:
    """A function of tensors, recorded once for each signature of its arguments: shapes, types and who wants a gradient.

    What it returns lies in memory that the next call overwrites. Raises GraphError where a recording fails, after which
    PyTorch may be unable to go on.
    """

    def __init__(self, function: Callable, modules: Iterable[nn.Module]):
        """modules: all whose parameters the function reads; it must read no tensors that change but those and its
        arguments, and return tensors."""
        self.function, self.modules = function, list(modules)
        self.recordings: dict[tuple, Recording] = {}  # by signature

    def __call__(self, *args, **kwargs):
        leaves, structure = tree_flatten((args, kwargs))
        parameters = [p for module in self.modules for p in module.parameters() if p.requires_grad]
        key = self._signature(leaves, structure, parameters)
        if key not in self.recordings and len(self.recordings) < MOST_GRAPHS:
            devices = {leaf.device.index for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda}
            try:
                with torch.random.fork_rng(devices):  # a step that records draws what another would
                    self.recordings[key] = Recording(self.function, leaves, structure, parameters)
            except torch.OutOfMemoryError:  # which says more of the batch than of graphs
                raise
            except RuntimeError as error:
                name, why = getattr(self.function, "__name__", "a function"), " ".join(str(error).split())[:200]
                raise GraphError(f"no CUDA graph of {name} ({why}): go on with system.cuda_graphs=false") from error
        if key not in self.recordings:
            return self.function(*args, **kwargs)
        return self.recordings[key](leaves)

    def _signature(self, leaves, structure, parameters):
        of_leaves = tuple(
            (leaf.shape, leaf.dtype, leaf.requires_grad) if isinstance(leaf, Tensor)
            else leaf if isinstance(leaf, (bool, int, float, str)) else id(leaf)
            for leaf in leaves
        )  # fmt: skip
        training = tuple(module.training for module in self.modules)
        return of_leaves, str(structure), len(parameters), training, torch.is_grad_enabled()


class Recording:
    """A function's kernels, forwards and backwards, for arguments of one signature."""

    def __init__(self, function: Callable, leaves: list, structure, parameters: list[Tensor]):
        """leaves: the arguments, flattened as structure says; parameters: those that want a gradient."""
        self.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.parameters = parameters
        self.inputs = [leaves[i].detach().clone().requires_grad_(leaves[i].requires_grad) for i in self.places]
        own = list(leaves)
        for i, x in zip(self.places, self.inputs):
            own[i] = x
        args, kwargs = tree_unflatten(own, structure)
        wanted = [x for x in (*self.inputs, *parameters) if x.requires_grad]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                outputs, _ = tree_flatten(function(*args, **kwargs))
                self._backward(outputs, [torch.ones_like(one) for one in outputs], wanted)
                del outputs
        torch.cuda.current_stream().wait_stream(side)

        self.forwards, self.backwards = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # thread_local: the thread that pins the next batches goes on meanwhile
        with torch.cuda.graph(self.forwards, capture_error_mode="thread_local"):
            outputs, self.structure = tree_flatten(function(*args, **kwargs))
        self.gradients = [torch.zeros_like(one) for one in outputs]  # of what is returned
        self.results = [None] * (len(self.inputs) + len(parameters))  # gradients of inputs and parameters
        self.is_learning = any(one.requires_grad for one in outputs) and bool(wanted)
        if self.is_learning:
            with torch.cuda.graph(self.backwards, pool=self.forwards.pool(), capture_error_mode="thread_local"):
                found = self._backward(outputs, self.gradients, wanted)
            found = iter(found)
            self.results = [next(found) if x.requires_grad else None for x in (*self.inputs, *parameters)]
        # without their history, which would have each step's gradients wait for the stream of the recording
        self.outputs = [one.detach() for one in outputs]

    @staticmethod
    def _backward(outputs, gradients, wanted):
        pairs = [(one, gradient) for one, gradient in zip(outputs, gradients) if one.requires_grad]
        if not pairs or not wanted:
            return [None] * len(wanted)
        ends, gradients = zip(*pairs)
        return torch.autograd.grad(ends, wanted, gradients, allow_unused=True)

    def __call__(self, leaves: list):
        """The function's result for other arguments of the same signature."""
        given = [leaves[i] for i in self.places]
        if not self.is_learning:
            return tree_unflatten(list(self.replay(given)), self.structure)
        return tree_unflatten(list(_Replay.apply(self, len(given), *given, *self.parameters)), self.structure)

    @torch.no_grad()
    def replay(self, given: list[Tensor]) -> tuple[Tensor, ...]:
        torch._foreach_copy_(self.inputs, given)
        self.forwards.replay()
        return tuple(one.detach() for one in self.outputs)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recording, n_inputs, *tensors):
        ctx.recording = recording
        ctx.set_materialize_grads(False)
        return recording.replay(list(tensors[:n_inputs]))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        recording = ctx.recording
        for own, given in zip(recording.gradients, gradients):
            if given is None:
                own.zero_()
            else:
                own.copy_(given)
        recording.backwards.replay()
        return None, None, *(None if one is None else one.detach() for one in recording.results)
