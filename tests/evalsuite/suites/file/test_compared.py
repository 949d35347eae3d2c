"""Two models on benchmarks in files, whose answers and verdicts vary: repeats, the gate, the stars and the CSV."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict
from evalsuite.report.build import read_contents
from evalsuite.report.significance import column_tests
from evalsuite.runs.runner import run
from evalsuite.suites import registry
from evalsuite.suites.file.suite import suite_in
from evalsuite.suites.repeats import scored_draws
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.suites.file.test_file import config

WAYS: dict[str, Any] = {
    "numeric": "numeric",
    "rating": {"rating": {"criteria": "Be right.", "scale": [1, 5]}},
    "pairwise": {"pairwise": {"baseline": "baseline.jsonl"}},
}
N = 40


def sometimes(chance: float, name: str) -> StubEndpoint:
    """A model whose answer depends on prompt and seed, right with this chance; as a judge it gives any verdict."""

    def reply(_: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        draw = random.Random(json.dumps([body.get("seed"), body.get("messages")]))
        if guide := body.get("structured_outputs"):
            return 200, text_reply(draw.choice(guide["choice"]))
        words = "very " * draw.randrange(9)
        return 200, text_reply(f"That is {words}much like {84 if draw.random() < chance else 7}.")

    return StubEndpoint(reply, model=name)


def evaluated(results: Path, path: Path, **changes: Any) -> tuple[dict[str, Any], ...]:
    """Run a model that is right half of the time and one that rarely is; return what the benchmark scored them."""
    with sometimes(0.6, "half") as half, sometimes(0.1, "rare") as rare, sometimes(0.5, "judge") as judge:
        for name, stub in (("half", half), ("rare", rare)):
            models = {"models": [f"{name}@{stub.url}"], "judge": f"judge@{judge.url}"}
            run(config(stub, results, [str(path)], **models, **changes))
    registry._IN_FILES.clear()
    return tuple(
        json.loads((folder / "scores.json").read_text())["suites"]["mine"] for folder in sorted(results.glob("*-*"))
    )


@pytest.fixture
def file(write, tmp_path):
    def of(way: str) -> Path:
        rows = [{"id": str(n), "prompt": f"What is {n} + {84 - n}?", "reference": 84} for n in range(N)]
        answers = [json.dumps({"id": row["id"], "answer": "It is 84." * (1 + n % 5)}) for n, row in enumerate(rows)]
        (tmp_path / "baseline.jsonl").write_text("\n".join(answers), encoding="utf-8")
        return write(WAYS[way], rows, sampling={"temperature": 1.0, "max_new_tokens": 32}, protected=way == "rating")

    return of


def gated(results: Path, *models: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["gate", *models, "--results", str(results), "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("way", list(WAYS))
def test_several_answers_to_each_prompt_are_averaged_and_gated(way, file, tmp_path):
    half, rare = evaluated(tmp_path / "r", file(way), repeats=3)
    for scores in (half, rare):
        assert (scores["n"], scores["repeats"]["n"], scores["repeats"]["sampled"]) == (N, 3, N)
        low, high = scores["ci95"]
        assert low < scores["score"] < high
        assert scores["repeats"]["narrowing"] < 1
    folders = [next((tmp_path / "r").glob(f"{name}-*")).name for name in ("half", "rare")]
    code, verdict = gated(tmp_path / "r", *folders)
    test = verdict["tests"][0]
    assert test["difference"] == pytest.approx(rare["score"] - half["score"]), "the change of the figures themselves"
    assert test["n"] == N
    assert code == int(not verdict["holds"])
    if way == "numeric":
        assert code == 1


@pytest.mark.parametrize("alike", [0, 1])
def test_a_repeat_whose_items_are_all_alike_leaves_the_interval_of_the_others(alike, file):
    """Such a repeat has no interval of its own; it stands for its figure in the mean of both."""
    suite = suite_in(file("rating"))
    ratings = [[4.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 5.0]]
    by_item = zip(*(ratings if alike == 0 else ratings[::-1]), strict=True)
    rows = [
        Row(
            str(item),
            draws=tuple(Draw((Reply("x"),), repeat=repeat) for repeat in (0, 1)),
            verdicts=tuple(Verdict("j", value, repeat=repeat) for repeat, value in enumerate(values)),
        )
        for item, values in enumerate(by_item)
    ]
    scores = scored_draws(suite, Header("mine", len(rows)), rows)
    assert scores["score"] == pytest.approx(11 / 3)
    low, high = scores["ci95"]
    assert 11 / 3 - 1 < low < 11 / 3 < high < 11 / 3 + 1


def test_the_gate_and_the_stars_test_what_is_shown(file, tmp_path):
    """A win rate counts strong verdicts three times; with style control it is no longer a mean of marks."""
    half, rare = evaluated(tmp_path / "r", file("pairwise"))
    _, verdict = gated(tmp_path / "r", "half", "rare")
    rate, styled = verdict["tests"]
    assert rate["difference"] == pytest.approx(rare["score"] - half["score"])
    assert (styled["key"], styled["n"]) == ("mine_sc", None)
    assert styled["difference"] == pytest.approx(rare["sc_score"] - half["sc_score"])
    contents, parts = read_contents(tmp_path / "r")
    [part] = parts
    [column] = [column for column in contents.columns if column.key == "mine"]
    cells = {number: figures["mine"] for number, figures in enumerate(contents.figures)}
    tests = column_tests(cells, {part.index["name"]: part.marks}, {part.index["name"]: part.contexts}, column.items)
    difference = tests.differences[0, 1]
    assert difference is not None
    assert abs(difference.value) == pytest.approx(abs(rare["score"] - half["score"]))
    # The paired bootstrap of the two ratios, prompt by prompt, has the same spread.
    won, played = paired_games(tmp_path / "r")
    rng = np.random.default_rng(0)
    draws = rng.integers(0, N, (4000, N))
    ratios = 100 * won[:, draws].sum(axis=2) / played[:, draws].sum(axis=2)
    assert difference.stderr == pytest.approx(np.std(ratios[0] - ratios[1]), rel=0.1)


def paired_games(results: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what both models won and how many games counted, models by prompts, read from the records' labels."""
    worth = {"A>>B": (1, 3), "A>B": (1, 1), "A=B": (0.5, 1), "B>A": (0, 1), "B>>A": (0, 3)}
    won, played = np.zeros((2, N)), np.zeros((2, N))
    for model, path in enumerate(sorted(results.glob("*/records/mine.jsonl"))):
        for line in path.read_text().splitlines()[1:]:
            row = json.loads(line)
            for verdict in row["verdicts"]:
                first, weight = worth[verdict["value"]]
                item = int(row["item_id"])
                won[model, item] += weight * (first if verdict["order"] == "ab" else 1 - first)
                played[model, item] += weight
    return won, played


def test_the_report_has_its_columns_in_a_process_that_never_saw_the_file(file, tmp_path):
    half, rare = evaluated(tmp_path / "r", file("rating"))
    assert CliRunner().invoke(app, ["report", "--results", str(tmp_path / "r")]).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "r/leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    assert {float(row["mine"]) for row in rows} == {half["score"], rare["score"]}
    assert all(float(row["mine_ci_low"]) < float(row["mine"]) < float(row["mine_ci_high"]) for row in rows)
    assert all(row["mine_n"] == str(N) for row in rows)
