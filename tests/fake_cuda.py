"""A pretended CUDA device on a machine that has none.

Every "CUDA" tensor is a wrapper whose device is cuda:0 and whose numbers lie in a CPU tensor inside it, so that the
whole of the project runs with real values, and each operation is held to the rules of a real device: tensors of both
devices in one operation, a CPU generator for CUDA numbers, .numpy() of a CUDA tensor, pinning one, are errors. What
would make the host wait for the device is counted with the line of the project that asked for it.

FakeTensorMode (torch._subclasses.fake_tensor) is the other way: it lets convolutions of mixed devices through (see
fake_mode_check.py), and stops at .item() and .numpy().

How it is used: test_device.py beside this file (copy both into tests/ and adapt).

values="meta": nothing is computed, so that a batch of any size can be walked through for memory and launches.
"""

import collections
import contextlib
import gc
import sys
import traceback
import weakref

import torch
import torch._subclasses.fake_tensor  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
COPIES = {aten.copy_.default, aten._to_copy.default, aten.copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# whose result's size, or a Python number, is known on the device alone
SYNCS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
         aten.is_nonzero.default, aten._unique2.default, aten.repeat_interleave.Tensor, aten.bincount.default}
FREE = {"view", "_unsafe_view", "as_strided", "transpose", "t", "permute", "expand", "slice", "select", "unsqueeze",
        "squeeze", "split", "split_with_sizes", "unbind", "detach", "alias", "view_as_real", "view_as_complex", "unfold", "diagonal",
        "_reshape_alias", "reshape", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
        "lift_fresh", "chunk", "real", "imag", "narrow", "set_", "_local_scalar_dense", "is_same_size", "_conj",
        "resolve_conj", "resolve_neg", "_has_compatible_shallow_copy_type", "record_stream", "new_empty", "swapaxes",
        "movedim", "_nested_tensor", "sym_size", "unsafe_split", "hsplit", "detach_", "mT", "numpy_T"}


class DeviceError(RuntimeError):
    pass


class Cuda(torch.Tensor):
    """A tensor that says it is on cuda:0."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    value: torch.Tensor

    @staticmethod
    def __new__(cls, value, requires_grad=False):
        with _disable_current_modes():
            self = torch.Tensor._make_wrapper_subclass(
                cls, value.size(), strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype,
                layout=value.layout, device=CUDA, requires_grad=requires_grad)
        self.value = value
        STATE.allocate(value)
        return self

    def __repr__(self):
        return f"Cuda({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def numpy(self, *, force=False):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def __array__(self, dtype=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def tolist(self):
        sync("tolist")
        return self.value.tolist()

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        with torch.no_grad():
            new = Cuda(self.value.detach().clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            new._is_param = True
        memo[id(self)] = new
        return new

    def pin_memory(self, *_):
        raise DeviceError("cannot pin 'torch.cuda.FloatTensor': only dense CPU tensors can be pinned")

    def __reduce_ex__(self, protocol):  # torch.save: as torch does it, which waits for the device
        sync("save")
        return self.value.detach().clone().__reduce_ex__(protocol)


class State:
    def __init__(self):
        self.syncs = collections.Counter()
        self.ops = collections.Counter()
        self.launches = 0
        self.copies = collections.Counter()
        self.live, self.peak, self.storages = 0, 0, {}
        self.quiet = 0
        self.values = "cpu"
        self.moved = 0
        self.bytes = 0.0
        self.lines = collections.Counter()  # launches by line, where they are asked for
        self.by_line = False
        self.costs = collections.Counter()  # seconds by operation, see estimate()
        self.cards = {}
        self.flop = 0.0

    def reset(self):
        self.syncs.clear(), self.ops.clear(), self.copies.clear(), self.lines.clear(), self.costs.clear()
        self.flop = 0.0
        self.launches, self.moved, self.peak, self.bytes = 0, 0, self.live, 0.0

    def allocate(self, value):
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self.storages:
            return
        size = -(-storage.nbytes() // 512) * 512
        self.storages[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, key)
        _keep(value, storage)

    def free(self, key):
        self.live -= self.storages.pop(key, 0)


_kept = {}


def _keep(value, storage):
    """A storage's Python object must live as long as the storage: hang it on the tensor."""
    value.__dict__["_storage_object"] = storage


STATE = State()


def where():
    """The innermost line of the project."""
    for frame in reversed(traceback.extract_stack()):
        name = frame.filename
        if PROJECT in name and "/.venv/" not in name and "fake_cuda" not in name:
            return f"{name.split(PROJECT)[1].lstrip('/')}:{frame.lineno} {frame.name}"
    return "?"


PROJECT = "."


def sync(why):
    if not STATE.quiet:
        STATE.syncs[(why, where())] += 1


def pointwise(func):
    return torch.Tag.pointwise in func.tags


def check(func, args, kwargs):
    """Raise DeviceError where a real device would."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    on = [x for x in tensors if isinstance(x, Cuda)]
    off = [x for x in tensors if not isinstance(x, Cuda)]
    generator = kwargs.get("generator")
    device = kwargs.get("device")
    to_cuda = on or (device is not None and torch.device(device).type == "cuda")
    if generator is not None and to_cuda and generator.device.type == "cpu":
        raise DeviceError(f"{func}: Expected a 'cuda' device type for generator but found 'cpu'")
    if not on or not off or func in COPIES:
        return
    if func in INDEXING:
        self_, values = args[0], (args[2] if len(args) > 2 else None)
        if isinstance(self_, Cuda) and (values is None or isinstance(values, Cuda) or values.dim() == 0):
            for index in args[1]:
                if index is not None and not isinstance(index, Cuda):
                    STATE.copies[("index from the host", where())] += 1
            return
        raise DeviceError(f"{func}: indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    name = func._schema.name.split("::")[1]
    if all(x.dim() == 0 for x in off) and (pointwise(func) or name in ("fill_", "masked_fill", "masked_fill_", "where")):
        return  # a number of the host's goes along as an argument
    shapes = [(tuple(x.shape), x.device.type) for x in tensors]
    raise DeviceError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                      f"({func} of {shapes})")


def unwrap(x):
    return x.value if isinstance(x, Cuda) else x


def host(kwargs):
    if "device" in kwargs and kwargs["device"] is not None and torch.device(kwargs["device"]).type == "cuda":
        return {**kwargs, "device": torch.device("cpu" if STATE.values == "cpu" else "meta")}
    return kwargs


def dispatch(func, args, kwargs):
    flat, _ = tree_flatten((args, kwargs))
    is_on = any(isinstance(x, Cuda) for x in flat)
    device = kwargs.get("device")
    to = None if device is None else torch.device(device).type
    if not is_on and to != "cuda":
        with _disable_current_modes():
            return func(*args, **kwargs)
    check(func, args, kwargs)
    name = func._schema.name.split("::")[1]
    if func is aten._pin_memory.default and is_on:
        raise DeviceError("cannot pin a CUDA tensor")
    if func in (aten.copy_.default, aten._to_copy.default):
        count_copy(func, args, kwargs, to)
    elif name not in FREE:
        STATE.launches += 1
        STATE.ops[name] += 1
        if STATE.by_line:
            STATE.lines[where()] += 1
    if func in SYNCS:
        sync(name)
    if func in INDEXING and any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        sync("index by bool")
    if func is aten._local_scalar_dense.default and STATE.values == "meta":
        dtype = args[0].dtype
        return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 7
    leaving = to == "cpu" or (func is aten.copy_.default and not isinstance(args[0], Cuda))
    inner_args, inner_kwargs = tree_map(unwrap, (args, host(kwargs)))
    if leaving and STATE.values == "meta":
        with _disable_current_modes():
            if func is aten.copy_.default:
                return args[0].zero_()
            x = args[0].value
            origin = getattr(args[0], "origin", None)
            if origin is not None:
                return origin.to(kwargs.get("dtype") or x.dtype)
            return torch.zeros(x.shape, dtype=kwargs.get("dtype") or x.dtype)
    if STATE.values == "meta" and not leaving:
        with _disable_current_modes():
            inner_args, inner_kwargs = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) and x.dim() > 0 or isinstance(x, torch.Tensor) and func in COPIES else x,
                                                (inner_args, inner_kwargs))
            if func is aten._to_copy.default and to == "cuda":
                inner_kwargs = {**inner_kwargs, "device": torch.device("meta")}
    with _disable_current_modes():
        out = func(*inner_args, **inner_kwargs)
        if func is aten._to_copy.default and to == "cuda" and isinstance(out, torch.Tensor) and out is inner_args[0]:
            out = out.clone()
    if leaving:
        return out
    if torch.Tag.inplace_view in func.tags:  # the wrapper's own shape has to follow
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
    if name not in FREE:
        n_bytes = sum(x.numel() * x.element_size() for x in [*flat, *tree_flatten(out)[0]] if isinstance(x, torch.Tensor))
        STATE.bytes += n_bytes
        estimate(func, name, args, out, n_bytes)
    made = paired(func, args, kwargs, inner_args, inner_kwargs, out)
    if STATE.values == "meta" and isinstance(made, Cuda):  # what came from the host can go back there
        if func is aten._to_copy.default and not isinstance(args[0], Cuda):
            made.origin = args[0]
        elif name in ("detach", "alias") and hasattr(args[0], "origin"):
            made.origin = args[0].origin
    return made


def paired(func, args, kwargs, inner_args, inner_kwargs, out):
    """The outputs as Cuda; those that are an argument stay that argument."""
    known = {}
    for outer, inner in zip(tree_flatten((args, kwargs))[0], tree_flatten((inner_args, inner_kwargs))[0]):
        if isinstance(outer, Cuda):
            known[id(inner)] = outer

    def wrap(x):
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in known:
            outer = known[id(x)]
            return outer
        return Cuda(x)

    return tree_map(wrap, out)


# bytes/s that copies reach, TF32, bfloat16 and plain float32 FLOP/s at their peak
CARDS = {"A100": (1.5e12, 156e12, 312e12, 19.5e12), "H100": (2.7e12, 494e12, 989e12, 60e12)}
SHARE = 0.30  # of the peak that a convolution or product of such a size reaches
GROUPED = 0.25  # of the plain peak that a grouped convolution reaches
LEAST = 3e-6  # seconds of any kernel


def estimate(func, name, args, out, n_bytes):
    """Roofline of one launch: STATE.costs[card, kind]."""
    import math
    flop, grouped = 0.0, False
    if name == "convolution":
        w, groups = args[1], args[8]
        flop = 2 * out.numel() * math.prod(w.shape[1:]) if not args[6] else 2 * args[0].numel() * math.prod(w.shape[1:])
        grouped = groups > 1
    elif name == "convolution_backward":
        g, x, w = args[0], args[1], args[2]
        transposed, mask, groups = args[7], args[10], args[9]
        places = (x if transposed else g).numel()
        flop, grouped = 2 * sum(mask[:2]) * places * math.prod(w.shape[1:]), groups > 1
    elif name in ("mm", "bmm"):
        flop = 2 * args[0].numel() * args[1].shape[-1]
    elif name in ("addmm", "baddbmm"):
        flop = 2 * args[1].numel() * args[2].shape[-1]
    STATE.flop += flop
    half = isinstance(args[0], torch.Tensor) and args[0].dtype == torch.bfloat16
    product = name in ("mm", "bmm", "addmm", "baddbmm")
    for card, (bandwidth, tf32, bf16, plain) in CARDS.items():
        if flop:
            kind = "grouped convolution" if grouped else "product" if product else "convolution"
            rate = GROUPED * plain if grouped else SHARE * (bf16 if half else tf32)
            if product and not half:
                rate = 0.6 * plain  # TF32 is off for products unless it is asked for
            seconds = max(flop / rate, n_bytes / bandwidth, LEAST)
        else:
            kind, seconds = "other", max(n_bytes / bandwidth, LEAST)
        STATE.costs[card, kind] += seconds


def count_copy(func, args, kwargs, to):
    if func is aten.copy_.default:
        target, source, lazy = args[0], args[1], (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        a, b = isinstance(source, Cuda), isinstance(target, Cuda)
    else:
        source, lazy = args[0], kwargs.get("non_blocking", False)
        a, b = isinstance(source, Cuda), (to == "cuda" if to else isinstance(args[0], Cuda))
    if STATE.quiet:
        return
    STATE.launches += 1
    STATE.ops["copy"] += 1
    if STATE.by_line:
        STATE.lines[where()] += 1
    if a and not b:
        STATE.moved += source.numel() * source.element_size()
        STATE.copies[("device to host", where())] += 1
        if not lazy:
            sync("device to host")
        elif lazy:
            STATE.copies[("device to host, non_blocking into pageable memory", where())] += 1
    elif b and not a:
        pinned = getattr(source, "_pinned", False)
        STATE.copies[("host to device" + (", pinned" if pinned else ", pageable"), where())] += 1
        if not (pinned and lazy):
            sync("host to device, pageable")


def zero_gradients(self, *_, **__):
    """What stands for Tensor.backward where the engine wants a driver: every leaf behind it gets a gradient of 0."""
    seen, todo = set(), [self.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        todo += [following for following, _ in node.next_functions]


def engine_works():
    """Whether the autograd engine takes CUDA tensors here: in a CPU build of PyTorch, with a driver, or with stub.c."""
    if not torch.backends.cuda.is_built():
        return True
    return torch._C._cuda_getDeviceCount() > 0


class Mode(TorchDispatchMode):
    """Catches what makes CUDA tensors from nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


@contextlib.contextmanager
def pretended(values="cpu"):
    """A machine with one CUDA device."""
    STATE.values = values
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") becomes a copy that is seen
    saved = {}

    def patch(module, name, new):
        saved[(module, name)] = getattr(module, name)
        setattr(module, name, new)

    cuda = torch.cuda
    patch(cuda, "is_available", lambda: True)
    patch(cuda, "_lazy_init", lambda: None)
    patch(cuda, "device_count", lambda: 1)
    patch(cuda, "current_device", lambda: 0)
    patch(cuda, "get_device_capability", lambda *_: (9, 0))
    patch(cuda, "get_arch_list", lambda: ["sm_90"])
    patch(cuda, "set_device", lambda _: None)
    patch(cuda, "synchronize", lambda *_: sync("synchronize"))
    patch(cuda, "manual_seed_all", lambda _: None)
    patch(cuda, "manual_seed", lambda _: None)
    patch(cuda, "is_bf16_supported", lambda *_, **__: True)
    patch(cuda, "get_device_name", lambda *_: "a pretended device")
    patch(cuda, "max_memory_allocated", lambda *_: STATE.peak)
    patch(cuda, "reset_peak_memory_stats", lambda *_: None)
    patch(cuda, "is_current_stream_capturing", lambda: False)
    patch(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    import torch.optim.optimizer as optimizer
    import torch.utils._foreach_utils as foreach
    foreach_types = foreach.__dict__
    patch(optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, Cuda])

    def has_foreach(tensors, device):
        return device.type in foreach._get_foreach_kernels_supported_devices() and all(
            t is None or isinstance(t, torch.Tensor) for t in tensors)

    patch(foreach, "_has_foreach_support", has_foreach)
    patch(torch.nn.utils.clip_grad, "_has_foreach_support", has_foreach)
    del foreach_types
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper cannot take a plain parameter's place
    pin = torch.Tensor.pin_memory

    def pinned(self, *_):
        if isinstance(self, Cuda):
            raise DeviceError("cannot pin a CUDA tensor")
        self._pinned = True
        return self

    patch(torch.Tensor, "pin_memory", pinned)
    del pin
    if not engine_works():
        patch(torch.Tensor, "backward", zero_gradients)
    try:
        with Mode():
            yield STATE
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        for (module, name), old in saved.items():
            setattr(module, name, old)
