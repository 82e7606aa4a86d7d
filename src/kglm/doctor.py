"""`kglm doctor`: reads the configuration and the graphs of `build`, and says what is odd, before anything is made."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kglm import config as configuration
from kglm.errors import InputError
from kglm.kg.build import examined
from kglm.kg.configuration import addresses
from kglm.kg.graph import Graph
from kglm.kg.remarks import lines, remarks
from kglm.kg.sources import fetch
from kglm.paper.fonts import fonts_for, missing_line
from kglm.validation import check

SCHEMAS = Path(__file__).parents[2] / "workflow/schemas"
_COUNTS = ("entities", "relations", "train", "valid", "test")


def doctor(configfile: list[Path] = (Path("config.yaml"),)) -> None:
    """Print what is wrong or odd about the configuration and its graphs; nothing is trained, downloaded or written.

    configfile: config.yaml and its overlays. Files come from the mirror, from packages and from local paths, or, where
    they were fetched before, from the results; a graph whose files are elsewhere is named and passed over. InputError
    for a wrong configuration, and at the end where a graph cannot be built.
    """
    config = configuration.read(*configfile)
    if SCHEMAS.is_dir():  # of an installed package without its workflow there are none
        check(config, SCHEMAS)
    print("configuration: no mistake found")
    datasets = configuration.built_datasets(config)
    wrong = [name for name in datasets if not _looked_at(config, name)]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(datasets)} graphs cannot be built: {', '.join(wrong)}", remedy="see above"
        )


def _looked_at(config: dict, name: str) -> bool:
    """Print what there is to say of one graph; False where it cannot be built."""
    try:
        found = _graph(config, name)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    if found is None:
        print(f"{name}: its files are not here; they are fetched when the workflow runs")
        return True
    graph, statistics, problems = found
    print(f"{name}: {', '.join(f'{statistics[key]:,} {key}' for key in _COUNTS)}")
    for line in [*lines(name, remarks(statistics, problems)), *_letters(graph, name)]:
        print(line)
    sys.stdout.flush()
    return True


def _graph(config: dict, name: str) -> tuple[Graph, dict, dict] | None:
    """The graph with its statistics and problems; None where its files have to be downloaded first."""
    spec = configuration.spec(config, "dataset", name)
    entry = spec | {"mirror": spec.get("mirror") or config.get("mirror")}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        try:
            fetch(_without_addresses(entry), raw)
        except InputError:
            if not any(addresses(entry)):
                raise
            raw = Path(config["results"]) / config["scale"] / "data" / name / "raw"
            if not raw.is_dir():
                return None
        return examined(spec, raw)


def _without_addresses(entry: Mapping) -> dict:
    files = {
        name: {key: value for key, value in file.items() if key != "url"} if isinstance(file, Mapping) else file
        for name, file in entry["files"].items()
    }
    return {key: value for key, value in entry.items() if key != "base_url"} | {"files": files}


def _letters(graph: Graph, name: str) -> list[str]:
    """A line where names have letters that figures and the document could not show."""
    shown = {*"".join(graph.entities["name"]), *"".join(graph.relations["text"])}
    letters = {ord(letter) for letter in shown if letter.isalnum()}
    _, nowhere = fonts_for(letters)
    return [missing_line(f"{name}, figures and paper.pdf", nowhere)] if nowhere else []
