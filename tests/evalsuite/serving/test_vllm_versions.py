"""The code uses only what every vLLM from 0.24 on has, or looks for it first (``tests/vllm_versions.py``)."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from evalsuite.serving import server
from tests.vllm_versions import ROOT, TABLE, names_in_use

LOOKED_FOR = {
    "/completions": {"logprob_token_ids"},  # Client.detect_features
    "module": {"vllm.entrypoints.launchers.api_server.entry"},  # server._entry_module
}


@pytest.fixture(scope="module")
def table():
    return json.loads(TABLE.read_text())


def test_every_name_in_use_is_in_the_table(table):
    """If this fails, run ``python tests/vllm_versions.py``: it looks the new names up in every release."""
    assert table["used"] == {kind: sorted(words) for kind, words in names_in_use().items()}


def test_every_release_has_what_is_not_looked_for(table):
    for version, lacking in table["lacking"].items():
        missing = {kind: set(words) - LOOKED_FOR.get(kind, set()) for kind, words in lacking.items()}
        assert not any(missing.values()), (version, missing)


def test_the_table_reaches_the_release_that_the_gpu_extra_installs(table):
    project = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())
    asked = next(one for one in project["project"]["optional-dependencies"]["gpu"] if one.startswith("vllm"))
    least = re.match(r"vllm>=([\d.]+)", asked)[1]
    assert any(version.startswith(f"{least}.") for version in table["lacking"])


def test_names_in_use_are_read_from_the_code():
    used = names_in_use()
    assert {"max-logprobs", "no-"} & used["flag"] == {"max-logprobs"}
    assert {"logprob_token_ids", "skip_reading_prefix_cache"} <= used["SamplingParams"]
    assert "structured_outputs" in used["/completions"] & used["/chat/completions"]


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("launchers/api_server/entry.py", "vllm.entrypoints.launchers.api_server.entry"),
        ("openai/api_server.py", "vllm.entrypoints.openai.api_server"),
    ],
)
def test_the_servers_module_is_found_without_importing_vllm(tmp_path, monkeypatch, file, module):
    path = tmp_path / "vllm" / "entrypoints" / file
    path.parent.mkdir(parents=True)
    path.touch()
    # Importing vLLM takes seconds of CPU time, just when its server is to start.
    (tmp_path / "vllm" / "__init__.py").write_text("raise SystemExit('vLLM is imported')\n")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert server._entry_module() == module
