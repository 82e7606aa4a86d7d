from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.training.options import Training
from kglm.training.schedule import Schedule

OPTIONS = Training(epochs=3, batch_size=6)


class Echo:
    """A method whose batch is what it was given."""

    def collate(self, triples, generator, part, parts):
        return {"triples": triples[part::parts], "chance": generator.integers(1 << 30)}


@given(
    count=st.integers(2, 40),
    batch_size=st.integers(1, 12),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
    parts=st.sampled_from([1, 2]),
)
def test_each_epoch_holds_each_triple_once(count, batch_size, epochs, seed, parts):
    batch_size *= parts
    triples = np.arange(3 * count).reshape(count, 3)
    schedule = Schedule(Echo(), triples, Training(epochs=epochs, batch_size=batch_size), seed, parts)
    assert len(schedule) == schedule.steps * parts == schedule.steps_per_epoch * epochs * parts
    for epoch in range(epochs):
        steps = range(epoch * schedule.steps_per_epoch, (epoch + 1) * schedule.steps_per_epoch)
        rows = np.concatenate([schedule[step * parts + part]["triples"] for step in steps for part in range(parts)])
        assert len(np.unique(rows, axis=0)) == len(rows) == count - count % parts


def test_a_step_is_a_function_of_the_seed_and_the_step_alone():
    triples = np.arange(60).reshape(20, 3)
    forwards, backwards = (Schedule(Echo(), triples, OPTIONS, 1) for _ in range(2))
    other = Schedule(Echo(), triples, OPTIONS, 2)
    steps = range(len(forwards))
    there = {step: forwards[step] for step in steps}
    for step in reversed(steps):
        item = backwards[step]
        np.testing.assert_array_equal(item["triples"], there[step]["triples"])
        assert item["chance"] == there[step]["chance"]
    assert any((other[step]["triples"] != there[step]["triples"]).any() for step in range(3))


def test_processes_share_their_chance():
    schedule = Schedule(Echo(), np.arange(60).reshape(20, 3), OPTIONS, 0, parts=2)
    assert schedule[0]["chance"] == schedule[1]["chance"] != schedule[2]["chance"]


def test_an_unknown_training_key_is_named():
    with pytest.raises(InputError, match="learning_rat"):
        Training.of({"learning_rat": 1.0})


def test_a_maximum_of_steps_ends_the_schedule():
    triples = np.arange(60).reshape(20, 3)
    whole, short = (Schedule(Echo(), triples, replace(OPTIONS, maximum_steps=n), 0) for n in (0, 5))
    assert (len(whole), len(short)) == (12, 5)
    np.testing.assert_array_equal(whole.batch(4), short.batch(4))
