"""The import rules: one ladder, text -> data_util -> model -> training -> scripts, and one star inside model/."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LADDER = {"text": 0, "data_util": 1, "model": 2, "training": 3}
LAST = ("benchmarks", "experiments")  # which may call any script
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
FILES = sorted(path for folder in (*LADDER, ".", *LAST) for path in (ROOT / folder).glob("*.py")) + sorted(
    (ROOT / "model" / "monotonic_align").glob("*.py")
)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path):
    """Every module of ours that a file names, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "model"], ids=module_of)
def test_in_model_only_the_whole_knows_its_parts(path):
    if path.stem == "nisets":
        return
    siblings = {name.split(".")[1] for name in imports_of(path) if name.startswith("model.")}
    assert siblings <= {"layers"}, f"{module_of(path)} imports {siblings - {'layers'}}"


def test_the_walk_sees_what_it_must():
    assert {"text.front_end", "data_util.config", "model.nisets", "training.state", "train", "sampling"} <= set(
        map(module_of, FILES)
    )
    assert "model.unet" in imports_of(ROOT / "model" / "nisets.py")
    assert "data_util.dataset.Batch" in imports_of(ROOT / "model" / "nisets.py")


def test_the_top_level_has_the_promised_shape():
    wanted = ["config.yaml", "run.sh", "train.py", "sampling.py", "requirements.txt", "README.md"]
    folders = ["model", "data_util", "text", "checkpoint"]
    assert [name for name in wanted if not (ROOT / name).is_file()] == []
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
