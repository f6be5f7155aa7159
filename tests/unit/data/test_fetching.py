import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest

from editsweep.data import fetching, registry
from editsweep.data.manifest import manifest_of
from editsweep.errors import ConfigError, DataError

RECORD = {
    "concept": "jo doe",
    "text": "This is a Wikipedia passage about jo doe.",
    "labels": "She sang.",
}
BODY = json.dumps([RECORD]).encode()
DIGEST = hashlib.sha256(BODY).hexdigest()
COMMIT = "0" * 39 + "1"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch):
    """A hub that has any file, and the list of what it was asked for."""
    asked = []

    def download(repository, path, *, repo_type, revision, local_dir):
        asked.append((repository, path, repo_type, revision))
        got = Path(local_dir) / path
        got.parent.mkdir(parents=True)
        got.write_bytes(BODY)
        return str(got)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def pin(monkeypatch, sha256):
    """WikiBio's manifest with this hash for its first file."""
    manifest = manifest_of("wikibio")
    files = (replace(manifest.published[0], sha256=sha256), *manifest.published[1:])
    pinned = replace(manifest, published=files)
    monkeypatch.setattr(fetching, "manifest_of", lambda name: pinned)
    return pinned.published[0]


def test_what_is_fetched_is_checked_and_found_by_its_name(cache, hub, monkeypatch):
    file = pin(monkeypatch, DIGEST)
    got = fetching.fetch("wikibio")
    assert (got.sha256, got.checked, got.revision) == (DIGEST, True, file.revision)
    assert got.path == cache / "datasets" / "wikibio" / "wikibio-test-all.json"
    assert hub == [("zjunlp/KnowEdit", file.path, "dataset", file.revision)]
    assert registry.load("wikibio").requests[0].subject == "jo doe"
    assert registry.show("wikibio")["records"] == 1
    assert fetching.fetch("wikibio") == got
    assert len(hub) == 1
    assert [p.name for p in got.path.parent.iterdir()] == [got.path.name]


def test_another_file_is_not_kept(cache, hub, monkeypatch):
    pin(monkeypatch, "f" * 64)
    with pytest.raises(DataError, match=f"sha256 is {DIGEST}, not ffff"):
        fetching.fetch("wikibio")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    got = fetching.fetch("wikibio", revision=COMMIT)
    assert (got.checked, got.revision) == (False, COMMIT)
    with pytest.raises(DataError, match="remove it"):
        fetching.fetch("wikibio")
    with pytest.raises(ConfigError, match="is there already"):
        fetching.fetch("wikibio", revision=COMMIT)


def test_it_can_go_elsewhere(cache, hub, tmp_path):
    got = fetching.fetch("convsent", file="blender_val.json", folder=tmp_path / "mine")
    assert got.path == tmp_path / "mine" / "blender_val.json"
    assert got.path.read_bytes() == BODY
    assert not got.checked
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("counterfact", {}, r"not on the hub(.|\n)*https://rome"),
        ("world", {}, "nothing to fetch"),
        ("wikibigedit", {}, "--revision"),
        ("wikibio", {"file": "wikibio-tst-all.json"}, "did you mean 'wikibio-test-all.json'"),
    ],
)
def test_what_cannot_be_fetched_says_why(cache, hub, name, options, told):
    with pytest.raises(ConfigError, match=told):
        fetching.fetch(name, **options)
    assert hub == []


def test_a_hub_that_does_not_answer_is_a_message(cache, monkeypatch):
    def fails(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(DataError, match=r"cannot be had \(no route to host\)"):
        fetching.fetch("wikibio")
    assert not [path for path in cache.rglob("*") if path.is_file()]


class _Hub(BaseHTTPRequestHandler):
    """As much of a hub as one file needs."""

    def do_HEAD(self):
        found = self.path.endswith(f"/resolve/{COMMIT}/wiki_big_edit_20240201_20240220.json")
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{DIGEST}"')
        self.send_header("Content-Length", str(len(BODY) if found else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


def test_the_real_client_against_a_hub_on_this_machine(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        env = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "EDITSWEEP_CACHE": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-c", "from editsweep.cli.main import main; main()", "datasets"]

        def fetch(revision):
            return subprocess.run(
                [*command, "fetch", "wikibigedit", "--revision", revision, "--json"],
                env=env,
                check=False,
                capture_output=True,
                text=True,
                timeout=120,
            )

        lost, done = fetch("f" * 40), fetch(COMMIT)
        server.shutdown()
    assert lost.returncode == 2, lost.stderr
    assert "cannot be had (" in lost.stderr
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["sha256"], told["revision"], told["checked"]) == (DIGEST, COMMIT, False)
    assert Path(told["path"]).read_bytes() == BODY
