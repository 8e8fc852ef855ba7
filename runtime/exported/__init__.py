"""A voice: Voice().speak("Any text.", seed=1).wav is (T_wav,) float32 in [-1, 1], at Voice().reader.sample_rate Hz."""

from importlib import import_module

_MODULES = {"Settings": "runtime.chunking", "Speech": "runtime.chunking", "Voice": "runtime.onnx_runtime",
            "VoiceError": "runtime.onnx_runtime", "TextError": "text.errors"}  # fmt: skip
__all__ = list(_MODULES)


def __getattr__(name: str):
    """What __all__ names, loaded when it is first asked for, so that the command can say which package is missing."""
    if name not in _MODULES:
        raise AttributeError(f"{__name__} has no {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
