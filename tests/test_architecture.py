"""Imports go one way, and what needs no torch does not import it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kglm

SOURCE = Path(kglm.__file__).parent
ORDER = ["kg", "ranking", "lm", "plan", "methods", "training", "analysis", "paper", "inference", "report", "published"]
LEARNING = {"torch", "transformers", "peft", "accelerate", "datasets", "lm_eval"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def files(package: str) -> list[Path]:
    found = sorted((SOURCE / package).rglob("*.py"))
    assert found
    return found


def test_every_package_has_its_place():
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_none_that_stands_behind_it(package):
    behind = {f"kglm.{name}" for name in ORDER[ORDER.index(package) + 1 :]} | {"kglm.cli", "kglm.config"}
    for path in files(package):
        wrong = {name for name in imports(path) for other in behind if name == other or name.startswith(f"{other}.")}
        assert not wrong, path


@pytest.mark.parametrize("package", ["kg", "ranking", "paper", "report", "published"])
def test_what_knows_no_model_needs_no_torch(package):
    for path in files(package):
        assert not {name.split(".")[0] for name in imports(path)} & LEARNING, path


@pytest.mark.parametrize("package", ["paper", "report", "published"])
def test_what_shows_results_knows_no_method_and_no_model(package):
    for path in files(package):
        assert not [name for name in imports(path) if name.startswith(("kglm.methods", "kglm.lm", "kglm.training"))]


def test_reading_the_configuration_imports_no_torch():
    code = "import sys, kglm.config, kglm.validation, kglm.invalidation; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "kglm.config" in loaded
    assert not {name.split(".")[0] for name in loaded} & (LEARNING | {"pandas"})


def test_nothing_reads_pickles_or_remote_code():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "eval", "exec"}, path
            given = {key.arg: ast.unparse(key.value) for key in node.keywords}
            assert given.get("trust_remote_code", "False") == "False", path
            assert given.get("allow_pickle", "False") == "False", path
            assert given.get("shell", "False") == "False", path
