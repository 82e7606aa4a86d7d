"""Where, with what and at what cost a run was made."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")
FROZEN = Path(__file__).parents[3] / "commit"  # beside a copy of the package that is no checkout (kglm.frozen)
_POWERCAP = Path("/sys/class/powercap")


def environment(started: float, history: dict, energy: float | None) -> dict:
    """Commit, package versions, hardware, time, throughput, memory and energy of a training.

    started: time.monotonic() at its start; energy: `joules` then. history: "earlier", the seconds of former sittings,
    and, where a language model is trained, the "tokens" that it read in "seconds" of training, over all sittings.
    """
    import torch

    cuda = torch.cuda.is_available()
    earlier, tokens, now = history.get("earlier", 0.0), history.get("tokens"), joules()
    metered = None not in (energy, now) and now >= energy and not earlier
    return {
        "commit": commit(),
        "packages": {name: importlib.metadata.version(name) for name in ("kglm", *PACKAGES)},
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name() if cuda else processor(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "wall_seconds": round(earlier + time.monotonic() - started, 1),
        "tokens_per_second": round(tokens / history["seconds"], 1) if tokens else None,
        "energy_joules": round(now - energy) if metered else None,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_gpu_memory_mib": torch.cuda.max_memory_allocated() // 2**20 if cuda else None,
    }


def commit() -> str | None:
    """The commit of the source tree, with "+" where it was changed; None where neither git nor a copy's note tells."""
    if FROZEN.is_file():
        return FROZEN.read_text("utf-8").strip() or None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """The processor's name and how many of its cores there are."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
        name = found[1].strip() if found else name
    return f"{name}, {os.cpu_count()} cores"


def joules() -> float | None:
    """What the machine's meters have counted so far: of the GPUs by NVML, of the processors by RAPL; None without."""
    counted = [*_nvml(), *_rapl()]
    return sum(counted) if counted else None


def _nvml() -> Iterator[float]:
    with suppress(ImportError, AttributeError):
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            for number in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                yield pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _rapl() -> Iterator[float]:
    for meter in _POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"):
        if meter.parent.name.count(":") == 1:  # a whole package, not a part of one
            with suppress(OSError):
                yield int(meter.read_text("ascii")) / 1e6
