"""How fast a run trains on this machine by batch size: tokens a second, share of the GPU's peak, memory.

    python benchmarks/throughput.py --spec results/medium/specs/run/kalm_WN18RR_smollm2.json \\
        --graph results/medium/data/WN18RR --model results/medium/models/smollm2-135m-instruct --peak 71

Each size is a training of its own by `kglm train`, over about --triples triples, without validation. The larger sizes,
from --cached on, go through gradient caching where the method has it. Tokens are those of texts, without padding. The
share counts the operations that the result needs (4·N a token under LoRA, else 6·N: kglm.plan.cost), not what is
computed again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from kglm.files import read_json
from kglm.plan.cost import needed_operations
from kglm.plan.models import architecture

COLUMNS = ("batch", "gradient caching", "steps", "tokens/s", "TFLOPS", "of the peak", "memory", "of the GPU")


def trained(spec: dict, graph: Path, model: Path) -> dict:
    """run.json of a training in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spec.json").write_text(json.dumps(spec), "utf-8")
        paths = {"spec": "spec.json", "checkpoints": "checkpoints", "out": "out"}
        options = {name: Path(folder, path) for name, path in paths.items()} | {"graph": graph, "model": model}
        arguments = [str(part) for name, path in options.items() for part in (f"--{name}", path)]
        done = subprocess.run(
            [sys.executable, "-m", "kglm.cli", "train", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr[-4000:])
        return read_json(Path(folder, "out/run.json"))


def sized(spec: dict, batch: int, steps: int, cached: bool) -> dict:
    """The run with another batch size, for a few steps."""
    few = {"batch_size": batch, "epochs": 10**6, "maximum_steps": steps, "keep_epochs": False}
    quiet = {"validate_every_epochs": 0, "save_every_steps": 10**9, "log_every_steps": steps}
    parameters = dict(spec["parameters"])
    if "gradient_caching" in parameters:
        parameters["gradient_caching"] = cached
    return spec | {"parameters": parameters, "training": spec["training"] | few | quiet}


def main() -> None:
    """Print a line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[24, 128, 1024])
    parser.add_argument("--cached", type=int, default=1024)
    parser.add_argument("--triples", type=int, default=20480)
    parser.add_argument("--peak", type=float, help="10¹² operations a second of the GPU in the run's precision")
    options = parser.parse_args()

    spec = read_json(options.spec)
    body = architecture({"source": "local", "path": str(options.model)}, options.model).body
    print(*COLUMNS, sep="\t")
    for batch in options.batches:
        steps = max(options.triples // batch, 10)
        one = sized(spec, batch, steps, batch >= options.cached)
        run = trained(one, options.graph, options.model)
        speed = run["tokens_per_second"]
        performed = needed_operations(spec) * body * speed / 1e12
        share = f"{performed / options.peak:.1%}" if options.peak else "unknown"
        gpu = run["peak_gpu_memory_mib"]
        memory = (f"{run['peak_memory_mib']:,} MiB", f"{gpu:,} MiB" if gpu else "none")
        cached = "yes" if one["parameters"].get("gradient_caching") else "no"
        print(batch, cached, steps, f"{speed:,.0f}", f"{performed:.3g}", share, *memory, sep="\t")


if __name__ == "__main__":
    main()
