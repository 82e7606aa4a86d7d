"""Specs of tiny models from scratch, and a Hugging Face hub on this machine alone."""

import http.server
import json
import threading

import pytest

SCRATCH = {
    "source": "scratch",
    "architecture": "llama",
    "dataset": "ring",
    "corpora": ["prose"],
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "intermediate_size": 24,
    "vocabulary_size": 300,
    "positions": 32,
    "steps": 3,
    "batch_size": 2,
    "sequence_length": 16,
    "learning_rate": 1e-3,
    "seed": 5,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def prose(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "prose"
    folder.mkdir()
    (folder / "train.txt").write_text("An ant is small.\n\nA naïve fox – it sleeps.\n", "utf-8")
    (folder / "test.txt").write_text("An unseen zebra grazes.\n", "utf-8")
    return folder


class Hub(http.server.ThreadingHTTPServer):
    """Answers like the hub: with `status` and `code`, or with the files of `folder` where status is 200."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.code, self.message, self.folder, self.asked = 200, "", "", None, []


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append(path)
        if hub.status != 200 or path.endswith("/auth-check"):
            return self._reply(hub.status, b"{}")
        if "/tree/" in path:
            files = [
                {
                    "type": "file",
                    "path": str(f.relative_to(hub.folder)),
                    "size": f.stat().st_size,
                    "oid": f.name,
                }
                for f in sorted(hub.folder.rglob("*"))
                if f.is_file()
            ]
            return self._reply(200, json.dumps(files).encode())
        if "/resolve/" in path:
            return self._reply(200, (hub.folder / path.split(f"/resolve/{COMMIT}/")[1]).read_bytes())
        return self._reply(200, json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": []}).encode())

    do_HEAD = do_GET

    def _reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body)}-{self.path.rsplit("/", 1)[-1]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status != 200:
            self.send_header("X-Error-Code", self.server.code)
            self.send_header("X-Error-Message", self.server.message)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that is asked instead of the public one, with an empty cache and no token."""
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
