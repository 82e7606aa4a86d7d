"""Where and with what a run was made."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


def environment(started: float) -> dict:
    """Commit, package versions, hardware, wall time since `started` (time.monotonic) and peak memory."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "commit": commit(),
        "packages": {name: importlib.metadata.version(name) for name in ("kglm", *PACKAGES)},
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_gpu_memory_mib": torch.cuda.max_memory_allocated() // 2**20 if cuda else None,
    }


def commit() -> str | None:
    """The commit of the source tree, with "+" where it was changed; None outside a git checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
