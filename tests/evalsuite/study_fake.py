"""``evalsuite`` without models: config files are read by the real options, answers come from a stub endpoint.

``python -m tests.evalsuite.study_fake run --config FILE`` really runs the suites that ask item by item; ratings and
answers follow from the model's fingerprint, and so do the figures of suites that lm-eval drives. A file ``broken.txt``
beside a model's weights makes its server fail; the environment variable STUDY_FAKE_LOG names a file that gets one JSON
line per call: the command and its options.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import yaml

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.comparison.ratings import read_lineage, score_preferences
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import RunConfig, read_as
from evalsuite.documents import Scores
from evalsuite.files import read_json, write_json, write_text
from evalsuite.generation.settings import GenerateConfig
from evalsuite.results.averages import averages
from evalsuite.results.folder import stored_manifest, stored_scores, write_results
from evalsuite.runs.runner import run as run_suites
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.tiny_checkpoint import write_checkpoint

OPENLLM = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro")
JUDGMENT = "The answer is clear and helpful, with a vivid example, but it lacks depth. Rating: [[{score}]]"
COSTS = {"seconds": {"serve": 60.0, "generate": 10.0}, "server_restarts": 0, "hardware": {"gpus": [], "cpu_count": 2}}


def sound(spec: str) -> Checkpoint:
    checkpoint = resolve(spec)
    if checkpoint.path and (checkpoint.path / "broken.txt").exists():
        print("evalsuite: vLLM ended while starting", file=sys.stderr)
        raise SystemExit(3)
    return checkpoint


def generate(config: GenerateConfig) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    checkpoint = sound(config.models[0])
    rows = [json.loads(line) for line in Path(config.prompts).read_text().splitlines()][: config.limit]
    chats = []
    for number, row in enumerate(rows):
        question = {"role": "user", "content": row["messages"][0]["content"], "finish_reason": None}
        answer = {"role": "assistant", "content": f"**{checkpoint.name}** says {number}.", "finish_reason": "stop"}
        chats.append(
            {"conversation_hash": f"{number:032x}", "model": checkpoint.name, "conversation": [question, answer]}
        )
    config.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(chats), config.out / "part-00000.parquet")
    usage = {"completion_tokens": 500, "prompt_tokens": 900, "cached_tokens": 0}
    manifest = {
        "schema": 1,
        "kind": "generate",
        "complete": True,
        "settings": {},
        "shards": [],
        "model": {"name": checkpoint.name, "fingerprint": checkpoint.fingerprint},
        "counts": {"conversations": len(rows), "answers": len(rows), "unscored": {}},
        "tokens": {"prompt": 900, "completion": 500, "cached": 0},
        "costs": {"usage": usage, "starts": 1},
        "arguments": {},
        "source": {"word": config.prompts},
        **COSTS,
    }
    write_json(config.out / "_manifest.json", manifest)
    return {"models": [manifest]}


def sft(recipe_file: str, data: str, out: str) -> dict[str, Any]:
    recipe = yaml.safe_load(Path(recipe_file).read_text())
    base, mix = sound(recipe["sft"]["base"]), read_json(Path(data) / "mix.json")
    folder = write_checkpoint(Path(out), context=3000 + int(mix["hash"][:3], 16))
    dgms = mix["dgms"]
    training = {
        "schema": 1,
        "base": recipe["sft"]["base"],
        "base_fingerprint": base.fingerprint,
        "n_conversations": mix["n_rows"],
        "n_tokens": 1000,
        "dgm": dgms[0] if len(dgms) == 1 else None,
        "dgms": dgms,
        "seconds": 10.0,
        "tokens_per_second": 100.0,
    }
    write_json(folder / "training.json", training)
    return training


def run(config: RunConfig) -> dict[str, Any]:
    for word in config.judge or ():
        sound(word)
    return {"models": [_run_one(sound(model), config).as_json() for model in config.models]}


def _run_one(checkpoint: Checkpoint, config: RunConfig) -> Scores:
    share = int(checkpoint.fingerprint[:2], 16) / 255
    rating = round(1 + 9 * share)

    def reply(_path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body.get("top_logprobs"):
            top = [{"token": "m", "logprob": -0.1 - share}, {"token": "M", "logprob": -0.7}]
            return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}
        if guide := body.get("structured_outputs"):
            return 200, text_reply(guide["choice"][int(share * (len(guide["choice"]) - 1))])
        if "messages" in body:  # the judge is an endpoint, the model a checkpoint with a template of its own
            return 200, text_reply(JUDGMENT.format(score=rating))
        number = zlib.crc32(json.dumps(body["prompt"]).encode()) % 100
        return 200, text_reply(f"# {checkpoint.name}\n\nOn {number}, *this*: {'very ' * rating}good.")

    with StubEndpoint(reply) as stub:
        changes = {
            "models": (str(checkpoint.path),),
            "base_url": stub.url,
            "judge": (f"stub@{stub.url}",) if config.judge else (),
            "suites": tuple(spec for spec in config.suites if not spec.suite.whole),
        }
        (folder,) = run_suites(config.model_copy(update=changes)).folders
    scores, manifest = stored_scores(folder), stored_manifest(folder)
    assert scores is not None
    part = {"score": share, "stderr": 0.1, "n": 4, "normalized": 100 * share, "unscored": {}}
    by_lm_eval = {
        spec.key: {name: dict(part) for name in OPENLLM} | {"tasks": {}} for spec in config.suites if spec.suite.whole
    }
    suites = {**scores.suites, **by_lm_eval}
    scores = scores.model_copy(update={"suites": suites, "average": averages(suites)})
    write_results(folder, scores, manifest)
    return scores


def compare(config: CompareConfig) -> dict[str, Any]:
    sound(config.judge[0])
    names, ratings = [], []
    for folder in map(Path, config.models):
        names.append(read_json(folder / "scores.json")["model"]["name"])
        rows = map(json.loads, (folder / "mt_bench" / "model_answer.jsonl").read_text().splitlines())
        ratings.append([len(row["choices"][0]["turns"][0]) for row in rows])
    out = config.results / "comparisons" / str(config.name)
    lines = ["question_id," + ",".join(names)]
    lines += [f"{number},{','.join(map(str, row))}" for number, row in enumerate(zip(*ratings, strict=True))]
    write_text(out / "ratings.csv", "\n".join(lines) + "\n")
    lineage = read_lineage(config.lineage) if config.lineage else None
    document = score_preferences(out / "ratings.csv", lineage=lineage).as_json()
    write_json(out / "preferences.json", document)
    return document


CONFIGS = {"generate": (GenerateConfig, generate), "run": (RunConfig, run), "compare": (CompareConfig, compare)}


def main(arguments: list[str]) -> None:
    command, *rest = [argument for argument in arguments if argument != "--json"]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in rest if argument.startswith("--"))
    if log := os.environ.get("STUDY_FAKE_LOG"):
        values = yaml.safe_load(Path(options["config"]).read_text()) if "config" in options else options
        with Path(log).open("a") as file:
            file.write(json.dumps({"command": command, **values}) + "\n")
    print("working", file=sys.stderr)
    if command == "sft":
        document = sft(rest[0], options["data"], options["out"])
    else:
        kind, call = CONFIGS[command]
        document = call(read_as(kind, {}, Path(options["config"])))
    print(json.dumps(document))


if __name__ == "__main__":
    main(sys.argv[1:])
