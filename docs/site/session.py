"""Run commands as a user does, over three scripted models of no weight, and keep what they print for their pages."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

MODELS = ("tiny-a", "tiny-b", "judge")
CALLS = (
    "suites",
    "suite check recipes/suites/support_tone.yaml",
    "run tiny-a@URL tiny-b@URL --suite mt_bench --suite mixeval --judge judge@URL --data mini",
    "report",
    "export --to markdown",
    "gate tiny-a tiny-b",
    "plan --suite mt_bench --models 2 --effect 0.02",
    "score mt_bench --from results/tiny-a-*/mt_bench/model_judgment.jsonl",
    "import mt_bench results/tiny-a-*/mt_bench/model_judgment.jsonl --model recorded --data mini --results imported",
    "compare tiny-a@URL tiny-b@URL --judge judge@URL --prompts prompts.jsonl --name first",
    "prefer results/comparisons/first --out pairs/",
    "label results/comparisons/first --n 10 --out sheet.html",
    "rate tiny-a@URL tiny-b@URL --judge judge@URL --data mini --factors conciseness,harmlessness",
    "judge-card judge@URL --pairs labelled.jsonl",
    "generate tiny-a@URL --prompts prompts.jsonl --out answers/",
    "show answers/ --row 0",
    "analyze style tiny-a tiny-b",
    "merge results --into joined",
    "forget tiny-a@URL",
    "mix recipes/tiny.yaml --out mix/ --contamination mini",
    "study recipes/demo-study.yaml --dry-run",
    "paper",
    "doctor --data mini --suite mt_bench",
    "data list",
    "version",
)
WIDTHS = {"suites": "110"}
"""Columns of the terminal where 92, the width of a page, are too few."""


def reply(body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer for the model that is asked: the same question gets the same words, drawn by its hash."""
    asked = " ".join(str(message["content"]) for message in body.get("messages", ()))
    draw = random.Random(hashlib.sha256(f"{body['model']} {asked}".encode()).digest())
    if body.get("top_logprobs"):
        weights = {label: draw.random() ** 3 for label in ("ABCDEFGHIJ" if re.search(r"\bJ\b", asked) else "AB")}
        top = [{"token": label, "logprob": math.log(x / sum(weights.values()))} for label, x in weights.items()]
        answer = text_reply(max(weights, key=lambda label: weights[label]))
        answer["choices"][0]["logprobs"] = {"content": [{**max(top, key=lambda t: t["logprob"]), "top_logprobs": top}]}
        return answer
    if guide := (body.get("structured_outputs") or {}).get("choice"):
        return text_reply(draw.choice(guide))
    if body["model"] == "judge":
        return text_reply(f"It answers the question. Rating: [[{draw.randint(4, 9)}]]")
    words = draw.choices(["a", "short", "clear", "answer", "with", "one", "reason", "and", "an"], k=draw.randint(8, 20))
    return text_reply(" ".join(words).capitalize() + draw.choice([".", ". A", ". B", ". **C**"]))


def prepare(folder: Path) -> None:
    """Write the files that the calls name: prompts, and pairs with a label, from the chats in recipes/."""
    lines = (ROOT / "recipes" / "mini_chats.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [[message["content"] for message in json.loads(line)["messages"]][:2] for line in lines]
    prompts = [{"prompt": prompt} for prompt, _ in chats]
    wrong = [chats[place - 1][1] for place in range(len(chats))]
    pairs = [
        {"input": prompt, "output_1": (good, bad)[flip], "output_2": (bad, good)[flip], "label": flip + 1}
        for flip, (prompt, good), bad in zip([0, 1] * len(chats), chats, wrong, strict=False)
    ]
    for name, rows in (("prompts", prompts), ("labelled", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def printed() -> dict[str, list[str]]:
    """Run all calls; return by command ("data list") the call and the lines it printed. One that prints none fails."""
    examples: dict[str, list[str]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalsuite-docs-")))
        prepare(folder)
        serving = {name: StubEndpoint(lambda _, body: (200, reply(body)), model=name) for name in MODELS}
        urls = {name: stack.enter_context(endpoint).url for name, endpoint in serving.items()}
        hidden = {str(folder): ".", str(ROOT): ".", str(Path.home()): "~"}
        hidden |= {url: f"http://localhost:800{place}/v1" for place, url in enumerate(urls.values())}
        for call in CALLS:
            words = [found for word in call.split() for found in expanded(word, urls, folder)]
            command = " ".join(words[: 2 if words[0] in {"analyze", "data", "suite"} else 1])
            width = WIDTHS.get(command, "92")
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": width, "NO_COLOR": "1"}
            done = subprocess.run(
                [sys.executable, "-m", "evalsuite", *words],
                cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            if not done.stdout.strip():
                raise SystemExit(f"evalsuite {call}: exit code {done.returncode}\n{done.stderr}")
            text = f"$ evalsuite {' '.join(words)}\n{done.stdout.strip()}"
            for real, stand_in in hidden.items():
                text = text.replace(real, stand_in)
            examples[command] = [line.rstrip() for line in text.splitlines()]
    return examples


def expanded(word: str, urls: Mapping[str, str], folder: Path) -> list[str]:
    """Put in the URL of a model, and the files that a pattern matches, as a shell would."""
    if word.endswith("@URL"):
        return [word.replace("URL", urls[word.removesuffix("@URL")])]
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else [word]
