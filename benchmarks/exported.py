"""What an exported voice needs until it has spoken once, in a process without PyTorch: for benchmarks.synthesis."""

import json
import sys
import time

from data_util.memory import peak_memory
from data_util.runner import Voice


def main(folder: str, n_threads: str, sentence: str, short_scale: str, text: str, length_scale: str) -> None:
    """Print, as JSON, the seconds of loading, of the first chunk of a sentence and of a text, and the most memory."""
    start = time.perf_counter()
    voice = Voice(folder, n_threads=int(n_threads))
    loaded = time.perf_counter()
    next(voice.stream(sentence, seed=0, length_scale=float(short_scale)))
    begun = time.perf_counter()
    voice.speak(text, seed=0, length_scale=float(length_scale))
    spoken = time.perf_counter()
    seconds = {"load": loaded - start, "first": begun - loaded, "whole": spoken - begun}
    print(json.dumps({**seconds, "memory": peak_memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
