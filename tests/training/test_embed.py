import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from kglm.errors import InputError
from kglm.files import MARK
from kglm.ranking.shards import join
from kglm.training.stages import embed, train

BASE = {
    "name": "base_ring",
    "method": "base",
    "dataset": "ring",
    "model": "tiny",
    "seed": 0,
    "parameters": {"entity_text": "name"},
    "training": {"epochs": 0, "encoding_batch_size": 5},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, ring_folder, model_folder):
    folder = tmp_path_factory.mktemp("base")
    train(BASE, ring_folder, model_folder, folder / "checkpoints", folder / "run")
    embed(BASE, ring_folder, model_folder, folder / "run/weights", folder / "run/embeddings")
    return folder


def test_a_run_that_trains_nothing_has_all_its_files(run):
    assert {path.name for path in (run / "run").iterdir()} == {
        "weights",
        "epochs",
        "log.jsonl",
        "run.json",
        "embeddings",
        MARK,
    }
    assert not (run / "checkpoints").exists()
    assert (run / "run/log.jsonl").read_text() == ""


def test_every_query_of_valid_and_test_is_embedded_once_in_both_directions(run, ring_graph):
    queries = load_file(run / "run/embeddings/queries.safetensors")
    found = list(zip(queries["heads"].tolist(), queries["relations"].tolist(), strict=True))
    wanted = {(h, r) for name in ("valid", "test") for h, r, _ in ring_graph.split(name, inverse=True).tolist()}
    assert len(found) == len(set(found)) and set(found) == wanted
    assert queries["embeddings"].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries["embeddings"], axis=1), 1, atol=1e-5)
    assert len(load_file(run / "run/embeddings/entities.safetensors")["embeddings"]) == ring_graph.entity_count


def test_embedding_twice_gives_the_same_bytes(run, ring_folder, model_folder, tmp_path):
    embed(BASE, ring_folder, model_folder, run / "run/weights", tmp_path / "again")
    for name in ("entities", "queries"):
        first, second = (folder / f"{name}.safetensors" for folder in (run / "run/embeddings", tmp_path / "again"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("count", [2, 5])
def test_parts_put_together_are_the_whole(run, ring_folder, model_folder, tmp_path, count):
    for number in range(1, count + 1):
        weights, shard = run / "run/weights", f"{number}/{count}"
        embed(BASE, ring_folder, model_folder, weights, tmp_path / str(number), shard)
    for name in ("entities", "queries"):
        join([tmp_path / f"{number}/{name}.safetensors" for number in range(1, count + 1)], tmp_path / name)
        joined, whole = load_file(tmp_path / name), load_file(run / f"run/embeddings/{name}.safetensors")
        assert joined.keys() == whole.keys()
        for key in whole:  # a batch of other texts pads otherwise: equal but for the last bit
            np.testing.assert_allclose(joined[key], whole[key], atol=1e-6)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "one/two", "1/0"])
def test_a_part_that_is_none_is_told(run, ring_folder, model_folder, tmp_path, shard):
    with pytest.raises(InputError, match="is no part of a whole"):
        embed(BASE, ring_folder, model_folder, run / "run/weights", tmp_path / "out", shard)


def test_weights_of_another_run_are_told(ring_folder, model_folder, tmp_path):
    method = {"method": "kalm", "training": {"epochs": 0}}
    small, large = ({**BASE, **method, "parameters": {"lora_rank": rank}} for rank in (2, 4))
    train(small, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")
    with pytest.raises(InputError, match=r"parameters\.lora_rank 2, here 4"):
        embed(large, ring_folder, model_folder, tmp_path / "run/weights", tmp_path / "out")


def test_the_base_model_refuses_training(ring_folder, model_folder, tmp_path):
    spec = BASE | {"training": {"epochs": 1, "batch_size": 4, "precision": "fp32"}}
    with pytest.raises(InputError, match="method base: is not trained"):
        train(spec, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")


def test_a_folder_that_is_no_model_is_told(ring_folder, tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        train(BASE, ring_folder, tmp_path, tmp_path / "checkpoints", tmp_path / "run")


def test_bf16_trains_as_well(ring_folder, model_folder, tmp_path):
    parameters = {"language_model_batch_size": 2, "maximum_language_model_length": 48}
    training = {"epochs": 1, "batch_size": 16, "precision": "bf16", "validate_every_epochs": 0, "log_every_steps": 1}
    spec = BASE | {"name": "kalm_ring", "method": "kalm", "parameters": parameters, "training": training}
    train(spec, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all(np.isfinite(row["loss"]) for row in rows)
    weights = load_file(tmp_path / "run/weights/adapter_model.safetensors")
    assert all(tensor.dtype == np.float32 for tensor in weights.values())
    assert any(tensor.any() for name, tensor in weights.items() if "lora_B" in name)


def test_a_run_that_diverges_is_told(ring_folder, model_folder, tmp_path, monkeypatch):
    def diverged(*_):
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr("kglm.methods.kalm.info_nce", diverged)
    training = {"epochs": 1, "batch_size": 16, "precision": "fp32"}
    parameters = {"language_model_weight": 0.0}
    spec = BASE | {"name": "kalm_ring", "method": "kalm", "parameters": parameters, "training": training}
    with pytest.raises(InputError, match="one of the steps 1 to 3: the loss is nan; lower the learning rate"):
        train(spec, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")
    assert not (tmp_path / "run").exists()
