import importlib.util
import json
from pathlib import Path

import pytest

from kglm.errors import InputError

TOP = Path(__file__).parent.parent
specification = importlib.util.spec_from_file_location("generate", TOP / "docs" / "generate.py")
generate = importlib.util.module_from_spec(specification)
specification.loader.exec_module(generate)


def test_the_pages_are_what_the_program_reads():
    for path, text in generate.pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run python docs/generate.py"


def test_reproduced_rows_are_measured_or_explained(monkeypatch, tmp_path):
    """A row tells the mean of its published runs, and why; one that came to nothing tells why as well."""
    for seed, accuracy in enumerate((0.5, 0.7)):
        folder = tmp_path / f"lmke_umls-{seed}"
        folder.mkdir()
        split = {"test": {"accuracy": accuracy, "confidence": [0.4, 0.8]}}
        result = {"run": folder.name, "seed": seed, "model": "tiny", "dataset": "umls", "thresholds": {"global": split}}
        (folder / "classification.json").write_text(json.dumps(result))
        (folder / "perplexity.json").write_text(json.dumps(result | {"token_perplexity": 31.25}))
        spec = {"method": "lmke", "dataset": "umls", "training": {"epochs": 2}}
        record = {"run": folder.name, "weights": folder.name, "spec": spec, "wall_seconds": 90}
        (folder / "run.json").write_text(json.dumps(record))
    columns = "paper,table,dataset,method,label,metric,threshold,runs,paper_model,why\n"
    rows = "LMKE,Table 4,UMLS,LMKE (BERT-base),,accuracy,global,lmke_umls-0 lmke_umls-1,BERT-base,smaller\n"
    rows += "LMKE,Table 4,UMLS,KG-BERT,,accuracy,global,,BERT-base,it ran out of time\n"
    rows += ",,umls,LMKE,,accuracy,global,lmke_umls-0,,nobody else has it\n"
    rows += ",,WikiText,LMKE,,PPL,,lmke_umls-0,,of its language model\n"
    (tmp_path / "rows.csv").write_text(columns + rows)
    monkeypatch.setattr(generate, "ROWS", tmp_path / "rows.csv")
    monkeypatch.setattr(generate, "PUBLISHED", tmp_path)
    page = generate.reproduced()
    assert "LMKE (BERT-base), UMLS, accuracy (%) | 92.4 | BERT-base | 60.0 [" in page
    assert "2 seeds | tiny | 90 s | other model | smaller |" in page
    assert "\n* LMKE, Table 4: KG-BERT, UMLS, accuracy (%) (89.7 in the paper): it ran out of time\n" in page
    assert "\n| LMKE, umls, accuracy (%) | 50.0 [40.0, 80.0] | tiny | 90 s | nobody else has it |\n" in page
    assert "\n| LMKE, WikiText, perplexity per token | 31.2 | tiny | 90 s | of its language model |\n" in page
    for model in ("tiny", ""):  # the paper's own model, and none: these are compared
        (tmp_path / "rows.csv").write_text(columns + rows.replace("BERT-base,smaller", f"{model},smaller"))
        assert "2 seeds | tiny | 90 s | −32.4 | smaller |" in generate.reproduced()
    (tmp_path / "rows.csv").write_text(columns + rows.replace("lmke_umls-1", "lmke_umls-9"))
    with pytest.raises(InputError, match="lmke_umls-9 is not published"):
        generate.reproduced()


def test_reproduced_rows_below_the_floor_say_so():
    page = [line for line in generate.reproduced().split("\n") if " UMLS, MRR " in line]
    marked = {line.split(",")[0].lstrip("| ") for line in page if "below the floor (0.661)" in line}
    assert {"StAR", "SimKGC", "base model"} <= marked
    assert not {"floor: answers of the relation", "KaLM", "MEM-KGC", "ConvE"} & marked


def test_every_parameter_of_the_methods_is_explained_or_named_by_itself():
    page = generate.configuration()
    for section in ("## Training", "## Parameters of `kalm`", "## Parameters of `base`"):
        assert section in page
    assert "`language_model_weight`" in page and "λ of Equation 4" in page


def test_what_readme_names_is_there():
    readme = (TOP / "README.md").read_text("utf-8")
    for path in ("examples/own_graph/config.yaml", "docs/configuration.md", "src/kglm/methods/_interface.py"):
        assert f"({path})" in readme and (TOP / path).exists()
    makefile = (TOP / "Makefile").read_text("utf-8")
    for target in ("demo", "tables", "test", "lint", "bench", "clean", "setup"):
        assert f"\n{target}:" in makefile
