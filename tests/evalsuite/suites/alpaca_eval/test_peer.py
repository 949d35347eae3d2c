"""alpaca_eval's files: its metrics read our exports alike, and recorded ones become rows."""

import gzip
import json
import math
from pathlib import Path

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import JudgeRef, replaced
from evalsuite.suites.options import SuiteOptions
from judges.types import Unscored
from tests.evalsuite.suites.alpaca_eval.alpaca_rows import (
    ALPACA_EVAL,
    HEADER,
    MINI,
    MINI_HEADER,
    VALUES,
    annotation,
    answered,
    fake_full_assets,
    mini_rows,
    synthetic_rows,
    verdict,
    write,
)

FULL = SuiteOptions()


# --- exports, read by alpaca_eval


def test_get_winrate_reads_the_same_figures(tmp_path):
    import pandas as pd
    from alpaca_eval.metrics import get_winrate

    rows = mini_rows(VALUES)
    ALPACA_EVAL.write_peer(MINI_HEADER, rows, tmp_path, model="my-model", judge="my-judge")
    scores = ALPACA_EVAL.score(MINI_HEADER, rows)
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
    failed = verdict(Unscored("request_failed"))
    rows = [
        replaced(ALPACA_EVAL.row(item, loaded), draws=row.draws, verdicts=failed if i % 200 == 7 else row.verdicts)
        for i, (item, row) in enumerate(zip(loaded.items, synthetic_rows(), strict=True))
    ]
    ALPACA_EVAL.write_peer(HEADER, rows, tmp_path, model="my-model", judge="my-judge")
    scores = ALPACA_EVAL.score(HEADER, rows)
    theirs = packages_own_regression(json.loads((tmp_path / "annotations.json").read_text()), df_gamed, monkeypatch)
    assert scores["lc_win_rate"] == pytest.approx(theirs["length_controlled_winrate"], abs=1e-6)
    assert scores["lc_standard_error"] == pytest.approx(theirs["lc_standard_error"], abs=1e-6)
    assert ALPACA_EVAL.score_recorded(tmp_path, FULL) == scores


def packages_own_regression(rows, df_gamed, monkeypatch):
    import warnings

    import sklearn
    from alpaca_eval.metrics import glm_winrate

    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: str(df_gamed))
    with sklearn.config_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return glm_winrate.get_length_controlled_winrate(rows, save_weights_dir=None)


def test_exports_have_alpaca_evals_fields(tmp_path):
    rows = mini_rows(VALUES)
    no_answer = Unscored("no_answer", "context_length")
    rows[2] = replaced(rows[2], draws=(answered(Unscored("context_length")),), verdicts=verdict(no_answer))
    ALPACA_EVAL.write_peer(MINI_HEADER, rows, tmp_path, model="my-model", judge="my-judge")
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
    assert ALPACA_EVAL.score_recorded(tmp_path, FULL)["unscored"] == {"no_answer": 1, "request_failed": 1}


def test_without_a_judge_only_outputs_are_written(tmp_path):
    ALPACA_EVAL.write_peer(MINI_HEADER, mini_rows([None] * 8), tmp_path, model="m", judge=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model_outputs.json"]


# --- our own exports, read back


def test_our_own_export_gives_the_rows_back(tmp_path):
    rows = mini_rows(VALUES)
    ALPACA_EVAL.write_peer(MINI_HEADER, rows, tmp_path, model="my-model", judge="my-judge")
    recorded = ALPACA_EVAL.read_peer(tmp_path, MINI)
    assert recorded.header.judges == {"my-judge": JudgeRef("my-judge")}
    for row, before in zip(recorded.rows, rows, strict=True):
        marked = ALPACA_EVAL.mark(row, recorded.header)
        for field in ("item_id", "content", "prompt", "facts", "draws"):
            assert getattr(row, field) == getattr(before, field)
        assert (marked.marks, marked.unscored) == (before.marks, before.unscored)
    assert ALPACA_EVAL.score_recorded(tmp_path, MINI) == ALPACA_EVAL.score(MINI_HEADER, rows)


def test_unjudged_outputs_are_read(tmp_path):
    rows = mini_rows([None] * 8)
    ALPACA_EVAL.write_peer(MINI_HEADER, rows, tmp_path, model="m", judge=None)
    for path in (tmp_path, tmp_path / "model_outputs.json"):
        recorded = ALPACA_EVAL.read_peer(path, MINI)
        assert recorded.header.judges == {}
        assert [(row.content, row.facts, row.draws) for row in recorded.rows] == [
            (row.content, row.facts, row.draws) for row in rows
        ]
        assert ALPACA_EVAL.score_recorded(path, MINI)["unscored"] == {"no_judge": 8}


def test_outputs_without_the_baseline_are_read(tmp_path):
    [row] = ALPACA_EVAL.read_peer(write(tmp_path, [{"instruction": "i", "output": "o", "generator": "m"}]), FULL).rows
    assert (row.prompt[0].content, row.replies[0].text, row.facts) == ("i", "o", {})


def test_outputs_beside_annotations_are_kept_and_take_no_part_in_the_figures(tmp_path, monkeypatch):
    fake_full_assets(monkeypatch)
    write(tmp_path, [annotation(0, 2.0)])
    outputs = [{"instruction": f"instruction {i}", "output": "o", "generator": "my-model"} for i in range(3)]
    write(tmp_path, [*outputs, outputs[0] | {"generator": "other"}], "model_outputs.json")
    recorded = ALPACA_EVAL.read_peer(tmp_path, FULL)
    assert [row.item_id for row in recorded.rows] == ["0", "1", "2"]
    assert [bool(row.verdicts) for row in recorded.rows] == [True, False, False]
    assert recorded.rows[1].facts["reference"] == ["baseline 1"]
    scores = ALPACA_EVAL.score_recorded(tmp_path, FULL)
    assert (scores["n_total"], scores["unscored"]) == (1, {})
    assert ALPACA_EVAL.recorded_limit(recorded.header, recorded.rows) == 1


def test_a_copy_keeps_every_field_of_one_model(tmp_path):
    rows = [annotation(0, math.nan, price=0.1), annotation(0, 2.0, generator_2="other")]
    source = write(tmp_path, rows)
    write(tmp_path, [{"instruction": "instruction 0", "output": "o", "generator": "my-model"}], "model_outputs.json")
    recorded = ALPACA_EVAL.read_peer(source, FULL, "my-model")
    copy = tmp_path / "copy"
    ALPACA_EVAL.copy_peer(source, recorded.header, copy, "my-model")
    assert json.loads((copy / "annotations.json").read_text()) == [rows[0] | {"preference": None}]
    assert len(json.loads((copy / "model_outputs.json").read_text())) == 1


# --- recorded files


def test_recorded_failures_are_counted_and_old_ties_read(tmp_path, monkeypatch):
    fake_full_assets(monkeypatch)
    rows = [annotation(0, 2), annotation(1, None), annotation(2, math.nan), annotation(3, 0), annotation(4, -1)]
    path = write(tmp_path, rows)
    scores = ALPACA_EVAL.score_recorded(path, FULL)
    assert scores["unscored"] == {"recorded_failure": 3}
    assert scores["win_rate"] == pytest.approx((100 + 50) / 2)
    assert scores["n_draws"] == 1
    recorded = ALPACA_EVAL.read_peer(path, FULL)
    verdicts = [row.verdict() for row in recorded.rows]
    assert [verdict.value for verdict in verdicts] == [2, None, None, 1.5, None]
    assert [verdict.recorded for verdict in verdicts] == [2, None, None, 0, -1]
    page = ALPACA_EVAL.answer_page(recorded.rows[3], recorded.header)
    assert page["judge"][0]["mark"] == "preferred with 50.0 %"


def test_what_an_annotator_wrote_is_the_text_of_its_verdict(tmp_path):
    rows = [annotation(0, raw_completion="The second one is better."), annotation(1, raw_completion={"text": "m"})]
    recorded = ALPACA_EVAL.read_peer(write(tmp_path, [row | {"annotator": "gpt"} for row in rows]), FULL)
    assert [row.verdict().text for row in recorded.rows] == ["The second one is better.", ""]
    assert recorded.header.judges == {"gpt": JudgeRef("gpt")}


def test_a_judge_that_the_file_does_not_name_has_no_name(tmp_path):
    assert ALPACA_EVAL.read_peer(write(tmp_path, [annotation(0)]), FULL).header.judges == {"": JudgeRef()}


def test_ids_are_canonical_positions_where_all_instructions_are_known(tmp_path, monkeypatch):
    fake_full_assets(monkeypatch)
    recorded = ALPACA_EVAL.read_peer(write(tmp_path, [annotation(7), annotation(3)]), FULL)
    assert [row.item_id for row in recorded.rows] == ["7", "3"]
    rows = [annotation(7), annotation(3, instruction="another")]
    assert [row.item_id for row in ALPACA_EVAL.read_peer(write(tmp_path, rows), FULL).rows] == ["0", "1"]


@pytest.mark.parametrize(
    ("rows", "reason"),
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
def test_no_length_controlled_rate_on_another_set(tmp_path, monkeypatch, df_gamed, rows, reason):
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    scores = ALPACA_EVAL.score_recorded(write(tmp_path, rows), FULL)
    assert scores["lc_win_rate"] is None
    assert reason in scores["lc"]["reason"]


def test_805_rows_without_known_instructions_keep_the_files_order(tmp_path, monkeypatch, df_gamed):
    fake_full_assets(monkeypatch, df_gamed=df_gamed)
    known = ALPACA_EVAL.score_recorded(write(tmp_path, [annotation(i) for i in range(805)]), FULL)
    bare = [annotation(i, instruction=f"#{i}") for i in range(805)]
    unknown = ALPACA_EVAL.score_recorded(write(tmp_path, bare), FULL)
    assert unknown["lc_win_rate"] == pytest.approx(known["lc_win_rate"])
    assert "file's order" in unknown["lc"]["warning"]


def test_one_annotator_is_taken_out_of_a_file_with_two(tmp_path):
    rows = [annotation(0, value, annotator=name) for name, value in (("gpt-4", 1.25), ("claude", 2.0))]
    path = write(tmp_path, rows)
    with pytest.raises(DataError, match=r"mixes 2 annotators \(claude, gpt-4\); name one with --annotator"):
        ALPACA_EVAL.score_recorded(path, FULL)
    assert ALPACA_EVAL.score_recorded(path, SuiteOptions(annotator="gpt-4"))["win_rate"] == 25
    recorded = ALPACA_EVAL.read_peer(path, SuiteOptions(annotator="claude"))
    assert [row.verdict().value for row in recorded.rows] == [2.0]
    ALPACA_EVAL.copy_peer(path, recorded.header, tmp_path / "copy", "my-model")
    assert json.loads((tmp_path / "copy/annotations.json").read_text()) == [rows[1]]
    with pytest.raises(UsageError, match="unknown annotator 'gpt4'; did you mean 'gpt-4'"):
        ALPACA_EVAL.score_recorded(path, SuiteOptions(annotator="gpt4"))


def test_annotations_as_compressed_json_lines_are_found_in_a_folder(tmp_path):
    rows = [annotation(0, 1.25), annotation(1, 2.0)]
    text = "".join(json.dumps(row) + "\r\n" for row in rows)
    (tmp_path / "annotations.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    assert ALPACA_EVAL.score_recorded(tmp_path, FULL)["win_rate"] == 62.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no annotations or outputs"),
        ({"a": 1}, "row 1: .instruction. is missing"),
        ([{"instruction": "x"}], "row 1: 'output_1' is missing; expected"),
        ([annotation(0), annotation(1, generator_2="other")], r"mixes 2 models \(my-model, other\)"),
        ([annotation(0), annotation(1, generator_1="other")], "mixes 2 baselines"),
        ([annotation(0), annotation(0)], "duplicate instruction 'instruction 0'"),
        ([annotation(0), annotation(1, output_1=None)], "row 2: 'output_1' must be a text, not null"),
        ([annotation(0, output_1=3)], "row 1: 'output_1' must be a text, not a whole number"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        ALPACA_EVAL.score_recorded(write(tmp_path, rows), FULL)
    assert "\n" not in str(caught.value)


def test_one_model_is_taken_out_of_a_file_with_many(tmp_path: Path):
    rows = [annotation(i, value, generator_2=model) for model, value in (("a", 1.0), ("b", 2.0)) for i in range(2)]
    path = write(tmp_path, rows)
    assert [row.verdict().value for row in ALPACA_EVAL.read_peer(path, FULL, "b").rows] == [2, 2]
    with pytest.raises(UsageError, match="2 models; unknown model 'c'"):
        ALPACA_EVAL.read_peer(path, FULL, "c")
