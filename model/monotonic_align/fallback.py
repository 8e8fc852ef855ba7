"""Monotonic alignment search in numpy: frame by frame, all items and symbols at once. Needs no compiler."""

import numpy as np


def search(
    scores: np.ndarray, x_lengths: np.ndarray, mel_lengths: np.ndarray, optional: np.ndarray, n_threads: int = 1
) -> np.ndarray:
    """The best monotonic path that skips nothing but optional symbols.

    scores: (B, T_mel, T_x) float32; x_lengths, mel_lengths: (B,), a frame for each symbol that is not optional;
    optional: (B, T_x) bool, no two in a row; n_threads: unused.
    Returns durations (B, T_x) int32 in frames, zero past x_length. Where ways into a symbol are worth the same, the
    path takes the one that moves least. Sums run in float64, frame after frame, as in core.pyx.
    """
    del n_threads
    valid_x = np.arange(scores.shape[2]) < x_lengths[:, None]  # (B, T_x)
    valid_mel = np.arange(scores.shape[1]) < mel_lengths[:, None]  # (B, T_mel)
    scores = np.where(valid_mel[:, :, None] & valid_x[:, None], scores, np.float32(0))
    advance, best = _forward(scores, mel_lengths, optional)
    return _backward(advance, best, x_lengths, mel_lengths, optional)


def _forward(scores, mel_lengths, optional):
    """advance (T_mel, B, T_x): by how many symbols the best path that ends in this frame and symbol moved there; and
    the score (B, T_x) of the best path that ends in each symbol and an item's last frame."""
    n_items, t_mel, t_x = scores.shape
    frames = np.ascontiguousarray(scores.transpose(1, 0, 2))  # (T_mel, B, T_x)
    advance = np.zeros((t_mel, n_items, t_x), dtype=np.uint8)
    best = np.full((n_items, t_x + 2), -np.inf)  # two columns stand before the first symbol: never a way in
    best[:, 2] = scores[:, 0, 0]
    if t_x > 1:
        best[:, 3] = np.where(optional[:, 0], scores[:, 0, 1], -np.inf)
    before = np.concatenate([np.zeros((n_items, 1), dtype=bool), optional[:, :-1]], axis=1)  # j - 1 may be skipped
    for t in range(1, t_mel):
        entry, step, skip = best[:, 2:].copy(), best[:, 1:-1], np.where(before, best[:, :-2], -np.inf)
        advance[t] = step > entry
        np.maximum(entry, step, out=entry)
        advance[t][skip > entry] = 2
        np.maximum(entry, skip, out=entry)
        best[:, 2:] = np.where((t < mel_lengths)[:, None], entry + frames[t], best[:, 2:])
    return advance, best[:, 2:]


def _backward(advance, best, x_lengths, mel_lengths, optional):
    t_mel, n_items, t_x = advance.shape
    durations = np.zeros((n_items, t_x), dtype=np.int32)
    symbol, items = np.asarray(x_lengths, dtype=np.int64) - 1, np.arange(n_items)
    before = np.maximum(symbol - 1, 0)
    symbol = np.where(optional[items, symbol] & (best[items, before] > best[items, symbol]), before, symbol)
    for t in range(t_mel - 1, -1, -1):
        valid = t < mel_lengths
        durations[items, symbol] += valid
        symbol = symbol - np.where(valid, advance[t, items, symbol], 0)
    return durations
