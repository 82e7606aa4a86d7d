# Shared by all that follow: the names that wildcards may take, what jobs ask for, which files belong together.
import os
import re
import shlex
import shutil
import sys

from kglm.files import sha256
from kglm.kg import remarks
from kglm.invalidation import code_hash

# The stages are called as `kglm`, also where the environment of this Snakefile was not activated; SLURM's commands
# by way of the profile's folder.
SLURM = f"{workflow.basedir}/workflow/profiles/slurm/bin"
SCRIPTS = f"{workflow.basedir}/workflow/scripts"
os.environ |= {
    "PATH": os.pathsep.join([SLURM, SCRIPTS, *os.get_exec_path(), os.path.dirname(sys.executable)])
}
# Huge pages for PyTorch's large tensors: on a CPU the faults of small ones take half of a structure-based training.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


# Not by rules: their outputs would have to be `ancient` to what waits for them, and Snakemake 9.27 leaves out what
# stands behind an ancient file that is itself made anew.
onstart:
    if workflow.is_main_process:  # and not in each submitted job
        validation.check_needs_or_exit(workflow, config)
    # What is submitted works on the configuration, the rules and the code of this moment.
    frozen.hand_on(workflow, config)


onsuccess:
    if workflow.is_main_process:
        partial_results.remove(config)
        for dataset in config["datasets"]:  # those whose graphs are here
            found = remarks.remarks_in(f"{config['results']}/{config['scale']}/data/{dataset}")
            if found:
                print(f"note: {remarks.sentence(dataset, found)}", file=sys.stderr)


onerror:
    if workflow.is_main_process:
        partial_results.show(workflow, config)


os.environ.setdefault("KGLM_REPORT_TO", ",".join(config.get("report_to", ["tensorboard"])) or "none")
os.environ.setdefault("KGLM_PROCESS_TIMEOUT", str(config.get("process_timeout", 1800)))
if config.get("mirror"):
    os.environ.setdefault("KGLM_MIRROR", config["mirror"])

CORPORA, MODELS = config["corpora"], config["models"]
QUESTIONS = [corpus for corpus, entry in CORPORA.items() if entry["format"] == "mmlu"]
SPLIT = [corpus for corpus, entry in CORPORA.items() if {"train", "test_every"} & set(entry)]
WHOLE = [corpus for corpus in CORPORA if corpus not in QUESTIONS + SPLIT]
FROM_SCRATCH = [model for model, entry in MODELS.items() if entry["source"] == "scratch"]
READY_MADE = [model for model in MODELS if model not in FROM_SCRATCH]
TRAINED = [run for run in config["runs"] if configuration.weights_of(config, run) == run]
SHARDED = [run for run in config["runs"] if configuration.shards(config, run) > 1]
SCORED = [run for run, entry in config["runs"].items() if configuration.scores_candidates(entry["method"])]
TABLES = configuration.built(config, "tables")
FIGURES = configuration.built(config, "figures")


def one_of(names):
    """A regular expression for one of the names; for none of them, one that nothing matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    kind="[a-z_]+",
    name="[^/]+",
    dataset=one_of(config["datasets"]),
    corpus=one_of(CORPORA),
    model=one_of(MODELS),
    run=one_of(config["runs"]),
    shard="[0-9]+",
    table=one_of(config["tables"]),
    figure=one_of(config["figures"]),


# What jobs ask for; partition and account are the profile's.


def threads(kind):
    return config["resources"][kind]["threads"]


def gpus(kind):
    return config["resources"][kind].get("gpu", 0)


def scaled(kind, what):
    """Memory and time grow with a job's attempts."""
    return lambda wildcards, attempt: attempt * config["resources"][kind][what]


def training(what):
    """What a run's training asks for; memory and time grow with a job's attempts."""
    return lambda wildcards, attempt: (1 if what in ("gpu", "nodes") else attempt) * (
        configuration.training_resources(config, wildcards.run).get(what, 0)
    )


def run_code(stage):
    """The code that a stage reaches for one run, with the file of the run's method and of no other."""
    return lambda wildcards: code_hash(stage, config["runs"][wildcards.run]["method"])


def model_code(wildcards):
    """The code that makes a base model of its source, and of no other."""
    return code_hash("model", MODELS[wildcards.model]["source"])


# Which files belong together.


def graph_files(dataset):
    files = {"entities": "entities.parquet", "relations": "relations.parquet", "triples": "triples.parquet"}
    return {key: f"<results>/data/{dataset}/{file}" for key, file in files.items()}


def run_graph(wildcards):
    return graph_files(config["runs"][wildcards.run]["dataset"])


def run_model(wildcards):
    """The base model; nothing for a run that has none."""
    model = config["runs"][wildcards.run].get("model")
    return f"<results>/models/{model}" if model else []


def model_option(wildcards, input):
    """How a stage is told the base model, if there is one."""
    return f"--model {shlex.quote(str(input.model))}" if input.model else ""


def run_weights(wildcards):
    return f"<results>/runs/{configuration.weights_of(config, wildcards.run)}/weights"


def run_shards(file):
    """A file of each part of a run's embeddings, in order."""
    return lambda wildcards: [
        f"<results>/runs/{wildcards.run}/shards/{shard}/{file}"
        for shard in range(1, 1 + configuration.shards(config, wildcards.run))
    ]


def proposing_run(wildcards):
    """The embeddings and ranks of the run whose best candidates a run orders anew, if there is one."""
    if "candidates" not in config["runs"][wildcards.run]:
        return {}
    folder = f"<results>/runs/{config['runs'][wildcards.run]['candidates']['run']}"
    embeddings = [
        f"{folder}/embeddings/{name}.safetensors" for name in ("entities", "queries", "interaction")
    ]
    return {"proposed": f"{folder}/ranks.parquet", "proposed_embeddings": embeddings}


def scratch_graph(wildcards):
    return graph_files(MODELS[wildcards.model]["dataset"])


def scratch_corpora(wildcards):
    """The training parts of the corpora that a model from scratch reads."""
    return [f"<results>/corpora/{corpus}/train.txt" for corpus in MODELS[wildcards.model].get("corpora", [])]


def own_files(section):
    """The files of this machine that an entry names: fetched again when they change."""
    return lambda wildcards: configuration.local_files(config[section][wildcards[0]])


def own_contents(section):
    """The sums of these files: what is in them counts, whatever their times say."""
    files = configuration.local_files
    return lambda wildcards: [
        sha256(path) for path in files(config[section][wildcards[0]]) if os.path.isfile(path)
    ]


def analysed_corpus(analysis, file="test.txt"):
    return f"<results>/corpora/{config['analyses'][analysis]['corpus']}/{file}"


def sources(kind):
    """What a table or a figure is made of."""
    return lambda wildcards: [
        f"<results>/{path}" for path in configuration.inputs(config, kind, wildcards[0])
    ]


def paper_files(wildcards):
    """The document, its summary and the report; the typeset document where there is a LaTeX."""
    names = ["summary.txt", "paper.tex", "report.html"] + ["paper.pdf"] * (
        shutil.which("latexmk") is not None
    )
    return [f"<results>/{name}" for name in names]


def reported_runs(wildcards):
    """Of each run that is shown: its configuration, how it was trained, and what it measured."""
    files = configuration.reported_files(config)
    return [f"<results>/{file}" for run, of in files.items() for file in (f"specs/run/{run}.json", *of)]


def reported_graphs(wildcards):
    """The graphs of these runs."""
    graphs = map(graph_files, configuration.built_datasets(config))
    return [path for files in graphs for path in files.values()]


def reader_files(wildcards):
    """Augmented triples and instruction sets of the graphs in use: for readers, no other rule needs them."""
    folders = [f"<results>/data/{dataset}" for dataset in configuration.built_datasets(config)]
    names = ("triples_with_inverse.parquet", "instructions")
    return [f"{folder}/{name}" for folder in folders for name in names]
