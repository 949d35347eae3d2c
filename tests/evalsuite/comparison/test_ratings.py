"""``evalsuite score preferences``: the paper's ratings, flip counts by hand, and what is wrong with a file."""

import csv
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import evalsuite
from evalsuite.cli import app
from evalsuite.comparison import ratings
from evalsuite.comparison.figures import Verdicted, preference_figures
from evalsuite.comparison.ratings import read_lineage, read_ratings
from evalsuite.errors import DataError, UsageError
from judges.preference import verdicts_from_ratings
from judges.types import Unscored
from judges.verdicts import PairVerdict


def score_preferences(path, **options):
    return ratings.score_preferences(path, **options).as_json()


def write(tmp_path, text, name="scores.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_papers_ratings_give_the_papers_rates(shared):
    path = shared / "reference" / "paper" / "turn1_ratings_l8.csv"
    document = score_preferences(path, as_published=True)
    [pair] = document["pairs"]
    assert (pair["a"], pair["b"]) == ("L8B:L70", "L8B:Q72")
    assert (pair["wins_a"], pair["wins_b"], pair["n"]) == (18, 32, 80)
    assert (pair["rate_a"], pair["rate_b"]) == (0.225, 0.40)
    assert document["matrix"]["percent_row_over_column"] == [[None, 22.5], [40.0, None]]
    # By default the twelve questions without ratings are not in the denominator.
    [pair] = score_preferences(path)["pairs"]
    assert (pair["wins_a"], pair["wins_b"], pair["ties"], pair["unscored"], pair["n"]) == (18, 32, 18, 12, 68)
    assert pair["rate_b"] == 32 / 68


def test_the_papers_decided_questions_give_the_same_wins(shared):
    [pair] = score_preferences(shared / "reference/paper/preferences_l8.csv")["pairs"]
    assert (pair["a"], pair["wins_a"], pair["wins_b"], pair["ties"], pair["n"]) == ("score_qwen", 32, 18, 0, 50)


def test_the_papers_ratings_and_judged_pages_give_the_papers_flips(shared, tmp_path):
    # The pages' scores are the DGM's first-turn ratings; six times Q72 > L8B:L70 > L8B:Q72.
    pages = json.loads((shared / "reference/style_expected.json").read_text())["per_file"]
    of_q72 = {str(page["question_id"]): page["score"] for page in pages}
    head, *rows = (shared / "reference/paper/turn1_ratings_l8.csv").read_text().splitlines()
    path = write(tmp_path, "\n".join([f"{head},Q72", *(f"{row},{of_q72[row.split(',')[0]]}" for row in rows)]) + "\n")
    document = score_preferences(path, lineage={"L8B:Q72": "Q72", "L8B:L70": "L70"}, as_published=True)
    with (shared / "reference/paper/table4.csv").open() as file:
        published = {row["Model"]: row["FlipCt"] for row in csv.DictReader(file)}
    assert document["flips"] == [
        {"dgm": "Q72", "own": "L8B:Q72", "other": "L8B:L70", "count": int(published["Q72 : None"])}
    ]


SCORES = """question_id,S,O,D,E
1,5,7,9,1
2,4,6,8,1
3,6,4,9,9
4,5,5,9,7
5,3,9,6,9
6,2,,9,3
7,3,5,,9
"""


def test_flips_by_hand(tmp_path):
    # D > O > S holds for questions 1 and 2 alone; E > S > O for question 3.
    document = score_preferences(write(tmp_path, SCORES), lineage={"S": "D", "O": "E"})
    assert document["flips"] == [
        {"dgm": "D", "own": "S", "other": "O", "count": 2},
        {"dgm": "E", "own": "O", "other": "S", "count": 1},
    ]
    assert document["matrix"]["models"] == ["S", "O", "D", "E"]
    assert document["matrix"]["flip_counts"] == [None, None, {"S": {"O": 2}}, {"O": {"S": 1}}]


def test_every_other_sft_is_counted(tmp_path):
    path = write(tmp_path, "question_id,S,O,P,D,E,F\n1,1,2,3,9,1,1\n2,1,2,3,2.5,1,1\n")
    flips = score_preferences(path, lineage={"S": "D", "O": "E", "P": "F"})["flips"]
    assert {(f["dgm"], f["own"], f["other"]): f["count"] for f in flips if f["dgm"] == "D"} == {
        ("D", "S", "O"): 2,
        ("D", "S", "P"): 1,
    }
    assert len(flips) == 6


def test_two_sfts_of_one_dgm_keep_their_own_flips(tmp_path):
    path = write(tmp_path, "question_id,D,S1,S2,O\n0,9,1,5,3\n1,9,1,5,3\n")
    lineage = write(tmp_path, "S1: D\nS2: D\nO: E\n", "lineage.yaml")
    document = evalsuite.score("preferences", path, lineage=lineage)
    # D > S2 > S1 and D > O > S1 on both questions; nothing lies between D and S2.
    assert document["matrix"]["models"] == ["S1", "S2", "O", "D"]
    assert document["matrix"]["flip_counts"] == [None, None, None, {"S1": {"S2": 2, "O": 2}, "S2": {"S1": 0, "O": 0}}]
    words = ["score", "preferences", "--from", str(path), "--lineage", str(lineage)]
    shown = CliRunner().invoke(app, words).stdout
    assert "S1: 2, 2" in shown
    assert "S2: 0, 0" in shown


def test_another_sft_counts_without_its_own_dgm(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("question_id,D,S,O\n1,8,6,7\n2,8,9,7\n")
    lineage = tmp_path / "lineage.yaml"
    lineage.write_text("S: D\nO: E\n")
    flips = evalsuite.score("preferences", path, lineage=lineage)["flips"]
    assert [(f["dgm"], f["own"], f["other"]) for f in flips] == [("D", "S", "O")]


def test_the_command_reads_a_lineage_file(tmp_path):
    path = write(tmp_path, SCORES)
    lineage = write(tmp_path, '"S": D\n"O": E\n', "lineage.yaml")
    words = ["score", "preferences", "--from", str(path), "--lineage", str(lineage)]
    as_json, as_table = (CliRunner().invoke(app, [*words, *more]) for more in (["--json"], []))
    assert as_json.exit_code == as_table.exit_code == 0
    document = json.loads(as_json.stdout)
    assert set(document) >= {"models", "judge", "n_prompts", "pairs", "flips", "ranking"}
    assert document["flips"] == evalsuite.score("preferences", path, lineage=lineage)["flips"]
    assert "FlipCt(D) = 2" in as_table.stdout
    wrong = CliRunner().invoke(app, ["score", "mt_bench", "--from", str(path), "--lineage", str(lineage)])
    assert wrong.exit_code == 2


def test_a_failed_judgment_is_missing_unless_the_papers_arithmetic_is_asked_for(tmp_path):
    path = write(tmp_path, "question_id,x,y\n1,-1,5\n2,7,5\n")
    document = score_preferences(path)
    assert (document["pairs"][0]["wins_b"], document["pairs"][0]["unscored"]) == (0, 1)
    assert "1 rating of -1" in document["notes"][0]
    assert score_preferences(path, as_published=True)["pairs"][0]["wins_b"] == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "header"),
        ("id,x,y\n1,2,3\n", "expected question_id"),
        ("question_id,x\n1,2\n", "expected question_id"),
        ("question_id,x,x\n1,2,3\n", "duplicate column 'x'"),
        ("question_id,x,y\n", "no rows"),
        ("question_id,x,y\n1,2\n", "row 2 has 2 cells; expected 3"),
        ("question_id,x,y\n,2,3\n", "row 2 has no question_id"),
        ("question_id,x,y\n1,1_0,3\n", "x is '1_0'; expected a number"),
        ("question_id,x,y\n1,2,3\n1,2,3\n", "row 3: duplicate question 1"),
        ("question_id,x,y\n1,good,3\n", "row 2, x is 'good'"),
        ("question_id,x,y\n1,nan,3\n", "row 2, x is 'nan'"),
    ],
)
def test_a_file_at_fault_is_refused_in_one_sentence(tmp_path, text, fault):
    with pytest.raises(DataError, match=fault):
        read_ratings(write(tmp_path, text))


def test_blank_lines_spaces_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = write(tmp_path, "\ufeffquestion_id, x ,y\n\n1, 2 ,\n")
    assert read_ratings(path) == (("1",), {"x": [2.0], "y": [None]}, [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [("- a\n", "not a mapping"), ("a: 1\n", "maps 'a' to 1"), ("a: a\n", "maps 'a' to 'a'"), ("a: [", "not YAML")],
)
def test_a_lineage_at_fault_is_refused(tmp_path, text, fault):
    with pytest.raises(DataError, match=fault):
        read_lineage(write(tmp_path, text, "lineage.yaml"))


def test_a_lineage_of_other_models_is_refused_and_a_partial_one_noted(tmp_path):
    path = write(tmp_path, SCORES)
    with pytest.raises(DataError, match="the lineage names X, Y, the models are S, O, D, E"):
        score_preferences(path, lineage={"X": "Y"})
    document = score_preferences(path, lineage={"S": "D", "O": "gone"})
    assert document["flips"] == [{"dgm": "D", "own": "S", "other": "O", "count": 2}]
    assert document["notes"] == ["no flips with gone: it is not among the models"]


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        score_preferences(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="unknown suite"):
        evalsuite.score("preference", tmp_path / "none.csv")


cells = st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=4, max_size=4)


@given(cells, cells)
def test_the_order_of_the_models_does_not_matter(x, y):
    def figures(a, b, rating_a, rating_b):
        given_verdicts = Verdicted(
            (a, b), ("1", "2", "3", "4"), ("c", None, "c", "d"), {(a, b): verdicts_from_ratings(rating_a, rating_b)}
        )
        return preference_figures(given_verdicts).model_dump(mode="json")["pairs"][0]

    here, there = figures("x", "y", x, y), figures("y", "x", y, x)
    for key in ("wins", "rate", "ci95"):
        assert here[f"{key}_a"] == there[f"{key}_b"]
    assert here["p_value"] == there["p_value"]
    assert here["categories"]["c"]["wins_a"] == there["categories"]["c"]["wins_b"]


def test_an_interval_where_all_agree_still_has_a_width():
    given_verdicts = Verdicted(("x", "y"), ("1", "2"), (None, None), {("x", "y"): [PairVerdict("a", 1.0)] * 2})
    figures = preference_figures(given_verdicts).model_dump(mode="json")
    [pair] = figures["pairs"]
    assert pair["ci95_a"] == [pytest.approx(0.3424, abs=1e-4), 1.0]
    assert pair["categories"] is None
    # One tie a pair makes the ranking finite, and the file says so.
    assert all(row["added_ties"] == 1.0 for row in figures["ranking"])


def test_nothing_scored_gives_no_figures():
    given_verdicts = Verdicted(("x", "y"), ("1",), (None,), {("x", "y"): [Unscored("no_verdict")]})
    figures = preference_figures(given_verdicts).model_dump(mode="json")
    [pair] = figures["pairs"]
    assert (pair["rate_a"], pair["ci95_a"], pair["preference_a"], pair["p_value"]) == (None, None, None, 1.0)
    assert [row["bradley_terry"] for row in figures["ranking"]] == [None, None]


def test_no_difference_of_rates_is_over_100_percent(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("question_id,a,b\n1,7,5\n2,8,8\n3,3,6\n4,9,2\n")
    text = CliRunner().invoke(app, ["score", "preferences", "--from", str(path)], env={"COLUMNS": "120"}).stdout
    assert "> 100 %" in text
    assert not [share for share in re.findall(r"(\d+)\.\d %", text) if int(share) > 100]
