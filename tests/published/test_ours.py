"""What this repository publishes."""

from kglm import config as configuration
from kglm.published.verify import verify
from kglm.rebuild import Sources

from .conftest import ROOT

PUBLISHED = ROOT / "results/published"


def test_it_holds(capsys):
    verify(PUBLISHED)
    count = len(list(PUBLISHED.iterdir()))
    assert count > 50
    assert capsys.readouterr().out.startswith(f"{count} published runs hold\n")


def test_it_is_shown(tmp_path):
    """Every published run has the settings that the small scale has now, so that `make tables` shows it."""
    config = configuration.read(ROOT / "config.yaml", ROOT / "workflow/scales/small.yaml")
    sources = Sources(config | {"results": str(tmp_path)}, PUBLISHED)
    assert sources.other_settings == []
    assert set(sources.published_runs) == {path.name for path in PUBLISHED.iterdir()}
