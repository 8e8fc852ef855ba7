"""What the networks work on instead of all bands of a log-mel: fewer channels, each frame for itself, and the way back.

pooled: the lowest bands as they are, which tell harmonics apart, and means of three neighbours above them, in the
bands' order. pca: the first principal components of the training set, an orthonormal basis times one number, so that
distances, and with them the alignment and the losses, stay what they are among log-mels but for what is left out. Both
are fitted once, deterministically, and stand in the checkpoint.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor, nn


class Compression(nn.Module):
    """(B, n_mels, T) normalised log-mel to (B, n_latents, T) and back. Nothing in it trains with the rest."""

    encode_matrix: Tensor
    encode_bias: Tensor
    decode_matrix: Tensor
    decode_bias: Tensor

    def __init__(self, n_mels: int, n_latents: int):
        super().__init__()
        self.register_buffer("encode_matrix", torch.zeros(n_latents, n_mels))
        self.register_buffer("encode_bias", torch.zeros(n_latents))
        self.register_buffer("decode_matrix", torch.zeros(n_mels, n_latents))
        self.register_buffer("decode_bias", torch.zeros(n_mels))

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (B, n_mels, T) of mean 0 and deviation 1 over the corpus. Returns z0 (B, n_latents, T)."""
        return self.encode_matrix @ mel + self.encode_bias[:, None]

    def expand(self, z0: Tensor) -> Tensor:
        """z0: (B, n_latents, T). Returns the normalised log-mel (B, n_mels, T) that it stands for."""
        return self.decode_matrix @ z0 + self.decode_bias[:, None]


def fit(kind: str, n_latents: int, mels: Sequence[np.ndarray], statistics: tuple[float, float]) -> Compression:
    """A Compression fitted on log-mels. mels[i]: (n_mels, T_mel), natural log; statistics: their mean and deviation."""
    mean, covariance = moments(mels, statistics)
    n_mels = len(mean)
    if kind == "pooled":
        n_means = (n_mels - n_latents) // 2  # which is even: see Config
        encode = block_diag(np.eye(n_latents - n_means), np.kron(np.eye(n_means), np.full(3, 1 / 3)))
        decode = np.linalg.solve(encode @ covariance @ encode.T, encode @ covariance).T  # of least squared error
        encode_bias = np.zeros(n_latents)
    elif kind == "pca":
        powers, basis = np.linalg.eigh(covariance)  # rising
        basis = basis[:, ::-1][:, :n_latents]
        basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(n_latents)])  # eigh leaves the sign open
        scale = np.sqrt(n_latents / powers[::-1][:n_latents].sum())  # the channels' variance is 1 on average
        encode, decode = scale * basis.T, basis / scale
        encode_bias = -encode @ mean
    else:
        raise ValueError(f"latent.kind = {kind}: model/latent.py has no way to fit it")
    decode_bias = mean - decode @ (encode @ mean + encode_bias)
    compression = Compression(n_mels, n_latents)
    found = {"encode_matrix": encode, "encode_bias": encode_bias, "decode_matrix": decode, "decode_bias": decode_bias}
    compression.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in found.items()})
    return compression


def moments(mels: Sequence[np.ndarray], statistics: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n_mels,) and covariance (n_mels, n_mels) over all frames of normalised log-mels, float64; as of fit()."""
    n_frames, n_mels = 0, len(mels[0])
    total: np.ndarray = np.zeros(n_mels)
    squares: np.ndarray = np.zeros((n_mels, n_mels))
    for mel in mels:
        frames = (mel.astype(np.float64) - statistics[0]) / statistics[1]
        n_frames, total, squares = n_frames + frames.shape[1], total + frames.sum(1), squares + frames @ frames.T
    mean = total / n_frames
    # band by band a trace of noise, without which the bands of silence, or of few frames, have no inverse
    return mean, squares / n_frames - np.outer(mean, mean) + 1e-6 * np.eye(len(mean))
