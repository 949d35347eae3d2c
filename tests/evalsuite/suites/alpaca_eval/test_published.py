"""AlpacaEval's published leaderboard, recomputed from the published annotations."""

import csv
import json
from pathlib import Path

import pytest

from evalsuite.suites.options import SuiteOptions
from judges.pairwise import is_switched
from judges.parse import preference_from_logprobs
from tests.evalsuite.suites.alpaca_eval.alpaca_rows import ALPACA_EVAL, fake_full_assets

MODELS = (
    "gpt4_1106_preview",
    "FuseChat-Llama-3.1-8B-Instruct",
    "claude-2",
    "Mixtral-8x7B-Instruct-v0.1_concise",
    "vicuna-7b",
    "phi-2",
    "text_davinci_001",
    "alpaca-7b",
)
WITH_MISSING_ROWS = {"phi-2": [131, 209], "text_davinci_001": [247, 504]}
"""Instructions that the published annotations lack (their rows are numbered without a gap)."""


def published(shared: Path, model: str) -> tuple[list[dict], dict]:
    folder = shared / "reference" / "alpaca_eval"
    rows = [json.loads(line) for line in (folder / "annotations" / f"{model}.jsonl").read_text().splitlines()]
    with (folder / "expected.csv").open() as file:
        expected = {row["model"]: row for row in csv.DictReader(file)}[model]
    return rows, expected


def instructions_of(shared: Path, model: str) -> list[dict]:
    """The instructions that the model's published rows belong to, in order."""
    text = (shared / "reference" / "alpaca_eval" / "instructions.jsonl").read_text()
    missing = WITH_MISSING_ROWS.get(model, [])
    return [row for row in map(json.loads, text.splitlines()) if row["index"] not in missing]


def recorded_file(shared: Path, tmp_path: Path, model: str) -> Path:
    rows, _ = published(shared, model)
    annotations = [
        {
            "instruction": instruction["instruction"],
            "output_1": "b" * row["len_1"],
            "generator_1": row["generator_1"],
            # the baseline against itself has the same texts
            "output_2": ("b" if model == row["generator_1"] else "m") * row["len_2"],
            "generator_2": row["generator_2"],
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": row["preference"],
        }
        for row, instruction in zip(rows, instructions_of(shared, model), strict=True)
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations))
    return path


@pytest.fixture
def real_assets(shared, monkeypatch):
    """The canonical instructions and the regression's data, whatever the machine has."""
    text = (shared / "reference" / "alpaca_eval" / "instructions.jsonl").read_text()
    fake_full_assets(
        monkeypatch,
        df_gamed=shared / "reference" / "alpaca_eval" / "df_gamed_surrogate.csv",
        instructions=[json.loads(line)["instruction"] for line in text.splitlines()],
    )
    return shared


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("as_published", [True, False])
def test_published_figures_are_met(real_assets, tmp_path, model, as_published):
    _, expected = published(real_assets, model)
    path = recorded_file(real_assets, tmp_path, model)
    scores = ALPACA_EVAL.score_recorded(path, SuiteOptions(as_published=as_published))
    for key in ("win_rate", "standard_error", "discrete_win_rate"):
        assert scores[key] == pytest.approx(float(expected[key]), abs=1e-6)
    for key in ("n_wins", "n_wins_base", "n_draws", "n_total"):
        assert scores[key] == int(expected[key])
    assert scores["avg_length"] == pytest.approx(int(expected["avg_length_recomputed_from_model_outputs"]), abs=1)
    if as_published or model not in WITH_MISSING_ROWS:
        assert scores["lc_win_rate"] == pytest.approx(float(expected["length_controlled_winrate"]), abs=0.16)
        if expected["C_published"]:
            assert scores["lc"]["C"] == pytest.approx(float(expected["C_published"]))
            # With the same regularisation only the surrogate of df_gamed.csv differs from the package's data.
            surrogate = float(expected["lc_surrogate_at_C_published"])
            assert scores["lc_win_rate"] == pytest.approx(surrogate, abs=1e-6)
            assert scores["lc_win_rate"] == pytest.approx(float(expected["length_controlled_winrate"]), abs=0.0012)
    if expected["lc_standard_error"] and model != "gpt4_1106_preview":
        assert scores["lc_standard_error"] == pytest.approx(float(expected["lc_standard_error"]), abs=0.01)
    if model != "gpt4_1106_preview":
        low, high = scores["lc_ci95"]
        assert low < scores["lc_win_rate"] < high
        assert high - low > 2 * 1.96 * scores["lc_standard_error"], "the package leaves out the error of the fit"
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("model", sorted(WITH_MISSING_ROWS))
def test_a_missing_row_does_not_shift_the_difficulties(real_assets, tmp_path, model):
    """With null rows in the gaps the package's own row numbers are right: ours must agree without them."""
    path = recorded_file(real_assets, tmp_path, model)
    ours = ALPACA_EVAL.score_recorded(path, SuiteOptions())
    annotations = json.loads(path.read_text())
    everything, _ = published(real_assets, "vicuna-7b")
    names = [row["instruction"] for row in instructions_of(real_assets, "vicuna-7b")]
    for position in WITH_MISSING_ROWS[model]:
        gap = {"instruction": names[position], "output_1": "b" * everything[position]["len_1"], "preference": None}
        gap |= {"output_2": "m" * everything[position]["len_1"]}
        annotations.insert(position, annotations[0] | gap)
    path.write_text(json.dumps(annotations))
    filled = ALPACA_EVAL.score_recorded(path, SuiteOptions(as_published=True))
    assert ours["lc_win_rate"] == pytest.approx(filled["lc_win_rate"], abs=0.05)
    assert filled["unscored"] == {"recorded_failure": 2}


def test_the_files_order_does_not_matter(real_assets, tmp_path):
    path = recorded_file(real_assets, tmp_path, "claude-2")
    straight = ALPACA_EVAL.score_recorded(path, SuiteOptions())
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    backwards = ALPACA_EVAL.score_recorded(path, SuiteOptions())
    assert backwards["lc_win_rate"] == pytest.approx(straight["lc_win_rate"], abs=1e-9)
    assert backwards["win_rate"] == pytest.approx(straight["win_rate"], abs=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_recorded_preferences_follow_from_their_logprobs(shared, model):
    rows, _ = published(shared, model)
    checked = 0
    for row, instruction in zip(rows, instructions_of(shared, model), strict=True):
        assert is_switched(instruction["instruction"]) == row["switched"]
        if row["lp_m"] is None and row["lp_M"] is None:
            continue
        preference = preference_from_logprobs(row["lp_m"], row["lp_M"], switched=row["switched"])
        assert preference.value == pytest.approx(row["preference"], abs=1e-6)
        checked += 1
    assert checked > 790 or all(row["lp_m"] is None for row in rows)


def test_406_of_805_are_switched(shared):
    assert sum(is_switched(row["instruction"]) for row in instructions_of(shared, "vicuna-7b")) == 406
