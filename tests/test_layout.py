"""A technique is one name in three trees, and imports go one way.

`pgolf/<stage>/<name>.py` says what it is, `search_spaces/<stage>/<name>.py` what of it is searched and
`tests/<stage>/test_<name>.py` what must hold of it. A new technique that lacks one of the three fails here
by name. What assembles techniques, or is not searched, is listed below with the reason.
"""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    "model",
    "optim",
    "quantize",
    "pack",
    "evaluate",
    "evaluate/ttt",
    "evaluate/memory",
    "data",
    "train",
)
PYTHON_FOLDERS = {"pgolf", "search_spaces", "cluster", "services", "tests", "benchmarks"}
BASES = (
    "Source",
    "Mode",
    "DescentSection",
    "MemorySection",
    "QuantizerSection",
    "GroupedQuantizer",
    "RowGrid",
)
SPACE_ELSEWHERE = {
    "evaluate/memory/byte_ppm": "outside the rules: nothing searches it",
    "evaluate/memory/paid_prefix": "outside the rules: nothing searches it",
    "data/source": "where the text comes from is the round's choice, not the sampler's",
    "quantize/stage": "the byte target is the rules' cap",
    "train/loop": "assembles the budget and the batch; both are searched by train/budget",
}
CHOOSERS = {
    "evaluate/adaptation",
    "evaluate/evaluation",
    "evaluate/memories",
    "data/loader",
    "data/tokenizer",
    "model/carry",
    "model/head_gate",
    "model/ngrams",
    "model/output_init",
    "model/parallel",
    "model/rope_scaling",
    "model/self_exclusion",
    "model/smear",
    "pack/packer",
    "quantize/quantizer",
}
FUNCTION_NAMES = {"optim/optimizer": "optim"}  # the section's own name: an Optim holds several optimizers


def sections(file: Path) -> list[str]:
    """Names of the Section subclasses that a module defines, abstract bases left out."""
    classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    return [
        c.name
        for c in classes
        if c.name not in BASES
        and any(isinstance(b, ast.Name) and b.id in ("Section", *BASES) for b in c.bases)
    ]


TECHNIQUES = sorted(
    f"{stage}/{file.stem}"
    for stage in STAGES
    for file in (ROOT / "pgolf" / stage).glob("*.py")
    if sections(file)
)


def test_there_are_techniques_to_look_at():
    """Else a renamed folder would make every test below pass on nothing."""
    assert {"model/rope", "quantize/gptq", "pack/brotli_packer", "optim/muon", "train/budget"} <= set(
        TECHNIQUES
    )


@pytest.mark.parametrize("technique", [t for t in TECHNIQUES if t not in SPACE_ELSEWHERE])
def test_a_technique_has_a_search_space_of_its_own_name(technique):
    file = ROOT / "search_spaces" / f"{technique}.py"
    assert file.is_file(), f"write {file.relative_to(ROOT)}"
    module = importlib.import_module(f"search_spaces.{technique.replace('/', '.')}")
    name = FUNCTION_NAMES.get(technique, technique.rpartition("/")[2])
    assert callable(getattr(module, name, None)), f"{file.relative_to(ROOT)} defines {name}(trial, at, ...)"


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_technique_has_a_test_of_its_own_name(technique):
    stage, _, name = technique.rpartition("/")
    file = ROOT / "tests" / stage / f"test_{name}.py"
    assert file.is_file(), f"write {file.relative_to(ROOT)}"
    assert re.search(r"^(    )?def test_", file.read_text(), re.MULTILINE), (
        f"{file.relative_to(ROOT)} tests something"
    )


def test_a_space_belongs_to_a_technique_or_chooses_among_several():
    """CHOOSERS pick the arm of a union; every other space has its technique."""
    spaces = {
        f"{s}/{f.stem}"
        for s in STAGES
        for f in (ROOT / "search_spaces" / s).glob("*.py")
        if f.stem != "__init__"
    }
    assert spaces - set(TECHNIQUES) == CHOOSERS - set(TECHNIQUES)


def test_what_is_listed_above_exists():
    assert set(SPACE_ELSEWHERE) | set(FUNCTION_NAMES) <= set(TECHNIQUES)


def test_every_module_says_what_it_is():
    for folder in ("pgolf", "search_spaces", "cluster", "services"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            assert not text.strip() or ast.get_docstring(ast.parse(text)), (
                f"{file.relative_to(ROOT)} has no docstring"
            )


def test_top_level_packages_are_the_known_ones():
    found = {f.name for f in ROOT.iterdir() if f.is_dir() and any(f.glob("*.py"))}
    assert found <= PYTHON_FOLDERS
    assert {"pgolf", "search_spaces", "cluster", "services", "tests"} <= found


def test_top_level_folders_in_git_are_the_allowed_ones():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy of the tree is no git checkout")
    folders = {name.split("/")[0] for name in listed.stdout.splitlines() if "/" in name}
    assert folders <= PYTHON_FOLDERS | {".ci", "docs"}


def test_imports_go_the_way_the_contracts_say():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as c; c(sys.argv[1:])",
         "--no-cache"], cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "0 broken" in done.stdout
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept" in done.stdout


@pytest.mark.parametrize("module", ["pgolf.pipeline", "pgolf.evaluate.__main__", "pgolf.cli"])
def test_a_trial_starts_without_the_scheduler_the_sampler_and_the_tracker(module):
    show = f"import sys, {module}; print([m for m in ('ray', 'optuna', 'mlflow', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
