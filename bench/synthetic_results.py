"""Write a results folder of synthetic models, as `evalsuite run` writes it, for measuring the report.

    python bench/synthetic_results.py OUT --models 100 --items 7000

Texts are random words (so that nothing compresses better than real text would, rather worse); lengths follow what
chat models write: 1-2 kB per AlpacaEval or MT-Bench answer, short MixEval answers, log-probabilities for choices.
With --exports the folders are those of version 0.1: the benchmarks' own files, and no records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalsuite.files import write_json, write_jsonl
from evalsuite.records.files import records_path, write_records
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict
from evalsuite.results.averages import averages
from evalsuite.suites.registry import suite_of_key
from judges.types import Message

SHARES = {"mt_bench": 80, "alpaca_eval": 805, "free_form": 2000, "multiple_choice": 2000, "ifeval": 541, "math": 400}
"""Items of each part at 7,000 items; the rest are multiple choice of Open LLM."""

_CHOICES = {"bbh": "leaderboard_bbh_sports", "gpqa": "leaderboard_gpqa_main", "musr": "leaderboard_musr_rooms"}
_CHOICES |= {"mmlu_pro": "leaderboard_mmlu_pro"}
_TASKS = {"ifeval": "leaderboard_ifeval", "math": "leaderboard_math_algebra_hard", **_CHOICES}
_METRICS = {"ifeval": "prompt_level_strict_acc", "math": "exact_match", "mmlu_pro": "acc"}
_SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sa", "ve", "do", "pel", "ni", "gar", "os", "li", "mon", "ta", "be", "ri")
_JUDGE = {"name": "judge-x", "fingerprint": "f" * 64}
_JUDGE_KEY = "judge-x-ffffffff"


class RandomText:
    """Random text at almost no cost: slices of one long random text."""

    def __init__(self, seed: int, size: int = 3_000_000) -> None:
        self._random = random.Random(seed)
        vocabulary = ["".join(self._random.choices(_SYLLABLES, k=self._random.randint(1, 4))) for _ in range(6000)]
        weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
        self._text = " ".join(self._random.choices(vocabulary, weights, k=size // 6))

    def slice(self, low: int, high: int) -> str:
        length = self._random.randint(low, high)
        start = self._random.randrange(len(self._text) - length)
        return self._text[start : start + length].strip()


class Model:
    """One synthetic model: its rows and figures by suite."""

    def __init__(self, number: int, asked: dict[str, list[Any]], text: RandomText, seed: int) -> None:
        self.base, self.dgm, self.size = f"B{number // 4 % 2}", f"G{number // 8}", 50_000 * 2 ** (number % 4)
        self.name = f"{self.base} : {self.dgm}, {self.size // 1000}k"
        self.fingerprint = hashlib.sha256(f"synthetic {number}".encode()).hexdigest()
        self.folder = f"synthetic-{number:03d}-{self.fingerprint[:8]}"
        self._asked, self._text = asked, text
        self._random = random.Random(f"{seed} {number}")
        self._skill = 0.3 + 0.5 * self._random.random()

    def suites(self) -> Iterator[tuple[str, list[Row], dict[str, Any]]]:
        """Yield (key, rows, figures) of each suite."""
        for key, make in (
            ("mt_bench", self._mt_bench),
            ("alpaca_eval", self._alpaca_eval),
            ("mixeval", self._mixeval),
            ("openllm", self._openllm),
        ):
            yield key, *make()

    def _mt_bench(self) -> tuple[list[Row], dict[str, Any]]:
        rows, ratings = [], []
        for item, turns in self._asked["mt_bench"]:
            verdicts = []
            for turn in (1, 2):
                rating = float(min(10, max(1, round(self._random.gauss(10 * self._skill, 2)))))
                verdicts.append(Verdict(_JUDGE_KEY, rating, turn, text=self._text.slice(200, 700)))
                ratings.append(rating)
            draw = Draw(tuple(Reply(self._text.slice(500, 1800), answer_tokens=400) for _ in turns))
            prompt = tuple(Message("user", turn) for turn in turns)
            rows.append(
                Row(item, prompt=prompt, facts={"category": "writing"}, draws=(draw,), verdicts=tuple(verdicts))
            )
        figures = _figures(ratings)
        category = {"writing": {"score": figures["score"], "stderr": figures["stderr"], "n": len(ratings)}}
        return rows, figures | {"turn_1": figures["score"], "turn_2": figures["score"], "categories": category}

    def _alpaca_eval(self) -> tuple[list[Row], dict[str, Any]]:
        rows, wins = [], []
        for number, (instruction, baseline) in enumerate(self._asked["alpaca_eval"]):
            preference = min(2.0, max(1.0, self._random.gauss(1 + self._skill, 0.3)))
            wins.append(100 * (preference - 1))
            logprobs = {"m": -0.7 - self._random.random(), "M": -0.7 - self._random.random()}
            rows.append(
                Row(
                    str(number),
                    content=hashlib.sha256(f"{instruction}\0{baseline}".encode()).hexdigest()[:16],
                    prompt=(Message("user", instruction),),
                    facts={"category": "synthetic", "reference": [baseline], "baseline": "baseline"},
                    draws=(Draw((Reply(self._text.slice(700, 2200), answer_tokens=400),)),),
                    verdicts=(Verdict(_JUDGE_KEY, preference, label_logprobs=logprobs),),
                    marks={"score": (preference - 1,)},
                )
            )
        rate, error = _mean(wins)
        return rows, {
            "win_rate": rate,
            "standard_error": error,
            "discrete_win_rate": rate,
            "lc_win_rate": rate - 2,
            "lc_standard_error": error,
            "n_total": len(rows),
            "avg_length": 1450,
            "unscored": {},
        }

    def _mixeval(self) -> tuple[list[Row], dict[str, Any]]:
        rows, marks = [], []
        for split, kind in (("free_form", "free-form"), ("multiple_choice", "multiple-choice")):
            for number, prompt in enumerate(self._asked[split]):
                facts = {"problem_type": kind, "context": None, "prompt": prompt, "benchmark_name": "SYN"}
                judgment = self._text.slice(60, 250)
                if split == "free_form":
                    mark = round(self._random.random(), 1)
                    facts |= {"target": [prompt[:20]]}
                    response, verdict = self._text.slice(60, 500), Verdict(_JUDGE_KEY, mark, text=judgment)
                else:
                    mark = float(self._random.random() < self._skill)
                    facts |= {"target": [0], "options": ["one", "two", "three"]}
                    response = "A" if mark else "B"
                    verdict = Verdict(_JUDGE_KEY, response, text=judgment)
                marks.append(mark)
                rows.append(
                    Row(
                        f"{split}/{number}",
                        split,
                        hashlib.sha256(prompt.encode()).hexdigest()[:16],
                        (Message("user", prompt),),
                        facts,
                        (Draw((Reply(response, answer_tokens=60),)),),
                        (verdict,),
                        {"score": (mark,)},
                    )
                )
        figures = _figures(marks)
        benchmark = {"SYN": {"score": figures["score"], "n": len(marks), "n_scored": len(marks)}}
        return rows, figures | {"benchmarks": benchmark, "parser": "judge"}

    def _openllm(self) -> tuple[list[Row], dict[str, Any]]:
        rows: list[Row] = []
        figures: dict[str, Any] = {"tasks": {}, "unscored": {}}
        for part, task in _TASKS.items():
            metric, marks = _METRICS.get(part, "acc_norm"), []
            for number, prompt in enumerate(self._asked[part]):
                mark = float(self._random.random() < self._skill)
                marks.append(mark)
                if part in _CHOICES:
                    choices = tuple((round(-8 * self._random.random(), 6), choice == 0) for choice in range(5))
                    reply = Reply(choices=choices)
                else:
                    reply = Reply(self._text.slice(400, 1400), answer_tokens=300)
                fields = [["question", prompt], ["options", "A. one\nB. two"]]
                rows.append(
                    Row(
                        str(number),
                        f"{part}/{task}",
                        hashlib.sha256(prompt.encode()).hexdigest(),
                        None if part == "gpqa" else (),
                        {} if part == "gpqa" else {"fields": fields, "reference": ["one"]},
                        (Draw((reply,)),),
                        marks={metric: (mark,)},
                    )
                )
            score, stderr = _mean(marks)
            counts = {"n": len(marks), "normalized": 100 * score, "unscored": {}}
            figures[part] = {"score": score, "stderr": stderr, **counts}
        return rows, figures


def write_synthetic(results: Path, n_models: int, n_items: int = 7000, *, seed: int = 0, exports: bool = False) -> None:
    """Write ``n_models`` folders with about ``n_items`` items each (fewer than 20 make little sense)."""
    text = RandomText(seed)
    counts = {name: max(2, round(count * n_items / 7000)) for name, count in SHARES.items()}
    rest = max(8, n_items - sum(counts.values()))
    counts |= {name: max(2, rest // len(_CHOICES)) for name in _CHOICES}
    asked = _questions(text, counts)
    for number in range(n_models):
        _write_model(results, Model(number, asked, text, seed), exports=exports)


def _questions(text: RandomText, counts: dict[str, int]) -> dict[str, list[Any]]:
    """Return what all models are asked."""
    names = ("free_form", "multiple_choice", "ifeval", "math", *_CHOICES)
    asked: dict[str, list[Any]] = {name: [text.slice(80, 400) for _ in range(counts[name])] for name in names}
    asked["mt_bench"] = [
        (str(81 + number), (text.slice(80, 400), text.slice(60, 200))) for number in range(counts["mt_bench"])
    ]
    asked["alpaca_eval"] = [(text.slice(60, 250), text.slice(900, 2000)) for _ in range(counts["alpaca_eval"])]
    return asked


def _write_model(results: Path, model: Model, *, exports: bool) -> None:
    folder = results / model.folder
    figures = {}
    for key, rows, suite_figures in model.suites():
        figures[key] = suite_figures
        is_judged = key != "openllm"
        header = Header(key, len(rows), judges={_JUDGE_KEY: _JUDGE} if is_judged else {})
        if not exports:
            write_records(records_path(folder, key), header, rows)
        elif key == "openllm":
            _write_samples(folder / key, rows)
        else:
            suite = suite_of_key(key)
            assert suite is not None
            (folder / key).mkdir(parents=True, exist_ok=True)
            suite.write_peer(header, rows, folder / key, model=model.name, judge=_JUDGE["name"])
    described = {"name": model.name, "path": None, "fingerprint": model.fingerprint, "dtype": "bfloat16"}
    scores = {
        "schema": 1,
        "model": described | {"chat_template_sha256": None},
        "judge": _JUDGE | {"methods": {"mt_bench": "single_answer_rating_1_to_10"}},
        "data": "full",
        "limit": None,
        "suites": figures,
        "average": averages(figures),
        "seconds": {"serve": 60.0, "generate": 1200.0, "judge": 600.0, "score": 20.0},
        "tokens": {"prompt": 5_000_000, "cached": 3_000_000, "completion": 900_000},
    }
    training = {"base": model.base, "dgm": model.dgm, "n_conversations": model.size}
    manifest = {"schema": 1, "model": {**described, "training": training}, "suites": {}}
    write_json(folder / "scores.json", scores)
    write_json(folder / "manifest.json", manifest)


def _write_samples(folder: Path, rows: Sequence[Row]) -> None:
    """Write lm-eval's results document and the samples of each task."""
    tasks = {part: part.rpartition("/")[2] for part in dict.fromkeys(row.part for row in rows)}
    metrics = {row.part: next(iter(row.marks)) for row in rows}
    results = {task: {"alias": task, f"{metrics[part]},none": 0.5} for part, task in tasks.items()}
    write_json(folder / "results.json", {"results": results})
    for part, task in tasks.items():
        write_jsonl(folder / f"samples_{task}.jsonl", (_sample(row) for row in rows if row.part == part))


def _sample(row: Row) -> dict[str, Any]:
    [(metric, (mark,))] = row.marks.items()
    sample: dict[str, Any] = {"doc_id": int(row.item_id), "doc_hash": row.content, metric: mark}
    sample |= {"filter": "none", "metrics": [metric], "unscored": None}
    reply = row.replies[0]
    if reply.choices:
        pairs = [[[str(value), str(greedy)]] for value, greedy in reply.choices]
        sample |= {"resps": pairs, "filtered_resps": [pair[0] for pair in pairs]}
    else:
        sample |= {"resps": [[reply.text]], "filtered_resps": [reply.text]}
    if row.prompt is not None:
        question = row.facts["fields"][0][1]
        arguments = {f"gen_args_{choice}": {"arg_0": f"{question} {choice}"} for choice in range(2)}
        sample |= {"doc": {"question": question, "options": ["one", "two"]}, "target": "one", "arguments": arguments}
    return sample


def _figures(values: Sequence[float]) -> dict[str, Any]:
    score, stderr = _mean(values)
    return {
        "score": score,
        "stderr": stderr,
        "ci95": [score - 1.96 * stderr, score + 1.96 * stderr],
        "unscored": {},
        "n": len(values),
        "n_scored": len(values),
    }


def _mean(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1) / len(values)) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--items", type=int, default=7000)
    parser.add_argument("--exports", action="store_true", help="folders of version 0.1: no records")
    arguments = parser.parse_args()
    write_synthetic(arguments.out, arguments.models, arguments.items, exports=arguments.exports)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(json.dumps({"models": arguments.models, "items": arguments.items, "megabytes": round(size / 1e6, 1)}))


if __name__ == "__main__":
    main()
