"""Small graphs written to disk, entries that name them, and a web server on this machine alone."""

import http.server
import json
import os
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import strategies as st

from kglm import config as configuration
from kglm.kg.build import graph
from kglm.kg.graph import SPLITS, Graph
from kglm.kg.sources import fetch

REPOSITORY = Path(__file__).parents[2]
TRAIN = "a\tlikes\tb\nb\tlikes\tc\nc\tlikes\ta\n"
THREE = {"train.tsv": TRAIN, "valid.tsv": "a\tlikes\tc\n", "test.tsv": "b\tlikes\ta\n"}


def rows_of(entities: int, relations: int = 3, **sizes) -> st.SearchStrategy[list]:
    """Lists of (split, head, relation, tail, label), some of them false triples."""
    ends = st.integers(0, entities - 1)
    labels = st.sampled_from([1, 1, 1, -1])
    return st.lists(st.tuples(st.sampled_from(SPLITS), ends, st.integers(0, relations - 1), ends, labels), **sizes)


def small_graph(rows: list, entities: int) -> Graph:
    """A graph of these rows, with three relations."""
    names = [f"e{i}" for i in range(entities)]
    frame = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    relations = pd.DataFrame({"id": list("rst"), "text": list("rst"), "inverse": ["inverse r", "of", "t"]})
    return Graph(frame, relations, pd.DataFrame(rows, columns=["split", "head", "relation", "tail", "label"]))


@pytest.fixture
def build(tmp_path):
    """build(files, **entry) fetches and builds an own graph out of literal files, in tmp_path/out."""

    def build(files: dict[str, str | bytes] | None = None, **entry) -> Graph:
        sources = {}
        for name, content in (THREE | (files or {})).items():
            path = tmp_path / "own" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            sources[name] = str(path)
        splits = {"train": "train.tsv", "valid": "valid.tsv", "test": "test.tsv"}
        spec = {"name": "own", "files": sources, "splits": splits} | entry
        fetch(spec, tmp_path / "out" / "raw")
        graph(spec, tmp_path / "out" / "raw", tmp_path / "out")
        return Graph.read(tmp_path / "out")

    return build


@pytest.fixture(scope="session")
def entries() -> dict:
    """The configuration's datasets and corpora, each with its name, as the stages get them."""
    # The full texts of FB15k-237 are in no mirror: the small scale does without them.
    config = configuration.read(REPOSITORY / "config.yaml", REPOSITORY / "workflow/scales/small.yaml")
    return {
        kind: {key: {"name": key} | entry for key, entry in config[kind].items()} for kind in ("datasets", "corpora")
    }


@pytest.fixture(scope="session")
def mirror() -> Path:
    if not os.environ.get("KGLM_MIRROR"):
        pytest.skip("KGLM_MIRROR names no folder with the benchmark files")
    return Path(os.environ["KGLM_MIRROR"])


@pytest.fixture(scope="session")
def built(mirror, entries, tmp_path_factory):
    """built(dataset): the graph out of the mirror, its folder and its statistics and problems, made once."""
    made = {}

    def built(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            entry = entries["datasets"][name] | {"mirror": str(mirror)}
            fetch(entry, folder / "raw")
            graph(entry, folder / "raw", folder)
            figures = [json.loads((folder / f"{kind}.json").read_text()) for kind in ("statistics", "problems")]
            made[name] = (Graph.read(folder), folder / "raw", *figures)
        return made[name]

    return built


class Server:
    """Serves `content` by path; `cut` breaks each answer after so many bytes, `moved` redirects."""

    def __init__(self):
        self.content: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.cut: int | None = None
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler) -> None:
        path = handler.path.partition("?")[0]
        self.requests.append((path, handler.headers.get("Range")))
        if path in self.moved:
            handler.send_response(302)
            handler.send_header("Location", self.moved[path])
            handler.end_headers()
            return
        if path not in self.content:
            handler.send_error(404)
            return
        body, start = self.content[path], 0
        if self.ranges and handler.headers.get("Range"):
            start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        end = len(body) if self.cut is None else start + self.cut
        handler.wfile.write(body[start:end])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("kglm.kg.download.PAUSE", 0.0)
    server = Server()
    yield server
    server.close()
