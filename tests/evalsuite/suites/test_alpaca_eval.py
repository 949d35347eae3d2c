"""AlpacaEval: the m/M verdict, the published figures, the package's traps, and its reading of the exports."""

import csv
import json
import logging
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.serving.requests import derive_seed
from evalsuite.suites.alpaca_eval import package as alpaca_package
from evalsuite.suites.alpaca_eval.scores import Comparison, score_comparisons
from evalsuite.suites.alpaca_eval.suite import ALPACA_EVAL, TEMPLATE_SHA256, template_text
from evalsuite.suites.base import Record, SuiteOptions
from judges.pairwise import is_switched
from judges.parse import preference_from_logprobs
from judges.types import Message, Preference, Unscored
from tests.evalsuite.scripted_chat import ScriptedChat, completion

MINI = SuiteOptions(data="mini", seed=5)
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


# --- loading


def test_mini_is_our_own_and_has_no_length_controlled_rate():
    loaded = ALPACA_EVAL.load(MINI)
    assert [item.id for item in loaded.items] == [str(i) for i in range(8)]
    assert {"instruction", "output", "generator", "dataset"} <= loaded.items[0].data.keys()
    assert loaded.context.df_gamed is None
    assert "805" in loaded.missing["lc_win_rate"]
    assert loaded.context.max_new_tokens == 96
    assert loaded.data_pins["alpaca_eval/alpaca_eval_clf.txt"] == {
        "sha256": TEMPLATE_SHA256,
        "source": "package",
        "pinned": True,
    }


def fake_full_assets(monkeypatch, *, df_gamed: Path | None = None, instructions=None):
    instructions = instructions or [f"instruction {i}" for i in range(805)]
    rows = [
        {"instruction": text, "output": f"baseline {i}", "generator": "gpt4_1106_preview", "dataset": "koala"}
        for i, text in enumerate(instructions)
    ]

    def find(name, **_):
        if df_gamed is None:
            raise DataError(f"{name} cannot be had; type evalsuite data pull")
        return assets.Found(name, df_gamed, "mirror", "0" * 64, True)

    monkeypatch.setattr(assets, "records", lambda name, **_: (rows, name))
    monkeypatch.setattr(assets, "data_pin", lambda _: {"sha256": "0" * 64, "source": "mirror", "pinned": True})
    monkeypatch.setattr(assets, "find", find)


def test_full_set_keeps_the_canonical_order(monkeypatch, tmp_path):
    fake_full_assets(monkeypatch, df_gamed=tmp_path / "df_gamed.csv")
    loaded = ALPACA_EVAL.load(SuiteOptions())
    assert [item.id for item in loaded.items] == [str(i) for i in range(805)]
    assert loaded.context.df_gamed == tmp_path / "df_gamed.csv"
    assert "alpaca_eval/df_gamed" in loaded.data_pins
    assert not loaded.missing
    assert loaded.context.max_new_tokens == 2048


def test_limit_takes_positions_at_equal_distances(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = ALPACA_EVAL.load(SuiteOptions(limit=5))
    assert [item.id for item in loaded.items] == ["0", "161", "322", "483", "644"]
    assert "these are 5" in loaded.missing["lc_win_rate"]


def test_without_df_gamed_the_rest_goes_on(monkeypatch):
    fake_full_assets(monkeypatch)
    loaded = ALPACA_EVAL.load(SuiteOptions())
    assert len(loaded.items) == 805
    assert "cannot be had" in loaded.missing["lc_win_rate"]


# --- answering and judging


async def test_one_user_turn_with_its_own_seed():
    loaded = ALPACA_EVAL.load(MINI)
    model = ScriptedChat("fine")
    for item in loaded.items:
        assert (await ALPACA_EVAL.answer(item, loaded, model, MINI)).text == "fine"
    assert [call.messages for call in model.calls] == [
        (Message("user", item.data["instruction"]),) for item in loaded.items
    ]
    assert [call.sampling.seed for call in model.calls] == [
        derive_seed(5, "alpaca_eval", item.id) for item in loaded.items
    ]
    assert {(call.sampling.temperature, call.sampling.max_new_tokens) for call in model.calls} == {(0.7, 96)}


@pytest.mark.parametrize(("lp_m", "lp_M"), [(-0.2, -1.9), (-4.0, -0.02)])
async def test_the_preference_follows_the_label_that_stands_for_the_model(lp_m, lp_M):
    loaded = ALPACA_EVAL.load(MINI)
    p_m = math.exp(lp_m) / (math.exp(lp_m) + math.exp(lp_M))
    seen = set()
    for item in loaded.items:
        judge = ScriptedChat(labels={"m": lp_m, "M": lp_M})
        verdict = await ALPACA_EVAL.judge(item, completion("the model's words"), loaded, judge, MINI)
        (call,) = judge.label_calls
        assert call.labels == ("m", "M")
        assert [message.role for message in call.messages] == ["system", "user"]
        text = call.messages[1].content
        model_first = text.index("the model's words") < text.index(item.data["output"])
        assert model_first == is_switched(item.data["instruction"])
        assert verdict.value == pytest.approx(1 + p_m if model_first else 2 - p_m)
        assert dict(verdict.logprobs) == {"m": lp_m, "M": lp_M}
        seen.add(model_first)
    assert seen == {True, False}


async def test_identical_answers_are_a_tie_without_a_question():
    loaded = ALPACA_EVAL.load(MINI)
    item, judge = loaded.items[0], ScriptedChat()
    verdict = await ALPACA_EVAL.judge(item, completion(item.data["output"]), loaded, judge, MINI)
    assert verdict == Preference(1.5)
    assert not judge.label_calls


@pytest.mark.parametrize(
    ("answer", "labels", "expected"),
    [
        (Unscored("request_failed", "503"), {}, Unscored("no_answer", "request_failed: 503")),
        (completion("x"), Unscored("context_length"), Unscored("context_length")),
        (completion("x"), {"m": math.nan, "M": -1.0}, "non_finite_logprob"),
    ],
)
async def test_failures_are_unscored(answer, labels, expected):
    loaded = ALPACA_EVAL.load(MINI)
    verdict = await ALPACA_EVAL.judge(loaded.items[0], answer, loaded, ScriptedChat(labels=labels), MINI)
    assert verdict == expected if isinstance(expected, Unscored) else verdict.reason == expected


# --- figures


def mini_records(values) -> tuple[list[Record], object]:
    loaded = ALPACA_EVAL.load(MINI)
    records = [
        Record(item, completion("y" * (10 + i)), value if isinstance(value, Unscored) else Preference(value))
        for i, (item, value) in enumerate(zip(loaded.items, values, strict=True))
    ]
    return records, loaded


VALUES = [1.0, 1.2, 1.5, 1.5, 1.9, 2.0, Unscored("request_failed"), 1.7]


def test_figures_are_what_their_definitions_say():
    records, loaded = mini_records(VALUES)
    scores = ALPACA_EVAL.score(records, loaded, MINI)
    shares = [(value - 1) * 100 for value in VALUES if not isinstance(value, Unscored)]
    assert scores["win_rate"] == pytest.approx(statistics.fmean(shares))
    assert scores["standard_error"] == pytest.approx(statistics.stdev(shares) / math.sqrt(7))
    assert (scores["n_wins"], scores["n_wins_base"], scores["n_draws"], scores["n_total"]) == (3, 2, 2, 7)
    assert scores["discrete_win_rate"] == pytest.approx((3 + 2 / 2) / 7 * 100)
    assert scores["avg_length"] == int(statistics.fmean(range(10, 18)))
    assert scores["unscored"] == {"request_failed": 1}
    assert scores["ci95"][0] < scores["win_rate"] < scores["ci95"][1]
    assert scores["lc_win_rate"] is None
    assert scores["lc"]["C"] is None
    assert "805" in scores["lc"]["reason"]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_nothing_scored_is_none_and_never_zero():
    loaded = ALPACA_EVAL.load(MINI)
    scores = ALPACA_EVAL.score([Record(item, Unscored("request_failed")) for item in loaded.items], loaded, MINI)
    keys = ("win_rate", "standard_error", "discrete_win_rate", "lc_win_rate", "avg_length", "ci95")
    assert [scores[key] for key in keys] == [None] * 6
    assert scores["unscored"] == {"no_answer": 8}
    assert scores["n_total"] == 0


def test_a_single_comparison_has_no_standard_error():
    scores = score_comparisons([Comparison(0, "a", "b", Preference(2.0))], df_gamed=None, lc_reason="partial")
    assert (scores["win_rate"], scores["standard_error"], scores["ci95"]) == (100.0, None, None)


def test_without_a_judge_the_reason_is_no_judge():
    loaded = ALPACA_EVAL.load(MINI)
    scores = ALPACA_EVAL.score([Record(item, completion("x")) for item in loaded.items], loaded, MINI)
    assert scores["unscored"] == {"no_judge": 8}


# --- the published leaderboard


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
    if expected["lc_standard_error"] and model != "gpt4_1106_preview":
        assert scores["lc_standard_error"] == pytest.approx(float(expected["lc_standard_error"]), abs=0.01)
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


# --- the package's traps


def synthetic(values=None) -> list[Comparison]:
    values = values or [1.05 + 0.9 * ((i * 37) % 101) / 101 for i in range(805)]
    return [
        Comparison(i, "b" * (100 + (i * 53) % 700), "m" * (50 + (i * 71) % 900), Preference(value))
        for i, value in enumerate(values)
    ]


@pytest.fixture
def df_gamed(tmp_path) -> Path:
    """A regression file of the right shape with made-up numbers."""
    path = tmp_path / "df_gamed.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"])
        for model, sign in (("verbose", -1), ("concise", 1)):
            for i in range(805):
                difficulty = ((i * 29) % 200) / 100 - 1
                out.writerow([model, 0.5 - sign * 0.2, i, sign * (1 + i % 3), difficulty, False])
    return path


def test_the_package_leaves_no_trace(df_gamed, monkeypatch):
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    (place,) = __import__("alpaca_eval").__path__
    files = {path: path.stat().st_mtime_ns for path in Path(place).rglob("*") if path.suffix != ".pyc"}
    with sklearn.config_context(enable_metadata_routing=False):
        before = dict(vars(glm_winrate)), sklearn.get_config(), logging.root.level, list(logging.root.handlers)
        scores = score_comparisons(synthetic(), df_gamed=df_gamed, lc_reason=None)
        after = dict(vars(glm_winrate)), sklearn.get_config(), logging.root.level, list(logging.root.handlers)
    assert 0 < scores["lc_win_rate"] < 100
    assert scores["lc"]["C"] > 0
    assert after == before
    assert {path: path.stat().st_mtime_ns for path in Path(place).rglob("*") if path.suffix != ".pyc"} == files


def test_importing_the_package_leaves_the_root_logger_alone():
    """Only a fresh process imports it for the first time."""
    code = (
        "import logging\n"
        "from evalsuite.suites.alpaca_eval.package import win_rates\n"
        "assert win_rates([1.0, 2.0])['win_rate'] == 50\n"
        "print(logging.root.level == logging.WARNING, logging.root.handlers)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_folds_are_scikit_learns_stable_ones():
    import numpy as np
    from sklearn.model_selection import GroupKFold

    groups = np.concatenate([np.arange(2415), np.arange(2415)])
    features = np.zeros((len(groups), 1))
    ours = list(alpaca_package._fixed_folds()(n_splits=5).split(features, groups=groups))
    # Equal groups: the last goes first, each into the next fold in turn.
    for fold, (train, test) in enumerate(ours):
        assert np.array_equal(test, np.flatnonzero((2414 - groups) % 5 == fold))
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(groups)))
    assert all(
        np.array_equal(a[1], b[1])
        for a, b in zip(ours, GroupKFold(n_splits=5).split(features, groups=groups), strict=True)
    )


def test_a_partial_set_has_no_length_controlled_rate(df_gamed):
    scores = score_comparisons(synthetic()[:700], df_gamed=df_gamed, lc_reason=None)
    assert scores["lc_win_rate"] is None
    assert "700 of 700 are scored" in scores["lc"]["reason"]
    assert scores["win_rate"] is not None


@pytest.mark.parametrize(("n_unscored", "has_rate"), [(8, True), (9, False)])
def test_a_handful_may_be_unscored(df_gamed, n_unscored, has_rate):
    comparisons = [
        Comparison(c.position, c.baseline_output, c.output, Unscored("request_failed")) if i < n_unscored else c
        for i, c in enumerate(synthetic())
    ]
    scores = score_comparisons(comparisons, df_gamed=df_gamed, lc_reason=None)
    assert (scores["lc_win_rate"] is not None) == has_rate
    assert scores["n_total"] == 805 - n_unscored


def test_missing_answers_leave_the_others_in_place(df_gamed):
    """Dropping a row must give nearly what keeping it unscored gives; a shift of the rest would not."""
    whole = synthetic()
    gap = [
        Comparison(c.position, c.baseline_output, None, Unscored("no_answer")) if c.position in (3, 400) else c
        for c in whole
    ]
    unscored = [
        Comparison(c.position, c.baseline_output, c.output, Unscored("no_verdict")) if c.position in (3, 400) else c
        for c in whole
    ]
    rates = [score_comparisons(c, df_gamed=df_gamed, lc_reason=None)["lc_win_rate"] for c in (gap, unscored)]
    assert rates[0] == pytest.approx(rates[1], abs=0.05)


def test_the_baseline_against_itself_is_fifty(df_gamed):
    same = [Comparison(i, "b" * (i + 1), "b" * (i + 1), Preference(1.5)) for i in range(805)]
    scores = score_comparisons(same, df_gamed=df_gamed, lc_reason=None)
    assert (scores["win_rate"], scores["lc_win_rate"], scores["lc"]["C"]) == (50.0, 50.0, None)


def test_a_constant_length_difference_is_named(df_gamed):
    shifted = [Comparison(i, "b" * (i + 1), "m" * (i + 4), Preference(1.4)) for i in range(805)]
    scores = score_comparisons(shifted, df_gamed=df_gamed, lc_reason=None)
    assert scores["lc_win_rate"] is None
    assert "same length" in scores["lc"]["reason"]


# --- exports, read by alpaca_eval


def test_get_winrate_reads_the_same_figures(tmp_path):
    import pandas as pd
    from alpaca_eval.metrics import get_winrate

    records, loaded = mini_records(VALUES)
    ALPACA_EVAL.export(records, loaded, tmp_path, model="my-model", judge="my-judge")
    scores = ALPACA_EVAL.score(records, loaded, MINI)
    for annotations in (
        pd.read_json(tmp_path / "annotations.json"),
        json.loads((tmp_path / "annotations.json").read_text()),
    ):
        theirs = get_winrate(annotations)
        assert {key: scores[key] for key in theirs} == pytest.approx(theirs)


def test_the_packages_regression_reads_the_same_figure(tmp_path, df_gamed, monkeypatch):
    """Unscored verdicts keep their rows, so the package's row numbers are right on our export."""
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    loaded = ALPACA_EVAL.load(SuiteOptions())
    records = [
        Record(item, completion(c.output), Unscored("request_failed") if i % 200 == 7 else c.preference)
        for i, (item, c) in enumerate(zip(loaded.items, synthetic(), strict=True))
    ]
    ALPACA_EVAL.export(records, loaded, tmp_path, model="my-model", judge="my-judge")
    scores = ALPACA_EVAL.score(records, loaded, SuiteOptions())
    rows = json.loads((tmp_path / "annotations.json").read_text())
    theirs = packages_own_regression(rows, df_gamed, monkeypatch)
    assert scores["lc_win_rate"] == pytest.approx(theirs["length_controlled_winrate"], abs=1e-6)
    assert scores["lc_standard_error"] == pytest.approx(theirs["lc_standard_error"], abs=1e-6)
    assert ALPACA_EVAL.score_recorded(tmp_path, SuiteOptions()) == scores


def packages_own_regression(rows, df_gamed, monkeypatch):
    import warnings

    import sklearn
    from alpaca_eval.metrics import glm_winrate

    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: str(df_gamed))
    with sklearn.config_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return glm_winrate.get_length_controlled_winrate(rows, save_weights_dir=None)


def test_exports_have_alpaca_evals_fields(tmp_path):
    records, loaded = mini_records(VALUES)
    records[2] = Record(loaded.items[2], Unscored("context_length"))
    ALPACA_EVAL.export(records, loaded, tmp_path, model="my-model", judge="my-judge")
    outputs = json.loads((tmp_path / "model_outputs.json").read_text())
    annotations = json.loads((tmp_path / "annotations.json").read_text())
    assert len(outputs) == 7
    assert all(set(row) == {"instruction", "output", "generator", "dataset"} for row in outputs)
    assert len(annotations) == 8
    fields = {"instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator", "preference"}
    assert all(fields <= row.keys() for row in annotations)
    assert [row["unscored"] for row in annotations] == [
        None,
        None,
        "no_answer",
        None,
        None,
        None,
        "request_failed",
        None,
    ]
    assert [row["preference"] for row in annotations if row["unscored"]] == [None, None]
    assert ALPACA_EVAL.score_recorded(tmp_path, SuiteOptions())["unscored"] == {"no_answer": 1, "request_failed": 1}


def test_without_a_judge_only_outputs_are_written(tmp_path):
    records, loaded = mini_records(VALUES)
    ALPACA_EVAL.export(records, loaded, tmp_path, model="m", judge=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model_outputs.json"]


# --- recorded files


def annotation(i, preference=1.3, **other):
    row = {"instruction": f"instruction {i}", "output_1": "b" * (10 + i), "generator_1": "gpt4_1106_preview"}
    return row | {"output_2": "m" * (5 + i * i % 91), "generator_2": "my-model", "preference": preference} | other


def write(tmp_path, rows) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


def test_recorded_failures_are_counted_and_old_ties_read(tmp_path, monkeypatch):
    fake_full_assets(monkeypatch)
    rows = [annotation(0, 2), annotation(1, None), annotation(2, math.nan), annotation(3, 0), annotation(4, -1)]
    scores = ALPACA_EVAL.score_recorded(write(tmp_path, rows), SuiteOptions())
    assert scores["unscored"] == {"recorded_failure": 3}
    assert scores["win_rate"] == pytest.approx((100 + 50) / 2)
    assert scores["n_draws"] == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([annotation(i) for i in range(5)], "5 of 5 are scored"),
        (
            [annotation(i, instruction=f"another {i}") for i in range(803)],
            "803 of 803 instructions are not AlpacaEval's",
        ),
        ([annotation(i, generator_1="text_davinci_003") for i in range(805)], "baseline gpt4_1106_preview"),
        ([annotation(i) for i in range(806)], "806 rows"),
    ],
)
def test_no_length_controlled_rate_on_another_set(tmp_path, monkeypatch, df_gamed, rows, words):
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    scores = ALPACA_EVAL.score_recorded(write(tmp_path, rows), SuiteOptions())
    assert scores["lc_win_rate"] is None
    assert words in scores["lc"]["reason"]


def test_805_rows_without_known_instructions_keep_the_files_order(tmp_path, monkeypatch, df_gamed):
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    known = ALPACA_EVAL.score_recorded(write(tmp_path, [annotation(i) for i in range(805)]), SuiteOptions())
    bare = [annotation(i, instruction=f"#{i}") for i in range(805)]
    unknown = ALPACA_EVAL.score_recorded(write(tmp_path, bare), SuiteOptions())
    assert unknown["lc_win_rate"] == pytest.approx(known["lc_win_rate"])
    assert "file's order" in unknown["lc"]["warning"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no list"),
        ({"a": 1}, "holds no list"),
        ([{"instruction": "x"}], "row 0 lacks 'output_1'"),
        ([annotation(0), annotation(1, generator_2="other")], r"mixes 2 models \(my-model, other\)"),
        ([annotation(0), annotation(0)], "repeats the instruction 'instruction 0'"),
        ([annotation(0, output_1=3)], "not a text"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, rows, words):
    with pytest.raises(DataError, match=words) as caught:
        ALPACA_EVAL.score_recorded(write(tmp_path, rows), SuiteOptions())
    assert "\n" not in str(caught.value)


def test_the_template_is_the_packages():
    assert "{instruction}" in template_text()
