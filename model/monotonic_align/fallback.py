"""Monotonic alignment search in numpy: frame by frame, all items and symbols at once. Needs no compiler."""

import numpy as np


def search(scores: np.ndarray, x_lengths: np.ndarray, mel_lengths: np.ndarray, n_threads: int = 1) -> np.ndarray:
    """The best monotonic path without skips.

    scores: (B, T_x, T_mel) float32; x_lengths, mel_lengths: (B,) with 1 <= x_length <= mel_length; n_threads: unused.
    Returns durations (B, T_x) int32 in frames, zero past x_length. Where staying in a symbol and coming from the one
    before it are worth the same, the path stays. Sums run in float64, frame after frame, as in core.pyx.
    """
    del n_threads
    valid_x = np.arange(scores.shape[1]) < x_lengths[:, None]  # (B, T_x)
    valid_mel = np.arange(scores.shape[2]) < mel_lengths[:, None]  # (B, T_mel)
    scores = np.where(valid_x[:, :, None] & valid_mel[:, None], scores, np.float32(0))
    return _backward(_forward(scores), x_lengths, mel_lengths)


def _forward(scores):
    """advance (T_mel, B, T_x): the best path that ends in this frame and symbol came from the symbol before."""
    n_items, t_x, t_mel = scores.shape
    frames = np.ascontiguousarray(scores.transpose(2, 0, 1))  # (T_mel, B, T_x)
    advance = np.zeros((t_mel, n_items, t_x), dtype=bool)
    best = np.full((n_items, t_x + 1), -np.inf)  # column 0 stands before the first symbol: never a way in
    best[:, 1] = scores[:, 0, 0]
    for t in range(1, t_mel):
        stay, move = best[:, 1:], best[:, :-1]
        np.greater(move, stay, out=advance[t])
        best[:, 1:] = np.maximum(move, stay) + frames[t]
    return advance


def _backward(advance, x_lengths, mel_lengths):
    t_mel, n_items, t_x = advance.shape
    durations = np.zeros((n_items, t_x), dtype=np.int32)
    symbol, items = np.asarray(x_lengths, dtype=np.int64) - 1, np.arange(n_items)
    for t in range(t_mel - 1, -1, -1):
        valid = t < mel_lengths
        durations[items, symbol] += valid
        symbol = symbol - (advance[t, items, symbol] & valid)
    return durations
