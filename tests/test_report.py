"""The page: whole, escaped and by itself, its sounds the WAVs' own, its pictures right; and Chromium shows it."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from data_util.audio import AudioError, save_wav
from data_util.html_media import N_BANDS, N_COLUMNS, audio_uri, png, read_sound, spectrograms
from evaluation.metrics import MEASURES
from evaluation.report import markdown, page

RATE = 22050
TEXTS = {"a": "Shall we? <script>alert(1)</script> & \"so\" it 'goes'.", "b": "Two, here.", "c": None}
SECONDS = {"recording": 0.6, "one_step": 0.5, "n4": 0.4}
VOID = {"meta", "link", "img"}


class Parsed(HTMLParser):
    """tags: (name, attributes) in order; text: what is shown; each tag that is opened is closed in its place."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def voiced(seconds, f0=150.0, rate=RATE):
    """(T_wav,) a buzz of fundamental f0 Hz with a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    wav = sum(np.sin(2 * np.pi * k * f0 * t) / k for k in range(1, 12))
    return 0.1 * wav + 1e-3 * np.random.default_rng(0).standard_normal(len(t))


@pytest.fixture
def report(tmp_path):
    """A report in tmp_path over three clips, of which one_step and n4, with one alignment, have a and b."""
    clips = {}
    for name, text in TEXTS.items():
        systems = {}
        for system, seconds in SECONDS.items():
            if name == "c" and system != "recording":
                continue
            save_wav(tmp_path / system / f"{name}.wav", voiced(seconds), RATE)
            systems[system] = {"wav": f"{system}/{name}.wav", "heard": "<b>shall we", "pairs": {"cer": [2, 20]}}
            if system != "recording":
                systems[system].update(phonemes="ʃˈæl", symbols=["_", "ʃ", "ˈæ", "l"], durations=[0.0, 0.1, 0.2, 0.05])
        clips[name] = {"text": text, "systems": systems}
    found = {"value": 0.1, "low": 0.05, "high": 0.2, "clips": 2}
    summary = {"clips": 2, "missing": 1, "measures": {"cer": found}, "differences": {"cer": found}}
    voice = {"run": "off_a", "step": 30, "parameters": 1234567, "solver": "dpm2m"}
    about = {"clips": 3, "seed": 0, "threads": 2, "command": "python evaluate.py", "against": "recording",
             "device": "cpu", "voice": voice}  # fmt: skip
    return {"about": about, "systems": {name: dict(summary) for name in SECONDS}, "clips": clips}


def content_of(uri, kind):
    head, _, content = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(content, validate=True)


def pixels_of(uri):
    """(height, width, 3) in 0 to 1."""
    from matplotlib import image

    return image.imread(io.BytesIO(content_of(uri, "image/png")), format="png")[..., :3]


def test_every_system_and_every_clip_is_there(report, tmp_path):
    parsed = Parsed(page(report, tmp_path, 24))
    assert parsed.tags[0] == ("html", {"lang": "en"})
    for words in (*filter(None, TEXTS.values()), *SECONDS, "CER, %", "10.0 [5.0, 20.0]", "<b>shall we", "step 30",
                  "1,234,567", "dpm2m for n > 1", "CER 10 %", "Differences to recording", "ʃˈæl"):  # fmt: skip
        assert words in parsed.text, words
    assert len(parsed.all("audio")) == 7 and len(parsed.all("tbody")) == 5
    assert [one["data-system"] for one in parsed.all("td") if "data-system" in one] == 3 * list(SECONDS)
    labels = [one["aria-label"] for one in parsed.all("audio")]
    assert labels[1] == f"one_step: {TEXTS['a']}"
    assert all(one["preload"] == "none" and "controls" in one for one in parsed.all("audio"))
    assert all("alt" in one for one in parsed.all("img"))


def test_it_says_what_measures_mean_and_which_clips_it_has(report, tmp_path):
    text = Parsed(page(report, tmp_path, 24)).text
    assert MEASURES["cer"].meaning in text and MEASURES["cer"].limits in text
    assert MEASURES["mcd"].meaning not in text  # not measured
    assert MEASURES["cer"].limits in markdown(report)
    parsed = Parsed(page(report, tmp_path, 2))
    assert "The first 2 of 3 sentences." in parsed.text and len(parsed.all("audio")) == 6
    assert "The first" not in Parsed(page(report, tmp_path, 3)).text


def test_nothing_of_a_text_is_markup_and_nothing_comes_from_elsewhere(report, tmp_path):
    content = page(report, tmp_path, 24)
    parsed = Parsed(content)
    assert "alert(1)" not in content.replace("&lt;script&gt;alert(1)", "")
    assert len(parsed.all("script")) == 1 and parsed.all("b") == []
    for tag, attributes in parsed.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "poster", "action"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    rest = re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", content)
    assert not re.search(r"https?:|//|url\(|@import|fetch|XMLHttp", rest)
    assert str(tmp_path) not in content


def test_the_sounds_are_those_of_the_wavs(report, tmp_path):
    stereo = np.stack([voiced(0.3, rate=44100), voiced(0.3, 300, 44100)], axis=1)
    soundfile.write(tmp_path / "n4" / "b.wav", stereo, 44100, subtype="FLOAT")
    sounds = [one["src"] for one in Parsed(page(report, tmp_path, 24)).all("audio")]
    paths = [one["wav"] for clip in report["clips"].values() for one in clip["systems"].values()]
    for uri, path in zip(sounds, paths, strict=True):
        content = content_of(uri, "audio/mpeg")
        (wav, rate), (expected, expected_rate) = soundfile.read(io.BytesIO(content)), soundfile.read(tmp_path / path)
        assert rate == expected_rate and wav.shape == expected.shape  # nothing before it, and nothing after
        assert np.square(wav - expected).sum() < 0.01 * np.square(expected).sum()
        assert len(content) < 0.5 * 2 * wav.size


def test_eight_sentences_of_six_systems_fit_into_four_megabytes(real_root):
    """7 s each: by the second of speech, as the sounds of a page and its pictures are."""
    paths = sorted(real_root.glob("wavs/*.wav"))[:4]
    sounds = {path.stem: read_sound(path) for path in paths}
    seconds = sum(len(wav) / rate for wav, rate in sounds.values())
    n_bytes = sum(len(audio_uri(*sound)) for sound in sounds.values())
    pictures = sum(len(uri) for uri, _ in spectrograms(sounds).values())
    assert 8 * 6 * (7 * n_bytes / seconds + pictures / len(paths)) < 4e6


@pytest.mark.parametrize(("formats", "rate"), [({"WAV": ""}, RATE), ({"MP3": ""}, 20000)])
def test_where_there_is_no_mp3_it_is_wav(monkeypatch, formats, rate):
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    wav = voiced(0.3, rate=rate)[:, None].astype(np.float32)
    found, found_rate = soundfile.read(io.BytesIO(content_of(audio_uri(wav, rate), "audio/wav")), always_2d=True)
    assert found_rate == rate and np.abs(found - wav).max() < 1 / 32768


def test_a_picture_stays_small_whatever_the_sound():
    noise = 0.3 * np.random.default_rng(0).standard_normal((20 * RATE, 1)).astype(np.float32)
    uri, share = spectrograms({"noise": (noise, RATE)})["noise"]
    assert share == 1 and len(uri) < 25_000
    assert pixels_of(uri).shape == (N_BANDS, N_COLUMNS, 3)
    sounds = {"silent": (np.zeros((RATE, 1), np.float32), RATE), "short": (np.ones((3, 1), np.float32), RATE)}
    for uri, share in spectrograms(sounds).values():
        assert 0 < share <= 1 and pixels_of(uri).shape[0] == N_BANDS


def test_pictures_of_a_row_share_time_and_level():
    tones = {}
    for name, hz, seconds, level in (("low", 300, 1.0, 0.5), ("high", 4000, 0.5, 0.5), ("soft", 4000, 0.5, 0.0005)):
        t = np.arange(round(seconds * RATE)) / RATE
        tones[name] = level * np.sin(2 * np.pi * hz * t)[:, None].astype(np.float32), RATE
    found = spectrograms(tones)
    assert {name: share for name, (_, share) in found.items()} == {"low": 1, "high": 0.5, "soft": 0.5}
    brightness = {name: pixels_of(uri).sum(axis=2)[:, 20:-20] for name, (uri, _) in found.items()}
    brightest = {name: np.median(picture.argmax(axis=0)) for name, picture in brightness.items()}
    assert brightness["high"].shape[1] == N_COLUMNS // 2 - 40
    assert brightest["low"] > 0.8 * N_BANDS and brightest["high"] < 0.4 * N_BANDS  # rows count from above
    assert brightness["low"].max() > 2.5 and brightness["soft"].max() < 1


def test_a_png_has_the_colours_it_was_given():
    shades = np.random.default_rng(0).integers(0, 3, (5, 7)).astype(np.uint8)
    palette = bytes([255, 0, 0, 0, 128, 0, 1, 2, 3])
    uri = f"data:image/png;base64,{base64.b64encode(png(shades, palette)).decode()}"
    expected = np.frombuffer(palette, np.uint8).reshape(3, 3)[shades]
    assert np.array_equal(np.round(255 * pixels_of(uri)), expected)


def test_an_alignment_is_shown_once_with_all_that_share_it(report, tmp_path):
    other = report["clips"]["b"]["systems"]["n4"]
    other["durations"] = [0.0, 0.2, 0.1, 0.05]
    parsed = Parsed(page(report, tmp_path, 24))
    summaries = re.findall(r"Alignment: ([\w, ]+?)(?=[^\w, ]|ʃ)", parsed.text)
    assert summaries == ["one_step, n4", "one_step", "n4"]
    widths = [float(re.search(r"width:([\d.]+)%", one["style"])[1]) for one in parsed.all("li")]
    assert widths == pytest.approx(100 / 7 * np.array([2, 4, 1, 2, 4, 1, 4, 2, 1]), abs=1e-3)
    assert parsed.all("li")[0]["title"] == "ʃ 100 ms"


def test_without_measures_it_is_for_listening_only(report, tmp_path):
    for one in report["systems"].values():
        one["measures"] = one["differences"] = {}
    for clip in report["clips"].values():
        for one in clip["systems"].values():
            one.update(heard="", pairs={})
    parsed = Parsed(page(report, tmp_path, 24))
    assert not re.search("Measures|CER|heard|brackets", parsed.text)
    assert len(parsed.all("table")) == 1 and len(parsed.all("audio")) == 7
    (tmp_path / "n4" / "a.wav").unlink()  # a WAV that is gone leaves a word
    shutil.rmtree(tmp_path / "recording")
    parsed = Parsed(page(report, tmp_path, 24))
    assert parsed.text.count("the WAV is gone") == 4 and len(parsed.all("audio")) == 3


@pytest.mark.parametrize("content", [b"", b"RIFF nothing", "empty", "not finite"])
def test_a_wav_that_cannot_be_played_is_named(report, tmp_path, content):
    path = tmp_path / "n4" / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, np.full(0 if content == "empty" else 9, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="n4/a.wav: no"):
        page(report, tmp_path, 24)


# -- in a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """The command of Chromium without a window."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    profile = tmp_path_factory.mktemp("profile")
    return [found, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]


def told(chromium, report, folder, script, *arguments):
    """What a script at the end of the page of a report sets the title to, in JSON."""
    path = folder / "index.html"
    path.write_text(f"{page(report, folder, 24)}<script>{script}</script>", "utf-8")
    command = [*chromium, "--virtual-time-budget=20000", "--dump-dom", *arguments, path.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return json.loads(re.search("<title>(.*)</title>", done.stdout.decode())[1])


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_chromium_shows_it_plays_its_sounds_and_fits_a_phone(chromium, report, tmp_path, scheme):
    asking = """
    const told = {wide: document.documentElement.scrollWidth - innerWidth};
    told.pictures = [...document.images].map(one => one.naturalWidth);
    told.paper = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3);
    const all = [...document.querySelectorAll("audio")];
    Promise.all(all.map(one => new Promise(done => {
      one.onloadedmetadata = () => done(one.duration);
      one.onerror = () => done(one.error.message);
      one.preload = "auto";
      one.load();
    }))).then(lengths => { told.lengths = lengths; document.title = JSON.stringify(told); });
    """
    wanted = f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}"
    found = told(chromium, report, tmp_path, asking, "--window-size=500,900", wanted)
    expected = [SECONDS[system] for clip in report["clips"].values() for system in clip["systems"]]
    assert found["lengths"] == pytest.approx(expected, abs=0.01)
    assert found["wide"] <= 0 and len(found["pictures"]) >= 7 and min(found["pictures"]) > 0
    assert max(map(int, found["paper"])) < 50 if scheme == "dark" else min(map(int, found["paper"])) > 240


def test_nothing_is_cut_off_at_1280_pixels(chromium, report, tmp_path):
    """Twelve systems, with all measures and their intervals."""
    found = {"value": 0.1, "low": 0.05, "high": 0.2, "clips": 2}
    for one in report["systems"].values():
        one["measures"] = one["differences"] = dict.fromkeys(MEASURES, found)
    for i in range(12 - len(report["systems"])):
        report["systems"][f"another_system_{i}"] = report["systems"]["one_step"]
        for name in "ab":
            report["clips"][name]["systems"][f"another_system_{i}"] = report["clips"][name]["systems"]["one_step"]
    asking = """
    const reach = [...document.querySelectorAll("td, th, audio, img")].map(one => one.getBoundingClientRect().right);
    document.title = Math.max(...reach) - innerWidth;
    """
    assert told(chromium, report, tmp_path, asking, "--window-size=1280,900") <= 0
