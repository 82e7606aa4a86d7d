"""The stage `publish`: from a run's folder to results/published/<run>/."""

import csv
import shutil
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from kglm.artefacts import RANKS, SCORES, read_parquet, write_parquet
from kglm.binding import differences
from kglm.errors import InputError
from kglm.files import atomic_directory, read_json, read_json_lines, sha256, write_json
from kglm.published.sums import SUMS, write_sums
from kglm.published.verify import CURVE, GRAPH, LOG, RECORD, STATISTICS, problems
from kglm.ranking.stages import evaluation_options

# What is copied as it is, where the run has it.
RESULTS = ["metrics.json", "classification.json", "anisotropy.json", "perplexity.json", "mmlu.json", "kgqa.json"]
RESULTS += ["similarity.json", "similarity.safetensors", LOG]
TABLES = {"ranks.parquet": RANKS, "scores.parquet": SCORES}
# What a job makes of the weights themselves, beside embeddings or ranks.
OF_WEIGHTS = ["scores.parquet", "anisotropy.json", "perplexity.json", "mmlu.json", "kgqa.json", "similarity.json"]
_STYLE = Path(__file__).parents[1] / "paper/kglm.mplstyle"


def publish(runs: list[Path], out: Path = Path("results/published")) -> None:
    """Copy the results of finished runs, folders <results>/runs/<run>, to <out>/<run>/.

    run.json: how the run was made (one that ranks another's weights takes over that one's record), its evaluation,
    the sums of its graph, and seconds and memory of its jobs; statistics.json: the counts of its graph. InputError,
    and nothing published, for a run that would not be accepted (`kglm.published.verify`), or with a result that is
    older than its weights. SHA256SUMS: the sums of all files, so that a later change is noticed.
    """
    for run in map(Path, runs):
        root = run.resolve().parents[1]
        _refuse_stale(root, run)
        with atomic_directory(Path(out) / run.name, mark=SUMS) as folder:
            _copy(run, folder)
            record = _record(root, run.name)
            write_json(record, folder / RECORD)
            shutil.copyfile(root / "data" / record["dataset"] / STATISTICS, folder / STATISTICS)
            write_sums(folder)
            if found := problems(folder, run.name, root / "data"):
                raise InputError("; ".join(found), run, "evaluate or train the run again")


def _copy(run: Path, folder: Path) -> None:
    for name in filter(lambda name: (run / name).is_file(), RESULTS):
        shutil.copyfile(run / name, folder / name)
    for name, schema in TABLES.items():
        if (run / name).is_file():
            write_parquet(read_parquet(run / name, schema), folder / name, schema, level=19)
    if (folder / LOG).is_file() and (rows := read_json_lines(folder / LOG)):
        draw_curve(rows, folder / CURVE)


def _record(root: Path, name: str) -> dict:
    spec = read_json(root / f"specs/run/{name}.json")
    ranking, evaluation = (_read(root / f"specs/{kind}/{name}.json") for kind in ("ranking", "evaluation"))
    trained = read_json(root / f"runs/{_trained_by(root, name)}/run.json")
    made_by = spec if trained["run"] == name else read_json(root / f"specs/run/{trained['run']}.json")
    if unlike := next(differences(trained["spec"], made_by), None):
        what = f"was trained with another specification than specs/run/{trained['run']}.json has now ({unlike})"
        raise InputError(what, root / "runs" / name, "let the workflow train it again, or set back what was changed")
    data = root / "data" / spec["dataset"]
    return {
        **trained,
        "run": name,
        "dataset": spec["dataset"],
        "weights": trained["run"],
        "spec": spec,
        "ranking": {key: value for key, value in ranking.items() if key not in ("name", "run", "answers")},
        "evaluation": evaluation_options(evaluation),
        "graph": {part: sha256(data / part) for part in GRAPH},
        "jobs": _jobs(root, name),
    }


def _read(path: Path) -> dict:
    return read_json(path) if path.is_file() else {}


def _trained_by(root: Path, name: str) -> str:
    """The run whose weights a run has: itself, or the one that the resolved configuration of the workflow names."""
    if (root / f"runs/{name}/run.json").is_file():
        return name
    config = read_json(root / "config.json")
    try:
        return config["runs"][name]["weights"]
    except KeyError:
        raise InputError("was not trained", root / "runs" / name, "let the workflow finish it") from None


def _refuse_stale(root: Path, run: Path) -> None:
    weights = root / "runs" / _trained_by(root, run.name) / "weights"
    ranked = "embeddings" if (run / "embeddings").is_dir() else "ranks.parquet"
    for path in (run / name for name in (ranked, *OF_WEIGHTS)):
        if path.exists() and weights.is_dir() and path.stat().st_mtime < weights.stat().st_mtime:
            raise InputError("is older than the weights", path, "let the workflow make it again")


def _jobs(root: Path, name: str) -> dict:
    """Seconds and peak memory of each job of a run, as Snakemake measured them."""
    jobs = {}
    for path in sorted((root / "benchmarks").glob(f"*/{name}.tsv")):
        with path.open(encoding="utf-8") as stream:
            measured = list(csv.DictReader(stream, delimiter="\t"))[-1]
        memory = measured["max_rss"]
        jobs[path.parent.name] = {
            "seconds": float(measured["s"]),
            "peak_memory_mib": None if memory in ("-", "NA") else round(float(memory)),
        }
    return jobs


def draw_curve(rows: list[dict], out: Path) -> None:
    """The losses of a log and what was measured on valid, by epoch."""
    losses = [(row["epoch"], row["loss"]) for row in rows if "loss" in row]
    valid = [(row["epoch"], row["valid"]) for row in rows if "valid" in row]
    with style.context(_STYLE):
        figure = Figure(figsize=(4.5, 2.8))
        axis = figure.subplots()
        if losses:
            axis.plot(*zip(*losses, strict=True), color="C0")
        axis.set_xlabel("training epoch")
        axis.set_ylabel("training loss", color="C0")
        if valid:
            metric = next((name for name in ("MRR", "accuracy") if name in valid[0][1]), next(iter(valid[0][1])))
            other = axis.twinx()
            points = [(epoch, measured[metric]) for epoch, measured in valid]
            other.plot(*zip(*points, strict=True), color="C1", marker="o")
            other.set_ylabel(f"{metric} on valid", color="C1")
            other.set_ylim(0, 1)
        figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
