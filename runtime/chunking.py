"""What speaking is on any runtime: a text in pieces, their noise, and the pieces' sounds joined to one.

Nothing here needs more than numpy and text/: sampling.py speaks with it through PyTorch, and what export.py writes
through ONNX Runtime.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from runtime import loudness, timestamps
from text import FrontEnd, TextError
from text.markup import LONGEST_BREAK
from text.splitting import ends, split
from text.symbols import label, phones_along

LONGEST_TEXT = 1_000_000  # characters, some twenty hours of speech
SENTENCE_PAUSE, CLAUSE_PAUSE = 0.4, 0.15  # seconds between two pieces of a long text, after what they end
FADE = 0.005  # seconds, at both sides of where two pieces meet
FIRST_CHUNK, LONGEST_CHUNK = 16, 256  # frames that a stream makes at a time: few first, so that it soon begins


@dataclass(frozen=True)
class Settings:
    """How a text is spoken; ValueError for a value out of range.

    seed: the same seed and text give the same sound, None a new one each time; temperature: of the noise, 0 or more;
    length_scale: over 1 slower, under 1 faster; sentence_pause: seconds between two sentences, 0 to 10, each of which
    is then spoken for itself; None: as the voice pauses, and SENTENCE_PAUSE where a long text is cut; speaker: one of
    those that the voice knows, None: the first; loudness: LUFS that each piece is brought to, over -70 and at most 0,
    by a gain alone and less where the peaks would pass full scale; None: as the voice speaks.
    """

    seed: int | None = None
    temperature: float = 1.0
    length_scale: float = 1.0
    sentence_pause: float | None = None
    speaker: str | None = None
    loudness: float | None = None

    def __post_init__(self):
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed = {self.seed}: must be 0 or more")
        if not (self.temperature >= 0 and np.isfinite(self.temperature)):
            raise ValueError(f"temperature = {self.temperature}: must be 0 or more")
        if not (self.length_scale > 0 and np.isfinite(self.length_scale)):
            raise ValueError(f"length_scale = {self.length_scale}: must be over 0")
        if self.sentence_pause is not None and not 0 <= self.sentence_pause <= LONGEST_BREAK:
            raise ValueError(f"sentence_pause = {self.sentence_pause}: must be 0 to {LONGEST_BREAK:g} seconds")
        if self.loudness is not None and not loudness.QUIETEST < self.loudness <= 0:
            raise ValueError(f"loudness = {self.loudness}: must be over {loudness.QUIETEST:g} and at most 0 LUFS")


@dataclass(frozen=True)
class Piece:
    """Phonemes that are spoken at a time: their ids; pauses: frames, by index in ids; gap: frames of silence after."""

    phonemes: str
    ids: list[int]
    pauses: dict[int, int]
    gap: int
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class Speech:
    """wav: (T_wav,) float32 in [-1, 1]; sample_rate: Hz; phonemes: IPA, pieces of a long text joined by spaces;
    symbols: T_x labels, "" for the silence between pieces, of states those of their phones; durations: (T_x,) frames of
    each, which sum to the whole; words: of each, which word it is of, None for what is between words."""

    wav: np.ndarray
    sample_rate: int
    text: str
    phonemes: str
    durations: np.ndarray
    symbols: tuple[str, ...]
    words: tuple[int | None, ...]

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate


class Reader:
    """What a voice does before and after its networks: text to pieces, and the pieces' sounds to speech.

    front_end; sample_rate: Hz; hop_length: samples a frame; longest: characters of IPA that are spoken at a time.
    """

    def __init__(self, front_end: FrontEnd, sample_rate: int, hop_length: int, longest: int):
        self.front_end, self.longest = front_end, longest
        self.sample_rate, self.hop_length = sample_rate, hop_length

    def pieces(self, text: str, settings: Settings) -> list[Piece]:
        """Raises TextError where there is nothing to say, or too much."""
        if len(text) > LONGEST_TEXT:
            raise TextError(f"a text of {len(text):,} characters: at most {LONGEST_TEXT:,}, so speak it in parts")
        phonemes = self.front_end.phonemise(text)
        by_sentence = settings.sentence_pause is not None
        parts = split(phonemes, self.longest, by_sentence)
        seconds = {"sentence": settings.sentence_pause if by_sentence else SENTENCE_PAUSE, "clause": CLAUSE_PAUSE}
        pieces = []
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            gap = 0 if is_last else self._frames(seconds.get(ends(part), 0.0))
            pauses = {index: max(1, self._frames(each)) for index, each in self.front_end.pauses(part).items()}
            pieces.append(Piece(part, self.front_end.to_ids(part), pauses, gap, i == 0, is_last))
        return pieces

    def finished(self, chunks: Iterable[np.ndarray], n_frames: int, piece: Piece) -> Iterator[np.ndarray]:
        """A piece's sound, of n_frames in chunks (n,), faded where it meets others, and with the silence after it."""
        n_fade = round(FADE * self.sample_rate)
        ramp = np.sin(np.linspace(0, np.pi / 2, n_fade, dtype=np.float32)) ** 2
        n_left = n_frames * self.hop_length
        for i, wav in enumerate(chunks):
            n_left -= len(wav)
            sound = wav.copy()
            if i == 0 and not piece.is_first:
                sound[:n_fade] *= ramp[: len(sound)]
            if n_left == 0 and not piece.is_last:
                sound[-n_fade:] *= ramp[::-1][-len(sound) :]
            yield np.pad(sound, (0, piece.gap * self.hop_length)) if n_left == 0 else sound

    def joined(self, text: str, pieces: list[Piece], sounds: list[tuple[np.ndarray, np.ndarray]]) -> Speech:
        """sounds: of each piece wav (T_wav,), finished, and durations (T_x,) frames."""
        durations, symbols, words, n_words = [], [], [], 0
        for piece, (_, frames) in zip(pieces, sounds):
            word_of = self.front_end.words_of(piece.ids)
            firsts, lasting = phones_along(piece.ids, frames)
            durations += lasting
            symbols += [label(piece.ids[k]) for k in firsts]
            words += [None if word_of[k] is None else word_of[k] + n_words for k in firsts]
            n_words += 1 + max((word for word in word_of if word is not None), default=-1)
            if piece.gap:
                durations.append(piece.gap)
                symbols.append("")
                words.append(None)
        wav = np.concatenate([wav for wav, _ in sounds])
        phonemes = " ".join(piece.phonemes for piece in pieces)
        durations = np.array(durations, dtype=np.int64)
        return Speech(wav, self.sample_rate, text, phonemes, durations, tuple(symbols), tuple(words))

    def heard(self, wav: np.ndarray, settings: Settings) -> np.ndarray:
        """A sound (n,) as the settings want it, in [-1, 1]; with a loudness, it is a whole piece."""
        if settings.loudness is not None:
            wav = wav * np.float32(loudness.gain(wav, self.sample_rate, settings.loudness))
        return wav.clip(-1, 1)

    def _frames(self, seconds):
        return round(seconds * self.sample_rate / self.hop_length)


def within(context: Callable[[], AbstractContextManager], wavs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each of what an iterator makes, made inside a new context."""
    while True:
        with context():
            wav = next(wavs, None)
        if wav is None:
            return
        yield wav


class BaseVoice:
    """What a voice does with a text on any runtime. A subclass says how a piece is spoken under settings: _whole gives
    its wav (T_wav,) and durations (T_x,) in frames, _chunks its wav in parts as they are made, _durations the durations
    alone, without the work for the wav. name: of its run; speakers: none where it has a single voice."""

    name: str
    step: int
    speakers: Sequence[str]
    reader: Reader
    settings: type[Settings] = Settings

    def speak(self, text: str, **settings) -> Speech:
        """Speak a text, which may have phonemes in it, `[[ fəˈniːmz ]]`, and pauses, `<break time="300ms"/>`.

        settings: the fields of the voice's Settings. A text longer than text.longest is spoken in pieces, one after
        another.
        Raises TextError where there is nothing to say or too much, ValueError for a setting out of range.
        """
        pieces, chosen = self._read(text, settings)
        return self.reader.joined(text, pieces, [self._whole(piece, chosen) for piece in pieces])

    def speak_batch(self, texts: Sequence[str], **settings) -> list[Speech]:
        """speak for each text. Raises as speak does, for the first text that it would raise for."""
        check_texts(texts)
        return [self.speak(text, **settings) for text in texts]

    def speak_pieces(self, text: str, **settings) -> Iterator[np.ndarray]:
        """speak, but giving one piece after another, (n,), none of which is kept. Raises as speak does."""
        pieces, chosen = self._read(text, settings)
        return (self._whole(piece, chosen)[0] for piece in pieces)

    def stream(self, text: str, **settings) -> Iterator[np.ndarray]:
        """speak, but giving its sound as it is made, (n,) float32; together it is speak's, to the rounding of float32.

        The first comes when less than half a second of it is made, but with a loudness, which is measured over a whole
        piece. What is made is not kept, so that the memory needed does not grow with the text's sound. Raises as speak
        does.
        """
        pieces, chosen = self._read(text, settings)
        return (chunk for piece in pieces for chunk in self._chunks(piece, chosen))

    def predict_durations(self, text: str, **settings) -> Speech:
        """What speak returns, but without its sound, which is most of the work: wav is empty. Raises as speak does."""
        pieces, chosen = self._read(text, settings)
        silent = np.zeros(0, dtype=np.float32)
        return self.reader.joined(text, pieces, [(silent, self._durations(piece, chosen)) for piece in pieces])

    def check(self, text: str) -> None:
        """Raise TextError where speak would."""
        self._read(text, {})

    def timestamps(self, speech: Speech, kind: str) -> str:
        """When each phoneme and each word of a speech is said: the content of a file. kind: json, srt or textgrid."""
        reader = self.reader
        frame = reader.hop_length / reader.sample_rate
        phonemes = timestamps.phoneme_spans(speech.symbols, speech.durations, frame)
        labels = timestamps.word_labels(reader.front_end.normalise(speech.text), speech.phonemes)
        words = timestamps.word_spans(speech.symbols, speech.words, speech.durations, frame, labels)
        return timestamps.FORMATS[kind](phonemes, words, timestamps.written_spans(words, speech.text))

    def _read(self, text, settings):
        chosen = self.settings(**settings)
        return self.reader.pieces(text, chosen), chosen


def check_texts(texts: Sequence[str]) -> None:
    """Raises TypeError for a single text, each letter of which would be one."""
    if isinstance(texts, str):
        raise TypeError("speak_batch takes a list of texts: [text] for one")


def speaker_id(speaker: str | None, names: Sequence[str]) -> int:
    """The id of a speaker, None: of the first. names: those that the voice knows. Raises ValueError for others."""
    if speaker is not None and speaker not in names:
        known = ", ".join(names) or "none: it has a single voice"
        raise ValueError(f"speaker {speaker!r}: the voice has not learnt it (it knows {known[:300]})")
    return 0 if speaker is None else list(names).index(speaker)


def noise_of(seed: int | None, phonemes: str) -> np.random.Generator:
    """Noise that depends on the seed and on what is said alone; None: on nothing."""
    seed = secrets.randbits(63) if seed is None else seed
    return np.random.default_rng([seed, *phonemes.encode()])


def chunks(n_frames: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """How frames are made a few at a time, ever more: (frames to read, those of them to keep), one after another.

    reach: frames to either side that a frame's samples depend on, which are read and not kept.
    """
    start, size = 0, FIRST_CHUNK
    while start < n_frames:
        end = start + size if n_frames - start - size >= FIRST_CHUNK else n_frames  # none is too short to fade
        yield window(start, end, n_frames, reach)
        start, size = end, min(2 * size, LONGEST_CHUNK)


def windows(kept: slice, n_frames: int, reach: int, n: int) -> list[tuple[slice, slice]]:
    """Some of n_frames in n parts of about one length, to be made side by side: (frames to read, those of them to keep)
    of each. There are fewer than n where a part would be shorter than half of reach."""
    n_kept = kept.stop - kept.start
    n = max(1, min(n, n_kept, 2 * n_kept // max(1, reach)))
    edges = [kept.start + n_kept * i // n for i in range(n + 1)]
    return [window(start, end, n_frames, reach) for start, end in zip(edges, edges[1:])]


def window(start: int, end: int, n_frames: int, reach: int) -> tuple[slice, slice]:
    """Frames to read so that those from start to end are right, and which of them these are."""
    first = max(0, start - reach)
    return slice(first, min(end + reach, n_frames)), slice(start - first, end - first)


def in_samples(frames: slice, hop_length: int) -> slice:
    return slice(frames.start * hop_length, frames.stop * hop_length)
