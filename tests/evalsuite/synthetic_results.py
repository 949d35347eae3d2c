"""A few invented models with items of every suite, as a run writes them, for tests of the whole report."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from evalsuite.records.rows import Draw, Reply, Row, Verdict
from judges.types import Message
from tests.evalsuite.report_results import JUDGE_KEY, mixeval_scores, mt_bench_scores, write_model, write_rows

BBH_TASK = "leaderboard_bbh_sports"


def write_synthetic(results: Path, n_models: int, n_items: int) -> None:
    """Write ``n_models`` models that were all asked about ``n_items`` items; their texts hardly compress."""
    for number in range(n_models):
        base, dgm, size = f"B{number // 4 % 2}", f"G{number // 8}", 50_000 * 2 ** (number % 4)
        training = {"base": base, "dgm": dgm, "n_conversations": size}
        rng = random.Random(f"model {number}")
        rows = {
            "mt_bench": _mt_bench(n_items // 20, rng),
            "alpaca_eval": _alpaca_eval(n_items // 5, rng),
            "mixeval": _mixeval(n_items // 4, rng),
            "openllm": _openllm(n_items // 8, rng),
        }
        folder = write_model(results, f"{base} : {dgm}, {size // 1000}k", _figures(rng), training=training)
        for key, suite_rows in rows.items():
            write_rows(folder, key, suite_rows)


def _figures(rng: random.Random) -> dict[str, Any]:
    part = {"score": rng.random(), "stderr": 0.02, "n": 100, "normalized": 40.0, "unscored": {}}
    win_rate = 100 * rng.random()
    alpaca_eval = {"win_rate": win_rate, "standard_error": 1.5, "lc_win_rate": win_rate - 2, "lc_standard_error": 1.2}
    return {
        "mt_bench": mt_bench_scores(10 * rng.random()),
        "alpaca_eval": alpaca_eval | {"n_total": 100, "unscored": {}},
        "mixeval": mixeval_scores(rng.random(), parser="judge"),
        "openllm": {**dict.fromkeys(("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro"), part), "tasks": {}},
    }


def _text(rng: random.Random, length: int) -> str:
    """Return a text of blocks of hexadecimal digits, each as long as a word."""
    digits = rng.randbytes(length // 2).hex()
    return " ".join(digits[start : start + 7] for start in range(0, len(digits), 7))


def _question(number: int) -> str:
    """Return what every model is asked."""
    return _text(random.Random(f"question {number}"), 200)


def _row(item: int, part: str, reply: Reply, *verdicts: Verdict, facts: dict[str, Any], **more: Any) -> Row:
    prompt = (Message("user", _question(item)),)
    item_id = f"{part}/{item}" if part in ("free_form", "multiple_choice") else str(item)
    return Row(item_id, part, prompt=prompt, facts=facts, draws=(Draw((reply,)),), verdicts=verdicts, **more)


def _mt_bench(n_items: int, rng: random.Random) -> list[Row]:
    rows = []
    for item in range(n_items):
        verdicts = [Verdict(JUDGE_KEY, float(rng.randint(1, 10)), turn, text=_text(rng, 300)) for turn in (1, 2)]
        draw = Draw((Reply(_text(rng, 1200)), Reply(_text(rng, 1200))))
        prompt = (Message("user", _question(item)), Message("user", "And now shorter."))
        facts = {"category": "writing"}
        rows.append(Row(str(item), prompt=prompt, facts=facts, draws=(draw,), verdicts=tuple(verdicts)))
    return rows


def _alpaca_eval(n_items: int, rng: random.Random) -> list[Row]:
    facts = {"category": "synthetic", "reference": ["The baseline's answer."], "baseline": "baseline"}
    return [
        _row(item, "", Reply(_text(rng, 1500)), Verdict(JUDGE_KEY, 1 + rng.random()), facts=facts, content=f"a{item}")
        for item in range(n_items)
    ]


def _mixeval(n_items: int, rng: random.Random) -> list[Row]:
    rows = []
    for item in range(n_items):
        facts = {"prompt": _question(item), "benchmark_name": "SYN", "context": None}
        free = facts | {"problem_type": "free-form", "target": ["right"]}
        verdict = Verdict(JUDGE_KEY, round(rng.random(), 1), text=_text(rng, 150))
        rows.append(_row(item, "free_form", Reply(_text(rng, 300)), verdict, facts=free))
    for item in range(n_items):
        facts = {"prompt": _question(item), "benchmark_name": "SYN", "context": None}
        choice = facts | {"problem_type": "multiple-choice", "target": [0], "options": ["one", "two"]}
        letter = rng.choice("AB")
        verdict = Verdict(JUDGE_KEY, letter, text=_text(rng, 150))
        rows.append(_row(item, "multiple_choice", Reply(letter), verdict, facts=choice))
    return rows


def _openllm(n_items: int, rng: random.Random) -> list[Row]:
    """Return documents of BBH with two choices each, and of IFEval with an answer each."""
    rows = []
    for item in range(n_items):
        fields = {"fields": [["question", _question(item)], ["options", "A. one\nB. two"]], "reference": ["one"]}
        reply = Reply(choices=((-rng.random(), True), (-1 - rng.random(), False)))
        marks = {"acc_norm": (float(rng.random() < 0.5),)}
        rows.append(_row(item, f"bbh/{BBH_TASK}", reply, facts=fields, marks=marks))
    for item in range(n_items):
        marks = {"prompt_level_strict_acc": (float(rng.random() < 0.5),)}
        fields = {"fields": [["prompt", _question(item)]]}
        rows.append(_row(item, "ifeval/leaderboard_ifeval", Reply(_text(rng, 900)), facts=fields, marks=marks))
    return rows
