"""Monotonic alignment search: against brute force, C against numpy, padding, errors, and a build that fails."""

import ast
import importlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model import monotonic_align
from model.monotonic_align import fallback, search


@pytest.fixture
def core():
    if monotonic_align.implementation() != "cython":
        pytest.skip("the Cython extension cannot be built here")
    return importlib.import_module("model.monotonic_align.core")


@pytest.fixture
def forget():
    """The choice of implementation is made anew within the test, and again after it."""
    monotonic_align._module.cache_clear()
    yield
    monotonic_align._module.cache_clear()


def brute_force(scores, optional):
    """The best of all ways to divide the frames over all symbols but any of the optional ones, (T_x,)."""
    t_x, t_mel = scores.shape
    ways = []
    for skipped in itertools.product(*[(False, True) if one else (False,) for one in optional]):
        kept = ~np.array(skipped)
        for cut in itertools.combinations(range(1, t_mel), kept.sum() - 1) if kept.any() else ():
            way = np.zeros(t_x, dtype=np.int64)
            way[kept] = np.diff([0, *cut, t_mel])
            ways.append(way)
    scores, symbols, frames = scores.astype(np.float64), np.arange(t_x), np.arange(t_mel)
    return max(ways, key=lambda durations: scores[np.repeat(symbols, durations), frames].sum())


def no(scores):
    """No symbol is optional."""
    return np.zeros(scores.shape[:2], dtype=bool)


def frames_first(scores):
    """(B, T_x, T_mel) as core.search and fallback.search take it."""
    return np.ascontiguousarray(scores.transpose(0, 2, 1))


def batch(rng, n_items, t_x, t_mel, ties=False):
    """scores and random lengths that fit; with ties, scores are small integers."""
    scores = rng.integers(-1, 2, (n_items, t_x, t_mel)) if ties else rng.standard_normal((n_items, t_x, t_mel)) - 40
    x_lengths = rng.integers(1, t_x + 1, n_items)
    mel_lengths = np.array([rng.integers(length, t_mel + 1) for length in x_lengths])
    return scores.astype(np.float32), x_lengths.astype(np.int32), mel_lengths.astype(np.int32)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_padded_batch_equals_singles_whatever_the_padding_holds(garbage):
    scores, x_lengths, mel_lengths = batch(np.random.default_rng(1), 12, 20, 60)
    for item, (t_x, t_mel) in enumerate(zip(x_lengths, mel_lengths)):
        scores[item, t_x:] = garbage
        scores[item, :, t_mel:] = garbage
    durations = search(scores, x_lengths, mel_lengths)
    np.testing.assert_array_equal(durations, fallback.search(frames_first(scores), x_lengths, mel_lengths, no(scores)))
    for item, (t_x, t_mel) in enumerate(zip(x_lengths, mel_lengths)):
        single = search(scores[item : item + 1, :t_x, :t_mel], [t_x], [t_mel])
        np.testing.assert_array_equal(durations[item, :t_x], single[0])


@pytest.mark.parametrize(("optional", "middle", "wanted"), [(False, 0, [1, 1, 5]), (True, -1, [1, 0, 6])])
def test_a_tie_stays_in_the_later_symbol(optional, middle, wanted):
    scores, lengths = np.zeros((1, 3, 7), dtype=np.float32), (np.array([3]), np.array([7]))
    scores[:, 1], is_optional = middle, np.array([[False, optional, False]])
    np.testing.assert_array_equal(search(scores, *lengths, is_optional), [wanted])
    np.testing.assert_array_equal(fallback.search(frames_first(scores), *lengths, is_optional), [wanted])


def some_optional(rng, scores):
    """Symbols drawn at random, of which no two are neighbours."""
    optional = rng.random(scores.shape[:2]) < 0.5
    for j in range(1, scores.shape[1]):
        optional[:, j] &= ~optional[:, j - 1]
    return optional


def test_equals_brute_force_with_and_without_optional_symbols():
    patterns = [flags for t_x in range(1, 6) for flags in itertools.product((False, True), repeat=t_x)
                if not any(a and b for a, b in itertools.pairwise(flags))]  # fmt: skip
    for flags in patterns:
        for t_mel in range(max(1, len(flags) - sum(flags)), 8):
            scores = np.random.default_rng(t_mel).standard_normal((6, len(flags), t_mel)).astype(np.float32)
            optional, lengths = np.tile(flags, (6, 1)), (np.full(6, len(flags)), np.full(6, t_mel))
            expected = [brute_force(item, np.array(flags)) for item in scores]
            found = [search(scores, *lengths, optional), fallback.search(frames_first(scores), *lengths, optional)]
            found += [] if any(flags) else [search(scores, *lengths)]
            for one in found:
                np.testing.assert_array_equal(one, expected)


def test_an_optional_symbol_may_end_an_item_and_past_the_end_optional_ones_may_be_neighbours():
    scores = np.full((2, 4, 5), -1.0, dtype=np.float32)
    scores[:, 0] = 0
    optional = np.array([[False, True, False, True]] * 2)
    arguments = np.array([2, 4]), np.array([3, 5]), optional
    for durations in (search(scores, *arguments), fallback.search(frames_first(scores), *arguments)):
        np.testing.assert_array_equal(durations, [[3, 0, 0, 0], [4, 0, 1, 0]])
    optional = np.array([[False, False, True, True]])
    np.testing.assert_array_equal(search(0 * scores[:1], [2], [5], optional), [[1, 4, 0, 0]])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_cython_equals_fallback(core, ties, n_threads):
    rng = np.random.default_rng(7)
    for t_x, t_mel in ((1, 1), (1, 9), (2, 2), (7, 8), (60, 300), (201, 803)):
        scores, x_lengths, mel_lengths = batch(rng, 8, t_x, t_mel, ties)
        for optional in (no(scores), some_optional(rng, scores)):
            mel_lengths[:4] = [max(1, (~one[:n]).sum()) for one, n in zip(optional[:4], x_lengths)]  # not one to spare
            arguments = frames_first(scores), x_lengths, mel_lengths, optional
            expected = fallback.search(*arguments)
            np.testing.assert_array_equal(core.search(*arguments, n_threads), expected)
            np.testing.assert_array_equal(search(scores, x_lengths, mel_lengths, optional), expected)
            np.testing.assert_array_equal(expected.sum(axis=1), mel_lengths)
            needed = ~optional & (np.arange(t_x) < x_lengths[:, None])
            assert expected[needed].min() >= 1 and expected.min() >= 0
            assert not expected[np.arange(t_x) >= x_lengths[:, None]].any()


def test_cython_equals_fallback_where_float32_sums_would_round(core):
    scores, x_lengths, mel_lengths = batch(np.random.default_rng(4), 4, 40, 400, ties=True)
    lengths = x_lengths, mel_lengths, no(scores)
    scores, high = frames_first(scores), frames_first(scores + np.float32(2**23))
    expected = fallback.search(scores, *lengths)
    np.testing.assert_array_equal(core.search(high, *lengths), expected)
    np.testing.assert_array_equal(fallback.search(high, *lengths), expected)


def test_gives_the_kind_it_is_given():
    scores, x_lengths, mel_lengths = batch(np.random.default_rng(5), 3, 6, 15)
    expected = search(scores, x_lengths, mel_lengths)
    assert isinstance(expected, np.ndarray) and expected.dtype == np.int64
    tensor = torch.from_numpy(scores).transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    for kind in (tensor, tensor.double()):
        durations = search(kind, torch.from_numpy(x_lengths).long(), torch.from_numpy(mel_lengths))
        assert durations.dtype == torch.long and durations.device == kind.device and not durations.requires_grad
        np.testing.assert_array_equal(durations.numpy(), expected)
    assert search(torch.zeros(2, 3, 4, dtype=torch.bfloat16), [3, 2], [4, 4]).tolist() == [[1, 1, 2], [1, 3, 0]]
    assert search(np.zeros((0, 3, 4), dtype=np.float32), [], []).shape == (0, 3)


@pytest.mark.gpu
def test_stays_on_the_gpu():
    durations = search(torch.zeros(1, 2, 4, device="cuda"), torch.tensor([2]), torch.tensor([4], device="cuda"))
    assert durations.is_cuda and durations.tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("x_lengths", "mel_lengths", "optional", "words"),
    [
        ([3, 4], [6, 3], None, r"item 1 \(T_x = 4, T_mel = 3\): fewer frames"),
        ([0, 4], [6, 6], None, r"item 0 \(T_x = 0, T_mel = 6\): lengths"),
        ([3, 4], [6, 0], None, r"item 1 \(T_x = 4, T_mel = 0\): lengths"),
        ([3, 5], [6, 6], None, r"item 1 \(T_x = 5, T_mel = 6\): lengths"),
        ([3], [6, 6], None, "must be"),
        ([[3, 3]], [6, 6], None, "must be"),
        ([4, 4], [6, 6], [0, 1, 1, 0], r"item 1 \(T_x = 4, T_mel = 6\): two optional symbols in a row"),
        ([4, 4], [6, 2], [0, 1, 0, 0], r"item 1 \(T_x = 4, T_mel = 2\): fewer frames"),
        ([4, 4], [6, 6], [0, 1, 0], r"optional \(2, 3\) must be \(B, T_x\) of scores \(2, 4, 6\)"),
    ],
)
def test_lengths_and_optional_symbols_that_do_not_fit_are_refused(x_lengths, mel_lengths, optional, words):
    optional = None if optional is None else np.array([[0] * len(optional), optional], dtype=bool)
    with pytest.raises(ValueError, match=words):
        search(np.zeros((2, 4, 6), dtype=np.float32), x_lengths, mel_lengths, optional)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = torch.zeros(2, 4, 6)
    scores[1, 2, 4] = value
    with pytest.raises(ValueError, match=r"item 1 \(T_x = 3, T_mel = 5\).*NaN or infinity"):
        search(scores, [4, 3], [6, 5])
    assert search(scores, [4, 2], [6, 6])[1].sum() == 6


@pytest.mark.usefixtures("forget")
def test_an_extension_older_than_its_source_is_not_used(core, monkeypatch, tmp_path):
    built = Path(shutil.copy(core.__file__, tmp_path))
    source = Path(shutil.copy(monotonic_align.HERE / "core.pyx", tmp_path))
    monkeypatch.setattr(monotonic_align, "HERE", tmp_path)
    os.utime(built, (2e9, 2e9))
    assert monotonic_align._import_core() is core
    os.utime(source, (2.1e9, 2.1e9))
    with pytest.raises(ImportError, match="older than its source"):
        monotonic_align._import_core()


def unbuilt_copy(folder):
    """The package's sources alone, as after a fresh checkout."""
    package = folder / "copy" / "aligner"
    package.mkdir(parents=True)
    for source in Path(monotonic_align.__file__).parent.iterdir():
        if source.suffix in (".py", ".pyx"):
            shutil.copy(source, package)
    return package


SPEAK = "import aligner, numpy; print(aligner.implementation(), aligner.search(numpy.zeros((1, 2, 4)), [2], [4]))"


def start(package, program=SPEAK):
    return subprocess.Popen([sys.executable, "-c", program], cwd=package.parent, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def test_importing_does_no_work_and_a_source_that_does_not_compile_falls_back_with_one_warning(tmp_path):
    package = unbuilt_copy(tmp_path)
    (package / "core.pyx").write_text("this is not Cython\n")
    listed = "import aligner, pathlib; print(sorted(path.name for path in pathlib.Path('aligner').iterdir())); "
    out, err = start(package, listed + SPEAK).communicate()
    files, spoken = out.strip().split("\n")
    assert not {"build", "core.c"} & set(ast.literal_eval(files)) and spoken == "numpy [[1 3]]"
    assert err.count("could not be built") == 1 and len(err.strip().splitlines()) == 1


@pytest.mark.usefixtures("forget")
def test_a_folder_that_cannot_be_written_and_a_build_that_cannot_be_imported_fall_back(monkeypatch, tmp_path, caplog):
    (tmp_path / "build").write_text("a file where the folder would be")
    shutil.copy(monotonic_align.HERE / "core.pyx", tmp_path)
    monkeypatch.setattr(monotonic_align, "HERE", tmp_path)
    monkeypatch.setattr(monotonic_align, "_import_core", lambda: importlib.import_module("model.no_core"))
    assert monotonic_align.implementation() == "numpy" and caplog.text.count("could not be built") == 1
    monotonic_align._module.cache_clear()
    monkeypatch.setattr(monotonic_align, "_build", lambda: None)
    assert monotonic_align.implementation() == "numpy" and "no_core" in caplog.text


NO_OPENMP = """#!{python}
import os, sys
sys.exit("no OpenMP") if "-fopenmp" in sys.argv else os.execvp("{compiler}", ["{compiler}", *sys.argv[1:]])
"""


def has_openmp(built):
    """Whether an extension calls what starts OpenMP's threads: GCC's, or Clang's."""
    return any(call in built.read_bytes() for call in (b"GOMP_parallel", b"kmpc_fork_call"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a compiler that is a script")
@pytest.mark.usefixtures("core")
def test_a_compiler_without_openmp_builds_a_search_for_one_thread(tmp_path):
    package, compiler = unbuilt_copy(tmp_path), tmp_path / "cc"
    compiler.write_text(NO_OPENMP.format(python=sys.executable, compiler=shutil.which("cc") or "gcc"))
    compiler.chmod(0o755)
    environment = os.environ | {"CC": str(compiler), "LDSHARED": f"{compiler} -shared"}
    out = subprocess.run([sys.executable, "-c", SPEAK], cwd=package.parent, env=environment, check=True,
                         capture_output=True, text=True).stdout  # fmt: skip
    assert out == "cython [[1 3]]\n"
    (built,) = package.glob("core.*.so")
    assert not has_openmp(built)


@pytest.mark.skipif(sys.platform != "linux", reason="other compilers may have no OpenMP")
def test_the_build_has_openmp(core):
    assert has_openmp(Path(core.__file__))


@pytest.mark.slow
def test_several_processes_build_at_once(core, tmp_path):
    package = unbuilt_copy(tmp_path)
    processes = [start(package) for _ in range(3)]
    for process in processes:
        out, err = process.communicate()
        assert out.startswith("cython [[1 3]]"), err
    assert [path.name for path in package.iterdir() if path.suffix in (".so", ".pyd")] == [Path(core.__file__).name]
    assert not list((package / "build").iterdir())


@pytest.mark.slow
def test_the_classic_way_to_build(core, tmp_path):
    package = unbuilt_copy(tmp_path)
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=package, check=True, capture_output=True)
    assert (package / Path(core.__file__).name).is_file()
    assert start(package).communicate()[0].startswith("cython")


@pytest.mark.parametrize(("environment", "torch_threads", "n_threads"),
                         [({}, 3, 3), ({}, 1, 1), ({}, 99, 8), ({"LOCAL_WORLD_SIZE": "2"}, 1, 4),
                          ({"LOCAL_WORLD_SIZE": "99"}, 1, 1)])  # fmt: skip
def test_a_process_searches_on_its_share_of_the_cores(monkeypatch, environment, torch_threads, n_threads):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads)
    seen = []

    def spied(*arguments):
        seen.append(arguments[-1])
        return fallback.search(*arguments)

    monkeypatch.setattr(monotonic_align, "_module", lambda: SimpleNamespace(search=spied))
    search(torch.zeros(9, 2, 3), [2] * 9, [3] * 9)
    search(torch.zeros(1, 2, 3), [2], [3])
    assert seen == [n_threads, 1]  # a single item has nothing to share
