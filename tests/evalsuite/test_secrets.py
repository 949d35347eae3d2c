"""Keys, passwords and proxies: what each server hears, and that nothing is written or shown."""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

import pytest
from yarl import URL

from evalsuite.config import read_config
from evalsuite.errors import ServerError, UsageError
from evalsuite.redaction import scrubbed, without_secrets
from evalsuite.runs.runner import run
from evalsuite.serving import server as server_module
from evalsuite.serving import session as session_module
from evalsuite.serving.device import Device
from evalsuite.serving.wire import api_key, check_endpoint
from tests.evalsuite.serving.test_hostile_replies import RawServer, with_head
from tests.evalsuite.serving.test_server_faults import healthy
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.test_security import invoke
from tests.evalsuite.tiny_checkpoint import write_checkpoint

pytestmark = pytest.mark.slow


SECRETS = {
    "EVALSUITE_API_KEY": "evs-planted-1234567890",
    "OPENAI_API_KEY": "sk-planted-1234567890",
    "HF_TOKEN": "hf_planted1234567890",
}
PASSWORD = "planted-password"


def holds_secret(data: bytes) -> list[str]:
    return [value for value in (*SECRETS.values(), PASSWORD) if value.encode() in data]


def test_no_secret_is_written_or_shown(tmp_path, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def echoing(path, body):
        if "bakery" in json.dumps(body):
            return 400, {"error": {"message": f"bad key {SECRETS['EVALSUITE_API_KEY']} at http://me:{PASSWORD}@host"}}
        return healthy(path, body)

    results = tmp_path / "results"
    with StubEndpoint(echoing) as stub:
        url = stub.url.replace("http://", f"http://me:{PASSWORD}@") + "?api_key=" + PASSWORD
        plain = stub.url.replace("http://", f"http://me:{PASSWORD}@")
        words = ["--suite", "mt_bench", "--data", "mini", "--results", str(results)]
        done = invoke("run", f"stub@{plain}", "--judge", f"stub@{plain}", *words)
        attached = invoke("run", "stub", "--base-url", plain, *words, "--no-judge", "--max-unscored", "1")
        looked = invoke("doctor", f"stub@{plain}", "--judge", f"other@{plain}", *words)
    gone = invoke("run", f"stub@{plain}", *words, "--fresh", "--no-judge")
    wrong = invoke("run", f"stub@ftp://me:{PASSWORD}@host/v1", *words)
    refused = invoke("run", f"stub@{url}", *words)
    assert (done.exit_code, attached.exit_code, looked.exit_code, gone.exit_code) == (1, 0, 2, 3)
    for shown in (done, attached, looked, gone, wrong, refused):
        assert holds_secret(shown.output.encode()) == [], shown.output
        assert "Traceback" not in shown.output
    files = [path for path in results.rglob("*") if path.is_file()]
    assert any(path.name == "store.sqlite" for path in files)
    assert any(path.name == "manifest.json" for path in files)
    for path in files:
        assert holds_secret(path.read_bytes()) == [], path


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

# In vLLM's place: serves a model and answers its questions, under the key and the name of the start.
MANAGED = """
import http.server, json, os, sys
class Serving(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer({"data": [{"id": sys.argv[2]}]})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        choice = (body.get("structured_outputs") or {}).get("choice", ["An answer. Rating: [[5]]"])[0]
        self.answer({"choices": [{"text": choice, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}})
    def answer(self, document):
        ok = self.headers["authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        data = json.dumps(document).encode()
        self.send_response(200 if ok else 401)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Serving).serve_forever()
"""


def test_a_managed_server_is_never_asked_through_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for module in (server_module, session_module):
        monkeypatch.setattr(module, "installed_vllm", lambda: Device("cpu", "0"))
    monkeypatch.setattr(
        server_module,
        "_command",
        lambda server, *_: [sys.executable, "-c", MANAGED, str(server.port), server.model_name],
    )
    folder = write_checkpoint(tmp_path / "ckpt")
    with RawServer(lambda: [with_head(b"", "Content-Length: 0", status="502 Bad Gateway")]) as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        options = {"suites": ["mt_bench"], "data": "mini", "results": tmp_path / "results"}
        scores = (
            run(read_config({"models": [str(folder)], "judge": str(folder), **options})).models[0].suites["mt_bench"]
        )
        with StubEndpoint(healthy) as stub:
            assert check_endpoint(stub.url, None)[0] == "stub", "nor is another server on this machine"
        assert proxy.heard == []
        with pytest.raises(UsageError, match="502"):
            check_endpoint("http://endpoint.example/v1", None)
        assert b"GET http://endpoint.example/v1/models" in proxy.heard[0], "the proxy itself works"
    assert (scores["n_scored"], scores["unscored"]) == (scores["n"], {})


def test_the_environments_exceptions_from_the_proxy_hold(monkeypatch):
    with RawServer(lambda: [b""]) as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "inside.invalid")
        for host in ("inside.invalid", "outside.invalid"):
            with pytest.raises(ServerError, match="no response"):
                check_endpoint(f"http://{host}/v1", None)
        for scheme in ("ftp", "socks5"):
            monkeypatch.setenv("http_proxy", f"{scheme}://me:{PASSWORD}@127.0.0.1:{proxy.port}")
            with pytest.raises(UsageError, match="HTTP proxy") as error:
                check_endpoint("http://outside.invalid/v1", None)
            assert PASSWORD not in str(error.value)
        # A GET is repeated once on a closed connection.
        assert {heard.split()[1] for heard in proxy.heard} == {b"http://outside.invalid/v1/models"}


@pytest.mark.parametrize(
    ("url", "owner"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://API.OpenAI.com:443/v1", "OPENAI_API_KEY"),
        ("https://eu.api.openai.com/v1", "OPENAI_API_KEY"),
        ("http://api.openai.com/v1", "EVALSUITE_API_KEY"),
        ("https://api.openai.com.evil.example/v1", "EVALSUITE_API_KEY"),
        ("https://evil-api.openai.com/v1", "EVALSUITE_API_KEY"),
        ("https://api.openai.com@evil.example/v1", "EVALSUITE_API_KEY"),
        ("https://evil.example/api.openai.com/v1", "EVALSUITE_API_KEY"),
        ("https://evil.example?api.openai.com/v1", "EVALSUITE_API_KEY"),
        ("https://evil.example#@api.openai.com/v1", "EVALSUITE_API_KEY"),
        ("https://openai.azure.com/v1", "EVALSUITE_API_KEY"),
        ("http://127.0.0.1:8000/v1", "EVALSUITE_API_KEY"),
    ],
)
def test_openais_key_is_for_openais_own_host(monkeypatch, url, owner):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert api_key(url) == SECRETS[owner]
    # What reads the host to choose the key and what connects to it must mean the same host.
    assert URL(url).host == urlsplit(url).hostname
    monkeypatch.delenv("EVALSUITE_API_KEY")
    assert api_key(url) == (SECRETS[owner] if owner == "OPENAI_API_KEY" else "")


@pytest.mark.parametrize("has_own_key", [True, False])
def test_each_server_hears_only_the_key_meant_for_it(tmp_path, monkeypatch, has_own_key):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-planted")
    if has_own_key:
        monkeypatch.setenv("EVALSUITE_API_KEY", SECRETS["EVALSUITE_API_KEY"] + "\n")
    else:
        monkeypatch.delenv("EVALSUITE_API_KEY")
    models = json.dumps({"data": [{"id": "stub"}]}).encode()
    with RawServer(lambda: [with_head(b"", "Content-Length: 0")]) as elsewhere:
        reply = with_head(b"", f"Location: {elsewhere.url}", "Content-Length: 0", status="307 Moved")

        def chunks():
            is_list = server.heard[-1].startswith(b"GET")
            yield with_head(models, f"Content-Length: {len(models)}") if is_list else reply

        with RawServer(chunks) as server:
            words = ["--suite", "mt_bench", "--data", "mini", "--results", str(tmp_path / "results")]
            done = invoke("run", f"stub@{server.url}", "--judge", f"stub@{server.url}", *words)
    assert done.exit_code == 1, done.output
    assert elsewhere.heard == []
    posts = [heard for heard in server.heard if heard.startswith(b"POST")]
    assert posts
    expected = [SECRETS["EVALSUITE_API_KEY"]] if has_own_key else []
    for heard in server.heard:
        assert holds_secret(heard) == expected
        assert b"org-planted" not in heard


@pytest.mark.parametrize("padding", range(150, 200, 10))
def test_a_key_that_a_server_repeats_is_not_shown_in_part(monkeypatch, padding):
    """Messages are cut, but not within a key."""
    key = SECRETS["EVALSUITE_API_KEY"]
    monkeypatch.setenv("EVALSUITE_API_KEY", key)
    text = ("x" * padding + key).encode()
    for reply in (text, with_head(text, f"Content-Length: {len(text)}", status="500 No")):
        with RawServer(lambda reply=reply: [reply]) as server, pytest.raises((ServerError, UsageError)) as error:
            check_endpoint(server.url, None)
        assert key[:8] not in str(error.value)
        assert "\n" not in str(error.value)


def test_redaction_takes_keys_and_user_parts_and_leaves_words(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert without_secrets("http://a:b@h/v1 with hf_abcdef and none") == "http://h/v1 with *** and none"
    assert without_secrets("m@http://h/v1, me@mail.org") == "m@http://h/v1, me@mail.org"
    assert scrubbed({"a": ["x@https://u:p@h", 1, None]}) == {"a": ["x@https://h", 1, None]}
