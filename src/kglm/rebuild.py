"""The stage `rebuild`: tables and figures from published runs, and from those that were made here; trains nothing."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kglm import config as configuration
from kglm.files import atomic_file, read_json, refuse_place
from kglm.paper.figures import figure
from kglm.paper.inputs import graph_files, run_spec_file
from kglm.paper.tables import table
from kglm.published.verify import RECORD, verify


def rebuild(
    configfile: list[Path] = (Path("config.yaml"),),
    published: Path = Path("results/published"),
    out: Path = Path("results/rebuilt"),
) -> None:
    """Write each table and figure of `build` that has a result to show to <out>/{tables,figures}/; print the others.

    A run that was made here, in <results>/<scale>/, comes before the published one of its name; a run with other
    settings than the configuration has now is neither. Tables name the published rows.
    """
    refuse_place(out)
    config = configuration.read(*configfile)
    verify(published, Path(config["results"]) / config["scale"] / "data")
    sources = Sources(config, Path(published))
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, build in (("table", table), ("figure", figure)):
            for name in configuration.built(config, f"{kind}s"):
                spec = configuration.spec(config, kind, name) | {"published": sources.published_runs}
                wanted = configuration.inputs(config, kind, name)
                results = [file for file in wanted if spec["kind"] == "statistics" or file not in graph_files(spec)]
                if sources.gathered(results, Path(folder)):
                    inputs = sources.gathered(wanted, Path(folder))
                    build(spec, inputs, Path(out) / f"{kind}s" / name)
                else:
                    left_out.append(name)
    for line in sources.told():
        print(line)
    if left_out:
        print(f"not built, for no result of theirs is here: {', '.join(left_out)}")


class Sources:
    """Where each run's results are taken from: `here`, `published_runs`, or nowhere."""

    def __init__(self, config: dict, published: Path):
        self.config, self.published = config, published
        self.root = Path(config["results"]) / config["scale"]
        self.here: list[str] = []
        self.published_runs: list[str] = []
        self.other_settings: list[str] = []
        self._folders = {name: self._folder(name) for name in configuration.built_runs(config)}

    def _folder(self, name: str) -> Path | None:
        own, other = self.root / "runs" / name, self.published / name
        spec = configuration.run_spec(self.config, name)
        finished = any((own / file).is_file() for file in ("metrics.json", "classification.json"))
        made = self.root / run_spec_file(name)
        if finished and made.is_file() and read_json(made) == spec:
            self.here.append(name)
            return own
        if not other.is_dir():
            return None
        if not _has(spec, read_json(other / RECORD)["spec"]):
            self.other_settings.append(name)
            return None
        self.published_runs.append(name)
        return other

    def gathered(self, wanted: list[str], folder: Path) -> list[Path]:
        """Those of the files `wanted`, as paths below <results>/<scale>, that are there: links in `folder`."""
        return [path for file in wanted if (path := self._linked(file, folder / file))]

    def _linked(self, file: str, link: Path) -> Path | None:
        if link.exists():
            return link
        kind, *_ = parts = file.split("/")
        if kind == "specs":
            name = Path(file).stem
            return _written(configuration.run_spec(self.config, name), link) if self._folders.get(name) else None
        if kind == "runs":
            source = self._folders.get(parts[1])
            source = source and source.joinpath(*parts[2:])
        else:
            source = self._of_graph(file)
        if source is None or not source.is_file():
            return None
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(source.resolve(), link)
        return link

    def _of_graph(self, file: str) -> Path | None:
        """A graph's statistics: as counted here, else as a published run of it has them."""
        if (self.root / file).is_file():
            return self.root / file
        runs = [run for run in self.published_runs if self.config["runs"][run]["dataset"] == Path(file).parent.name]
        return self.published / runs[0] / Path(file).name if runs else None

    def told(self) -> Iterator[str]:
        """What was taken from where, for the terminal."""
        wanted = len(self._folders)
        yield f"of {wanted} runs {len(self.published_runs)} are published, {len(self.here)} were made here"
        if self.other_settings:
            yield f"published with other settings, and not shown: {', '.join(self.other_settings)}"


def _written(spec: dict, path: Path) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(spec), "utf-8")
    return path


def _has(now: object, then: object) -> bool:
    """Whether all that was set then is so now; an option that came later is no difference."""
    if isinstance(now, dict) and isinstance(then, dict):
        return all(key in now and _has(now[key], value) for key, value in then.items())
    return now == then
