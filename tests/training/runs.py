"""The run that the tests of one process, of several, and of interrupted ones train."""

from pathlib import Path


def kalm_ring(lora_dropout: float, **training) -> dict:
    """The spec of a short KaLM run on the ring."""
    return {
        "name": "kalm_ring",
        "method": "kalm",
        "dataset": "ring",
        "model": "tiny",
        "seed": 3,
        "parameters": {
            "maximum_language_model_length": 64,
            "language_model_batch_size": 2,
            "lora_dropout": lora_dropout,
        },
        "training": {
            "epochs": 2,
            "batch_size": 10,
            "learning_rate": 1.0e-3,
            "precision": "fp32",
            "save_every_steps": 2,
            **training,
        },
    }


def artefacts(folder: Path) -> dict[str, bytes]:
    """All files of a run but its record, which tells times."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("run.json")
    return files
