"""The server: what OpenAI's clients ask for, a bounded queue, and a page; on a socket of this machine."""

import contextlib
import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from data_util.config import ROOT
from model.layers import SpeakerEmbedding
from sampling import Voice
from text import TextError
from training import checkpoint

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
serve = pytest.importorskip("serve")

TEXT = "There is no need to hurry, said the old man."
RATE = 24000
SPEECH, TIMES = "/v1/audio/speech", "/v1/audio/timestamps"


class Stub:
    """A voice that says a text as so many samples as it has characters, times 1000, as far as it has permits; it counts
    who speaks at once."""

    def __init__(self):
        self.reader = self.front_end = self
        self.sample_rate, self.language = RATE, "en-us"
        self.permits, self.lock = threading.Semaphore(10**6), threading.Lock()
        self.n_speaking, self.most, self.n_chunks = 0, 0, 0

    def stream(self, text, **_):
        if text == "...":
            raise TextError("nothing to say")
        return self._chunks(text)

    def _chunks(self, text):
        with self.lock:
            self.n_speaking += 1
            self.most = max(self.most, self.n_speaking)
        try:
            for i, letter in enumerate(text):
                assert self.permits.acquire(timeout=60)
                self.n_chunks += 1
                yield np.full(1000, ord(letter) / 256, dtype=np.float32)
                if letter == "!":
                    raise RuntimeError(f"broken at {i}")
        finally:
            with self.lock:
                self.n_speaking -= 1


def said(text):
    return b"".join(np.full(1000, ord(letter) * 128, dtype="<i2").tobytes() for letter in text)


@contextlib.contextmanager
def serving(spoken, ending_seconds=5, **places):
    service = serve.Service(spoken, **{"n_slots": 4, "n_waiting": 16, "longest": 300, **places})
    config = uvicorn.Config(serve.make_app(service), log_level="critical", timeout_graceful_shutdown=ending_seconds)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0), backlog=256)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    service.port = listening.getsockname()[1]
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def stub():
    return Stub()


@pytest.fixture
def served(stub):
    about = {"id": "stub", "speakers": ["ann", "ben"]}
    with serving([serve.Spoken(stub, about, contextlib.nullcontext())]) as service:
        yield service


@pytest.fixture(scope="module")
def voice():
    return Voice.load(checkpoint.BUNDLED)


@pytest.fixture(scope="module")
def whole(voice):
    """What the bundled voice says at the speed and with the seed that a request asks for."""
    return voice.speak(TEXT, seed=3, length_scale=0.8)


@pytest.fixture(scope="module")
def bundled():
    """The bundled voice by PyTorch, served."""
    args = serve.parse_args(["-id", str(checkpoint.BUNDLED), "--device", "cpu"])
    with serving([serve.load(args.ids[0], args)]) as service:
        yield service


def test_a_folder_of_two_exports_is_refused(tmp_path):
    for name in ("nisets_a", "nisets_b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "voice.json").write_text("{}")
    with pytest.raises(serve.onnx_runtime.VoiceError, match="has 2 voices: name one of .*nisets_"):
        serve.load(str(tmp_path), serve.parse_args([]))


def ask(service, path=SPEECH, method="POST", **body):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    content = body.pop("content", None) or json.dumps({"model": "any", **body})
    connection.request(method, path, content if method == "POST" else None)
    answer = connection.getresponse()
    with contextlib.closing(connection):
        return answer.status, answer.headers, answer.read()


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to be")


# -- the queue


def test_200_requests_on_4_slots_are_each_whole_or_refused(served, stub):
    texts = [f"request {i}" for i in range(200)]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda text: ask(served, input=text, response_format="pcm"), texts))
    statuses = Counter(status for status, *_ in answers)
    assert set(statuses) <= {200, 429} and statuses[200] >= 20 and stub.most <= 4
    for text, (status, headers, content) in zip(texts, answers):
        if status == 200:
            assert content == said(text)
        else:
            assert headers["Retry-After"] and "try again later" in json.loads(content)["error"]["message"]
    until(lambda: served.n_taken == 0)
    assert ask(served, input="again", response_format="pcm")[::2] == (200, said("again"))


def test_places_are_slots_and_those_who_wait(served, stub):
    stub.permits = threading.Semaphore(0)
    with ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(ask, served, input="a", response_format="pcm") for _ in range(20)]
        until(lambda: served.n_taken == 20 and stub.n_speaking == 4)
        assert ask(served, input="a")[0] == 429
        assert ask(served, "/v1/voices", "GET")[0] == 200  # the server itself goes on
        stub.permits.release(20)
        assert {answer.result()[0] for answer in answers} == {200}
    until(lambda: served.n_taken == 0)


def test_who_hangs_up_leaves_the_place(served, stub):
    stub.permits = threading.Semaphore(1)
    with asked(served, input="a" * 300, response_format="pcm") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200") and stub.n_speaking == 1
    stub.permits.release(300)
    until(lambda: served.n_taken == 0 and stub.n_speaking == 0)


def asked(service, **body):
    """A connection that has asked for speech, and has read nothing."""
    connection, content = socket.create_connection(("127.0.0.1", service.port)), json.dumps(body).encode()
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_who_hangs_up_before_there_is_sound_leaves_the_place(served, stub):
    """Also where the format gives nothing before its end."""
    stub.permits = threading.Semaphore(0)
    clients = [asked(served, input="a" * 300, response_format="flac") for _ in range(20)]
    until(lambda: served.n_taken == 20 and stub.n_speaking == 4)
    for client in clients:
        client.close()
    until(lambda: served.n_taken == 4)  # whose threads notice it at their next sound
    stub.permits.release(4)
    until(lambda: served.n_taken == served.n_open == stub.n_speaking == 0)
    assert stub.n_chunks == 4


def test_who_listens_slowly_takes_no_place_when_all_is_spoken(served, monkeypatch):
    monkeypatch.setattr(serve, "UNSENT", 2)
    monkeypatch.setattr(Stub, "stream", lambda *_, **__: iter([np.zeros(4_000_000, dtype=np.float32)]))
    clients = []
    for n_open in range(1, 23):
        clients.append(asked(served, input="a", response_format="wav"))
        until(lambda: (served.n_taken, served.n_open) == (0, n_open))  # noqa: B023
    assert ask(served, input="a")[0] == 429  # but there is an end to what waits to be sent
    for client in clients:
        client.close()
    until(lambda: served.n_open == 0)


def test_who_leaves_in_the_middle_of_a_request_is_no_error(served, caplog):
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"POST {SPEECH} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode())
        time.sleep(0.2)
    assert ask(served, input="a", response_format="pcm")[0] == 200
    assert "Traceback" not in caplog.text and not [one for one in caplog.records if one.levelname == "ERROR"]


def test_what_breaks_midway_does_not_look_whole(served):
    with pytest.raises(http.client.IncompleteRead):
        ask(served, input="abc!", response_format="pcm")
    until(lambda: served.n_taken == 0)


# -- what it refuses


@pytest.mark.parametrize(
    ("path", "body", "status", "match"),
    [
        (SPEECH, {"input": "..."}, 400, "input: nothing to say"),
        (SPEECH, {"input": "a" * 301}, 400, "input: has 301 characters, at most 300 are spoken"),
        (SPEECH, {}, 400, "input: Field required"),
        (SPEECH, {"input": "a", "voice": "../../etc/passwd"}, 400, "'../../etc/passwd' is none of stub, stub/ann"),
        (SPEECH, {"input": "a", "voice": "/etc"}, 400, "voice: '/etc' is none of"),
        (SPEECH, {"input": "a", "speed": 9}, 400, "speed: "),
        (SPEECH, {"input": "a", "speed": "NaN"}, 400, "speed: "),
        (SPEECH, {"input": "a", "response_format": "aac"}, 400, "response_format: "),
        (SPEECH, {"input": "a", "instructions": "shout"}, 400, "instructions: "),
        (SPEECH, {"input": "a", "seed": -1}, 400, "seed: "),
        (SPEECH, {"content": "not json"}, 400, "the body: "),
        (SPEECH, {"content": "[" * 100_000}, 413, "more than"),
        (SPEECH, {"content": '{"input": "' + "\\u0061" * 10**5 + '"}'}, 413, "more than"),
        (TIMES, {"input": "a", "response_format": "mp3"}, 400, "response_format: "),
    ],
)
def test_bad_requests_are_refused_with_a_reason(served, path, body, status, match):
    found, headers, content = ask(served, path, **body)
    assert found == status and headers["content-type"] == "application/json"
    assert match in json.loads(content)["error"]["message"]
    until(lambda: served.n_taken == 0)  # a place is given back after the answer has been sent


@pytest.mark.parametrize(
    "path", ["/config.yaml", "/../config.yaml", "/..%2fconfig.yaml", "/serve.html", "//etc/passwd"]
)
def test_no_path_from_outside_reaches_the_disk(served, path):
    status, _, content = ask(served, path, "GET")
    assert status == 404 and json.loads(content)["error"]["message"] == "Not Found"


# -- what it says


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "pcm"])
def test_it_says_what_the_voice_says(bundled, whole, kind):
    status, headers, content = ask(
        bundled, input=TEXT, response_format=kind, voice="ljspeech-small", speed=1.25, seed=3
    )
    assert status == 200 and headers["content-type"].startswith(serve.MEDIA_TYPES[kind])
    if kind == "pcm":
        wav, rate = np.frombuffer(content, "<i2") / 32768, RATE
    else:
        wav, rate = soundfile.read(io.BytesIO(content))
    assert rate == (RATE if kind in ("opus", "pcm") else whole.sample_rate)
    assert len(wav) / rate == pytest.approx(whole.seconds, abs=0.1)
    assert np.std(wav) == pytest.approx(np.std(whole.wav), rel=0.15)
    if kind in ("wav", "flac"):
        assert np.abs(wav - whole.wav).max() <= 1e-4


def test_speakers_at_the_same_time_do_not_mix(tmp_path):
    from tests.test_export import tiny_voice  # here, since that file is skipped without ONNX

    voice, speakers = tiny_voice(tmp_path, "several"), ("ann", "ben")
    with torch.no_grad():
        for module in voice.model.modules():
            if isinstance(module, SpeakerEmbedding):
                module.weight.normal_()
    text = "It was late. It rained; the street was dark. He left, and nobody saw him again."
    right = {name: voice.speak(text, seed=0, speaker=name).wav for name in speakers}
    assert right["ann"].shape != right["ben"].shape or np.abs(right["ann"] - right["ben"]).max() > 0.01
    with serving([serve.Spoken(voice, {"id": "v", "speakers": list(speakers)}, threading.Lock())]) as service:
        with ThreadPoolExecutor(8) as pool:
            asked = [(name, pool.submit(ask, service, input=text, response_format="flac", voice=f"v/{name}"))
                     for name in speakers * 6]  # fmt: skip
        for name, answer in asked:
            wav, _ = soundfile.read(io.BytesIO(answer.result()[2]))
            assert wav.shape == right[name].shape and np.abs(wav - right[name]).max() <= 1e-4


def test_the_first_part_comes_before_the_last_is_made(served, stub):
    stub.permits = threading.Semaphore(1)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", SPEECH, json.dumps({"input": "abcdefgh" * 30, "response_format": "wav"}))
    with contextlib.closing(connection):
        answer = connection.getresponse()
        assert answer.read(44).startswith(b"RIFF") and answer.read(2000) == said("a") and stub.n_chunks == 1
        stub.permits.release(300)
        assert answer.read() == said("abcdefgh" * 30)[2000:]


def test_timestamps_are_those_of_the_sound(bundled, voice, whole):
    for kind in ("json", "srt", "textgrid"):
        status, _, content = ask(bundled, TIMES, input=TEXT, speed=1.25, seed=3, response_format=kind)
        assert status == 200 and content.decode() == voice.timestamps(whole, kind)


def test_voices_are_listed(bundled, served):
    listed = json.loads(ask(bundled, "/v1/voices", "GET")[2])["voices"]
    assert listed == [{"id": "ljspeech-small", "step": 0, "runtime": "pytorch", "language": "en-us",
                       "sample_rate": 22050, "speakers": []}]  # fmt: skip
    assert [ask(served, path, "HEAD")[0] for path in ("/", "/v1/voices")] == [200, 200]
    for name in ("stub", "stub/ben"):
        assert ask(served, input="a", voice=name)[0] == 200


def test_null_is_what_is_left_out(served):
    names = ("model", "voice", "speed", "seed", "response_format", "stream_format", "instructions")
    status, headers, _ = ask(served, input="a", **dict.fromkeys(names))
    assert (status, headers["content-type"]) == (200, "audio/mpeg")


def test_openais_client_speaks(bundled, tmp_path):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{bundled.port}/v1", api_key="none", max_retries=0)
    wanted = {"model": "nisets", "input": TEXT, "voice": "ljspeech-small"}
    with client.audio.speech.with_streaming_response.create(**wanted, response_format="wav", speed=1.5) as answer:
        answer.stream_to_file(tmp_path / "a.wav")
    client.audio.speech.create(**wanted).write_to_file(tmp_path / "a.mp3")
    short, long = (len(wav) / rate for wav, rate in map(soundfile.read, (tmp_path / "a.wav", tmp_path / "a.mp3")))
    assert long == pytest.approx(1.5 * short, abs=0.2) and short > 1
    with pytest.raises(openai.BadRequestError, match="voice: 'alloy' is none of ljspeech-small"):
        client.audio.speech.create(**wanted | {"voice": "alloy"})


def test_what_has_not_ended_in_time_is_ended_with_the_server(stub):
    stub.permits = SimpleNamespace(acquire=lambda **_: time.sleep(0.1) or True)
    spoken = serve.Spoken(stub, {"id": "stub", "speakers": []}, contextlib.nullcontext())
    with ThreadPoolExecutor(1) as pool:
        with serving([spoken], ending_seconds=1, n_slots=1) as service:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
            connection.request("POST", SPEECH, json.dumps({"input": "a" * 300, "response_format": "wav"}))
            answer = connection.getresponse()  # which holds the slot
            waiting = pool.submit(ask, service, input="a")
            until(lambda: service.n_taken == 2)
        assert stub.n_chunks < 300
        with contextlib.closing(connection), pytest.raises(http.client.IncompleteRead):
            answer.read()
        assert waiting.result()[0] == 503


# -- the page


def test_the_page_needs_nothing_from_elsewhere(served):
    status, headers, content = ask(served, "/", "GET")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    assert not re.search(rb"https?://|src=|@import", content)


def shown(service, profile):
    """The page after it was asked to say a text, as a browser has it."""
    address = f"http://127.0.0.1:{service.port}/?text=Hello+there."
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required",
         f"--user-data-dir={profile}", "--timeout=100000", "--virtual-time-budget=15000", "--dump-dom", address],
        capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    return done.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_the_page_plays_and_shows_words_and_a_spectrogram(bundled, tmp_path):
    page = shown(bundled, tmp_path)
    body = re.search(r"<body[^>]*>", page)[0]
    assert re.search('data-state="(playing|played)"', body), body
    assert int(re.search(r'data-columns="(\d+)"', body)[1]) > 50
    assert re.findall(r"<span [^>]*>(\w+)</span>", page) == ["Hello", "there"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_the_page_shows_an_answer_that_is_no_json(stub, served, tmp_path, monkeypatch):
    monkeypatch.setattr(stub, "stream", None)  # which the server has no words for
    page = shown(served, tmp_path)
    assert 'data-state="failed"' in page and "500: Internal Server Error" in page


# -- the command


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_finishes_what_has_begun(voice, ending):
    text = f"{TEXT} " * 6
    command = [sys.executable, "serve.py", "-id", str(checkpoint.BUNDLED), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        port = int(re.match(r"http://127\.0\.0\.1:(\d+): \d+ texts at a time", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", SPEECH, json.dumps({"input": text, "response_format": "pcm"}))
        answer = connection.getresponse()
        process.send_signal(ending)
        content = answer.read()
        n_frames = int(voice.predict_durations(text, seed=0).durations.sum())
        assert len(content) / 2 / RATE == pytest.approx(n_frames * 256 / 22050, abs=0.1)
        assert process.wait(60) in (0, -signal.SIGTERM) and process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "match"), [(("-id", "off_none"), "no run off_none"), (("--port", "{taken}"), "in use")]
)
def test_it_refuses_in_one_line(capsys, arguments, match):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = [one.format(taken=taken.getsockname()[1]) for one in arguments]
        assert serve.main(["--device", "cpu", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("serve.py: ") and match in line


def test_two_voices_of_one_id_are_refused(stub):
    spoken = serve.Spoken(stub, {"id": "stub", "speakers": []}, contextlib.nullcontext())
    with pytest.raises(ValueError, match="two voices have one id"):
        serve.Service([spoken, spoken], 1, 1, 10)
