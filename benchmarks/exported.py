"""What a voice needs until it has spoken once; as a program an exported one's, in a process without PyTorch."""

import argparse
import json
import time
from collections.abc import Callable

from evaluation.memory import peak_memory
from runtime.command import Help
from runtime.onnx_runtime import Voice


def first_speech(load: Callable, sentence: str, short_scale: float, text: str, length_scale: float) -> dict[str, float]:
    """The seconds of loading, of the first chunk of a sentence and of a text, and the most memory in bytes."""
    start = time.perf_counter()
    voice = load()
    loaded = time.perf_counter()
    next(voice.stream(sentence, seed=0, length_scale=short_scale))
    begun = time.perf_counter()
    voice.speak(text, seed=0, length_scale=length_scale)
    spoken = time.perf_counter()
    return {"load": loaded - start, "first": begun - loaded, "whole": spoken - begun, "memory": peak_memory()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported", description=__doc__, formatter_class=Help)
    parser.add_argument("folder", help="the graphs of an exported voice")
    parser.add_argument("threads", type=int, help="of ONNX Runtime")
    parser.add_argument("sentence", help="whose first part is waited for")
    parser.add_argument("short_scale", type=float, help="its length_scale")
    parser.add_argument("text", help="that is spoken then")
    parser.add_argument("length_scale", type=float, help="of the text")
    args = parser.parse_args()
    spoken = args.sentence, args.short_scale, args.text, args.length_scale
    print(json.dumps(first_speech(lambda: Voice(args.folder, n_threads=args.threads), *spoken)))
