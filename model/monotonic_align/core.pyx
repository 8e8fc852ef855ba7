# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Monotonic alignment search in C. One item at a time without the GIL, so that plain threads share a batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from libc.math cimport INFINITY


def search(scores, x_lengths, mel_lengths, optional, n_threads=1):
    """The same contract as fallback.search, and the same result to the frame; n_threads share the items."""
    durations = np.zeros(scores.shape[:2], dtype=np.int32)
    skippable = np.ascontiguousarray(optional, dtype=np.uint8)

    def align(item):
        t_x, t_mel = int(x_lengths[item]), int(mel_lengths[item])
        advance = np.empty((t_mel, t_x), dtype=np.uint8)
        _align(scores, skippable, durations, item, np.full(t_x, -INFINITY), advance)

    items, n_threads = range(len(scores)), min(n_threads, len(scores))
    if n_threads <= 1:
        for item in items:
            align(item)
    else:
        with ThreadPoolExecutor(n_threads) as pool:  # one a call: threads would not outlive a fork
            list(pool.map(align, items))
    return durations


cdef _align(const float[:, :, ::1] scores, const unsigned char[:, ::1] optional, int[:, ::1] durations,
            Py_ssize_t item, double[::1] best, unsigned char[:, ::1] advance):
    with nogil:
        _forward(scores, optional, item, best, advance)
        _backward(optional, durations, item, best, advance)


cdef void _forward(const float[:, :, ::1] scores, const unsigned char[:, ::1] optional, Py_ssize_t item,
                   double[::1] best, unsigned char[:, ::1] advance) noexcept nogil:
    """best[j]: the score of the best path that ends in symbol j; advance[t, j]: by how many symbols it moved there."""
    cdef Py_ssize_t t_mel = advance.shape[0], t_x = advance.shape[1], t, j, lowest, highest, stride = 1
    cdef double entry
    cdef unsigned char move
    for j in range(t_x):
        if optional[item, j]:
            stride = 2
    best[0] = scores[item, 0, 0]
    if t_x > 1 and optional[item, 0]:
        best[1] = scores[item, 1, 0]
    for t in range(1, t_mel):
        lowest = max(t_x - stride * (t_mel - t), 0)  # a lower symbol could not reach the end any more
        highest = min(stride * (t + 1) - 1, t_x - 1)  # a higher one cannot have been reached
        for j in range(highest, max(lowest, 1) - 1, -1):
            entry = best[j]
            move = 0
            if best[j - 1] > entry:
                entry = best[j - 1]
                move = 1
            if j > 1 and optional[item, j - 1] and best[j - 2] > entry:
                entry = best[j - 2]
                move = 2
            advance[t, j] = move
            best[j] = entry + scores[item, j, t]
        if lowest == 0:
            best[0] += scores[item, 0, t]


cdef void _backward(const unsigned char[:, ::1] optional, int[:, ::1] durations, Py_ssize_t item, double[::1] best,
                    unsigned char[:, ::1] advance) noexcept nogil:
    cdef Py_ssize_t t, j = advance.shape[1] - 1
    if j > 0 and optional[item, j] and best[j - 1] > best[j]:
        j -= 1
    for t in range(advance.shape[0] - 1, 0, -1):
        durations[item, j] += 1
        if j > 0:
            j -= advance[t, j]
    durations[item, j] += 1
