"""A study of tiny checkpoints whose stages write one small file each instead of serving and training."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from evalsuite.study.file import read_study
from evalsuite.study.graph import KINDS
from evalsuite.study.state import Failed, Made
from tests.evalsuite.tiny_checkpoint import write_checkpoint

DOCUMENT = {
    "name": "toy",
    "judge": "models/judge",
    "dgms": {"A": {"model": "models/a"}, "B": {"answers": "b.jsonl"}},
    "targets": {"T": {"model": "models/t"}},
    "sizes": [2, 4],
    "blends": [{"dgms": ["A", "B"]}],
    "generate": {"prompts": "prompts.jsonl", "limit": 4},
    "run": {"data": "mini", "limit": 2},
}


def chats(n: int, answer: str | None) -> str:
    rows = []
    for number in range(n):
        messages = [{"role": "user", "content": f"Question {number}?"}]
        if answer:
            messages.append({"role": "assistant", "content": f"{answer} {number}."})
        rows.append(json.dumps({"messages": messages}))
    return "\n".join(rows) + "\n"


def write_models(folder: Path) -> None:
    for number, name in enumerate(("judge", "a", "t")):
        write_checkpoint(folder / "models" / name, context=1000 + number)
    (folder / "prompts.jsonl").write_text(chats(4, None))
    (folder / "b.jsonl").write_text(chats(4, "B says"))


def write_study(folder: Path, **changes: object) -> Path:
    """Write toy.yaml with top-level ``changes``."""
    document = DOCUMENT | changes
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def toy_study(folder: Path, **changes: object):
    if not (folder / "models").exists():
        write_models(folder)
    return read_study(write_study(folder, **changes))


class Toys:
    """Adapters for every kind; they keep a list of what they did, and fail where they should."""

    def __init__(self, failing: dict[str, Failed | Exception] | None = None) -> None:
        self.did: list[str] = []
        self.batches: list[list[str]] = []
        self.inputs: dict[str, list[str]] = {}
        self.failing = failing or {}

    def __call__(self, tasks, workspace):
        self.batches.append([task.stage.name for task in tasks])
        results = {}
        for task in tasks:
            name = task.stage.name
            self.did.append(name)
            self.inputs[name] = list(task.inputs)
            if isinstance(trouble := self.failing.get(name), Exception):
                raise trouble
            if trouble is not None:
                results[name] = trouble
                continue
            file = workspace.state.folder / task.key[:16] / "out.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
            results[name] = Made({"file": file}, proof=(file,))
        return results

    @property
    def adapters(self):
        return dict.fromkeys(KINDS, self)
