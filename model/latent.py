"""What the networks work on instead of all bands of a log-mel: fewer channels, each frame for itself, and the way back.

pooled: means of neighbouring bands, in the bands' order, as a 2-D network needs it. pca: the first principal components
of the training set, an orthonormal basis times one number, so that distances, and with them the alignment and the
losses, stay what they are among log-mels but for what is left out. learned: pca, to which two small networks add what
is no linear function; trained for squared error before anything else. All of it is fitted once, deterministically, and
stands in the checkpoint.
"""

import contextlib
import zipfile
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_util.config import ROOT, Config
from data_util.corpus import Corpus
from data_util.features import digest
from data_util.files import write_atomic

HIDDEN_CHANNELS = 256  # of the two networks of learned
FIT_FRAMES = 200_000  # at most, that they are trained on: 39 minutes
FIT_STEPS, FIT_BATCH, FIT_RATE = 2000, 1024, 1e-3  # of Adam; frames; the learning rate, which falls to 0 as a cosine


class Compression(nn.Module):
    """(B, n_mels, T) normalised log-mel to (B, n_latents, T) and back. Nothing in it trains with the rest."""

    def __init__(self, kind: str, n_mels: int, n_latents: int):
        super().__init__()
        self.register_buffer("encode_matrix", torch.zeros(n_latents, n_mels))
        self.register_buffer("encode_bias", torch.zeros(n_latents))
        self.register_buffer("decode_matrix", torch.zeros(n_mels, n_latents))
        self.register_buffer("decode_bias", torch.zeros(n_mels))
        self.encoder, self.decoder = None, None
        if kind == "learned":
            self.encoder, self.decoder = _frame_network(n_mels, n_latents), _frame_network(n_latents, n_mels)
        self.requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (B, n_mels, T) of mean 0 and deviation 1 over the corpus. Returns z0 (B, n_latents, T)."""
        z0 = self.encode_matrix @ mel + self.encode_bias[:, None]
        return z0 if self.encoder is None else z0 + self.encoder(mel.mT).mT

    def expand(self, z0: Tensor) -> Tensor:
        """z0: (B, n_latents, T). Returns the normalised log-mel (B, n_mels, T) that it stands for."""
        mel = self.decode_matrix @ z0 + self.decode_bias[:, None]
        return mel if self.decoder is None else mel + self.decoder(z0.mT).mT


def _frame_network(n_inputs: int, n_outputs: int) -> nn.Sequential:
    last = nn.Linear(HIDDEN_CHANNELS, n_outputs)
    nn.init.zeros_(last.weight)  # at the start it adds nothing
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_inputs, HIDDEN_CHANNELS), nn.GELU(), last)


def corpus_compression(config: Config, corpus: Corpus) -> dict[str, Tensor] | None:
    """The state of the Compression that a configuration asks for, fitted on a corpus or from the cache; None: none.

    Raises OSError where the cache cannot be written.
    """
    if config.latent.kind == "normalised":
        return None
    settings = (asdict(config.latent), asdict(config.audio), config.system.seed)
    path = ROOT / config.dataset.cache / "latents" / f"{digest(corpus.content, str(settings))}.npz"
    damage = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as known:
        return {name: torch.from_numpy(known[name]) for name in known.files}
    state = fit(config.latent.kind, config.n_latents, corpus.mels, corpus.statistics(), config.system.seed).state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    write_atomic(path, lambda file: np.savez(file, **arrays))
    return state


def fit(
    kind: str, n_latents: int, mels: Sequence[np.ndarray], statistics: tuple[float, float], seed: int
) -> Compression:
    """A Compression fitted on log-mels. mels[i]: (n_mels, T_mel), natural log; statistics: their mean and deviation."""
    mean, covariance = moments(mels, statistics)
    n_mels = len(mean)
    if kind == "pooled":
        encode = np.kron(np.eye(n_latents), np.full(n_mels // n_latents, n_latents / n_mels))
        decode = np.linalg.solve(encode @ covariance @ encode.T, encode @ covariance).T  # of least squared error
        encode_bias = np.zeros(n_latents)
    else:
        powers, basis = np.linalg.eigh(covariance)  # rising
        basis = basis[:, ::-1][:, :n_latents]
        basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(n_latents)])  # eigh leaves the sign open
        scale = np.sqrt(n_latents / powers[::-1][:n_latents].sum())  # the channels' variance is 1 on average
        encode, decode = scale * basis.T, basis / scale
        encode_bias = -encode @ mean
    decode_bias = mean - decode @ (encode @ mean + encode_bias)
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    compression = Compression(kind, n_mels, n_latents)
    for name, value in (("encode_matrix", encode), ("encode_bias", encode_bias),
                        ("decode_matrix", decode), ("decode_bias", decode_bias)):  # fmt: skip
        getattr(compression, name).copy_(torch.from_numpy(value.copy()))
    if kind == "learned":
        _train(compression, _drawn_frames(mels, statistics, seed), seed)
    torch.random.set_rng_state(torch_state)
    return compression


def moments(mels: Sequence[np.ndarray], statistics: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n_mels,) and covariance (n_mels, n_mels) over all frames of normalised log-mels, float64; as of fit()."""
    n_frames, total, squares = 0, 0.0, 0.0
    for mel in mels:
        frames = (mel.astype(np.float64) - statistics[0]) / statistics[1]
        n_frames, total, squares = n_frames + frames.shape[1], total + frames.sum(1), squares + frames @ frames.T
    mean = total / n_frames
    # band by band a trace of noise, without which the bands of silence, or of few frames, have no inverse
    return mean, squares / n_frames - np.outer(mean, mean) + 1e-6 * np.eye(len(mean))


def _drawn_frames(mels, statistics, seed):
    """(n_frames, n_mels) float32 of clips drawn by the seed, about FIT_FRAMES."""
    drawn, n_frames = [], 0
    for i in np.random.default_rng(seed).permutation(len(mels)):
        drawn.append(((mels[i] - statistics[0]) / statistics[1]).T.astype(np.float32))
        n_frames += len(drawn[-1])
        if n_frames >= FIT_FRAMES:
            break
    return torch.from_numpy(np.concatenate(drawn))


def _train(compression, frames, seed):
    """Least squared error of what comes back, over the two networks; the linear maps stay."""
    generator = torch.Generator().manual_seed(seed)
    networks = nn.ModuleList([compression.encoder, compression.decoder]).requires_grad_(True)
    optimiser = torch.optim.Adam(networks.parameters(), FIT_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, FIT_STEPS)
    with torch.enable_grad():
        for _ in range(FIT_STEPS):
            some = frames[torch.randint(len(frames), (FIT_BATCH,), generator=generator)].T[None]
            optimiser.zero_grad()
            F.mse_loss(compression.expand(compression(some)), some).backward()
            optimiser.step()
            schedule.step()
    networks.requires_grad_(False)
