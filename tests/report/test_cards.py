"""A card tells how a run was configured, what it cost, what it measured, and how it learnt."""

import base64
from xml.etree import ElementTree

import pytest

from kglm.report.cards import cards

from .conftest import RUNS, SCRIPT


@pytest.fixture(scope="module")
def made(results):
    return cards(results.files())


def test_a_run_is_told_as_it_was(made):
    card = made[1][-1]
    assert card.name == "good_toy"
    assert dict(card.facts)["chosen on valid"] == "epoch 2, step 8"
    cost = {
        "wall time": "2 h 1 min",
        "tokens a second": "1,234",
        "energy": "2.0 Wh",
        "peak memory": "635 MiB",
        "hardware": "abacus",
        "commit": "0123456789ab+",
    }
    assert cost.items() <= dict(card.cost).items()
    assert "peak GPU memory" not in dict(card.cost)
    assert ("parameters", [("margin", "0.02"), ("text", SCRIPT)]) in card.options
    assert dict(card.facts)["seed"] == "3"


def test_the_curves_are_drawn_and_told(made):
    card = made[1][0]
    assert card.told == "training loss from 2.5 to 1.5; MRR on valid from 0.250 to 0.500, by training epoch"
    drawing = ElementTree.fromstring(base64.b64decode(card.curves))
    texts = {"".join(node.itertext()).strip() for node in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"epoch", "training loss", "MRR on valid"} <= texts


def test_all_runs_stand_in_one_table(made):
    grid = made[0]
    assert [line[0].runs for line in grid.lines] == [(run,) for run in sorted(RUNS)]
    seconds = [column.title for column in grid.columns].index("Seconds")
    assert grid.lines[0][seconds].order == 7260.0


def test_a_run_of_another_ones_weights_has_a_card(results, tmp_path):
    path = tmp_path / "specs" / "run" / "other_toy.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "other_toy", "method": "kalm", "weights": "good_toy"}', "utf-8")
    (card,) = cards([path])[1]
    assert card.curves == ""
    assert card.cost == [("training", "none: it takes the weights of another run")]
