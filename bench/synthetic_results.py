"""Write a results folder of invented models, in the files that `evalsuite run` writes, to measure the report on.

    python bench/synthetic_results.py OUT --models 100 --items 7000

Texts are random words (so that nothing compresses better than real text would, rather worse); lengths follow what
chat models write: 1-2 kB an AlpacaEval or MT-Bench answer, short MixEval answers, log-probabilities for choices.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite.files import write_json, write_jsonl
from evalsuite.results.folder import averages

SHARES = {"mt_bench": 80, "alpaca_eval": 805, "free_form": 2000, "multiple_choice": 2000, "ifeval": 541, "math": 400}
"""Items of each part at 7,000 items; the rest are multiple choice of Open LLM."""

_CHOICES = {"bbh": "leaderboard_bbh_sports", "gpqa": "leaderboard_gpqa_main", "musr": "leaderboard_musr_rooms"}
_CHOICES |= {"mmlu_pro": "leaderboard_mmlu_pro"}
_SYLLABLES = [
    "ka",
    "lo",
    "mi",
    "ren",
    "tu",
    "sa",
    "ve",
    "do",
    "pel",
    "ni",
    "gar",
    "os",
    "li",
    "mon",
    "ta",
    "be",
    "ri",
    "shu",
    "ko",
    "ne",
]


class Words:
    """Random text at almost no cost: slices of one long random text."""

    def __init__(self, seed: int, size: int = 3_000_000) -> None:
        self._random = random.Random(seed)
        vocabulary = ["".join(self._random.choices(_SYLLABLES, k=self._random.randint(1, 4))) for _ in range(6000)]
        weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
        self._text = " ".join(self._random.choices(vocabulary, weights, k=size // 6))

    def text(self, low: int, high: int) -> str:
        length = self._random.randint(low, high)
        start = self._random.randrange(len(self._text) - length)
        return self._text[start : start + length].strip()


def write_synthetic(results: Path, n_models: int, n_items: int = 7000, *, seed: int = 0) -> None:
    """Write ``n_models`` folders with about ``n_items`` items each (fewer than 20 make little sense)."""
    words = Words(seed)
    counts = {name: max(2, round(count * n_items / 7000)) for name, count in SHARES.items()}
    rest = max(8, n_items - sum(counts.values()))
    counts |= {name: max(2, rest // len(_CHOICES)) for name in _CHOICES}
    shared = _shared(words, counts)
    for number in range(n_models):
        _write_model(results, number, words, shared, random.Random(f"{seed} {number}"))


def _shared(words: Words, counts: dict[str, int]) -> dict[str, list[Any]]:
    """What all models are asked."""
    names = ("free_form", "multiple_choice", "ifeval", "math", *_CHOICES)
    shared: dict[str, list[Any]] = {name: [words.text(80, 400) for _ in range(counts[name])] for name in names}
    shared["mt_bench"] = list(range(81, 81 + counts["mt_bench"]))
    shared["alpaca_eval"] = [(words.text(60, 250), words.text(900, 2000)) for _ in range(counts["alpaca_eval"])]
    return shared


def _write_model(results: Path, number: int, words: Words, shared: dict[str, list[Any]], rng: random.Random) -> None:
    base, dgm, size = f"B{number // 4 % 2}", f"G{number // 8}", 50_000 * 2 ** (number % 4)
    name = f"{base} : {dgm}, {size // 1000}k"
    fingerprint = hashlib.sha256(f"synthetic {number}".encode()).hexdigest()
    folder = results / f"synthetic-{number:03d}-{fingerprint[:8]}"
    skill = 0.3 + 0.5 * rng.random()
    suites = {
        "mt_bench": _mt_bench(folder, shared["mt_bench"], words, skill, rng),
        "alpaca_eval": _alpaca(folder, shared["alpaca_eval"], words, skill, rng, name),
        "mixeval": _mixeval(folder, shared, words, skill, rng),
        "openllm": _openllm(folder, shared, words, skill, rng),
    }
    judge = {"name": "judge-x", "fingerprint": "f" * 64, "methods": {"mt_bench": "single_answer_rating_1_to_10"}}
    scores = {
        "schema": 1,
        "model": {"name": name, "path": None, "fingerprint": fingerprint, "dtype": "bfloat16"}
        | {"chat_template_sha256": None},
        "judge": judge,
        "data": "full",
        "limit": None,
        "suites": suites,
        "average": averages(suites),
        "seconds": {"serve": 60.0, "generate": 1200.0, "judge": 600.0, "score": 20.0},
        "tokens": {"prompt": 5_000_000, "cached": 3_000_000, "completion": 900_000},
    }
    training = {"base": base, "dgm": dgm, "n_conversations": size}
    write_json(folder / "scores.json", scores)
    write_json(
        folder / "manifest.json", {"schema": 1, "model": {**scores["model"], "training": training}, "suites": {}}
    )


def _mean(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1) / len(values)) ** 0.5


def _mt_bench(folder: Path, ids: Sequence[int], words: Words, skill: float, rng: random.Random) -> dict[str, Any]:
    ratings = {(one, turn): float(min(10, max(1, round(rng.gauss(10 * skill, 2))))) for one in ids for turn in (1, 2)}
    write_jsonl(
        folder / "mt_bench/model_answer.jsonl",
        (
            {"question_id": one, "model_id": folder.name, "unscored": [None, None]}
            | {"choices": [{"index": 0, "turns": [words.text(500, 1800), words.text(500, 1800)]}]}
            for one in ids
        ),
    )
    write_jsonl(
        folder / "mt_bench/model_judgment.jsonl",
        (
            {"question_id": one, "user_prompt": words.text(900, 2500), "judgment": words.text(200, 700), "turn": turn}
            | {
                "score": rating,
                "category": "writing",
                "unscored": None,
                "model": folder.name,
                "judge": ["judge-x", "x"],
            }
            for (one, turn), rating in ratings.items()
        ),
    )
    score, stderr = _mean(list(ratings.values()))
    return {
        "score": score,
        "stderr": stderr,
        "ci95": [score - 1.96 * stderr, score + 1.96 * stderr],
        "unscored": {},
    } | {
        "n": len(ratings),
        "n_scored": len(ratings),
        "turn_1": score,
        "turn_2": score,
        "categories": {"writing": {"score": score, "stderr": stderr, "n": len(ratings)}},
    }


def _alpaca(
    folder: Path, asked: Sequence[Any], words: Words, skill: float, rng: random.Random, name: str
) -> dict[str, Any]:
    preferences = [min(2.0, max(1.0, rng.gauss(1 + skill, 0.3))) for _ in asked]
    rows = [
        {"dataset": "synthetic", "instruction": instruction, "output_1": baseline, "generator_1": "baseline"}
        | {"output_2": words.text(700, 2200), "generator_2": name, "annotator": "judge-x", "preference": preference}
        | {"logprobs": {"m": -0.7 - rng.random(), "M": -0.7 - rng.random()}, "unscored": None}
        for (instruction, baseline), preference in zip(asked, preferences, strict=True)
    ]
    (folder / "alpaca_eval").mkdir(parents=True, exist_ok=True)
    write_json(folder / "alpaca_eval/annotations.json", rows)
    rate, error = _mean([100 * (preference - 1) for preference in preferences])
    return {"win_rate": rate, "standard_error": error, "discrete_win_rate": rate, "lc_win_rate": rate - 2} | {
        "lc_standard_error": error,
        "n_total": len(rows),
        "avg_length": 1450,
        "unscored": {},
    }


def _mixeval(
    folder: Path, shared: dict[str, list[Any]], words: Words, skill: float, rng: random.Random
) -> dict[str, Any]:
    marks: list[float] = []
    for split, kind in (("free_form", "free-form"), ("multiple_choice", "multiple-choice")):
        rows = []
        for number, prompt in enumerate(shared[split]):
            mark = float(rng.random() < skill) if split == "multiple_choice" else round(rng.random(), 1)
            marks.append(mark)
            row = {"problem_type": kind, "context": None, "prompt": prompt, "benchmark_name": "SYN", "id": str(number)}
            row |= {"formated_input": prompt, "unscored": None, "judge_response": words.text(60, 250)}
            if split == "free_form":
                row |= {"target": [prompt[:20]], "response": words.text(60, 500), "judge_score": mark}
            else:
                letter = "A" if mark else "B"
                row |= {"target": [0], "options": ["one", "two", "three"], "response": letter, "judge_option": letter}
            rows.append(row)
        write_jsonl(folder / f"mixeval/{split}.jsonl", rows)
    score, stderr = _mean(marks)
    return {
        "score": score,
        "stderr": stderr,
        "ci95": [score - 1.96 * stderr, score + 1.96 * stderr],
        "unscored": {},
    } | {
        "n": len(marks),
        "n_scored": len(marks),
        "benchmarks": {"SYN": {"score": score, "n": len(marks), "n_scored": len(marks)}},
        "parser": "judge",
    }


def _openllm(
    folder: Path, shared: dict[str, list[Any]], words: Words, skill: float, rng: random.Random
) -> dict[str, Any]:
    tasks = {"ifeval": "leaderboard_ifeval", "math": "leaderboard_math_algebra_hard", **_CHOICES}
    metrics = {"ifeval": "prompt_level_strict_acc", "math": "exact_match", "mmlu_pro": "acc"}
    figures: dict[str, Any] = {}
    for part, task in tasks.items():
        metric = metrics.get(part, "acc_norm")
        marks = [float(rng.random() < skill) for _ in shared[part]]
        rows = (
            _sample(number, prompt, part, metric, mark, words, rng)
            for number, (prompt, mark) in enumerate(zip(shared[part], marks, strict=True))
        )
        write_jsonl(folder / f"openllm/samples_{task}.jsonl", rows)
        score, stderr = _mean(marks)
        figures[part] = {"score": score, "stderr": stderr, "n": len(marks), "normalized": 100 * score, "unscored": {}}
    return {**figures, "tasks": {}, "unscored": {}}


def _sample(
    number: int, prompt: str, part: str, metric: str, mark: float, words: Words, rng: random.Random
) -> dict[str, Any]:
    row: dict[str, Any] = {"doc_id": number, "doc_hash": hashlib.sha256(prompt.encode()).hexdigest(), metric: mark}
    row |= {"filter": "none", "metrics": [metric], "unscored": None}
    if part in _CHOICES:
        pairs = [[[str(round(-8 * rng.random(), 6)), str(choice == 0)]] for choice in range(5)]
        row |= {"resps": pairs, "filtered_resps": [pair[0] for pair in pairs]}
    else:
        answer = words.text(400, 1400)
        row |= {"resps": [[answer]], "filtered_resps": [answer]}
    if part != "gpqa":
        arguments = {
            f"gen_args_{place}": {"arg_0": prompt + " " + answer_lead} for place, answer_lead in enumerate("ab")
        }
        row |= {"doc": {"question": prompt, "options": ["one", "two"]}, "target": "one", "arguments": arguments}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--items", type=int, default=7000)
    arguments = parser.parse_args()
    write_synthetic(arguments.out, arguments.models, arguments.items)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(json.dumps({"models": arguments.models, "items": arguments.items, "megabytes": round(size / 1e6, 1)}))


if __name__ == "__main__":
    main()
