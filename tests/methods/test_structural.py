import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.methods import _pykeen_loop, _pykeen_scores
from kglm.methods._interface import REQUEUE, build_method
from kglm.methods.structural import READ
from kglm.ranking.scorer import filtered_ranks_by
from kglm.training.options import Training

from pykeen.sampling import BasicNegativeSampler  # isort: skip; after the loop, which tells PyKEEN where its folders go

SMALL = {"dimension": 12, "negatives": 5, "margin": 2.0}
TAILS = {"loop": "lcwa", "loss": "bcewithlogits", "inverse_relations": True}  # the way of the convolutions
OWN = {
    "tucker": TAILS,
    "conve": TAILS | {"height": 4, "channels": 4},
    "convkb": {"channels": 4, "loss": "softplus"},
    "comp_gcn": TAILS,
    "r_gcn": {"loss": "bcewithlogits"},
    "rescal": {"initial_range": 0.5},
    "distmult": {"unit_entities": False, "regulariser": "powersum", "regularisation": 1e-3},
    "transe": {"norm": 1, "negative_sampler": "bernoulli", "filtered_negatives": True, "loss": "marginranking"},
    "complex": {"loop": "lcwa", "loss": "crossentropy", "label_smoothing": 0.1, "optimizer": "adagrad"},
    "rotate": {"norm": 1},
}


def build(graph: Graph, interaction: str, **parameters):
    torch.manual_seed(3)
    return build_method(
        "structural", SMALL | {"interaction": interaction} | OWN.get(interaction, {}) | parameters, graph, None
    )


def options(**given) -> Training:
    return Training.of(
        {"batch_size": 8, "learning_rate": 2e-2, "weight_decay": 0.0, "precision": "fp32", "log_every_steps": 3} | given
    )


def ranks(method, graph: Graph, split: str, size: int = 4096) -> np.ndarray:
    """Ranks of a split's tails, then of its heads: optimistic, realistic, pessimistic."""
    triples = np.concatenate([graph.split(split), graph.inverse(graph.split(split))])
    heads, relations, targets = (np.ascontiguousarray(column) for column in triples.T)
    entities = np.arange(graph.entity_count)
    return filtered_ranks_by(
        lambda rows, columns: method.score_candidates(heads[rows], relations[rows], entities[columns], size),
        graph.entity_count,
        targets,
        graph.known_answers(heads, relations),
    )


def validation(method, graph: Graph):
    def measured() -> dict[str, float]:
        found = ranks(method, graph, "valid").realistic
        return {"MR": float(found.mean()), "MRR": float((1 / found).mean()), "Hits@10": float((found <= 10).mean())}

    return measured


def artefacts(folder: Path) -> dict[str, bytes | dict]:
    """All files by their path; of histories all but the times."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: timeless(json.loads(path.read_text())) if path.name == "history.json" else path.read_bytes()
        for name, path in files.items()
    }


@pytest.mark.parametrize("interaction", READ)
def test_the_loss_falls_and_the_best_weights_are_saved_whole(interaction, ring_graph, tmp_path):
    method = build(ring_graph, interaction)
    given = options(epochs=30, validate_every_epochs=10)
    history = method.fit(given, 0, tmp_path, validation(method, ring_graph))
    losses = [row["loss"] for row in history["log"] if "loss" in row]
    assert np.isfinite(losses).all() and np.mean(losses[-4:]) < 0.97 * np.mean(losses[:4])
    valid = {row["epoch"]: row["valid"]["MRR"] for row in history["log"] if "valid" in row}
    assert list(valid) == [10, 20, 30]
    assert history["best"]["MRR"] == max(valid.values()) == valid[history["best"]["epoch"]]
    other = build(ring_graph, interaction)
    other.load(tmp_path / "best")
    assert validation(other, ring_graph)()["MRR"] == history["best"]["MRR"]
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("interaction", READ)
def test_scores_are_the_models_own_whatever_the_batch(interaction, ring_graph):
    method = build(ring_graph, interaction)
    heads, relations = (np.ascontiguousarray(part.reshape(-1)) for part in np.mgrid[0:12, 0:4])
    candidates = np.array([3, 0, 7, 11, 5])
    found = method.score_candidates(heads, relations, candidates, 64)
    assert found.dtype == np.float32 and np.ptp(found) > 1e-3
    np.testing.assert_allclose(method.score_candidates(heads, relations, candidates, 3), found, rtol=1e-4, atol=1e-5)
    model = method.model.eval()
    with torch.no_grad():
        for row, (entity, relation) in enumerate(zip(heads.tolist(), relations.tolist(), strict=True)):
            if relation < 2:
                expected = model.predict_t(torch.tensor([[entity, relation]]))
            else:
                expected = model.predict_h(torch.tensor([[relation - 2, entity]]))
            np.testing.assert_allclose(found[row], expected[0, candidates].numpy(), rtol=1e-4, atol=1e-5)
    tails = np.stack([heads, relations, np.full_like(heads, 7)], axis=1)[relations < 2]
    np.testing.assert_allclose(method.score_triples(tails, 5), found[relations < 2, 2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(method.score_triples(ring_graph.inverse(tails), 5), method.score_triples(tails, 5))


@pytest.mark.parametrize("interaction", ["distmult", "r_gcn", "comp_gcn", "rotate"])
def test_what_scores_faster_than_pykeen_is_in_its_place(interaction, ring_graph):
    found = build(ring_graph, interaction).model.interaction
    assert isinstance(found, _pykeen_scores.Rotation if interaction == "rotate" else _pykeen_scores.MatrixProduct)


def test_rotates_phases_turn_by_the_range_of_the_entities(ring_graph):
    method = build(ring_graph, "rotate", dimension=500, initial_range=0.016)
    (phases,) = (
        parameter.detach() * np.pi / 0.016 for parameter in method.model.relation_representations[0].parameters()
    )
    torch.testing.assert_close(method.model.relation_representations[0](), torch.complex(phases.cos(), phases.sin()))
    assert torch.view_as_real(method.model.entity_representations[0]().detach()).abs().max() <= 0.016


def test_each_relation_has_one_vector_and_its_inverse_another_where_asked_for(ring_graph):
    for inverse in (False, True):
        method = build(ring_graph, "distmult", inverse_relations=inverse)
        assert method.model.relation_representations[0].max_id == 2 * (1 + inverse)


@pytest.mark.parametrize("interaction", sorted(set(READ) - {"r_gcn", "comp_gcn"}))  # these have no vectors of their own
@pytest.mark.parametrize("size", [17, 4096])
def test_equal_entities_tie(interaction, size):
    graph = star(37)
    method = build(
        graph, interaction, **({"dimension": 20, "height": 5} if interaction == "conve" else {"dimension": 20})
    )
    with torch.no_grad():
        for vectors in method.model.entity_representations:
            for table in vectors.parameters():
                table[5:] = table[4]
    scores = method.score_candidates(np.arange(12) % 4, np.arange(12) % 4, np.arange(37), size)
    assert (scores[:, 5:] == scores[:, 4:5]).all()


def star(entities: int) -> Graph:
    """Entity 0 points to all others."""
    triples = pd.DataFrame({"head": 0, "relation": np.arange(1, entities) % 2, "tail": np.arange(1, entities)})
    names = [f"e{number}" for number in range(entities)]
    return Graph(
        pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True}),
        pd.DataFrame({"id": ["r", "s"], "text": ["r", "s"], "inverse": ["r", "s"]}),
        triples.assign(split="train", label=1),
    )


def test_entities_without_a_training_triple_are_scored(ring_graph):
    alone = Graph(ring_graph.entities, ring_graph.relations, ring_graph.triples[ring_graph.triples["head"] < 3])
    for interaction in READ:
        scores = build(alone, interaction).score_candidates(np.array([9]), np.array([3]), np.arange(12), 64)
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("interaction", ["r_gcn", "comp_gcn"])
def test_a_graph_network_forgets_what_other_weights_gave(interaction, ring_graph, tmp_path):
    first, second = build(ring_graph, interaction), build(ring_graph, interaction)
    with torch.no_grad():
        for tensor in first.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.3)
    first.save(tmp_path)
    triples = ring_graph.split("train")
    before = second.eval().score_triples(triples, 64)
    second.load(tmp_path)
    np.testing.assert_array_equal(second.score_triples(triples, 64), first.score_triples(triples, 64))
    assert (second.score_triples(triples, 64) != before).any()


@pytest.mark.parametrize("interaction", ["transe", "distmult", "complex", "rescal", "conve"])
@pytest.mark.parametrize("of", ["entity", "relation"])
def test_dropout_of_vectors_leaves_out_numbers_in_training_alone(interaction, of, ring_graph):
    torch.manual_seed(3)
    method = build(ring_graph, interaction, **{f"{of}_dropout": 0.5})
    (vectors,) = getattr(method.model, f"{of}_representations")[:1]
    whole = vectors.eval()()
    dropped = vectors.train()()
    numbers, kept = (torch.view_as_real(part) if part.is_complex() else part for part in (whole, dropped))
    assert 0.2 < (kept == 0).float().mean() < 0.8
    torch.testing.assert_close(kept[kept != 0], 2 * numbers[kept != 0])
    if whole.is_complex():  # real and imaginary parts each for itself
        assert ((kept == 0).sum(-1) == 1).any()


def test_one_vs_all_is_the_mean_over_triples(ring_graph, tmp_path):
    """Each triple beside all entities, in both directions: -log softmax of its tail."""
    method = build(
        ring_graph, "distmult", regulariser="none", loop="1vsall", loss="crossentropy", inverse_relations=True
    )
    triples = torch.from_numpy(method.triples._add_inverse_triples_if_necessary(method.triples.mapped_triples).numpy())
    assert len(triples) == 2 * len(ring_graph.split("train"))
    seen, on_batch = [], _pykeen_loop.Course.on_batch

    def noted(course, epoch, batch, batch_loss, **keywords):
        with torch.no_grad():
            scores = method.model.score_t(triples[:, :2]).log_softmax(1)
        seen.append((batch_loss, -scores.gather(1, triples[:, 2:]).mean().item()))
        on_batch(course, epoch, batch, batch_loss, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pykeen_loop.Course, "on_batch", noted)
        method.fit(
            options(epochs=2, batch_size=len(triples), validate_every_epochs=0, learning_rate=0.0), 0, tmp_path, dict
        )
    assert len(seen) == 2
    np.testing.assert_allclose(*zip(*seen, strict=True), rtol=1e-5)


def test_only_tails_are_corrupted_where_asked_for(ring_graph, tmp_path):
    method = build(ring_graph, "distmult", corrupted="tail", inverse_relations=True, loss="crossentropy")
    ends, corrupt = [], BasicNegativeSampler.corrupt_batch

    def noted(sampler, positive_batch):
        negatives = corrupt(sampler, positive_batch)
        ends.append((negatives[..., :2] == positive_batch[:, None, :2]).all().item())
        return negatives

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BasicNegativeSampler, "corrupt_batch", noted)
        method.fit(options(epochs=1, validate_every_epochs=0), 0, tmp_path, dict)
    assert ends and all(ends)


@pytest.mark.parametrize("interaction", ["distmult", "complex"])
def test_the_regularisation_of_all_is_the_sum_of_third_powers(interaction, ring_graph):
    method = build(ring_graph, interaction, regulariser="all", regularisation=0.01)
    method.model.score_hrt(torch.from_numpy(ring_graph.split("train").copy()))
    cubes = sum((np.abs(parameter.detach().numpy()) ** 3).sum() for parameter in method.parameters())
    assert method.model.collect_regularization_term().item() == pytest.approx(0.01 * cubes, rel=1e-4)


# Killed and resumed

CASES = {
    "rotate": {},
    "distmult": {},  # a regulariser
    "complex": {},  # adagrad, all tails
    "conve": {},  # dropout, batch normalisation
    "comp_gcn": {},  # an encoder
    "rescal": {"loop": "1vsall", "loss": "crossentropy", "inverse_relations": True, "relation_dropout": 0.3},
}


class _Killed(Exception):
    pass


def train(graph: Graph, interaction: str, folder: Path, kill_at: int = 0, number: int = 0) -> dict:
    """The history of a training that is killed, or gets a signal, at a step."""
    method = build(graph, interaction, **CASES[interaction])
    check = validation(method, graph)
    original = _pykeen_loop.Course.on_batch

    def on_batch(self, *arguments, **keywords):
        original(self, *arguments, **keywords)
        if self.step + 1 == kill_at:
            if not number:
                raise _Killed
            os.kill(os.getpid(), number)

    given = options(
        epochs=4, save_every_steps=2, scheduler="cosine", warmup_ratio=0.2, maximum_gradient_norm=1.0, keep_epochs=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pykeen_loop.Course, "on_batch", on_batch)
        return timeless(method.fit(given, 5, folder, check))


def timeless(history: dict) -> dict:
    """All of a history but how long it took."""
    return {key: value for key, value in history.items() if key not in ("earlier", "elapsed")}


@pytest.mark.parametrize("interaction", CASES)
@pytest.mark.parametrize("kill_at", [1, 4, 7])
def test_killed_and_resumed_equals_uninterrupted(interaction, kill_at, ring_graph, tmp_path):
    history = train(ring_graph, interaction, tmp_path / "plain")
    with pytest.raises(_Killed):
        train(ring_graph, interaction, tmp_path / "killed", kill_at)
    torch.manual_seed(99)  # of no effect
    assert train(ring_graph, interaction, tmp_path / "killed") == history
    assert artefacts(tmp_path / "killed") == artefacts(tmp_path / "plain")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_at_once_and_asks_for_another_start(number, ring_graph, tmp_path):
    history, before = train(ring_graph, "conve", tmp_path / "plain"), signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        train(ring_graph, "conve", tmp_path / "stopped", 5, number)
    assert end.value.code == REQUEUE
    assert _pykeen_loop.last_checkpoint(tmp_path / "stopped").name == "checkpoint-5"
    assert signal.getsignal(number) == before
    assert train(ring_graph, "conve", tmp_path / "stopped") == history
    finished, plain = artefacts(tmp_path / "stopped"), artefacts(tmp_path / "plain")
    assert {name: finished[name] for name in plain if name.startswith(("best", "epochs"))} == {
        name: content for name, content in plain.items() if name.startswith(("best", "epochs"))
    }


def test_a_torn_checkpoint_is_no_checkpoint(ring_graph, tmp_path):
    history = train(ring_graph, "rotate", tmp_path / "plain")
    with pytest.raises(_Killed):
        train(ring_graph, "rotate", tmp_path / "torn", 6)
    newest = _pykeen_loop.last_checkpoint(tmp_path / "torn")
    (newest / "history.json").unlink()
    (newest / "state.safetensors").write_bytes(b"torn")
    assert train(ring_graph, "rotate", tmp_path / "torn") == history


def test_a_checkpoint_of_another_model_is_refused(ring_graph, tmp_path):
    with pytest.raises(_Killed):
        train(ring_graph, "rotate", tmp_path, 6)
    with pytest.raises(InputError, match="another model or of other parameters"):
        train(ring_graph, "complex", tmp_path)


def test_the_rate_follows_the_schedule_and_the_steps_end_it(ring_graph, tmp_path):
    method = build(ring_graph, "rotate")
    given = options(
        epochs=10, maximum_steps=5, scheduler="linear", log_every_steps=1, validate_every_epochs=0, learning_rate=1.0e-2
    )
    history = method.fit(given, 0, tmp_path, dict)
    assert [row["step"] for row in history["log"]] == [1, 2, 3, 4, 5]
    rates = [row["learning_rate"] for row in history["log"]]
    np.testing.assert_allclose(rates, 1e-2 * (1 - np.arange(5) / 5))
    assert history["best"] is None and (tmp_path / "last/method.safetensors").exists()


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"interaction": "distmult", "norm": 1}, "norm is no option of distmult"),
        ({"interaction": "complex", "norm": 1}, "norm is no option of complex"),
        ({"interaction": "transe", "norm": 3}, "norm: 3 is not known; choose one of 1, 2"),
        ({"interaction": "rotate", "negatives": 0}, "negatives: 0 is out of range; it must be at least 1"),
        ({"interaction": "comp_gcn"}, "inverse relations; set inverse_relations: true"),
        ({"interaction": "r_gcn", "inverse_relations": True}, "makes the inverses itself"),
        ({"interaction": "conve", "dimension": 25}, "25 is no image of height 10"),
        ({"interaction": "conve", "dimension": 20}, "20 is no image of height 10"),
        ({"interaction": "rotate", "label_smoothing": 0.1}, "nssa has no label smoothing"),
        ({"interaction": "rotate", "relation_dropout": 0.1}, "relation_dropout is no option of rotate"),
        ({"interaction": "transe", "corrupted": "tail", "negative_sampler": "bernoulli"}, "leave corrupted out"),
        ({"interaction": "r_gcn", "bases": 2, "blocks": 2}, "two ways to make r_gcn's matrices; set one"),
    ],
)
def test_what_would_be_without_effect_is_refused_in_one_line(parameters, message, ring_graph):
    with pytest.raises(InputError, match=rf"^method structural[:.].*{message}"):
        build_method("structural", parameters, ring_graph, None)


@pytest.mark.parametrize("given", [{"precision": "bf16"}, {"other_learning_rate": 0.1}])
def test_what_the_loop_cannot_do_is_refused(given, ring_graph, tmp_path):
    with pytest.raises(InputError, match=r"^method structural: "):
        build(ring_graph, "rotate").fit(options(**given), 0, tmp_path, dict)


def test_a_loss_that_is_not_finite_ends_the_training(ring_graph, tmp_path):
    given = options(epochs=50, learning_rate=1.0e30, validate_every_epochs=0)
    with pytest.raises(InputError, match=r"^step \d+: the loss is not finite; lower the learning rate"):
        build(ring_graph, "rescal").fit(given, 0, tmp_path, dict)


# PyKEEN's evaluator and its pipeline

LEARNT = {
    "transe": {"norm": 1, "unit_entities": True, "loss": "nssa"},
    "complex": {"label_smoothing": 0.0, "optimizer": "adam", "regulariser": "none", "initial_range": 0.1},
    "conve": {},
}


@pytest.fixture(scope="module")
def umls():
    """PyKEEN's UMLS as our graph, and as its own dataset."""
    from pykeen.datasets import UMLS

    data = UMLS()
    parts = {"train": data.training, "valid": data.validation, "test": data.testing}
    frames = [
        pd.DataFrame(part.mapped_triples.numpy(), columns=["head", "relation", "tail"]).assign(split=name, label=1)
        for name, part in parts.items()
    ]
    names, texts = (sorted(numbers, key=numbers.get) for numbers in (data.entity_to_id, data.relation_to_id))
    entities = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    relations = pd.DataFrame({"id": texts, "text": texts, "inverse": texts})
    return Graph(entities, relations, pd.concat(frames, ignore_index=True)), data


def ours(method, graph: Graph) -> dict[str, float]:
    found = ranks(method, graph, "test").realistic
    hits = {f"hits_at_{k}": (found <= k).mean() for k in (1, 3, 10)}
    return {"arithmetic_mean_rank": found.mean(), "inverse_harmonic_mean_rank": (1 / found).mean(), **hits}


def assert_equal_metrics(method, graph: Graph, results) -> None:
    for name, value in ours(method, graph).items():
        # PyKEEN's means are of single precision
        assert results.get_metric(f"both.realistic.{name}") == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("interaction", LEARNT)
def test_pykeens_evaluator_gives_the_same_metrics(interaction, umls, tmp_path):
    from pykeen.evaluation import RankBasedEvaluator

    graph, data = umls
    method = build(graph, interaction, dimension=16, **LEARNT[interaction])
    method.fit(options(epochs=5, batch_size=128, validate_every_epochs=0), 0, tmp_path, dict)
    method.load(tmp_path / "last")
    results = RankBasedEvaluator().evaluate(
        method.model,
        data.testing.mapped_triples,
        additional_filter_triples=[data.training.mapped_triples, data.validation.mapped_triples],
        batch_size=64,
        use_tqdm=False,
    )
    assert results.get_metric("both.realistic.inverse_harmonic_mean_rank") > 0.1
    assert_equal_metrics(method, graph, results)


@pytest.mark.parametrize("interaction", LEARNT)
def test_pykeens_pipeline_gives_the_same_metrics(interaction, umls):
    """The pipeline trains and evaluates; its weights, taken over into the method, are ranked here."""
    from pykeen.pipeline import pipeline

    graph, data = umls
    method = build(graph, interaction, dimension=16, **LEARNT[interaction])
    # UMLS as it is given; the inverse relations are the method's option
    training = method.triples if method.parameters_.inverse_relations else data.training
    options_ = {"embedding_dim": 16, "embedding_height": 4, "embedding_width": 4, "output_channels": 4}
    sizes = options_ if interaction == "conve" else {"embedding_dim": 16}
    result = pipeline(
        training=training,
        validation=data.validation,
        testing=data.testing,
        model=interaction,
        model_kwargs=sizes,
        training_loop=method.parameters_.loop,
        training_kwargs={"num_epochs": 3, "batch_size": 256, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        optimizer_kwargs={"lr": 2e-2},
        filter_validation_when_testing=True,
        random_seed=0,
        device="cpu",
    )
    method.model.load_state_dict(result.model.state_dict())
    assert_equal_metrics(method, graph, result.metric_results)


@pytest.mark.parametrize("scheduler", sorted(_pykeen_loop.SCHEDULES))
def test_schedules_are_those_of_transformers(scheduler):
    from transformers.optimization import get_scheduler

    options = Training(scheduler=scheduler, warmup_ratio=0.2)
    name = "constant_with_warmup" if scheduler == "constant" else scheduler
    optimizer = torch.optim.SGD([torch.zeros(1)])
    expected = get_scheduler(name, optimizer, num_warmup_steps=8, num_training_steps=40).lr_lambdas[0]
    share = _pykeen_loop._rate(options, 40)
    assert [share(step) for step in range(41)] == pytest.approx([expected(step) for step in range(41)])
