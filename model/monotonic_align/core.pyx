# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Monotonic alignment search in C: frame after frame, the symbols of one frame side by side, the items of a batch on
several threads.

The scores of a frame are contiguous, best scores are kept in two rows that take turns, and the way into a symbol is one
byte: so what a frame does to all symbols is one loop without branches, which compilers make vectors of.
"""

import numpy as np

from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc


def search(const float[:, :, ::1] scores, const int[::1] x_lengths, const int[::1] mel_lengths, optional,
           int n_threads=1):
    """The same contract as fallback.search, and the same result to the frame; n_threads share the items, where the
    compiler had OpenMP: else prange is a plain loop."""
    cdef const unsigned char[:, ::1] skippable = np.ascontiguousarray(optional, dtype=np.uint8)
    cdef Py_ssize_t n_items = scores.shape[0], item
    cdef int failed = 0
    result = np.zeros((n_items, scores.shape[2]), dtype=np.int32)
    cdef int[:, ::1] durations = result
    if n_items == 0 or scores.shape[2] == 0:
        return result
    with nogil:
        for item in prange(n_items, schedule="dynamic", chunksize=1, num_threads=n_threads):
            failed += _align(&scores[item, 0, 0], &skippable[item, 0], &durations[item, 0], scores.shape[2],
                             x_lengths[item], mel_lengths[item])
    if failed:
        raise MemoryError("no memory for the alignment search")
    return result


cdef int _align(const float *scores, const unsigned char *optional, int *durations, Py_ssize_t row,
                Py_ssize_t t_x, Py_ssize_t t_mel) noexcept nogil:
    """One item; row: floats from one frame to the next. Returns 1 where there is no memory, else 0."""
    # two columns stand before the first symbol of each row: never a way in
    cdef double *rows = <double *>malloc(2 * (t_x + 2) * sizeof(double))
    cdef unsigned char *advance = <unsigned char *>malloc(t_mel * t_x)
    cdef double *best
    if rows != NULL and advance != NULL:
        best = _forward(scores, optional, row, t_x, t_mel, rows, advance)
        _backward(optional, durations, t_x, t_mel, best, advance)
    free(rows)
    free(advance)
    return rows == NULL or advance == NULL


cdef double *_forward(const float *scores, const unsigned char *optional, Py_ssize_t row, Py_ssize_t t_x,
                      Py_ssize_t t_mel, double *rows, unsigned char *advance) noexcept nogil:
    """Returns best, (t_x,): the score of the best path that ends in each symbol; advance[t, j]: by how many symbols it
    moved there."""
    cdef double *before = rows + 2
    cdef double *best = before + t_x + 2
    cdef Py_ssize_t t, j, lowest, highest, stride = 1
    for j in range(2 * (t_x + 2)):
        rows[j] = -INFINITY
    for j in range(t_x):
        if optional[j]:
            stride = 2
    best[0] = scores[0]
    if t_x > 1 and optional[0]:
        best[1] = scores[1]
    for t in range(1, t_mel):
        before, best = best, before
        lowest = max(t_x - stride * (t_mel - t), 0)  # a lower symbol could not reach the end any more
        highest = min(stride * (t + 1), t_x)  # a symbol from there on cannot have been reached
        if stride == 1:
            _move(before, best, scores + t * row, advance + t * t_x, lowest, highest)
        else:
            _move_or_skip(before, best, scores + t * row, advance + t * t_x, optional, lowest, highest)
    return best


cdef inline void _move(const double *before, double *best, const float *scores, unsigned char *advance,
                       Py_ssize_t lowest, Py_ssize_t highest) noexcept nogil:
    cdef Py_ssize_t j
    cdef double stay, step
    for j in range(lowest, highest):
        stay, step = before[j], before[j - 1]
        advance[j] = step > stay
        best[j] = (step if step > stay else stay) + scores[j]


cdef inline void _move_or_skip(const double *before, double *best, const float *scores, unsigned char *advance,
                               const unsigned char *optional, Py_ssize_t lowest, Py_ssize_t highest) noexcept nogil:
    cdef Py_ssize_t j
    cdef double entry
    cdef unsigned char move
    for j in range(lowest, highest):
        entry, move = before[j], 0
        if before[j - 1] > entry:
            entry, move = before[j - 1], 1
        if j > 1 and optional[j - 1] and before[j - 2] > entry:
            entry, move = before[j - 2], 2
        advance[j] = move
        best[j] = entry + scores[j]


cdef void _backward(const unsigned char *optional, int *durations, Py_ssize_t t_x, Py_ssize_t t_mel, const double *best,
                    const unsigned char *advance) noexcept nogil:
    cdef Py_ssize_t t, j = t_x - 1
    if j > 0 and optional[j] and best[j - 1] > best[j]:
        j -= 1
    for t in range(t_mel - 1, 0, -1):
        durations[j] += 1
        if j > 0:
            j -= advance[t * t_x + j]
    durations[j] += 1
