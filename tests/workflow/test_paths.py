"""Paths and names from a configuration reach no shell but as one word, and `make` deletes nothing of the user's."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kglm import config as configuration

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
SCHEMAS = sorted((ROOT / "workflow/schemas").glob("*.yaml"))
# Numbers, and options that their functions quote themselves.
NO_WORDS = {"resources.gpu", "resources.nodes", "threads", "params.model", "params.proposed"}
WORD = re.compile(r"(?<!\{)\{((?:input|output|params|log|wildcards|resources|threads)[^{}:]*)(:q)?\}(?!\})")


def commands(path: Path) -> list[str]:
    """The shell commands of a rule file."""
    return re.findall(r"\n    shell:\n((?:        .*\n|\n(?=        ))+)", path.read_text("utf-8"))


def test_every_word_of_a_shell_command_is_quoted():
    found = [match for path in RULES for command in commands(path) for match in WORD.findall(command)]
    assert len(found) > 100
    assert {name for name, quoted in found if not quoted} <= NO_WORDS


def test_options_that_are_no_words_are_quoted_where_they_are_made():
    text = "".join(path.read_text("utf-8") for path in RULES)
    assert 'f"--model {shlex.quote(' in text and 'f"--proposed {shlex.quote(' in text


def patterns(schema: object) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
        return own + [pattern for part in schema.values() for pattern in patterns(part)]
    return [pattern for part in schema for pattern in patterns(part)] if isinstance(schema, list) else []


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_no_pattern_takes_a_final_newline(path):
    """`$` matches before one."""
    found = patterns(yaml.safe_load(path.read_text("utf-8")))
    assert found
    words = ["a", "a/b", "a==1", "0" * 40, "0" * 64, "https://host/file", "true", "1"]
    for pattern in found:
        assert pattern.endswith(r"\Z") and "$" not in pattern
        assert any(re.search(pattern, word) for word in words), pattern
        assert not any(re.search(pattern, f"{word}\n") for word in words), pattern


RESULTS = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text("utf-8"))["properties"]["results"]
GOOD = ["results", "/scratch/me/results", "a-b_c.d/e", ".cache/x", "results.v2", "a..b", "x/..y", "_x"]
BAD = ["-rf", "/", "..", ".", "a/..", "a/../b", "../b", "a*", "a[1]", "a#b", "{x}", "{input}", "a\0b", "nl\n", "a b"]
BAD += [
    "~",
    "~user/x",
    "~/x",
    "a//b",
    "a/",
    "/..",
    "./a",
    "a/.",
    "$HOME",
    "a;b",
    "a'b",
    'a"b',
    "a/-x",
    "",
    "a?",
    "a\\b",
]


@pytest.mark.parametrize("value", GOOD)
def test_a_plain_path_is_a_folder_for_results(value):
    assert re.search(RESULTS["pattern"], value)


@pytest.mark.parametrize("value", BAD)
def test_what_a_shell_or_the_workflow_reads_otherwise_is_none(value):
    assert not re.search(RESULTS["pattern"], value)


def test_the_home_folder_is_put_in_once(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    overlay = tmp_path / "o.yaml"
    overlay.write_text("results: ~/scratch\n")
    assert configuration.read(ROOT / "config.yaml", overlay)["results"] == "/home/ada/scratch"
    assert configuration.expand_home({"results": 5}) == {"results": 5}


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with results of all kinds, those of the user's own too."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    files = ["results/published/ours/run.json", "results/published/mine/run.json", "results/demo/x", "results/small/w"]
    files += ["results/kept/tracked", ".venv/bin/python", "src/a/__pycache__/b.pyc", "tests/t.py", "thesis.tex"]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    for command in (["init", "-q"], ["add", "Makefile", "results/published/ours", "results/kept"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def made(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("[!.]*/*")} | {
        path.name for path in folder.iterdir() if path.is_file() or path.name == ".venv"
    }


def test_clean_deletes_the_demo_alone_and_says_so(checkout):
    assert "deleting results/demo" in made(checkout, "clean")
    left = there(checkout)
    assert "results/demo" not in left and {"results/published", "results/small", "results/kept"} <= left


def test_distclean_lists_first_and_never_deletes_what_is_published_or_tracked(checkout):
    before = there(checkout)
    told = made(checkout, "distclean")
    assert there(checkout) == before
    assert "results/small" in told and "results/published; " not in told and "SURE=1" in told
    told = made(checkout, "distclean", "SURE=1")
    assert "deleting results/small" in told and "kept: results/kept" in told
    assert there(checkout) == before - {"results/demo", "results/small", ".venv"}
    assert sorted(path.name for path in (checkout / "results/published").iterdir()) == ["mine", "ours"]
    assert (checkout / "thesis.tex").read_text() == "x"
