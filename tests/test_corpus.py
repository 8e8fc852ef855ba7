"""data_util.corpus and data_util.features: lists of clips, preparation and its cache."""

import dataclasses
import errno
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data_util import config as configuration
from data_util import features
from data_util.audio import AudioError, MelSpectrogram, load_wav, save_wav
from data_util.corpus import Clip, MetafileError, file_names, prepare, read_metafile
from tests.conftest import HOP, SAMPLE_RATE, TINY_FRAMES, prepared, refused, with_keys

N_TINY = len(TINY_FRAMES)


@pytest.fixture
def computed(monkeypatch):
    """Counts the spectrograms that are computed in this process."""
    calls, real = [], features.compute_mel
    monkeypatch.setattr(features, "compute_mel", lambda *a: (calls.append(1), real(*a))[1])
    return calls


@pytest.fixture
def tracked(monkeypatch):
    """F0 without its cost: log F0 rises over the clip, each second frame is voiced. Lists the lengths tracked."""
    calls = []

    def track_f0(wav, audio, pitch):
        n_frames = len(wav) // audio.hop_length
        calls.append(n_frames)
        return np.stack([np.log(pitch.f_min) + np.arange(n_frames), np.arange(n_frames) % 2]).astype(np.float32)

    monkeypatch.setattr(features, "track_f0", track_f0)
    return calls


@pytest.fixture
def pitched_config(tiny_config, stub_front_end):  # noqa: ARG001
    """The tiny configuration, but one that trains on F0."""
    config = configuration.change(tiny_config, ["prosody.kind=frame"])
    assert config.with_f0 and not tiny_config.with_f0
    return config


def damage(cache, corpus, right):
    """Of three files one is cut short, one gone, and one whole and of the same size, but not (n, T_mel).

    right: what is in them, by the number of the clip.
    """
    short, gone, turned = (next(cache.rglob(f"{corpus._keys[i]}.npy")) for i in right)
    short.write_bytes(short.read_bytes()[:-4])
    gone.unlink()
    np.save(turned, np.ascontiguousarray([*right.values()][2].T))


# Lists of clips


def test_a_list_gives_texts_ids_and_paths(tiny_root, tmp_path):
    save_wav(tmp_path / "away.wav", np.zeros(600), SAMPLE_RATE)
    save_wav(tiny_root / "sub" / "b.wav", np.zeros(600), SAMPLE_RATE)
    listed = f"tiny-3\n\ntiny-1.wav|in wavs\n  sub/b.wav|in the root\n{tmp_path}/away.wav|away\nnobody\ngone.wav|gone\n"
    (tiny_root / "list.txt").write_text(f"\ufeff{listed}", encoding="utf-8")
    clips = read_metafile(tiny_root / "list.txt", tiny_root)
    assert [clip.text for clip in clips] == ['"abcd"', "in wavs", "in the root", "away", None, "gone"]
    assert [clip.id for clip in clips][:3] == ["tiny-3", "tiny-1", "sub/b"]
    wavs = tiny_root / "wavs"
    expected = [wavs / "tiny-3.wav", wavs / "tiny-1.wav", tiny_root / "sub/b.wav", tmp_path / "away.wav"]
    assert [clip.wav_path for clip in clips] == [*expected, wavs / "nobody.wav", wavs / "gone.wav"]


def test_transcripts_are_read_as_they_stand(tiny_root):
    (tiny_root / "metadata.csv").write_text('a|"raw|"open\nb|only raw|\nc|two columns\nd|x|one\u2028line\n', "utf-8")
    (tiny_root / "list.txt").write_text("a\nb\nc\nd\n")
    texts = [clip.text for clip in read_metafile(tiny_root / "list.txt", tiny_root)]
    assert texts == ['"open', "only raw", "two columns", "one\u2028line"]


@pytest.mark.parametrize(
    ("listed", "metadata", "words"),
    [
        (None, "a|b|c", "list.txt: No such file.*dataset.metafile"),
        (b"", "a|b|c", "list.txt: no clips. Write one a line"),
        (b"\n  \n", "a|b|c", "list.txt: no clips"),
        (b"a\nx.wav|one|two|three\n", "a|b|c", "list.txt:2: expected an id"),
        (b"|text", "a|b|c", "list.txt:1: expected an id"),
        (b"\xff\xfe", "a|b|c", "list.txt: no clips"),
        (b"\xff\xfea", "a|b|c", "list.txt: not a text.*Save it as UTF-8"),
        (b"a\n", "\n", "metadata.csv: no lines"),
        (b"a\n", None, "metadata.csv: No such file.*dataset.prtpath"),
        (b"a\n", "a|b|c\nonly-an-id\n", "metadata.csv:2: expected id|raw"),
        (b"a\n", "a|b|c|d\n", "metadata.csv:1: expected id|raw"),
    ],
)
def test_faults_of_a_list_say_where_and_what_to_do(tmp_path, listed, metadata, words):
    if listed is not None:
        (tmp_path / "list.txt").write_bytes(listed)
    if metadata is not None:
        (tmp_path / "metadata.csv").write_text(metadata)
    refused(MetafileError, words, read_metafile, tmp_path / "list.txt", tmp_path)


def test_a_corpus_that_is_not_there_is_named_where_it_is_needed(tmp_path):
    (tmp_path / "list.txt").write_text("a\n")
    with pytest.raises(MetafileError, match="nowhere: no such folder. Set dataset.prtpath"):
        read_metafile(tmp_path / "list.txt", tmp_path / "nowhere")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.wav|needs no corpus\n")
    assert len(read_metafile(tmp_path / "list.txt", tmp_path / "nowhere")) == 1


# Preparation


def test_prepared_clips_have_the_features_of_their_recordings(tiny, tiny_root):
    assert len(tiny) == len(tiny.mels) == N_TINY
    assert tiny.n_frames.tolist() == list(TINY_FRAMES)
    assert tiny.ids[3].tolist() == [1, 2, 3, 4]
    assert tiny.skipped == []
    spectrogram = MelSpectrogram(**dataclasses.asdict(configuration.load().audio))
    for i in range(N_TINY):
        wav = load_wav(tiny_root / "wavs" / f"tiny-{i}.wav", SAMPLE_RATE)
        np.testing.assert_allclose(tiny.mels[i], spectrogram(torch.from_numpy(wav)[None])[0], atol=1e-5)
        np.testing.assert_array_equal(tiny.wav(i), wav[: HOP * TINY_FRAMES[i]])
    np.testing.assert_array_equal(tiny.wav(4, 3, 5), tiny.wav(4)[3 * HOP : 8 * HOP])
    assert len(tiny.wav(4, 38, 5)) == 2 * HOP
    values = np.concatenate(list(tiny.mels), axis=1)
    np.testing.assert_allclose(tiny.statistics(), (values.mean(), values.std()), rtol=1e-5)


@pytest.mark.usefixtures("stub_front_end")
def test_each_fault_of_a_clip_is_skipped_with_its_reason(tiny_root, tiny_config, caplog):
    wav = np.zeros(HOP * 10, dtype=np.float32)
    soundfile.write(tiny_root / "wavs/rate.wav", wav, 16000)
    soundfile.write(tiny_root / "wavs/stereo.wav", np.stack([wav, wav], 1), SAMPLE_RATE)
    soundfile.write(tiny_root / "wavs/none.wav", wav[:0], SAMPLE_RATE)
    soundfile.write(tiny_root / "wavs/short.wav", wav[: 2 * HOP - 1], SAMPLE_RATE)
    soundfile.write(tiny_root / "wavs/dense.wav", wav[: 3 * HOP], SAMPLE_RATE)
    soundfile.write(tiny_root / "wavs/silent.wav", wav, SAMPLE_RATE)
    (tiny_root / "wavs/text.wav").write_bytes(b"this is no recording")
    expected = [
        ("nobody", "no transcript"),
        ("gone", "missing"),
        ("rate", "wrong sample rate"),
        ("stereo", "not mono"),
        ("none", "empty"),
        ("short", "under 2 frames"),
        ("dense", "fewer frames than symbols"),
        ("silent", "nothing to say"),
        ("text", "unreadable"),
    ]
    texts = {"dense": "abcd", "silent": "..."}
    listed = [name if name == "nobody" else f"{name}.wav|{texts.get(name, 'a')}" for name, _ in expected]
    (tiny_root / "train.txt").write_text("\n".join(["tiny-1", *listed]))
    with caplog.at_level(logging.INFO):
        corpus = prepared(tiny_config)
    assert corpus.skipped == expected
    assert [clip.id for clip in corpus.clips] == ["tiny-1"]
    assert "1 clips" in caplog.text
    assert "1 not mono" in caplog.text
    (tiny_root / "train.txt").write_text("\n".join(listed))
    refused(MetafileError, "none of its 9 clips can be used.*1 wrong sample rate", prepared, tiny_config)


def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("fault", "says"), [(full, r"^\[Errno 28\] No space left on device$"),
                                             (killed, "^a process that loads data was ended")])  # fmt: skip
def test_what_ends_a_worker_is_said_in_one_line(fault, says):
    with pytest.raises(OSError, match=says):
        list(features.each(fault, range(2 * features.CLIPS_A_WORKER), 2))


def test_a_second_preparation_computes_nothing(tiny_config, stub_front_end, computed, capfd):
    first = prepare(tiny_config, tiny_config.dataset.metafile_train)
    assert len(computed) == len(stub_front_end.asked) == N_TINY
    assert "features" in capfd.readouterr().err
    statistics = first.statistics()
    second = prepare(tiny_config, tiny_config.dataset.metafile_train)
    assert len(computed) == len(stub_front_end.asked) == N_TINY
    assert capfd.readouterr().err == ""
    assert second.statistics() == statistics
    assert [one.tolist() for one in second.ids] == [one.tolist() for one in first.ids]
    np.testing.assert_array_equal(second.n_frames, first.n_frames)


def test_changes_are_computed_again_and_only_those(tiny_root, tiny_config, tiny, stub_front_end, computed):
    stub_front_end.asked.clear()
    os.utime(tiny_root / "wavs/tiny-3.wav", ns=(1, 1))  # touched, but the same
    save_wav(tiny_root / "wavs/tiny-4.wav", 0.3 * np.ones(HOP * 50), SAMPLE_RATE)
    text = (tiny_root / "metadata.csv").read_text().replace('"abcdef"', "other")
    (tiny_root / "metadata.csv").write_text(text)
    corpus = prepared(tiny_config)
    assert len(computed) == 1
    assert corpus.n_frames[4] == 50
    assert corpus.mel(4).shape == (80, 50)
    assert stub_front_end.asked == ["other"]
    assert corpus.statistics() != tiny.statistics()
    prepared(with_keys(tiny_config, "audio", f_max=4000.0))
    assert len(computed) == 1 + N_TINY
    prepared(with_keys(tiny_config, "text", language="de"))
    assert len(stub_front_end.asked) == 1 + N_TINY


@pytest.mark.usefixtures("tiny")
def test_phonemes_are_kept_by_the_lexicon_and_the_phonemizer(tmp_path, tiny_config, stub_front_end):
    lexicon = tmp_path / "lexicon.txt"
    asked = []
    for lines in ("a = b", "a = c", "a = b"):
        stub_front_end.asked.clear()
        lexicon.write_text(lines, encoding="utf-8")
        prepared(with_keys(tiny_config, "text", lexicon=str(lexicon)))
        asked.append(len(stub_front_end.asked))
    assert asked == [N_TINY, N_TINY, 0]


def test_words_read_by_rule_are_kept_beside_the_phonemes(tmp_path, tiny_root, tiny_config, caplog):
    (tiny_root / "metadata.csv").write_text("".join(f"tiny-{i}|a grelf {i}\n" for i in range(N_TINY)), encoding="utf-8")
    prepared(with_keys(tiny_config, "text", phonemizer="cmudict"))
    (path,) = (tmp_path / "cache" / "phonemes").glob("*.unknown.json")
    assert json.loads(path.read_text(encoding="utf-8")) == ["grelf"]
    assert f"1 words are not in CMUdict and were read by rule: see {path}" in caplog.text


def test_a_damaged_cache_is_rebuilt(tmp_path, tiny_config, tiny, stub_front_end, computed):
    statistics, cache, mels = tiny.statistics(), tmp_path / "cache", {i: tiny.mel(i) for i in (3, 4, 5)}

    def same(corpus):
        return all(np.array_equal(corpus.mel(i), mel) for i, mel in mels.items())

    damage(cache, tiny, mels)
    corpus = prepared(tiny_config)  # which an intact index does not keep from looking
    assert len(computed) == 2 and same(corpus) and len(computed) == 3
    for file in cache.rglob("*.json"):
        file.write_bytes(file.read_bytes()[:-3])
    stub_front_end.asked.clear()
    corpus = prepared(tiny_config)
    assert len(computed) == 3 and len(stub_front_end.asked) == N_TINY and corpus.statistics() == statistics
    for file in cache.rglob("*.npy"):  # of the same size, so that only reading finds out
        file.write_bytes(b"?" * file.stat().st_size)
    assert same(prepared(tiny_config)) and not list(cache.rglob("*.tmp"))


@pytest.mark.usefixtures("tiny")
def test_nonsense_in_the_index_is_not_believed(tmp_path, tiny_config, computed):
    index = next((tmp_path / "cache").rglob("index.json"))
    for nonsense in ("[]", "null", '{"a": 1}', index.read_text().replace("wav", "waw")):
        index.write_text(nonsense)
        assert prepared(tiny_config).n_frames.tolist() == list(TINY_FRAMES)
    assert not computed  # found by content


def test_a_clip_that_changed_after_preparation_is_not_passed_off(tiny_root, tmp_path, tiny):
    for file in (tmp_path / "cache").rglob("*.npy"):
        file.unlink()
    save_wav(tiny_root / "wavs/tiny-4.wav", np.zeros(HOP * 40), SAMPLE_RATE)
    refused(AudioError, "changed", tiny.mel, 4)
    save_wav(tiny_root / "wavs/tiny-4.wav", np.zeros(HOP * 39), SAMPLE_RATE)
    refused(AudioError, "shorter", tiny.wav, 4)


# F0


def test_f0_is_tracked_once_and_only_where_it_is_asked_for(tiny, pitched_config, tmp_path, computed, tracked, capfd):
    assert not tiny.has_f0
    refused(ValueError, "without F0", tiny.f0, 3)
    refused(ValueError, "without F0", tiny.f0_statistics)
    assert not (tmp_path / "cache" / "f0").exists()
    corpus = prepare(pitched_config, pitched_config.dataset.metafile_train)
    assert "features" in capfd.readouterr().err
    assert sorted(tracked) == list(TINY_FRAMES)
    assert not computed  # the mels are those that were there
    for i, n_frames in enumerate(TINY_FRAMES):
        f0 = corpus.f0(i)
        assert f0.shape == (2, n_frames)
        assert f0.dtype == np.float32
        np.testing.assert_array_equal(f0[1], np.arange(n_frames) % 2)
    values = np.concatenate([corpus.f0(i)[0, 1::2] for i in range(N_TINY)])
    np.testing.assert_allclose(corpus.f0_statistics(), (values.mean(), values.std()), rtol=1e-5)
    prepare(pitched_config, pitched_config.dataset.metafile_train)
    assert capfd.readouterr().err == ""
    assert len(tracked) == N_TINY
    other = prepared(with_keys(pitched_config, "pitch", f_min=80.0))
    assert len(tracked) == 2 * N_TINY
    assert other.f0_statistics()[0] == pytest.approx(corpus.f0_statistics()[0] + np.log(80 / 65), rel=1e-5)
    prepared(with_keys(pitched_config, "audio", f_max=4000.0))
    assert len(tracked) == 2 * N_TINY  # F0 has nothing to do with the mel's bands
    assert len(computed) == N_TINY


@pytest.mark.usefixtures("tracked")
def test_f0_statistics_are_kept_unless_damaged_and_need_a_voiced_frame(pitched_config, tmp_path, monkeypatch):
    statistics = prepared(pitched_config).f0_statistics()
    path = next((tmp_path / "cache" / "f0").rglob("statistics*"))
    path.write_text("[1.0, 2.0]")
    assert prepared(pitched_config).f0_statistics() == (1.0, 2.0)
    path.write_text("[1.0")
    assert prepared(pitched_config).f0_statistics() == statistics
    shutil.rmtree(tmp_path / "cache" / "f0")
    monkeypatch.setattr(features, "track_f0", lambda wav, *_: np.zeros((2, len(wav) // HOP), dtype=np.float32))
    refused(ValueError, "10 recordings without a voiced frame: pitch.f_min", prepared(pitched_config).f0_statistics)


def test_interrupted_tracking_goes_on_where_it_stopped(pitched_config, computed, tracked, monkeypatch):
    track_f0 = features.track_f0

    def interrupted(*args):
        if len(tracked) == 4:
            raise KeyboardInterrupt
        return track_f0(*args)

    monkeypatch.setattr(features, "track_f0", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(pitched_config)
    monkeypatch.setattr(features, "track_f0", track_f0)
    corpus = prepared(pitched_config)
    assert sorted(tracked) == list(TINY_FRAMES)
    assert len(computed) == N_TINY
    assert corpus.f0(9).shape == (2, 130)


def test_damaged_f0_is_mended_alone(pitched_config, tmp_path, computed, tracked):
    corpus = prepared(pitched_config)
    right = {i: corpus.f0(i) for i in (3, 4, 5)}
    damage(tmp_path / "cache" / "f0", corpus, right)
    tracked.clear()
    mended = prepared(pitched_config)
    assert tracked == [TINY_FRAMES[3], TINY_FRAMES[4]]
    for i, f0 in right.items():
        np.testing.assert_array_equal(mended.f0(i), f0)
    assert tracked[2:] == [TINY_FRAMES[5]]
    assert len(computed) == N_TINY


@pytest.mark.usefixtures("tracked")
def test_several_processes_make_the_same_features(pitched_config, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CLIPS_A_WORKER", 2)
    alone = prepared(pitched_config)
    config = with_keys(pitched_config, "dataset", cache=str(tmp_path / "other"))
    several = prepared(with_keys(config, "system", num_workers=2))
    for i in range(N_TINY):
        np.testing.assert_array_equal(several.f0(i), alone.f0(i))
        np.testing.assert_array_equal(several.mel(i), alone.mel(i))


def test_tones_have_their_f0(pitched_config):
    log_f0, voicing = prepared(pitched_config).f0(1)  # tiny-1 is a tone of 440 Hz, 9 frames long
    assert voicing[3:6].all()
    np.testing.assert_allclose(log_f0[3:6], np.log(440), atol=0.01)


# Subsets


@pytest.mark.usefixtures("tracked")
def test_a_subset_is_the_same_clips_and_no_others(pitched_config, tiny_root):
    with open(tiny_root / "train.txt", "a") as file:
        file.write("nobody\n")
    whole = prepared(pitched_config)
    assert whole.skipped
    whole.durations = [np.bincount(np.arange(n) % len(i), minlength=len(i)) for n, i in zip(whole.n_frames, whole.ids)]
    chosen = [7, 2, 5]
    subset = whole.subset(np.array(chosen))
    assert len(subset) == len(subset.mels) == 3
    assert subset.skipped == []
    assert subset.symbols == whole.symbols
    assert subset.n_frames.tolist() == [TINY_FRAMES[i] for i in chosen]
    for j, i in enumerate(chosen):
        assert subset.clips[j] == whole.clips[i]
        for mine, theirs in ((subset.ids, whole.ids), (subset.durations, whole.durations), (subset.mels, whole.mels)):
            np.testing.assert_array_equal(mine[j], theirs[i])
        np.testing.assert_array_equal(subset.f0(j), whole.f0(i))
        np.testing.assert_array_equal(subset.wav(j), whole.wav(i))
    values = np.concatenate([whole.mel(i) for i in chosen], axis=1)
    np.testing.assert_allclose(subset.statistics(), (values.mean(), values.std()), rtol=1e-5)
    values = np.concatenate([whole.f0(i)[0, 1::2] for i in chosen])
    np.testing.assert_allclose(subset.f0_statistics(), (values.mean(), values.std()), rtol=1e-5)
    assert len({whole.content, subset.content, whole.subset([7, 2]).content}) == 3
    assert whole.subset(range(N_TINY)).content == whole.content
    whole.durations = None
    assert whole.subset(chosen).durations is None


def test_features_of_other_code_have_another_place(tiny_config, tmp_path, monkeypatch):
    def folders():
        return features.FeatureStore(tmp_path, tiny_config.audio, tiny_config.pitch).folders

    before = folders()
    assert folders() == before and "class MelSpectrogram" in features.code_of(MelSpectrogram)
    monkeypatch.setattr(features, "code_of", lambda _: "other code")
    assert all(folders()[name] != before[name] for name in ("mel", "f0"))


def test_only_one_process_compiles_what_tracks_f0(tiny_config, tmp_path, monkeypatch):
    """Several that did at once would leave a cache behind that ends the next process."""
    for pitch, n_here in ((tiny_config.pitch, 2), (None, 0)):
        store = features.FeatureStore(tmp_path, tiny_config.audio, pitch)
        monkeypatch.setattr(
            store, "make", lambda path: features.Features("", os.getpid(), "broken" if path.name == "0" else "")
        )
        made = list(store._make_all([Path(str(i)) for i in range(40)], 2))
        assert [one.n_frames == os.getpid() for one in made] == [i < n_here for i in range(40)]


@pytest.mark.parametrize(
    ("ids", "names"),
    [(["ann/0001", "ann/0002"], ["0001", "0002"]), (["ann/0001", "ben/0001"], ["ann_0001", "ben_0001"])],
)
def test_files_of_clips_have_names_of_their_own(ids, names):
    assert file_names([Clip(name, Path("any.wav"), None) for name in ids]) == names
