"""What the rest of the product reads of MixEval: needs, counts, averages, columns and pages."""

from __future__ import annotations

import pytest

from evalsuite.suites.mixeval.assets import ASSETS
from evalsuite.suites.mixeval.suite import MixEvalOptions
from judges.types import Unscored
from tests.evalsuite.suites.mixeval.mixeval_rows import (
    JUDGE,
    MIXEVAL,
    RULE,
    answered,
    choice_row,
    free_row,
    header,
    verdict,
)

# ---------------------------------------------------------------- facts


def test_only_the_judges_parser_needs_a_judge() -> None:
    assert MIXEVAL.needs_judge(JUDGE)
    assert not MIXEVAL.needs_judge(RULE)


@pytest.mark.parametrize(
    ("given", "has_judge", "parser"), [(None, True, "judge"), (None, False, "rule"), ("rule", True, "rule")]
)
def test_the_parser_is_the_judge_where_there_is_one(given: str | None, has_judge: bool, parser: str) -> None:
    assert MIXEVAL.resolve_options({"mixeval_parser": given}, has_judge=has_judge)["mixeval_parser"] == parser


def test_item_counts_are_those_of_the_data() -> None:
    assert MIXEVAL.n_items((), "full", None) == 4000
    assert MIXEVAL.n_items(("hard",), "full", None) == 1000
    assert MIXEVAL.n_items((), "full", 5) == 10
    for key, parts in (("mixeval", ()), ("mixeval_hard", ("hard",))):
        counts = [ASSETS[f"mixeval/2024-06-01/{key}/{split}"].rows for split in ("free_form", "multiple_choice")]
        assert sum(counts) == MIXEVAL.n_items(parts, "full", None)
    for limit in (None, 2, 50):
        loaded = MIXEVAL.load(MixEvalOptions(data="mini", limit=limit))
        assert MIXEVAL.n_items((), "mini", limit) == len(loaded.items)


def test_only_mixeval_itself_enters_the_averages() -> None:
    scores = {"mixeval": {"score": 0.4}, "mixeval_hard": {"score": 0.2}}
    assert MIXEVAL.averages(scores) == {"paper": {"mixeval": 0.4}, "nine": {"mixeval": 0.4}}
    assert MIXEVAL.averages({"mixeval_hard": {"score": 0.2}})["paper"] == {"mixeval": None}


def test_the_protocol_is_that_of_the_figures_where_they_tell_it() -> None:
    options = {"as_published": False, "mixeval_parser": "judge", "mixeval_version": None, "seed": 1}
    assert MIXEVAL.protocol(options, {"parser": "rule"}) == {"as_published": False, "mixeval_parser": "rule"}
    assert MIXEVAL.protocol({}, {}) == {}


def test_both_benchmarks_have_a_column_a_line_and_their_parts() -> None:
    main, hard = MIXEVAL.columns({})
    assert (main.key, main.title, main.items, main.main) == ("mixeval", "MixEval", "mixeval/", True)
    assert (hard.key, hard.title, hard.items, hard.main) == ("mixeval_hard", "MixEval-Hard", "mixeval_hard/", False)
    scores = {"score": 0.25, "ci95": [0.1, 0.4567], "n": 12, "n_scored": 11, "unscored": {"no_rating": 1}}
    [line] = MIXEVAL.lines("mixeval_hard", scores)
    assert line == ("MixEval-Hard (0–1)", "0.2500", "[0.100, 0.457]", "", "11/12", "no_rating 1", "")
    assert MIXEVAL.report_part("mixeval_hard", "multiple_choice").title == "MixEval-Hard, multiple choice"


def test_the_contamination_check_sees_context_question_and_options() -> None:
    mini = MIXEVAL.checked_items("mixeval", "mini")
    assert len(mini.items) == 12
    assert mini.items[0].id == "free-form/0"
    assert any("\n" in item.turns[0] for item in mini.items)
    assert all(item.options for item in mini.items[6:])
    assert not MIXEVAL.checked_items("mixeval_hard", "mini").items


# ---------------------------------------------------------------- pages


def test_a_page_shows_question_context_options_and_the_right_one() -> None:
    row = answered(choice_row(context="Facts."), "B")
    assert MIXEVAL.question_page(row, header(RULE)) == {
        "category": "MMLU",
        "fields": [["context", "Facts."]],
        "messages": ["Which gas?"],
        "options": ["neon", "argon", "tin"],
        "right": 1,
        "reference": ["B. argon"],
    }
    free = MIXEVAL.question_page(answered(free_row(context="null"), "x"), header(RULE))
    assert (free["fields"], free["reference"]) == ([], ["Mercury"])


def test_a_page_shows_the_judges_verdict_only_where_it_counts() -> None:
    row = answered(free_row(), "Mars", verdict(0.0, "Wrong. [[0]]"))
    page = MIXEVAL.answer_page(MIXEVAL.mark(row, header(JUDGE)), header(JUDGE))
    assert page == {"turns": ["Mars"], "judge": [{"label": "judge", "mark": 0.0, "text": "Wrong. [[0]]"}]}
    assert MIXEVAL.answer_page(row, header(RULE)) == {"turns": ["Mars"]}
    failed = MIXEVAL.mark(answered(free_row(), "Mars", verdict(Unscored("no_rating", "hm"))), header(JUDGE))
    page = MIXEVAL.answer_page(failed, header(JUDGE))
    assert (page["unscored"], page["judge"][0]["mark"]) == ("no_rating", "unscored: no_rating")
