"""What a training takes from the machine and not from its run: none of it changes a weight, so none retrains one.

KGLM_REPORT_TO: the trackers of a training, comma-separated; tensorboard unless it is set. KGLM_PROCESS_TIMEOUT: after
how many seconds processes that wait for each other give up. The workflow sets both from its configuration.
KGLM_WORKERS: how many processes make batches ahead; unless it is set two where there is a GPU, else none, for a batch
takes milliseconds and the cores have better to do.
"""

import importlib.util
import os

from kglm.errors import InputError

TRACKERS = ("tensorboard", "wandb", "mlflow", "none")
REPORT_TO, PROCESS_TIMEOUT, WORKERS = "KGLM_REPORT_TO", "KGLM_PROCESS_TIMEOUT", "KGLM_WORKERS"
_DEFAULT_TIMEOUT = 1800  # PyTorch's for a process group


def trackers() -> list[str]:
    """Where a training's log goes besides its log.jsonl; InputError for what is unknown or not installed."""
    names = [name.strip() for name in os.environ.get(REPORT_TO, TRACKERS[0]).split(",") if name.strip()]
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"there is no tracker {name!r}", REPORT_TO, f"choose among {', '.join(TRACKERS)}")
        if name != "none" and importlib.util.find_spec(name) is None:
            raise InputError(f"the tracker {name} is not installed", REPORT_TO, f"pip install {name}, or leave it out")
    return [] if "none" in names else names


def process_timeout() -> int:
    """Seconds, 1 or more; InputError for anything else."""
    given = os.environ.get(PROCESS_TIMEOUT, str(_DEFAULT_TIMEOUT))
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{given!r} is no number of seconds", PROCESS_TIMEOUT, "write a whole number above 0")
    return int(given)


def writes() -> bool:
    """Whether this process is the only one, or the first of several: it writes what all have made."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def workers(on_gpu: bool) -> int:
    """Processes that make batches ahead, 0 or more; InputError for anything else."""
    given = os.environ.get(WORKERS, "2" if on_gpu else "0")
    if not given.isdecimal():
        raise InputError(f"{given!r} is no number of processes", WORKERS, "write a whole number, 0 or more")
    return int(given)
