"""What openllm makes of recorded figures without running a task: columns, lines, averages, counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.suites.harness.suite import LmEvalOptions
from evalsuite.suites.openllm import suite as module
from evalsuite.suites.openllm.checks import CHECKED
from evalsuite.suites.openllm.scores import PARTS, choices_of, normalized, part_scores
from tests.evalsuite.assets_env import empty_machine
from tests.evalsuite.suites.openllm.test_openllm import MINI, MINI_FOLDER, MUSR_ROWS, OPENLLM, recorded

pytestmark = [
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]


def test_normalized_is_the_leaderboards_rule_on_hand_computed_numbers() -> None:
    assert normalized(0.25, 0.25) == 0.0
    assert normalized(0.1, 0.25) == 0.0
    assert normalized(1.0, 0.1) == 100.0
    assert normalized(0.55, 0.1) == pytest.approx(50.0)
    assert normalized(0.3, 0.0) == pytest.approx(30.0)


def test_musr_is_normalised_by_subtask_and_mmlu_pro_as_a_whole() -> None:
    scores = part_scores(
        recorded(**MUSR_ROWS, leaderboard_mmlu_pro={"acc,none": 0.37, "acc_stderr,none": 0.0044}), {}, {}
    )
    # (0.75 - 1/2) / (1/2) = 0.5; below 1/5 = 0; (0.5 - 1/3) / (2/3) = 0.25
    assert scores["musr"] == {
        "score": 0.4,
        "stderr": 0.0175,
        "n": 756,
        "normalized": pytest.approx(25.0),
        "mean_of_subtasks": pytest.approx(0.45),
        "unscored": {},
    }
    assert scores["mmlu_pro"]["normalized"] == pytest.approx(30.0)
    assert scores["bbh"] is None
    assert "leaderboard_bbh" in scores["unscored"]["bbh"]


def test_what_lm_eval_calls_not_available_is_null() -> None:
    scores = part_scores(recorded(leaderboard_mmlu_pro={"acc,none": 1.0, "acc_stderr,none": "N/A"}), {}, {})
    assert scores["mmlu_pro"]["stderr"] is None
    assert scores["tasks"]["leaderboard_mmlu_pro"]["acc_stderr,none"] is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"acc,none": 1.3}, "has the acc 1.3; expected a number from 0 to 1"),
        ({"acc,none": -0.1}, "has the acc -0.1; expected a number from 0 to 1"),
        ({"acc,none": "0.3"}, "has the acc '0.3'; expected a number from 0 to 1"),
        ({"acc,none": 0.3, "acc_stderr,none": -0.1}, "has the acc_stderr -0.1; expected at least 0"),
        ({"acc_norm,none": 0.3}, "has no acc"),
        ({"acc,none": None}, "has no acc: no document of it was answered"),
    ],
)
def test_a_row_that_is_no_share_of_right_answers_is_no_figure(row: dict[str, Any], reason: str) -> None:
    scores = part_scores(recorded(leaderboard_mmlu_pro=row), {}, {})
    assert scores["mmlu_pro"] is None
    assert scores["unscored"]["mmlu_pro"] == f"lm-eval's row leaderboard_mmlu_pro {reason}"


def test_a_figure_of_no_documents_is_none_and_an_unknown_count_is_a_dash() -> None:
    document = recorded(leaderboard_mmlu_pro={"acc,none": 0.3})
    none = document | {"n-samples": {"leaderboard_mmlu_pro": {"original": 12032, "effective": 0}}}
    assert part_scores(none, {}, {})["mmlu_pro"] is None
    scores = part_scores(document | {"n-samples": {}}, {}, {})
    line = next(line for line in OPENLLM.lines("openllm", scores) if line.suite == "MMLU-Pro")
    assert (line.score, line.n) == ("0.3000", "–")


def test_a_subtask_without_a_figure_leaves_no_mean_of_the_others() -> None:
    rows = {**MUSR_ROWS, "leaderboard_musr_team_allocation": {}}
    scores = part_scores(recorded(**rows), {}, {})
    assert scores["musr"]["normalized"] is None
    assert scores["musr"]["mean_of_subtasks"] is None


@pytest.mark.parametrize(
    ("task", "config", "expected"),
    [
        ("leaderboard_bbh_object_counting", {"doc_to_choice": [str(n) for n in range(19)]}, 19),
        ("leaderboard_mmlu_pro", {"doc_to_choice": "def doc_to_choice(doc): ..."}, 10),
        ("mini_musr", {"doc_to_choice": "{{choices}}", "metadata": {"choices": 3}}, 3),
        ("other", {"doc_to_choice": "{{choices}}"}, None),
    ],
)
def test_the_number_of_choices_comes_from_the_config(task: str, config: dict[str, Any], expected: int | None) -> None:
    assert choices_of(task, config) == expected


# Facts -------------------------------------------------------------------------------------------


def test_lines_are_those_of_a_terminals_table() -> None:
    scores = part_scores(recorded(**MUSR_ROWS), {"gpqa": "not asked for", "math": "its data are missing"}, {})
    lines = {line.suite: line for line in OPENLLM.lines("openllm", scores)}
    assert lines["MuSR"][:5] == ("MuSR", "0.4000", "± 0.0175", "25.0", "756")
    assert lines["MATH"].note == "its data are missing"
    assert "GPQA" not in lines


def test_columns_read_the_parts_and_say_why_one_is_empty() -> None:
    certain = {"acc,none": 1.0, "acc_stderr,none": 0.0}
    scores = part_scores(recorded(**MUSR_ROWS, leaderboard_mmlu_pro=certain), {"bbh": "not asked for"}, {})
    columns = {column.key: column for column in OPENLLM.columns({"openllm": [scores]})}
    assert list(columns) == [*PARTS, "musr_subtasks"]
    assert [column.main for column in columns.values()] == [True] * 6 + [False]
    assert columns["musr"].figure(scores).value == 0.4
    assert columns["musr_subtasks"].figure(scores).value == pytest.approx(0.45)
    assert columns["bbh"].figure(scores).reason == "not asked for"
    # Wilson's lower end for n of n is n / (n + z^2).
    assert columns["mmlu_pro"].figure(scores).ci95 == pytest.approx((12032 / (12032 + 1.959963984540054**2), 1.0))
    for part in ("bbh/leaderboard_bbh_navigate", "ifeval/leaderboard_ifeval"):
        facts = OPENLLM.report_part("openllm", part)
        assert f"openllm/{part}".startswith(columns[facts.column].items)
        assert facts.metric == PARTS[facts.column].metric


def test_the_averages_take_musr_as_the_mean_of_its_subtasks() -> None:
    scores = part_scores(recorded(**MUSR_ROWS), {}, {})
    averages = OPENLLM.averages({"openllm": scores})
    assert averages["paper"] == averages["nine"]
    assert averages["paper"].keys() == averages["leaderboard_v2"].keys() == PARTS.keys()
    assert averages["paper"]["musr"] == pytest.approx(0.45)
    assert averages["leaderboard_v2"]["musr"] == pytest.approx(25.0)
    assert OPENLLM.averages({})["paper"] == dict.fromkeys(PARTS)


def test_items_are_counted_without_data() -> None:
    # The published counts: BBH 5,761 in 24 tasks, GPQA 1,192, MATH 1,324, MuSR 756, IFEval 541, MMLU-Pro 12,032.
    assert OPENLLM.n_items((), "full", None) == 5761 + 1192 + 1324 + 756 + 541 + 12032
    assert OPENLLM.n_items(("bbh", "ifeval"), "full", 10) == 24 * 10 + 10
    loaded = OPENLLM.load(MINI)
    assert OPENLLM.n_items((), "mini", None) == sum(len(task.eval_docs) for task in loaded.tasks.values())
    assert OPENLLM.n_items((), "mini", 2) == 2 * len(loaded.tasks)


def test_the_contamination_check_reads_what_is_asked() -> None:
    full = {"Question": "q", "Correct Answer": "c", "Incorrect Answer 1": "x", "Incorrect Answer 2": "y"}
    assert CHECKED["gpqa"]({**full, "Incorrect Answer 3": "z"}, 7) == ("7", ("q",), ("c", "x", "y", "z"))
    for part in OPENLLM.checked_names:
        checked = OPENLLM.checked_items(part, "mini")
        rows = [json.loads(line) for line in (MINI_FOLDER / f"mini_{part}.jsonl").read_text().splitlines()]
        assert len(checked.items) == len(rows)
        assert all(item.suite == part and item.turns[0] for item in checked.items)
        assert [item.options for item in checked.items] == [
            tuple(row["options"]) if part in ("gpqa", "mmlu_pro") else () for row in rows
        ]
    assert OPENLLM.checked_items("musr", "mini").items[0].turns[0].endswith("\nWho most likely took the atlas?")


def test_the_scorers_pass_their_own_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPENLLM.self_check(("math",)) == ""
    monkeypatch.setattr(module, "SELF_CHECKS", {"math": lambda: "[0, 1] for samples worth [1, 0]"})
    assert OPENLLM.self_check(()) == "math: [0, 1] for samples worth [1, 0]"


def test_parts_without_data_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty_machine(monkeypatch, tmp_path)
    options = LmEvalOptions(parts=("gpqa", "musr"))
    absent = OPENLLM.absent_data(options)
    assert list(absent) == ["gpqa", "musr"]
    assert "hf auth login" in absent["gpqa"]
    assert OPENLLM.data_pins(options) == {}
    assert OPENLLM.absent_data(MINI) == {}


def test_the_protocol_is_what_the_template_came_to_and_the_share_of_each_task() -> None:
    asked = MINI.model_dump()
    expected = {"chat_template_on_openllm": True, "fewshot_as_multiturn": True, "limit_fraction": 0}
    assert OPENLLM.protocol(asked, {}) == expected
    plain = OPENLLM.protocol({**asked, "chat_template_on_openllm": False}, {})
    assert plain["fewshot_as_multiturn"] is False
    unknown = {**asked, "chat_template_on_openllm": None, "fewshot_as_multiturn": None}
    assert OPENLLM.protocol(unknown, {}) == {"limit_fraction": 0}
    assert OPENLLM.protocol({}, {}) == {}
    assert OPENLLM.protocol_text("limit_fraction", 0) == "a whole number of each task"
    assert OPENLLM.protocol_text("limit_fraction", 0.1) == "share of each task 0.1"
    assert OPENLLM.protocol_text("chat_template_on_openllm", True) == "chat template yes"
