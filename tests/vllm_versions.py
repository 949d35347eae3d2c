"""Which of the vLLM names that evalsuite uses each release has: flags, request fields, settings, modules.

    python tests/vllm_versions.py        # writes tests/evalsuite/serving/vllm_versions.json

Reads the source files in the wheels of every release from 0.24 on, without importing or installing them: pip says where
a wheel is, and only the parts with Python files are fetched. ``tests/evalsuite/serving/test_vllm_versions.py`` holds
the code against the table, so that an unknown flag is found here and not by a user with a newer or older vLLM.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import httpx
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from evalsuite.doctor import weights  # noqa: E402
from evalsuite.serving import scoring_endpoint, server, wire  # noqa: E402
from evalsuite.serving.client import Client, Target  # noqa: E402
from evalsuite.serving.reasoning import Reasoning  # noqa: E402
from evalsuite.serving.requests import Guide, Sampling  # noqa: E402
from evalsuite.serving.rewards import CLASSIFY, POOLING, reward_body  # noqa: E402
from judges.types import Message, Unscored  # noqa: E402

TABLE = ROOT / "tests/evalsuite/serving/vllm_versions.json"
FIRST = Version("0.24")
_CHUNK = 2**20

Names = dict[str, set[str]]


# What evalsuite uses


def names_in_use() -> Names:
    """Return the names of vLLM's that evalsuite uses, by kind; the code itself says which."""
    source = Path(server.__file__).read_text()
    names: Names = defaultdict(set)
    names |= _request_fields()
    names |= _engine_settings()
    names["flag"] = _flags(source)
    names["environment"] = set(re.findall(r"\"(VLLM_\w+)\"", source))
    names["module"] = {
        *re.findall(r"\"(vllm\.[\w.]+)\"", source),
        *re.findall(r"from (vllm\.[\w.]+)", weights._ASK_VLLM),
    }
    names["counter"] = set(wire._TOKEN_COUNTERS)
    endpoint = Path(scoring_endpoint.__file__).read_text()
    names["state"] = set(re.findall(r"\bstate\.(\w+)", endpoint))
    names["RequestOutput"] = set(re.findall(r"\b(?:reply|root|final)\.(\w+)", endpoint))
    names["SchedulerConfig"], names["ParallelConfig"] = {"policy"}, set(re.findall(r"parallel, \"(\w+)\"", endpoint))
    return names


def _flags(source: str) -> set[str]:
    """Return the keys that ``_command`` puts into its ``flags``, and the flags that it writes out."""
    function = next(
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == "_command"
    )
    json_texts = {
        id(inner)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "dumps"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Dict) and id(node) not in json_texts:
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "flags":
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--"):
            found |= {node.value.removeprefix("--")} - {""}
    # Switches: the values that are written as --NAME and --no-NAME.
    return {str(name) for name in found} - {"true", "false", "no-"}


class _Recorder(Client):
    """A client that notes the fields of its requests instead of sending them."""

    fields: Names

    async def _cached(self, kind: str, path: str, body: Any, read: Any, depth: int = 0) -> Any:
        self.fields[path] |= set(body)
        return Unscored("request_failed")


def _request_fields() -> Names:
    """Return the fields that managed servers, and vLLM servers without a local tokenizer, are sent, by path."""
    thinking = Reasoning(mode="on", template_args={"enable_thinking": True}, effort="low")
    target = Target("model", {}, max_model_len=4096, generation={"do_sample": True}, reasoning=thinking)
    client = _Recorder(target, [], cast("Any", None))
    client.fields = fields = defaultdict(set)
    sampling = Sampling(1, temperature=0.5, stop=("a",), logprobs=True)
    answer = [Message("user", "a"), Message("assistant", "b")]

    async def ask() -> None:
        for guide in (Guide(choice=("a",)), Guide(regex="a")):
            await client.complete([1], sampling, guide=guide)
        await client.generate([1], 1, sampling, "a", 0)
        await client.next_token_logprobs([1], [2])
        await client.prompt_logprobs([1, 2], 1)
        await client.chat(answer, sampling, Guide(choice=("a",)))
        client._features = frozenset()
        await client.label_logprobs(answer[:1], ["a"])

    asyncio.run(ask())
    for path in (CLASSIFY, POOLING):
        fields[path] = {*reward_body(answer, None), *reward_body(answer, [1])}
    return fields


def _engine_settings() -> Names:
    """Return what the scoring endpoint asks vLLM's engine with."""
    names: Names = defaultdict(set)

    class Engine:
        vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(policy="priority"), parallel_config=SimpleNamespace(data_parallel_size=2)
        )

        async def generate(self, prompt: Any, params: Any, name: str, **order: Any) -> Any:
            names["generate"] |= set(order)
            names["SamplingParams"] |= set(vars(params))
            entry = SimpleNamespace(logprob=-1.0, rank=1)
            rows = [dict.fromkeys(range(9), entry)] * len(prompt["prompt_token_ids"])
            chosen = dict.fromkeys(getattr(params, "logprob_token_ids", ()), entry)
            output = SimpleNamespace(token_ids=[1], logprobs=[chosen])
            yield SimpleNamespace(outputs=[output], prompt_logprobs=rows, num_cached_tokens=0)

    with mock.patch.dict(sys.modules, {"vllm": SimpleNamespace(SamplingParams=SimpleNamespace)}):
        asyncio.run(scoring_endpoint._Engine(Engine()).score([1], [[2, 3, 4], [2, 3, 5], [6, 7, 8]]))
    return names


# What a release has


class Wheel:
    """The Python files of a wheel, fetched as far as they are read."""

    def __init__(self, url: str) -> None:
        self._zip = zipfile.ZipFile(io.BufferedReader(_Remote(url)))
        self.files = [name for name in self._zip.namelist() if name.endswith(".py")]

    def sources(self, pattern: str) -> Iterator[str]:
        for name in self.files:
            if re.fullmatch(pattern, name):
                yield self._zip.read(name).decode()

    def classes(self, pattern: str) -> dict[str, ast.ClassDef]:
        trees = (ast.parse(source) for source in self.sources(pattern))
        return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


class _Remote(io.RawIOBase):
    """A remote file, read by ranges in chunks of a MiB."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(timeout=120, follow_redirects=True)
        self._url = url
        self._size = int(self._http.head(url).raise_for_status().headers["content-length"])
        self._chunks: dict[int, bytes] = {}
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        index, within = divmod(self._at, _CHUNK)
        if index not in self._chunks and self._at < self._size:
            first = index * _CHUNK
            reply = self._http.get(self._url, headers={"Range": f"bytes={first}-{first + _CHUNK - 1}"})
            if reply.raise_for_status().status_code != httpx.codes.PARTIAL_CONTENT:
                raise OSError("the index does not serve parts of a file")
            self._chunks[index] = reply.content
        part = self._chunks.get(index, b"")[within : within + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def fields_of(classes: Mapping[str, ast.ClassDef], name: str) -> set[str]:
    """Return the annotated fields of a class and of its bases among ``classes``."""
    if name not in classes:
        return set()
    node = classes[name]
    own = {
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    return own.union(*(fields_of(classes, base.id) for base in node.bases if isinstance(base, ast.Name)))


def parameters_of(node: ast.ClassDef, method: str) -> set[str]:
    function = next(
        each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == method
    )
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def names_of(wheel: Wheel) -> Names:
    """Return the names that a release has, by kind."""
    names: Names = defaultdict(set)
    for source in wheel.sources(r"vllm/engine/arg_utils\.py|vllm/entrypoints/.*cli_args\.py"):
        names["flag"] |= set(re.findall(r"add_argument\(\s*\"--([\w-]+)\"", source))
    frontend = wheel.classes(r"vllm/entrypoints/.*cli_args\.py")
    names["flag"] |= {name.replace("_", "-") for name in fields_of(frontend, "FrontendArgs")}
    protocols = wheel.classes(r"vllm/entrypoints/.*protocol\.py|vllm/entrypoints/openai/engine/protocol\.py")
    names["/completions"] = fields_of(protocols, "CompletionRequest")
    names["/chat/completions"] = fields_of(protocols, "ChatCompletionRequest")
    for path, word in ((CLASSIFY, "Classification"), (POOLING, "Pooling")):
        names[path] = set().union(*(fields_of(protocols, f"{word}{kind}Request") for kind in ("Completion", "Chat")))
    names["SamplingParams"] = fields_of(wheel.classes(r"vllm/sampling_params\.py"), "SamplingParams")
    names["generate"] = parameters_of(wheel.classes(r"vllm/v1/engine/async_llm\.py")["AsyncLLM"], "generate")
    names["RequestOutput"] = parameters_of(wheel.classes(r"vllm/outputs\.py")["RequestOutput"], "__init__")
    configs = wheel.classes(r"vllm/config/(?:scheduler|parallel)\.py")
    for name in ("SchedulerConfig", "ParallelConfig"):
        names[name] = fields_of(configs, name)
    for source in wheel.sources(r"vllm/entrypoints/.*\.py"):
        names["state"] |= set(re.findall(r"\bstate\.(\w+)(?::[^=\n]+)? = ", source))
    for source in wheel.sources(r"vllm/envs\.py"):
        names["environment"] |= set(re.findall(r"\"(VLLM_\w+)\"", source))
    for source in wheel.sources(r"vllm/v1/metrics/loggers\.py"):
        names["counter"] |= {f"{name}_total" for name in re.findall(r"\"(vllm:\w+)\"", source)}
    names["module"] = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in wheel.files}
    return names


def releases() -> list[str]:
    """Return the releases from ``FIRST`` on that pip offers, oldest first."""
    said = _pip("index", "versions", "vllm")
    found = re.search(r"Available versions: (.*)", said)
    assert found, said
    return sorted((each for each in found[1].split(", ") if Version(each) >= FIRST), key=Version)


def url_of(version: str) -> str:
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--only-binary", ":all:", "--report", "-")
    report = json.loads(_pip("install", *options, f"vllm=={version}"))
    return str(report["install"][0]["download_info"]["url"])


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    used, lacking, versions = names_in_use(), {}, releases()
    for version in versions:
        names = names_of(Wheel(url_of(version)))
        lacking[version] = {kind: sorted(words - names[kind]) for kind, words in used.items() if words - names[kind]}
        print(version, lacking[version] or "has everything", flush=True)
    table = {"used": {kind: sorted(words) for kind, words in sorted(used.items())}, "lacking": lacking}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
