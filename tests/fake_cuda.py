"""A pretended GPU on a machine that has none, so that all of the project can be run by a GPU's rules.

A Cuda tensor says that it is on cuda:0 and has its numbers in a CPU tensor inside. Operations on tensors of both
devices, a CPU generator for CUDA numbers, numpy() and pin_memory() of a CUDA tensor raise DeviceError or TypeError, and
what makes the host wait for the device is noted, with the line that asks. Neither kernels nor streams are pretended.
"""

import contextlib
import traceback
from pathlib import Path

import torch
import torch._subclasses.fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

ROOT = Path(__file__).resolve().parents[1]
DEVICE, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# whose result, or its size, is known on the device alone
WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
           aten._unique2.default, aten.repeat_interleave.Tensor, aten.bincount.default}  # fmt: skip


class DeviceError(RuntimeError):
    pass


class Cuda(torch.Tensor):
    """A tensor that says it is on cuda:0."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        with _disable_current_modes():
            self = torch.Tensor._make_wrapper_subclass(
                cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
                layout=inner.layout, device=DEVICE, requires_grad=requires_grad)  # fmt: skip
        self.inner = inner
        return self

    def __repr__(self):
        return f"Cuda({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def numpy(self, **_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self):
        note_wait("tolist")
        return self.inner.tolist()

    def __deepcopy__(self, memo):
        new = Cuda(self.inner.detach().clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            new._is_param = True
        return memo.setdefault(id(self), new)

    def pin_memory(self, *_):
        raise DeviceError("only dense CPU tensors can be pinned")


waits: list[str] = []  # what the host has waited for, and where


def note_wait(what):
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        is_ours = path.is_relative_to(ROOT) and ".venv" not in path.parts and path != Path(__file__)
        if is_ours and not frame.name.startswith("<"):  # a comprehension is named by the function that it is in
            waits.append(f"{path.relative_to(ROOT)}: {frame.name}, {what}")
            return


def is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def check(func, args, kwargs, leaves):
    """Raise DeviceError where a GPU would. leaves: of args and kwargs, which take long to find."""
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    on, off = ([x for x in tensors if isinstance(x, Cuda) == there] for there in (True, False))
    generator = kwargs.get("generator")
    if generator is not None and (on or is_cuda(kwargs.get("device"))) and generator.device.type == "cpu":
        raise DeviceError(f"{func}: a generator on the CPU for numbers on cuda:0")
    if not on or not off or func in COPIES:
        return
    if func in INDEXING and isinstance(args[0], Cuda) and not any(isinstance(x, torch.Tensor) for x in off[1:]):
        return  # one index from the host, which is copied
    name = func._schema.name.split("::")[1]
    takes_numbers = torch.Tag.pointwise in func.tags or name in ("fill_", "masked_fill", "masked_fill_", "where")
    if not (all(x.dim() == 0 for x in off) and takes_numbers):  # a number of the host's goes along as an argument
        shapes = [(tuple(x.shape), x.device.type) for x in tensors]
        raise DeviceError(f"{func}: tensors on cuda:0 and the CPU: {shapes}")


def dispatch(func, args, kwargs):
    """The operation on the tensors inside, by the rules of the device."""
    target = kwargs.get("device")
    leaves, spec = tree_flatten((args, kwargs))
    if not any(isinstance(x, Cuda) for x in leaves) and not is_cuda(target):
        with _disable_current_modes():
            return func(*args, **kwargs)
    check(func, args, kwargs, leaves)
    leaving = target is not None and not is_cuda(target) or func is aten.copy_.default and not isinstance(args[0], Cuda)
    by_mask = func in INDEXING and any(
        i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1] if isinstance(i, torch.Tensor)
    )
    if func in WAITING or leaving or by_mask:
        note_wait(func._schema.name)
    inner = [x.inner if isinstance(x, Cuda) else x for x in leaves]
    inner_args, inner_kwargs = tree_unflatten(inner, spec)
    if is_cuda(target):
        inner_kwargs["device"] = CPU
    with _disable_current_modes():
        out = func(*inner_args, **inner_kwargs)
        if func is aten._to_copy.default and is_cuda(target) and out is inner_args[0]:
            out = out.clone()
    if leaving or not any(isinstance(x, torch.Tensor) for x in tree_leaves(out)):
        return out
    if torch.Tag.inplace_view in func.tags:  # the wrapper's own shape has to follow
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
    known = {id(x): outer for outer, x in zip(leaves, inner) if isinstance(outer, Cuda)}  # an output may be an argument
    return tree_map(lambda x: known.get(id(x), Cuda(x)) if isinstance(x, torch.Tensor) else x, out)


class Mode(TorchDispatchMode):
    """Catches what makes tensors on the device from nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def without_a_driver(tensor, *_, **__):
    """In place of Tensor.backward where autograd wants a driver: every leaf behind the tensor gets a gradient of 0."""
    seen, todo = set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if hasattr(node, "variable"):
                node.variable.grad = torch.zeros_like(node.variable)
            todo += [following for following, _ in node.next_functions]


@contextlib.contextmanager
def pretended(patch):
    """A machine with one GPU inside the with statement. patch: a MonkeyPatch. Gives the list of waits."""
    from torch.optim import optimizer
    from torch.utils import _foreach_utils as foreach

    fakes = {"is_available": True, "_lazy_init": None, "device_count": 1, "current_device": 0, "set_device": None,
             "get_device_capability": (9, 0), "get_arch_list": ["sm_90"], "is_bf16_supported": True,
             "manual_seed_all": None, "manual_seed": None, "is_current_stream_capturing": False,
             "get_device_name": "a pretended GPU"}  # fmt: skip
    for name, value in fakes.items():
        patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    patch.setattr(torch.cuda, "synchronize", lambda *_: note_wait("synchronize"))
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, Cuda])
    for module in (foreach, torch.nn.utils.clip_grad):
        patch.setattr(module, "_has_foreach_support", lambda *_: True)
    patch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    if torch.backends.cuda.is_built():
        patch.setattr(torch.Tensor, "backward", without_a_driver)
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") becomes a copy that is seen
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # no wrapper can take a plain parameter's place
    waits.clear()
    try:
        with Mode():
            yield waits
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
