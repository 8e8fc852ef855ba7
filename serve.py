"""Speech over HTTP: python serve.py, then POST /v1/audio/speech as OpenAI's clients do, or a browser."""

import argparse
import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_util.config import ROOT
from data_util.features import n_cpus
from runtime import command, onnx_runtime, sound_files
from runtime.chunking import within
from sampling import Voice
from text import TextError
from training import checkpoint, gpu, voices

try:
    import soxr
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    sys.exit(f"serve.py: {missing.name} is not installed: pip install -r requirements-extra.txt")

MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "opus": "audio/ogg; codecs=opus",
               "pcm": "audio/pcm", "json": "application/json", "srt": "text/plain",
               "textgrid": "text/plain"}  # fmt: skip
CLIENTS_RATE = 24000  # Hz, at which OpenAI's clients expect pcm, and which Opus has
LONGEST_BODY = 10_000, 12  # bytes of a request, and for each character of its text, which JSON may escape
READING_SECONDS, SENDING_SECONDS, ENDING_SECONDS = 30, 900, 30  # of a request, of its answer, of all at shutdown
WARM_UP = "The first 2 texts take longer."
GONE = 499  # the status for a client that hung up, as nginx logs it
UNSENT = 100  # answers that are spoken, and whose clients have not taken all of them yet


class Wanted(BaseModel):
    """What is to be spoken, as OpenAI's clients say it: model is not read; speed is over 1 faster; null says
    nothing."""

    model_config = ConfigDict(extra="forbid")
    model: Any = None
    input: str
    voice: str | None = None
    speed: float = Field(1.0, ge=0.25, le=4.0)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body


class WantedSpeech(Wanted):
    response_format: Literal["wav", "flac", "mp3", "opus", "pcm"] = "mp3"
    stream_format: Literal["audio"] = "audio"


class WantedTimestamps(Wanted):
    response_format: Literal["json", "srt", "textgrid"] = "json"


# -- the voices


@dataclass(frozen=True)
class Spoken:
    """A voice that is served; lock: held while it works, where only one thread may speak at a time."""

    voice: Any
    about: dict[str, Any]
    lock: Any

    @property
    def names(self) -> list[str]:
        """What a request may call it: its id, and that with each of its speakers."""
        return [self.about["id"], *(f"{self.about['id']}/{speaker}" for speaker in self.about["speakers"])]

    def parts(self, wanted: WantedSpeech, speaker: str | None) -> Iterator[bytes]:
        """The encoded sound as it is made."""
        kind, rate = wanted.response_format, self.voice.reader.sample_rate
        wavs = within(lambda: self.lock, self.voice.stream(wanted.input, **self._settings(wanted, speaker)))
        if kind in ("opus", "pcm"):
            wavs, rate = resampled(wavs, rate), CLIENTS_RATE
        return sound_files.stream(wavs, rate, kind)

    def timestamps(self, wanted: WantedTimestamps, speaker: str | None) -> Iterator[bytes]:
        with self.lock:
            speech = self.voice.predict_durations(wanted.input, **self._settings(wanted, speaker))
        yield self.voice.timestamps(speech, wanted.response_format).encode("utf-8")

    def _settings(self, wanted, speaker):
        return {"seed": wanted.seed, "length_scale": 1 / wanted.speed, "speaker": speaker}


def resampled(wavs: Iterator[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """Sound (n,) at CLIENTS_RATE, as it is made."""
    stream = soxr.ResampleStream(sample_rate, CLIENTS_RATE, 1, dtype="float32")
    for wav in wavs:
        yield stream.resample_chunk(wav.astype(np.float32))
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def load(name: str | None, args: argparse.Namespace) -> Spoken:
    """A voice, which has spoken once. name: a run, a path to one or to what export.py wrote, which ONNX Runtime speaks.

    Raises CheckpointError, VoiceError, TextError.
    """
    exported = onnx_runtime.find(Path(name)) if name else None
    runtime = "onnx" if exported else "pytorch"
    if exported:
        voice: Any = onnx_runtime.Voice(exported, n_threads=args.threads)
    else:
        path, _ = voices.find(None if name is None else voices.run_id(name))
        voice = Voice(checkpoint.load_voice(path), args.device)
        gpu.set_precision(args.device, voice.saved.config.system.tf32)
    about = {"id": voice.name, "step": voice.step, "runtime": runtime, "language": voice.front_end.language,
             "sample_rate": voice.reader.sample_rate, "speakers": list(voice.speakers)}  # fmt: skip
    voice.speak(WARM_UP)
    # PyTorch's model is told who speaks by a state of its own
    lock = threading.Lock() if runtime == "pytorch" and voice.speakers else contextlib.nullcontext()
    return Spoken(voice, about, lock)


# -- a request


class Job:
    """Work on a thread of a pool, and what it makes, part by part, for the event loop."""

    def __init__(self, pool: ThreadPoolExecutor, make: Callable[[], Iterator[bytes]], leave: Callable[[], None]):
        """leave: called by the event loop when the work is done, or will not begin."""
        self._loop, self._parts = asyncio.get_running_loop(), asyncio.Queue()  # type: ignore[var-annotated]
        self._is_over = threading.Event()
        self._future = pool.submit(self._work, make)
        self._future.add_done_callback(lambda _: self._tell(leave))

    async def parts(self) -> AsyncIterator[bytes]:
        """What make gives, but for empty parts; raises what it raises."""
        while (part := await self._parts.get()) is not None:
            if isinstance(part, Exception):
                raise part
            yield part

    def end(self) -> None:
        """Stop working: nobody listens any more."""
        self._is_over.set()
        self._future.cancel()

    def _work(self, make):
        try:
            for part in make():
                if self._is_over.is_set():
                    return
                if part:
                    self._tell(self._parts.put_nowait, part)
            self._tell(self._parts.put_nowait, None)
        except Exception as error:
            self._tell(self._parts.put_nowait, error)

    def _tell(self, *call):
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it who listened
            self._loop.call_soon_threadsafe(*call)


class Service:
    """Voices, and the places of those who speak with them: n_slots at a time, and n_waiting who wait for that. Who is
    being sent what has been spoken takes no place; there are UNSENT of them at most."""

    def __init__(self, spoken: list[Spoken], n_slots: int, n_waiting: int, longest: int):
        self.voices = {one.about["id"]: one for one in spoken}
        if len(self.voices) < len(spoken):
            raise ValueError(f"two voices have one id (there are: {', '.join(self.voices)}): serve one of them")
        self.pool = ThreadPoolExecutor(n_slots, thread_name_prefix="speech")
        self.n_places, self.n_taken, self.n_open, self.longest = n_slots + n_waiting, 0, 0, longest

    def find(self, wanted: Wanted) -> tuple[Spoken, str | None]:
        """The voice and the speaker that voice names, ID or ID/SPEAKER; without it the first. Raises HTTPException."""
        if len(wanted.input) > self.longest:
            raise HTTPException(400, f"input: has {len(wanted.input)} characters, at most {self.longest} are spoken")
        name = wanted.voice or next(iter(self.voices))
        for spoken in self.voices.values():
            if name in spoken.names:
                return spoken, name.removeprefix(spoken.about["id"])[1:] or None
        known = ", ".join(name for spoken in self.voices.values() for name in spoken.names)
        raise HTTPException(400, f"voice: {name[:100]!r} is none of {known}")

    async def answer(self, request: Request, kind: type[Wanted], parts_of: Callable[..., Iterator[bytes]]) -> Response:
        """What parts_of, of Spoken, gives for a request, as it gives it, when a thread is free. Raises HTTPException
        where the request is wrong, no place is, or the client is gone before anything is made."""
        wanted = await read(request, kind, self.longest)
        spoken, speaker = self.find(wanted)
        if self.n_taken >= self.n_places or self.n_open >= self.n_places + UNSENT:
            raise HTTPException(429, f"{self.n_places} requests are being spoken or wait: try again later",
                                headers={"Retry-After": "1"})  # fmt: skip
        self.n_taken, self.n_open = self.n_taken + 1, self.n_open + 1
        job = Job(self.pool, partial(parts_of, spoken, wanted, speaker), self._leave)

        def close():
            job.end()
            self.n_open -= 1

        parts = job.parts()
        try:
            first = await unless_gone(request, anext(parts, b""))
        except TextError as error:
            close()
            raise HTTPException(400, f"input: {error}") from error
        except asyncio.CancelledError as error:
            close()
            raise HTTPException(503, "the server is shutting down") from error
        except BaseException:
            close()
            raise
        return Answer(first, parts, MEDIA_TYPES[wanted.response_format], close)

    def _leave(self):
        self.n_taken -= 1


async def unless_gone(request: Request, result: Awaitable[bytes]) -> bytes:
    """What is awaited. Raises HTTPException, which nobody receives, where the client hangs up before."""

    async def gone():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = made, left = asyncio.ensure_future(result), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        raise HTTPException(GONE, "the client is gone")
    finally:
        made.cancel()
        left.cancel()


class Answer(StreamingResponse):
    """Parts of a body, sent as they come; close is called when all is sent, or nobody listens any more."""

    def __init__(self, first: bytes, parts: AsyncIterator[bytes], media_type: str, close: Callable[[], None]):
        self._close = close

        async def body() -> AsyncIterator[bytes]:
            yield first
            async for part in parts:
                yield part

        super().__init__(body(), media_type=media_type)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), SENDING_SECONDS)
        finally:
            self._close()


async def read(request: Request, kind: type[Wanted], longest: int) -> Any:
    """The JSON of a request. Raises HTTPException where it is none, too long, or does not come."""
    limit, content = LONGEST_BODY[0] + LONGEST_BODY[1] * longest, bytearray()

    async def read_all():
        async for part in request.stream():
            content.extend(part)
            if len(content) > limit:
                raise HTTPException(413, f"the request has more than {limit} bytes")

    try:
        await asyncio.wait_for(read_all(), READING_SECONDS)
        return kind.model_validate_json(bytes(content))
    except ClientDisconnect as error:
        raise HTTPException(GONE, "the client is gone") from error
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the request did not come within {READING_SECONDS} s") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(400, f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}") from error


def make_app(service: Service) -> FastAPI:
    """The routes. Nothing that a request says names a file."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        # it waits for the threads, which end when the event loop has told them to; what has not begun does not begin
        await asyncio.to_thread(service.pool.shutdown, cancel_futures=True)

    app, page = FastAPI(title="NiSETS", lifespan=lifespan), (ROOT / "serve.html").read_text(encoding="utf-8")

    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> JSONResponse:
        about = {"message": error.detail, "type": "invalid_request_error", "param": None, "code": None}
        return JSONResponse({"error": about}, error.status_code, error.headers)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index() -> HTMLResponse:
        policy = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.api_route("/v1/voices", methods=["GET", "HEAD"])
    async def list_voices() -> JSONResponse:
        return JSONResponse({"voices": [one.about for one in service.voices.values()]})

    @app.post("/v1/audio/speech")
    async def speech(request: Request) -> Response:
        return await service.answer(request, WantedSpeech, Spoken.parts)

    @app.post("/v1/audio/timestamps")
    async def timestamps(request: Request) -> Response:
        return await service.answer(request, WantedTimestamps, Spoken.timestamps)

    return app


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve.py", description="Speak over HTTP.", allow_abbrev=False,
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-id", "--id", action="append", metavar="ID", dest="ids", help="a run in checkpoint/ or a path "
                        "to one, which PyTorch speaks, or a folder that export.py wrote, which ONNX Runtime speaks; as "
                        "often as you like; without it the newest intelligible run")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--slots", type=int, default=n_cpus(), metavar="N", help="requests that are spoken at a time")
    parser.add_argument("--waiting", type=int, default=16, metavar="N", help="that wait; others are refused with 429")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="cores that each of them may use")
    parser.add_argument("--longest", type=int, default=4096, metavar="CHARACTERS", help="of a text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if min(args.slots, args.threads, args.longest, args.waiting + 1) < 1 or not 0 <= args.port < 2**16:
        parser.error("--slots, --threads and --longest must be at least 1, --waiting at least 0, --port under 65536")
    return args


def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C, and finish what has begun."""
    torch.set_num_threads(args.threads)
    spoken = [load(name, args) for name in args.ids or [None]]
    app = make_app(Service(spoken, args.slots, args.waiting, args.longest))
    config = uvicorn.Config(app, args.host, args.port, log_level="warning", timeout_graceful_shutdown=ENDING_SECONDS)
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with socket.create_server((args.host, args.port), family=family) as listening:
        host, port = listening.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}: {args.slots} texts at a time", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # which it raises when it has ended
            uvicorn.Server(config).run([listening])


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return command.exit_status(run, args, "serve.py")


if __name__ == "__main__":
    sys.exit(main())
