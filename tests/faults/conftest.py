"""The whole pipeline on the ring, made once, and copies of it to damage."""

import shutil

import pytest

from kglm.cli import main

from .pipeline import STEPS, command, write_sources


@pytest.fixture(scope="session")
def made(ring_graph, tmp_path_factory):
    """A folder in which every step of `pipeline` has been taken."""
    folder = tmp_path_factory.mktemp("pipeline") / "made"
    write_sources(ring_graph, folder)
    for step in STEPS:
        assert main(command(step, folder)) == 0, step
        if step == "graph":  # a table asks for a dataset by its folder's name
            shutil.copytree(folder / "data", folder / "data/ring", ignore=shutil.ignore_patterns("raw"))
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """The same in a folder of its own."""
    return shutil.copytree(made, tmp_path / "copy")
