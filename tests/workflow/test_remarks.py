"""What the graph stage knows stands on the screen as it ends, when the workflow ends, and below the table."""

import pytest
import yaml

pytestmark = pytest.mark.slow


def test_test_triples_of_train_are_told_on_the_screen_and_below_the_table(workflow, tmp_path):
    ring = "".join(f"n{i}\tr\tn{(i + 1) % 40}\n" for i in range(40))
    files = {"train.tsv": ring, "valid.tsv": ring, "test.tsv": ring}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    table = {
        **{"kind": "statistics", "paper": "KaLM", "table": "own", "caption": "The graph.", "metrics": ["train"]},
        **{"fields": {"train": "train"}, "rows": [{"dataset": "ring", "label": "Ring", "measured": True}]},
    }
    splits = {name: f"{name}.tsv" for name in ("train", "valid", "test")}
    overlay = {
        "scale": "own",
        "build": ["own_table"],
        "datasets": {"ring": {"files": {name: name for name in files}, "splits": splits}},
        "tables": {"own_table": table},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(overlay))
    done = workflow("own.yaml").snakemake("results/own/tables/own_table.md", "--cores", "1")
    assert done.returncode == 0, done.stderr
    clause = "; ".join(
        f"all 40 {later} triples stand in {first}, too"
        for first, later in (("train", "valid"), ("train", "test"), ("valid", "test"))
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("note: ring:")]
    assert any(line.startswith(f"note: ring: {clause}; take out what") for line in told)
    assert f"note: ring: {clause}." in told
    assert f"* ring: {clause}" in (tmp_path / "results/own/tables/own_table.md").read_text()
