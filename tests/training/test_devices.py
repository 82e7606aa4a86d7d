"""One process trains on one device, however many it sees."""

import torch
import transformers
from transformers import TrainingArguments

from kglm.lm import language_model
from kglm.training.schedule import Schedule
from kglm.training.stages import train
from kglm.training.trainer import MethodTrainer

from .runs import kalm_ring


def test_all_batches_are_trained_on_where_two_gpus_are_seen(ring_folder, model_folder, tmp_path, monkeypatch):
    """transformers makes the loader's batches larger by the number of GPUs, and ours are whole steps already."""
    made, trained = [], []
    after, item, loss = TrainingArguments.__post_init__, Schedule.__getitem__, MethodTrainer.compute_loss

    def two_gpus(self):
        after(self)
        self._n_gpu = 2

    def noted(self, number):
        made.append(number)
        return item(self, number)

    def counted(self, *arguments, **options):
        trained.append(self.args.n_gpu)
        return loss(self, *arguments, **options)

    monkeypatch.setattr(TrainingArguments, "__post_init__", two_gpus)
    monkeypatch.setattr(Schedule, "__getitem__", noted)
    monkeypatch.setattr(MethodTrainer, "compute_loss", counted)
    spec = kalm_ring(0.0, maximum_steps=6, validate_every_epochs=0)
    train(spec, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")
    assert made == list(range(6)) and trained == [1] * 6


def test_8_bit_weights_of_each_process_go_to_its_own_gpu(monkeypatch):
    """When they are loaded, the current GPU is still the first one in every process."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(language_model.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(transformers, "BitsAndBytesConfig", lambda **options: options)
    for rank in ("0", "3"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert language_model._precision("int8")["device_map"] == {"": int(rank)}
