"""The page is whole, the same for the same inputs, asks for nothing, and shows names as they are."""

import json
from html.parser import HTMLParser

import pytest

from kglm.cli import main
from kglm.errors import InputError
from kglm.report.page import report

from .conftest import DATASET, NAMES, RUNS, SCRIPT


class Elements(HTMLParser):
    """All start tags with their attributes, and the text of scripts and of the rest."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.scripts, self.text, self._open = [], {}, "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._open = (tag, dict(attributes).get("type", "")) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.scripts[self._open] = self.scripts.get(self._open, "") + data
        else:
            self.text += data


@pytest.fixture(scope="module")
def elements(page):
    return Elements(page.read_text("utf-8"))


def test_the_same_inputs_give_the_same_bytes(results, page, tmp_path):
    assert results.report(tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_names_are_shown_and_never_obeyed(elements):
    assert [tag for tag, _ in elements.found].count("script") == 3  # the data, the library's place, our own
    assert "<script>window.evil" in elements.text
    assert not [tag for tag, attributes in elements.found if "onerror" in attributes]
    data = json.loads(elements.scripts["script", "application/json"])
    assert {NAMES[0], SCRIPT, NAMES[3]} <= set(data[DATASET]["entities"].values())


def test_all_that_is_shown_stands_in_the_page(elements):
    links = [value for _, attributes in elements.found for key, value in attributes.items() if key in ("src", "href")]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    policies = [a["content"] for t, a in elements.found if t == "meta" and a.get("http-equiv")]
    assert [policy for policy in policies if "default-src 'none'" in policy]


def test_each_name_stands_once_and_links_lead_somewhere(elements):
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    links = {attributes["href"][1:] for tag, attributes in elements.found if tag == "a"}
    assert links <= set(names)
    assert {f"run-{run}" for run in RUNS} <= links  # that of the run `gone` would lead nowhere


def test_what_is_seen_is_also_told(elements):
    images = [attributes for tag, attributes in elements.found if tag == "img"]
    assert len(images) == 1 + len(RUNS)
    assert all(image["alt"] for image in images)
    heads = [attributes for tag, attributes in elements.found if tag == "th"]
    assert heads and all(head["scope"] in ("col", "row", "colgroup") for head in heads)


def test_it_holds_tables_figures_findings_and_runs(elements):
    for text in (
        "Ranks _of_ <all>",
        "Not run: TransE.",
        "What is seen.",
        "Hits@1 0.6 > Hits@3 0.5",
        "2 h 1 min",
        "abacus",
    ):
        assert text in elements.text, text


def test_nothing_to_show_is_a_page_too(tmp_path):
    report({}, [], [], [], [], tmp_path / "empty.html")
    assert "None were asked for." in (tmp_path / "empty.html").read_text("utf-8")


def test_a_graph_that_is_missing_is_told(results, tmp_path):
    with pytest.raises(InputError, match="toy: its graph is not given"):
        report({}, [], [], results.files(), [], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_the_command_takes_the_same_paths(results, page, tmp_path):
    spec = results.write("paper.json", json.dumps({"scale": "tiny"}))
    tables = [results.root / f"tables/{name}.csv" for name in ("kalm_table_1", "lmke_cases")]
    options = {"tables": tables, "figures": [results.root / "figures/kalm_figure_1.png"], "runs": results.files()}
    options |= {"spec": [spec], "graphs": [results.root / "data" / DATASET], "audit": [results.root / "audit.csv"]}
    options |= {"out": [tmp_path / "report.html"]}
    arguments = [part for name, paths in options.items() for part in (f"--{name}", *map(str, paths))]
    assert main(["report", *arguments]) == 0
    assert (tmp_path / "report.html").read_bytes() == page.read_bytes()
