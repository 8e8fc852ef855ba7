# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Monotonic alignment search in C. One item at a time without the GIL, so that plain threads share a batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from libc.math cimport INFINITY


def search(scores, x_lengths, mel_lengths, n_threads=1):
    """The same contract as fallback.search, and the same result to the frame; n_threads share the items."""
    durations = np.zeros(scores.shape[:2], dtype=np.int32)

    def align(item):
        t_x, t_mel = int(x_lengths[item]), int(mel_lengths[item])
        advance = np.empty((t_mel, t_x), dtype=np.uint8)
        _align(scores, durations, item, np.full(t_x, -INFINITY), advance)

    items, n_threads = range(len(scores)), min(n_threads, len(scores))
    if n_threads <= 1:
        for item in items:
            align(item)
    else:
        with ThreadPoolExecutor(n_threads) as pool:  # one a call: threads would not outlive a fork
            list(pool.map(align, items))
    return durations


cdef _align(const float[:, :, ::1] scores, int[:, ::1] durations, Py_ssize_t item, double[::1] best,
            unsigned char[:, ::1] advance):
    with nogil:
        _forward(scores, item, best, advance)
        _backward(durations, item, advance)


cdef void _forward(const float[:, :, ::1] scores, Py_ssize_t item, double[::1] best,
                   unsigned char[:, ::1] advance) noexcept nogil:
    """best[j]: the score of the best path that ends in symbol j; advance[t, j]: it came from symbol j - 1."""
    cdef Py_ssize_t t_mel = advance.shape[0], t_x = advance.shape[1], t, j, lowest, highest
    cdef double stay, move
    best[0] = scores[item, 0, 0]
    for t in range(1, t_mel):
        lowest = max(t_x + t - t_mel, 0)  # a lower symbol could not reach the last one any more
        highest = min(t, t_x - 1)  # a higher one cannot have been reached
        for j in range(highest, max(lowest, 1) - 1, -1):
            stay = best[j]
            move = best[j - 1]
            advance[t, j] = move > stay
            best[j] = (move if move > stay else stay) + scores[item, j, t]
        if lowest == 0:
            best[0] += scores[item, 0, t]


cdef void _backward(int[:, ::1] durations, Py_ssize_t item, unsigned char[:, ::1] advance) noexcept nogil:
    cdef Py_ssize_t t, j = advance.shape[1] - 1
    for t in range(advance.shape[0] - 1, 0, -1):
        durations[item, j] += 1
        if j > 0:
            j -= advance[t, j]
    durations[item, j] += 1
