"""What a voice needs until it has spoken once; as a program an exported one's, in a process without PyTorch."""

import json
import sys
import time
from collections.abc import Callable

from evaluation.memory import peak_memory
from runtime.onnx_runtime import Voice


def first_speech(load: Callable, sentence: str, short_scale: float, text: str, length_scale: float) -> dict[str, float]:
    """The seconds of loading, of the first chunk of a sentence and of a text, and the most memory in bytes."""
    start = time.perf_counter()
    voice = load()
    loaded = time.perf_counter()
    next(voice.stream(sentence, seed=0, length_scale=float(short_scale)))
    begun = time.perf_counter()
    voice.speak(text, seed=0, length_scale=float(length_scale))
    spoken = time.perf_counter()
    return {"load": loaded - start, "first": begun - loaded, "whole": spoken - begun, "memory": peak_memory()}


if __name__ == "__main__":
    folder, n_threads, *spoken = sys.argv[1:]
    print(json.dumps(first_speech(lambda: Voice(folder, n_threads=int(n_threads)), *spoken)))
