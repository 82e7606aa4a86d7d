"""Which code a stage reaches, on a small package of its own. What Snakemake makes of it: test_rerun.py."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.cli import STAGES
from kglm.config import methods
from kglm.errors import InputError
from kglm.invalidation import closure, code_hash

FILES = {
    "__init__.py": '"""The package."""\n__version__ = "1"\n',
    "stage.py": """
        import numpy as np
        from kglm import helpers
        from kglm.helpers import shared as renamed
        from kglm.pick import pick

        LIMIT = 3
        UNUSED = 4

        def run(spec):
            '''What it does.'''
            return renamed(LIMIT) + helpers.other() + pick(spec)

        def sibling():
            return np.zeros(UNUSED)
    """,
    "helpers.py": """
        SETTINGS = {"a": 1}

        def shared(x):
            from kglm.deep import inner
            return inner(x)

        def other():
            return SETTINGS["a"]

        def lonely():
            return 0
    """,
    "deep.py": """
        from pathlib import Path

        def inner(x):
            return Path(__file__).with_name("numbers.csv"), x
    """,
    "pick.py": """
        import importlib
        from kglm.drawings import first, second

        KINDS = {"one": first, "two": second}

        def pick(name):
            KINDS[name]()
            return importlib.import_module(f"kglm.methods.{name}")
    """,
    "drawings.py": """
        def first():
            return 1

        def second():
            return 2
    """,
    "numbers.csv": "a,b\n1,2\n",
    "methods/__init__.py": "",
    "methods/_base.py": "def basis():\n    return 0\n",
    "methods/one.py": "from kglm.methods._base import basis\n\ndef loss():\n    return basis()\n",
    "methods/two.py": "def loss():\n    return 2\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        write(tmp_path / name, text)
    return tmp_path


def write(path: Path, text: str) -> None:
    lines = text.split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line[margin:] for line in lines), "utf-8")


def reached(package: Path, choice: str | None = "one") -> dict[str, str]:
    # Modules are parsed once a process: a fresh path is what a fresh process would see.
    copy = package.with_name(f"{package.name}-{len(list(package.parent.iterdir()))}")
    for file in package.rglob("*.*"):
        target = copy / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return closure(("kglm.stage", "run"), choice, copy)


def edit(package: Path, name: str, old: str, new: str) -> None:
    text = (package / name).read_text("utf-8")
    assert text.count(old) == 1
    (package / name).write_text(text.replace(old, new), "utf-8")


def test_reaches_functions_constants_imports_at_any_depth_and_data_files(package):
    names = {key.rpartition(":")[0] or key for key in reached(package)}
    for place in (
        "stage:run",
        "stage:LIMIT",
        "helpers:shared",
        "helpers:other",
        "helpers:SETTINGS",
        "deep:inner",
    ):
        assert f"kglm.{place}" in names
    assert {
        "kglm.methods.one:loss",
        "kglm.methods._base:basis",
        "kglm.drawings:first",
        "numbers.csv",
    } <= names


def test_leaves_out_what_is_not_reached(package):
    names = " ".join(reached(package))
    for name in ("sibling", "UNUSED", "lonely", "kglm.methods.two", "drawings:second", "stage:np"):
        assert name not in names


def test_without_a_choice_all_of_them_count(package):
    names = " ".join(reached(package, None))
    assert "kglm.methods.two:loss" in names and "drawings:second" in names and "methods._base:basis" in names


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "LIMIT = 3", "LIMIT = 3  # a comment"),
        ("stage.py", "'''What it does.'''", "'''What it does, told\n    otherwise.'''"),
        ("stage.py", "UNUSED = 4", "UNUSED = 5"),
        ("stage.py", "def sibling():", "\n\n\ndef sibling():"),
        ("stage.py", "import numpy as np", "import numpy as np, scipy"),
        ("stage.py", "return renamed(LIMIT)", "return (renamed( LIMIT ))"),
        ("helpers.py", "return 0", "return 1"),
        ("drawings.py", "return 2", "return 3"),
        ("methods/two.py", "return 2", "return 3"),
        ("__init__.py", '"""The package."""', '"""A package."""'),
        ("__init__.py", '__version__ = "1"', '__version__ = "2"'),
    ],
)
def test_does_not_change_with(package, file, old, new):
    before = reached(package)
    edit(package, file, old, new)
    assert reached(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "LIMIT = 3", "LIMIT = 4"),
        ("stage.py", "+ helpers.other()", "- helpers.other()"),
        ("helpers.py", '{"a": 1}', '{"a": 2}'),
        ("helpers.py", 'SETTINGS = {"a": 1}', 'SETTINGS = {"a": 1}\nSETTINGS["b"] = 2'),
        ("deep.py", "from pathlib import Path", "from pathlib import PurePath as Path"),
        ("deep.py", ", x", ", -x"),
        ("numbers.csv", "1,2", "1,3"),
        ("drawings.py", "return 1", "return 3"),
        ("methods/one.py", "return basis()", "return -basis()"),
        ("methods/_base.py", "return 0", "return 1"),
        ("methods/__init__.py", "", "print('imported')\n"),
    ],
)
def test_changes_with(package, file, old, new):
    before = reached(package)
    if old:
        edit(package, file, old, new)
    else:
        (package / file).write_text(new, "utf-8")
    assert reached(package) != before


@given(st.lists(st.sampled_from(["# a\n", "\n", "   # indented\n"]), max_size=5), st.integers(0, 3))
def test_comments_and_blank_lines_never_count(tmp_path_factory, lines, place):
    folder = tmp_path_factory.mktemp("package")
    parts = ["x = 1\n", "def run():\n    return x\n"]
    for name, insertion in (("plain", ""), ("commented", "".join(lines))):
        write(folder / name / "__init__.py", "")
        text = "".join([*parts[: place % 3], insertion, *parts[place % 3 :]])
        (folder / name / "stage.py").write_text(text, "utf-8")
    plain, commented = (closure(("kglm.stage", "run"), None, folder / name) for name in ("plain", "commented"))
    assert plain == commented


def test_refuses_a_star_import_of_its_own(package):
    edit(package, "stage.py", "from kglm import helpers", "from kglm.helpers import *")
    with pytest.raises(InputError, match=r"imports \* from kglm\.helpers"):
        reached(package)


def test_refuses_a_function_that_is_not_there(package):
    with pytest.raises(InputError, match="no nothing in kglm"):
        closure(("kglm.stage", "nothing"), None, package)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_hash(stage):
    assert len(code_hash(stage)) == 16
    assert importlib.util.find_spec(STAGES[stage].split(":")[0]) is not None


@pytest.mark.parametrize("method", methods())
def test_a_run_counts_its_own_method_and_no_other(method):
    modules = {key.partition(":")[0] for key in closure(("kglm.training.stages", "train"), method)}
    picked = {name for name in modules if name.startswith("kglm.methods.") and "._" not in name}
    assert picked == {f"kglm.methods.{method}"}


def test_training_does_not_count_what_comes_after_it():
    keys = " ".join(closure(("kglm.training.stages", "train"), "kalm"))
    assert "kglm.training.stages:train" in keys
    for other in (
        "stages:embed:",
        "kglm.analysis",
        "kglm.paper",
        "ranking.stages",
        "ranking.metrics",
        "kglm.cli",
    ):
        assert other not in keys


def test_ranking_and_reporting_reach_no_model():
    for start in (
        ("kglm.ranking.stages", "rank"),
        ("kglm.paper.tables", "table"),
        ("kglm.paper.figures", "figure"),
    ):
        modules = {key.partition(":")[0] for key in closure(start)}
        assert not [name for name in modules if name.startswith(("kglm.lm", "kglm.methods", "kglm.training"))]


def test_the_closure_holds_all_code_that_really_runs(tmp_path):
    """What is called while a stage runs is in its closure: nothing is overlooked."""
    from kglm import invalidation
    from kglm.kg.build import graph
    from kglm.kg.sources import fetch

    (tmp_path / "t.tsv").write_text("".join(f"a{i}\tr\ta{i + 1}\n" for i in range(20)), "utf-8")
    spec = {
        "name": "toy",
        "files": {"t.tsv": str(tmp_path / "t.tsv")},
        "splits": {"file": "t.tsv", "ratio": [0.8, 0.1, 0.1], "seed": 0},
    }
    calls: set[tuple[str, str]] = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and invalidation.PACKAGE in path.parents:
            module = ".".join(("kglm", *path.relative_to(invalidation.PACKAGE).with_suffix("").parts))
            calls.add((module.removesuffix(".__init__"), frame.f_code.co_qualname.split(".")[0]))

    for stage, arguments in ((fetch, (tmp_path / "raw",)), (graph, (tmp_path / "raw", tmp_path / "graph"))):
        calls.clear()
        sys.setprofile(note)
        try:
            stage(spec, *arguments)
        finally:
            sys.setprofile(None)
        keys = closure((stage.__module__, stage.__name__))
        called = {call for call in calls if not call[1].startswith("<")}
        assert len(called) > 3
        assert {call for call in called if f"{call[0]}:{call[1]}:0" not in keys} == set()
