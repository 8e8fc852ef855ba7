"""The import rules: text, runtime, data_util, model, evaluation, training, scripts; and the order inside model/."""

import ast

import pytest

from data_util.config import ROOT

LADDER = {"text": 0, "runtime": 1, "data_util": 2, "model": 3, "evaluation": 4, "training": 5}
LAST = ("benchmarks", "experiments")  # which may call any script
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
FILES = sorted(path for folder in (*LADDER, ".", *LAST) for path in (ROOT / folder).glob("*.py")) + sorted(
    path for folder in ("model/monotonic_align", "text/english") for path in (ROOT / folder).glob("*.py")
)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path):
    """Every module of ours that a file names, wherever in it the import stands, but for types alone."""
    tree, names = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in {*LADDER, *SCRIPTS, *LAST, "tests"}}


def rung(module):
    folder = module.split(".")[0]
    return len(LADDER) + 1 if folder in LAST else LADDER.get(folder, len(LADDER))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_leftwards_only(path):
    ours, folder = rung(module_of(path)), path.parent.name
    for name in imports_of(path):
        theirs = name.split(".")[0]
        assert theirs != "tests", f"{module_of(path)} imports {name}"
        assert theirs not in LAST or theirs == folder, f"{module_of(path)} imports {name}"
        assert rung(name) <= ours, f"{module_of(path)} imports {name}, which stands to its right"
        if folder in LAST or path.parent == ROOT and theirs == "sampling":
            continue  # a script may speak as whoever imports the project does
        assert rung(name) < len(LADDER), f"{module_of(path)} imports {name}: a script is imported by nobody"


MODEL = (  # a file of model/ imports from the lines above its own
    ("layers", "sde", "monotonic_align"),
    ("losses", "alignment", "vocoder", "latent"),
    ("denoiser", "text_encoder", "unet", "convnext", "hifigan", "tiled", "discriminator"),
    ("prosody",),
    ("networks",),
    ("nisets",),
)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "model"], ids=module_of)
def test_a_file_of_the_model_imports_what_stands_above_it(path):
    above = {name: i for i, row in enumerate(MODEL) for name in row}
    if path.stem == "__init__":
        return
    assert path.stem in above, f"{module_of(path)}: give it a line in MODEL here, and in CONTRIBUTING.md's ladder"
    for name in imports_of(path):
        if name.startswith("model."):
            assert above[name.split(".")[1]] < above[path.stem], f"{module_of(path)} imports {name}"
        assert not name.startswith("data_util.") or name.startswith("data_util.audio"), f"{module_of(path)}: {name}"


@pytest.mark.parametrize("folder", ["text", "text/english", "runtime"])
def test_what_export_ships_knows_nothing_of_pytorch(folder):
    for path in (ROOT / folder).glob("*.py"):
        assert "import torch" not in path.read_text(encoding="utf-8"), path


def test_the_walk_sees_what_it_must():
    wanted = {"text.front_end", "text.english.normalise", "data_util.config", "model.nisets", "training.state", "train"}
    assert wanted < set(map(module_of, FILES))
    assert "model.unet" in imports_of(ROOT / "model" / "networks.py")
    assert "data_util.dataset.Batch" not in imports_of(ROOT / "model" / "nisets.py")  # a type alone


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_classes_and_functions_stay_short(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        length = node.end_lineno - node.lineno + 1 if hasattr(node, "end_lineno") and hasattr(node, "lineno") else 0
        assert not isinstance(node, ast.FunctionDef) or length <= 60, f"{module_of(path)}.{node.name}: {length} lines"
        assert not isinstance(node, ast.ClassDef) or length <= 250, f"{module_of(path)}.{node.name}: {length} lines"


PARSING = [path for path in FILES if "add_argument(" in path.read_text(encoding="utf-8")]


def calls_of(path, name):
    """The calls of functions and classes of a name, in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and name == getattr(node.func, "attr", getattr(node.func, "id", "")):
            yield node


@pytest.mark.parametrize("path", PARSING, ids=module_of)
def test_flags_have_a_long_form_and_help_its_defaults(path):
    for call in calls_of(path, "add_argument"):
        flags = [one.value for one in call.args if isinstance(one, ast.Constant)]
        short = [flag for flag in flags if flag.startswith("-") and not flag.startswith("--")]
        assert not short or any(flag.startswith("--") for flag in flags), f"{module_of(path)}: {short}"
        # without a text of its own argparse shows no default either
        assert "help" in {keyword.arg for keyword in call.keywords}, f"{module_of(path)}: {flags}"
    for call in calls_of(path, "ArgumentParser"):
        keywords = {keyword.arg for keyword in call.keywords}
        by_hand = path.parent.name == "text" or module_of(path) == "data_util.demo"  # left of runtime/, and one line
        assert "formatter_class" in keywords or by_hand, module_of(path)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_bars_have_a_width(path):
    for call in calls_of(path, "tqdm"):
        assert "ncols" in {keyword.arg for keyword in call.keywords}, f"{module_of(path)}:{call.lineno}"


def test_the_top_level_has_the_promised_shape():
    wanted = ["config.yaml", "run.sh", "train.py", "sampling.py", "requirements.txt", "README.md"]
    folders = ["model", "data_util", "text", "checkpoint"]
    assert [name for name in wanted if not (ROOT / name).is_file()] == []
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
