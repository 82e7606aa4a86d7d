import importlib.util
from pathlib import Path

TOP = Path(__file__).parent.parent
specification = importlib.util.spec_from_file_location("generate", TOP / "docs" / "generate.py")
generate = importlib.util.module_from_spec(specification)
specification.loader.exec_module(generate)


def test_the_pages_are_what_the_program_reads():
    for path, text in generate.pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run python docs/generate.py"


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
    for target in ("demo", "test", "lint", "bench", "clean", "setup"):
        assert f"\n{target}:" in makefile
