"""The check for access: one line for each way in which the hub says no, and no word about the token."""

import subprocess
import sys

import pytest

from kglm.errors import InputError
from kglm.lm.access import check_access, explain

GATED = {"source": "hub", "id": "owner/model", "revision": "main", "gated": True}
TOKEN = "hf_" + "s" * 34


def told(models=None, **options) -> str:
    with pytest.raises(InputError) as caught:
        check_access(models or {"large": GATED}, **options)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_access_is_granted(hub):
    check_access({"large": GATED})
    assert "/api/models/owner/model/auth-check" in hub.asked


def test_no_token(hub):
    hub.status, hub.code = 401, "GatedRepo"
    page = f"http://127.0.0.1:{hub.server_port}/owner/model"
    assert told() == (
        f"owner/model: no access without a token; accept the licence at {page} and set HF_TOKEN, "
        "or point to a copy with `source: local`"
    )


def test_token_without_access(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.status, hub.code = 403, "GatedRepo"
    assert "owner/model: your token has no access; accept the licence" in told()


def test_token_that_is_not_valid(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.status, hub.message = 401, "Invalid credentials in Authorization header"
    assert "the hub refuses the token" in told()


def test_no_such_model(hub):
    hub.status, hub.code = 404, "RepoNotFound"
    assert "no such model on the hub, or it is private" in told()


def test_hub_in_trouble(hub):
    hub.status = 503
    assert "the hub answers with status 503; try again later" in told()


def test_offline(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not in the hub's cache, and HF_HUB_OFFLINE forbids to ask" in told()
    assert hub.asked == []


def test_no_network(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "the hub can not be reached (ConnectError); check the network" in told()


def test_all_refused_models_are_told_at_once(hub):
    hub.status, hub.code = 401, "GatedRepo"
    line = told({"a": GATED, "b": GATED | {"id": "owner/other"}})
    assert "owner/model: no access" in line
    assert "owner/other: no access" in line


def test_only_gated_models_that_are_not_built_are_asked_for(hub, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "provenance.json").write_text("{}")
    open_model = GATED | {"gated": False}
    check_access({"large": GATED, "open": open_model, "here": {"source": "local", "path": "x"}}, built=tmp_path)
    assert hub.asked == []


def test_unknown_id_form():
    from huggingface_hub.errors import HFValidationError

    assert "write owner/name" in str(explain(HFValidationError("bad"), "a/b/c"))


def test_neither_torch_nor_transformers_is_imported():
    code = "import sys, kglm.lm.access; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
