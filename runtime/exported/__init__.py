"""A voice: Voice().speak("Any text.", seed=1).wav is (T_wav,) float32 in [-1, 1], at Voice().reader.sample_rate Hz."""

from .runtime.chunking import Settings, Speech
from .runtime.onnx_runtime import Voice, VoiceError
from .text import TextError

__all__ = ["Settings", "Speech", "TextError", "Voice", "VoiceError"]
