"""Batches for training: which clips, in which order, cut where, with which noise: all from seed and step."""

import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data_util.audio import AudioError
from data_util.config import Config
from data_util.corpus import Corpus
from data_util.features import worker_errors
from data_util.gta import GTALatents

MAX_FAILURES = 10  # clips in a row that may turn out unreadable before training stops
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
_TAG_T, _TAG_TRUE, _TAG_ITEM, _TAG_EPOCH, _TAG_WINDOW = range(5)  # keep streams of one seed and step apart
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draws:
    """What is random in one item. u: [0, 1), stratified over the global batch; true_latent: a share of the items,
    stratified; cut_u, segment_u: [0, 1); noise: (n_latents, cut_frames) float32, standard normal."""

    u: float
    true_latent: bool
    cut_u: float
    segment_u: float
    noise: np.ndarray


@dataclass
class Batch:
    """One step's clips on one process. Frame i of a clip is its samples [hop_length * i, hop_length * (i + 1))."""

    x: Tensor  # (B, T_x) int64 symbol ids, then 0
    x_lengths: Tensor  # (B,) int64 symbols
    mel: Tensor  # (B, n_mels, T_mel) natural log of amplitude, then 0.0
    mel_lengths: Tensor  # (B,) int64 frames
    durations: Tensor  # (B, T_x) int64 frames a symbol; zeros where the corpus has none
    has_durations: bool
    cut_starts: Tensor  # (B,) int64 frames into the clip
    cut_lengths: Tensor  # (B,) int64 valid frames, at most cut_frames
    cuts_full: bool  # every cut has cut_frames valid frames, so that the score network needs no mask
    segment_starts: Tensor  # (B,) int64 frames into the cut
    segment_lengths: Tensor  # (B,) int64 valid frames, at most segment_frames
    segments_full: bool  # every segment has segment_frames valid frames, so that the generator needs no mask
    wav: Tensor  # (B, 1, segment_frames * hop_length) the segment's samples in [-1, 1], then 0.0
    noise: Tensor  # (B, n_latents, cut_frames) standard normal
    u: Tensor  # (B,) in [0, 1), stratified over the global batch, for the choice of t
    true_latent: Tensor  # (B,) bool: the generator gets the true latent, t = 0
    ids: list[str]  # of the clips
    f0: Tensor  # (B, 2, T_mel) Corpus.f0's log F0 and voicing, then 0.0; (B, 2, 0) where the corpus has none
    latent: Tensor  # (B, n_latents, segment_frames) the segment's, of GTALatents.read, then 0.0; without (B, ., 0)
    latent_t: Tensor  # (B,) diffusion time of that latent; without one zeros
    speaker: Tensor  # (B,) int64 ids of speakers.names, 0 for a single voice

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; DataLoader calls it."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change):
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})


class BatchOrder:
    """Which clips make up the global batch of each step, a pure function of the step.

    Shuffled epochs follow each other without a seam and are cut into windows of `window` batches; inside a window
    clips of like length share a batch and the batches are shuffled. So padding is little, and at any moment every clip
    of the epochs behind has been used equally often but for those of the present window. The very first batch has the
    longest clips of all, so that lack of memory shows at once.

    A budget makes batches of long clips smaller, so that a window has more batches than `window`. Then the second batch
    has as many clips as any of the first window's, and of those the longest: cuts of each need the most memory there.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size_global: int,
        seed: int,
        window: int = 16,
        budget: int = 0,
        n_parts: int = 1,
        groups: np.ndarray | None = None,
    ):
        """lengths: (n_clips,), of any unit; batch_size_global: clips a step over all processes, at most; window:
        batches of that size; budget: clips times the longest of them in each of a batch's n_parts equal parts, unless
        a part is a single clip; 0: none; groups: (n_clips,), each of which has equally many places in an epoch, so
        that clips of small ones come again; None: every clip comes once."""
        self.lengths = np.asarray(lengths)
        if len(self.lengths) == 0:
            raise ValueError("no clips to put in order")
        self.batch_size_global, self.seed, self.window = batch_size_global, seed, window
        self.budget, self.n_parts = budget, n_parts
        self.groups = [np.arange(len(self.lengths))]
        if groups is not None:
            self.groups = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self._batches = functools.lru_cache(1)(self._window)  # keeps the window asked for last
        self._starts = [0]  # the first steps of windows, as far as they are known, where a budget makes them uneven

    def indices(self, step: int) -> np.ndarray:
        """(n,) int64 indices into `lengths` for a step >= 0; a clip may repeat where there are few.

        n: batch_size_global, or with a budget that or a smaller multiple of n_parts.
        """
        number, place = self._find(step)
        return self._batches(number)[place].copy()

    def _find(self, step):
        if self.budget == 0:
            return divmod(step, self.window)
        while self._starts[-1] <= step:
            self._starts.append(self._starts[-1] + len(self._batches(len(self._starts) - 1)))
        number = int(np.searchsorted(self._starts, step, side="right")) - 1
        return number, step - self._starts[number]

    def _window(self, number):
        n_epoch, size = len(self.groups) * max(map(len, self.groups)), self.window * self.batch_size_global
        first, last = number * size // n_epoch, (number * size + size - 1) // n_epoch
        offset = number * size - first * n_epoch
        clips = np.concatenate([self._epoch(epoch) for epoch in range(first, last + 1)])[offset : offset + size]
        clips = clips[np.argsort(self.lengths[clips], kind="stable")].astype(np.int64)
        cut = self._cut(clips)
        shuffle = _generator(self.seed, number, _TAG_WINDOW).permutation(len(cut))
        if number == 0:
            largest = max(range(len(cut)), key=lambda place: (len(cut[place]), place))
            first = list(dict.fromkeys([len(cut) - 1, largest]))
            shuffle = [*first, *(place for place in shuffle if place not in first)]
        return [cut[place] for place in shuffle]

    def _epoch(self, number):
        clips = self._permutation(_generator(self.seed, number, _TAG_EPOCH))
        if number > 0:
            return clips
        longest = np.argsort(self.lengths, kind="stable")[::-1][: self.batch_size_global]
        others = clips.tolist()
        for clip in longest:  # each once: where speakers are balanced, a clip may come several times
            others.remove(clip)
        return np.concatenate([longest, np.array(others, dtype=clips.dtype)])

    def _cut(self, clips):
        """Clips, the shortest first, in batches, of which the last has the longest."""
        if self.budget == 0:
            return list(clips.reshape(self.window, self.batch_size_global))
        cut, end = [], len(clips)
        while end > 0:
            n = self.budget // max(1, int(self.lengths[clips[end - 1]])) * self.n_parts
            n = min(max(n, self.n_parts), self.batch_size_global, end)
            cut.append(clips[end - n : end])
            end -= n
        return cut[::-1]

    def _permutation(self, generator):
        if len(self.groups) == 1:
            return generator.permutation(self.groups[0])
        most = max(map(len, self.groups))
        parts = []
        for group in self.groups:
            rounds = -(-most // len(group))
            parts.append(np.concatenate([generator.permutation(group) for _ in range(rounds)])[:most])
        return generator.permutation(np.concatenate(parts))


def draw(seed: int, step: int, batch_size_global: int, place: int, *, true_latents: float, n_latents: int,
         cut_frames: int) -> Draws:  # fmt: skip
    """All that is random in the item at a place, 0 to batch_size_global - 1, of a step: the same on any machine.

    true_latents: the share of items with true_latent, 0 to 1; n_latents, cut_frames: the noise's shape.
    """
    u = _stratified(seed, step, _TAG_T, batch_size_global)[place]
    chosen = _stratified(seed, step, _TAG_TRUE, batch_size_global)[place] < true_latents
    generator = _generator(seed, step, _TAG_ITEM, place)
    cut_u, segment_u = generator.random(2)
    noise = generator.standard_normal((n_latents, cut_frames), dtype=np.float32)
    return Draws(float(u), bool(chosen), float(cut_u), float(segment_u), noise)


def batches(corpus: Corpus, config: Config, *, first_step: int = 0, rank: int = 0, world_size: int = 1,
            latents: GTALatents | None = None, pin_memory: bool = False) -> Iterator[Batch]:  # fmt: skip
    """Endless batches of training.batch_size clips for one process, training.accumulate of them a step, from a step on.

    The batches of a step are the same, to the bit, for any first_step and system.num_workers; together the processes'
    are the rows of the batch that one process would have with world_size accumulate times the batch size.
    corpus.durations are those of the moment of the first next(). Raises AudioError where 10 clips in a row have become
    unreadable; fewer are replaced by the clips after them, with a warning each; OSError where a worker has died.
    Closing the iterator ends the workers. pin_memory: in page-locked memory, from which a GPU copies in the background.
    """
    items = _Items(corpus, config, latents)
    loader = torch.utils.data.DataLoader(
        items,
        batch_sampler=_places(corpus, config, first_step, rank, world_size),
        num_workers=config.system.num_workers,
        collate_fn=items.collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own, so that the global one stays as it is
    )
    with worker_errors():
        yield from loader


def fixed_batch(corpus: Corpus, config: Config, indices: Sequence[int], latents: GTALatents | None = None) -> Batch:
    """The clips at these indices with the draws of step 0: the same batch each time, to look at and to test with."""
    items = _Items(corpus, config, latents)
    return items.collate([items[index, 0, place, len(indices)] for place, index in enumerate(indices)])


def _places(corpus, config, first_step, rank, world_size):
    """A process's batches as lists of (index, step, place, n): consecutive ones of the n places of the global batch."""
    training, n_parts = config.training, world_size * config.training.accumulate
    order = BatchOrder(corpus.n_frames, training.batch_size * n_parts, config.system.seed,
                       budget=training.batch_frames, n_parts=n_parts,
                       groups=corpus.speakers if config.speakers.balanced else None)  # fmt: skip
    for step in itertools.count(first_step):
        indices = order.indices(step)
        n = len(indices) // n_parts
        for part in range(rank, n_parts, world_size):
            yield [(int(indices[place]), step, place, len(indices)) for place in range(part * n, part * n + n)]


class _Items(torch.utils.data.Dataset):
    """(index, step, place, n) -> one item of a global batch of n, as numpy; `collate` makes a Batch of several."""

    def __init__(self, corpus, config, latents):
        self.corpus, self.config, self.latents = corpus, config, latents
        self._warned = set()

    def __getitem__(self, key):
        index, step, place, n = key
        training = self.config.training
        draws = draw(self.config.system.seed, step, n, place, n_latents=self.config.n_latents,
                     true_latents=training.true_latents, cut_frames=training.cut_frames)  # fmt: skip
        for candidate in range(index, index + MAX_FAILURES):
            try:
                return self._item(candidate % len(self.corpus), draws)
            except (AudioError, OSError) as error:
                failure = error
                self._warn(self.corpus.clips[candidate % len(self.corpus)].id, error)
        raise AudioError(f"{MAX_FAILURES} clips in a row cannot be read any more, the last: {failure}") from failure

    def collate(self, items: list[dict]) -> Batch:
        training, n_segment = self.config.training, self.config.training.segment_frames
        columns = {name: [item[name] for item in items] for name in items[0]}
        ids, x, mel = columns.pop("ids"), columns["x"], columns["mel"]
        lengths = {"wav": n_segment * self.config.audio.hop_length, "latent": n_segment if self.latents else 0}
        tensors = {name: _tensor(column, lengths.get(name)) for name, column in columns.items()}
        return Batch(
            **tensors,
            x_lengths=torch.tensor([one.shape[-1] for one in x]),
            mel_lengths=torch.tensor([one.shape[-1] for one in mel]),
            has_durations=self.corpus.durations is not None,
            cuts_full=bool((tensors["cut_lengths"] == training.cut_frames).all()),
            segments_full=bool((tensors["segment_lengths"] == n_segment).all()),
            ids=ids,
        )

    def _item(self, index, draws):
        """What Batch has of one clip, by the names that it has there."""
        corpus, training, n_frames = self.corpus, self.config.training, int(self.corpus.n_frames[index])
        cut_start, cut_length = _place(draws.cut_u, n_frames, training.cut_frames)
        segment_start, segment_length = _place(draws.segment_u, cut_length, training.segment_frames)
        start, x = cut_start + segment_start, corpus.ids[index]
        latent, latent_t = np.zeros((self.config.n_latents, 0), dtype=np.float32), 0.0
        if self.latents is not None:
            latent, latent_t = self.latents.read(index, draws.u, start, segment_length)
        return {
            "ids": corpus.clips[index].id,
            "x": x,
            "durations": np.zeros_like(x) if corpus.durations is None else corpus.durations[index],
            "mel": corpus.mel(index),
            "f0": corpus.f0(index) if corpus.has_f0 else np.zeros((2, 0), dtype=np.float32),
            "latent": latent,
            "latent_t": latent_t,
            "speaker": corpus.speakers[index],
            "wav": corpus.wav(index, start, segment_length)[None],
            "cut_starts": cut_start,
            "cut_lengths": cut_length,
            "segment_starts": segment_start,
            "segment_lengths": segment_length,
            "u": min(draws.u, BELOW_ONE),  # rounding could give 1.0
            "true_latent": draws.true_latent,
            "noise": draws.noise,
        }

    def _warn(self, name, error):
        if name not in self._warned:
            self._warned.add(name)
            log.warning("%s cannot be read any more, the next clip takes its place: %s", name, error)


def _tensor(values, length=None):
    """A tensor of numbers, or of arrays that differ in their last axis, zeros after those shorter than `length`, or
    than the longest."""
    if not isinstance(values[0], np.ndarray):
        return torch.tensor(values)
    n = length or max(array.shape[-1] for array in values)
    stacked = np.zeros((len(values), *values[0].shape[:-1], n), dtype=values[0].dtype)
    for row, array in zip(stacked, values):
        row[..., : array.shape[-1]] = array
    return torch.from_numpy(stacked)


def _place(u, n_frames, n_cut):
    """A cut of n_cut of n_frames frames, u in [0, 1) saying where: its start, and how many of its frames are valid."""
    room = n_frames - n_cut
    return (min(int(u * (room + 1)), room), n_cut) if room > 0 else (0, n_frames)


def _generator(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _stratified(seed, step, tag, n):
    """(n,) numbers, each uniform in [0, 1), and together one in each n-th of it."""
    generator = _generator(seed, step, tag)
    return np.minimum((generator.permutation(n) + generator.random(n)) / n, np.nextafter(1.0, 0.0))


def _start_worker(_number):
    # the main process stops its workers, which it needs to finish a step: a signal to its group is not for them
    os.setpgid(0, 0)
