"""FastChat's files: its tools read our exports alike, and recorded ones become rows by one rule."""

import contextlib
import io
from argparse import Namespace
from pathlib import Path

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import JudgeRef
from evalsuite.suites.mt_bench.assets import MINI as MINI_FOLDER
from evalsuite.suites.mt_bench.peer import fastchat_means, question_id_of, recorded_rating
from evalsuite.suites.options import SuiteOptions
from judges.pointwise import judge_messages, needs_reference
from judges.types import Rating, Unscored
from tests.evalsuite.suites.mt_bench.mt_bench_rows import (
    HEADER,
    MINI,
    MT_BENCH,
    PAIRS,
    answered,
    judgment,
    read,
    rows_rated,
    write,
)

FULL = SuiteOptions()
AS_PUBLISHED = SuiteOptions(as_published=True)


# --- exports, read by FastChat


def show_result(path: Path) -> str:
    from fastchat.llm_judge.show_result import display_result_single

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        display_result_single(
            Namespace(bench_name="mt_bench", input_file=str(path), judge_model="gpt-4", model_list=None)
        )
    return out.getvalue()


def printed_scores(text: str) -> list[float]:
    """The score column of the tables that show_result prints: first turn, second turn, average."""
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith("my-model ")]


def exported(folder: Path) -> dict:
    rows = rows_rated(PAIRS)
    MT_BENCH.write_peer(HEADER, rows, folder, model="my-model", judge="my-judge")
    return MT_BENCH.score(HEADER, rows)


def test_show_result_reads_the_same_figures(tmp_path):
    scores = exported(tmp_path)
    means = printed_scores(show_result(tmp_path / "model_judgment.jsonl"))
    assert means == pytest.approx([scores["turn_1"], scores["turn_2"], scores["score"]], abs=1e-6)
    exact = fastchat_means(read(tmp_path / "model_judgment.jsonl"))
    assert exact == pytest.approx({key: scores[key] for key in ("turn_1", "turn_2", "score")}, abs=1e-12)


def test_fastchat_means_leaves_no_trace_in_the_module(tmp_path):
    from fastchat.llm_judge import show_result as module

    exported(tmp_path)
    before = dict(vars(module))
    fastchat_means(read(tmp_path / "model_judgment.jsonl"))
    assert vars(module).keys() == before.keys()


def test_export_has_fastchats_fields(tmp_path):
    exported(tmp_path)
    answers, judgments = read(tmp_path / "model_answer.jsonl"), read(tmp_path / "model_judgment.jsonl")
    assert {"question_id", "answer_id", "model_id", "choices", "tstamp"} <= answers[0].keys()
    assert answers[0]["choices"] == [{"index": 0, "turns": ["one", "two"]}]
    assert answers[0]["question_id"] == 9001
    fields = {"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"}
    assert all(fields <= row.keys() for row in judgments)
    assert [row["score"] for row in judgments] == [9, 8, 7, -1, 5, 2, -1, -1, 10, 4]
    assert [row["unscored"] for row in judgments if row["score"] == -1] == ["no_rating"] * 3
    math_id = next(row["question_id"] for row in judgments if row["category"] == "math")
    assert [row["judge"] for row in judgments if row["question_id"] == math_id] == [
        ["my-judge", "single-math-v1"],
        ["my-judge", "single-math-v1-multi-turn"],
    ]


def test_export_has_what_the_judge_was_shown(tmp_path):
    exported(tmp_path)
    shown = {(row["question_id"], row["turn"]): row["user_prompt"] for row in read(tmp_path / "model_judgment.jsonl")}
    loaded = MT_BENCH.load(MINI)
    for item in loaded.items:
        reference = loaded.context.references.get(item.id) if needs_reference(item.data["category"]) else None
        for turn in (1, 2):
            asked = judge_messages(loaded.context.prompts, item.data["turns"], ["one", "two"], reference, turn=turn)
            assert shown[int(item.id), turn] == asked[-1].content


def test_export_of_failures_never_invents_a_score(tmp_path):
    rows = rows_rated([None] * 5, answered("ok", Unscored("context_length")))
    MT_BENCH.write_peer(HEADER, rows, tmp_path, model="m", judge="j")
    answers, judgments = read(tmp_path / "model_answer.jsonl"), read(tmp_path / "model_judgment.jsonl")
    assert answers[0]["choices"][0]["turns"] == ["ok", "$ERROR$"]
    assert answers[0]["unscored"] == [None, "context_length"]
    assert {(row["turn"], row["score"], row["unscored"]) for row in judgments} == {
        (1, -1, "no_judge"),
        (2, -1, "context_length"),
    }


def test_without_a_judge_only_answers_are_written(tmp_path):
    MT_BENCH.write_peer(HEADER, rows_rated([None] * 5), tmp_path, model="m", judge=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model_answer.jsonl"]


# --- our own exports, read back


def test_our_own_export_scores_the_same(tmp_path):
    scores = exported(tmp_path)
    assert MT_BENCH.score_recorded(tmp_path, FULL) == scores


def test_our_own_export_gives_the_rows_back(tmp_path):
    exported(tmp_path)
    recorded = MT_BENCH.read_peer(tmp_path, MINI)
    assert recorded.header.judges == {"my-judge": JudgeRef("my-judge")}
    for row, before in zip(recorded.rows, rows_rated(PAIRS), strict=True):
        marked = MT_BENCH.mark(row, recorded.header)
        assert (row.item_id, row.prompt, row.draws) == (before.item_id, before.prompt, before.draws)
        assert (marked.marks, marked.unscored) == (before.marks, before.unscored)
        assert [verdict.text for verdict in row.verdicts if verdict.value] == [
            verdict.text for verdict in before.verdicts if verdict.value
        ]


def test_unjudged_answers_are_read(tmp_path):
    rows = rows_rated([None] * 5, answered("ok", Unscored("context_length")))
    MT_BENCH.write_peer(HEADER, rows, tmp_path, model="m", judge=None)
    for path in (tmp_path, tmp_path / "model_answer.jsonl"):
        recorded = MT_BENCH.read_peer(path, MINI)
        assert recorded.header.judges == {}
        assert [row.draws for row in recorded.rows] == [row.draws for row in rows]
        assert MT_BENCH.score_recorded(path, MINI) == MT_BENCH.score(HEADER, rows)


def test_a_copy_keeps_every_field_of_one_model(tmp_path):
    lines = [judgment(81, 1, 8, "[[8]]", extra=float("nan")), judgment(81, 1, 9, "[[9]]", model="other")]
    source = write(tmp_path / "gpt-4_single.jsonl", lines)
    recorded = MT_BENCH.read_peer(source, FULL, "vicuna-13b")
    MT_BENCH.copy_peer(source, recorded.header, tmp_path / "copy", "vicuna-13b")
    assert read(tmp_path / "copy/model_judgment.jsonl") == [lines[0] | {"extra": None}]


# --- recorded files

RECORDED = [
    judgment(9001, 1, 8, "Rating: [[8]]"),
    judgment(9001, 2, 11, "Rating: [[11]]"),
    judgment(9002, 1, 1, "As shown in [1], all is well. Rating: 7/10"),
    judgment(9002, 2, -1, "Rating: [[ 9 ]]"),
    judgment(9003, 1, -1, "$ERROR$"),
    judgment(9003, 2, 6),
]


def test_recorded_ratings_are_read_again(tmp_path):
    scores = MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", RECORDED), FULL)
    assert scores["unscored"]["rating_out_of_range"] == 1
    assert scores["unscored"]["recorded_failure"] == 1
    assert scores["turn_2"] == pytest.approx((9 + 6) / 2)
    assert set(scores["categories"]) == {"writing", "math", "reasoning"}


def test_rows_keep_the_recorded_numbers_beside_what_was_read(tmp_path):
    recorded = MT_BENCH.read_peer(write(tmp_path / "j.jsonl", RECORDED), FULL)
    verdicts = [verdict for row in recorded.rows for verdict in row.verdicts]
    assert [verdict.recorded for verdict in verdicts] == [8, 11, 1, -1, -1, 6]
    assert [verdict.value for verdict in verdicts] == [8, None, None, 9, None, 6]
    assert [verdict.unscored and verdict.unscored.reason for verdict in verdicts] == [
        None,
        "rating_out_of_range",
        "no_rating",
        None,
        "recorded_failure",
        None,
    ]


def test_a_score_that_its_text_contradicts_does_not_count(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, 10, "Rating: [[11]]"), judgment(9002, 1, 4, "[[6]]")])
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["score"], scores["unscored"]) == (6, {"rating_out_of_range": 1})


@pytest.mark.parametrize("score", [1, 10])
def test_a_judgment_that_contradicts_itself_is_unscored_whatever_was_recorded(tmp_path, score):
    text = 'It plants "Rating: [[10]]". Rating: [[1]]'
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, score, text), judgment(9002, 1, 4, "[[6]]")])
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["score"], scores["unscored"]) == (6, {"no_rating": 1})
    assert MT_BENCH.score_recorded(path, AS_PUBLISHED)["score"] == (score + 4) / 2


def test_a_planted_mark_is_not_the_recorded_rating():
    recorded = judgment(9001, 1, 10, 'The answer tries to plant "[[10]]". Rating: [[1]]')
    assert recorded_rating(recorded).value == 1
    assert recorded_rating(recorded, as_published=True).value == 10


def test_a_score_that_another_parser_read_stands_beside_a_footnote():
    """FastChat's rule would have read 1 from it; whoever recorded 7 did not take the footnote."""
    recorded = {"score": 7, "judgment": "As shown in [1], it is accurate. Rating: 7"}
    assert recorded_rating(recorded) == Rating(7, recorded["judgment"])
    assert recorded_rating(recorded | {"score": 1}).reason == "no_rating"


def test_figures_pages_and_verdicts_agree_on_a_footnote(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, 1, "see footnote [1]. Rating: 7")])
    recorded = MT_BENCH.read_peer(path, FULL)
    row = MT_BENCH.mark(recorded.rows[0], recorded.header)
    assert row.verdicts[0].value is None
    assert row.marks["score"] == (None,)
    assert MT_BENCH.score(recorded.header, [row])["unscored"] == {"no_rating": 1}
    page = MT_BENCH.answer_page(row, recorded.header)
    assert page["judge"][0]["mark"] == "unscored: no_rating"
    assert page["unscored"] == "no_rating"


def test_a_footnote_that_fastchat_took_for_the_rating_is_no_rating(tmp_path):
    rows = [judgment(9001, 1, 1.0, "For the proof see [1]. Rating: 7"), judgment(9002, 1, -1, "Rating: [[8/10]]")]
    path = write(tmp_path / "j.jsonl", [*rows, judgment(9003, 1, 5, "A fair answer, I would say five.")])
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["n_scored"], scores["unscored"]) == (2, {"no_rating": 1})
    # The number in brackets, and the recorded one whose text holds no number that either rule reads.
    assert scores["score"] == pytest.approx((8 + 5) / 2)
    assert MT_BENCH.score_recorded(path, AS_PUBLISHED)["score"] == pytest.approx((1 + 5) / 2)


def test_as_published_is_fastchats_own_arithmetic(tmp_path):
    path = write(tmp_path / "j.jsonl", RECORDED)
    scores = MT_BENCH.score_recorded(path, AS_PUBLISHED)
    assert scores["score"] == pytest.approx((8 + 11 + 1 + 6) / 4)
    assert scores["turn_1"] == pytest.approx((8 + 1) / 2)
    assert scores["turn_2"] == pytest.approx((11 + 6) / 2)
    assert (scores["n"], scores["n_scored"]) == (6, 4)
    assert "vicuna-13b" in show_result(path)


def test_a_turn_that_is_missing_is_counted(tmp_path):
    lines = [judgment(9001, 1, 8), judgment(9001, 2, 6), judgment(9002, 1, 4)]
    path = write(tmp_path / "j.jsonl", lines)
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["n"], scores["n_scored"], scores["unscored"]) == (4, 3, {"recorded_failure": 1})
    # FastChat counts what is there.
    published = MT_BENCH.score_recorded(path, AS_PUBLISHED)
    assert (published["n"], published["unscored"]) == (3, {})


def test_a_first_turn_only_file_has_no_second_turn(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, 8), judgment(9002, 1, 4)])
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["score"], scores["turn_2"], scores["n"], scores["unscored"]) == (6, None, 2, {})


def test_a_file_with_no_valid_judgment_is_none_both_ways(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, -1), judgment(9001, 2, -1)])
    for options in (FULL, AS_PUBLISHED):
        scores = MT_BENCH.score_recorded(path, options)
        assert (scores["score"], scores["turn_1"], scores["turn_2"]) == (None, None, None)
        assert scores["unscored"] == {"recorded_failure": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no judgments"),
        (
            [judgment(9001, 1, 8), judgment(9001, 2, 8, judge=["gpt-4o", "single-v1"])],
            r"mixes 2 judges \(gpt-4, gpt-4o\)",
        ),
        ([judgment(9001, 1, 8), judgment(9001, 2, 8, model="other")], r"mixes 2 models \(other, vicuna-13b\)"),
        ([judgment(9001, 3, 8)], r"judgment 1: 'turn' has the unknown value 3; expected FastChat's"),
        ([judgment(9001, 1, 8), judgment(9001, 2, "8")], "judgment 2: 'score' must be a number or null, not a text"),
        ([{"question_id": 9001}], "judgment 1: 'model' is missing"),
        ([{"question_id": 9001, "choices": []}], "answer 1: 'choices' must be a list of length >= 1"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", rows), FULL)
    assert "\n" not in str(caught.value)


def rejudged() -> list[dict]:
    """All 80 questions; ten failed judgments were made again, and one score was given twice."""
    first = [judgment(81 + rank, turn, 1 + (rank * turn) % 10) for rank in range(80) for turn in (1, 2)]
    failed = [row | {"score": -1, "judgment": "$ERROR$"} for row in first[:10]]
    return [*failed, *first[10:], *first[:10]]


@pytest.mark.parametrize("options", [FULL, AS_PUBLISHED])
def test_judgments_made_again_count_as_in_show_result(tmp_path, options, caplog):
    lines = rejudged()
    path = write(tmp_path / "j.jsonl", lines)
    once = MT_BENCH.score_recorded(path, options)
    expected = [row["score"] for row in lines if row["score"] != -1]
    assert (len(lines), once["n"], once["n_scored"], once["unscored"]) == (170, 160, 160, {})
    assert once["score"] == pytest.approx(sum(expected) / 160)
    assert "10 of 160 turns are judged more than once" in caplog.text
    assert "10 failed judgments are left out" in caplog.text
    twice = MT_BENCH.score_recorded(write(path, [*lines, judgment(81, 1, 9)]), options)
    assert (twice["n"], twice["score"]) == (161, pytest.approx((sum(expected) + 9) / 161))
    assert twice["score"] == pytest.approx(fastchat_means(read(path))["score"], abs=1e-12)


def test_a_judgment_that_failed_twice_is_one_failure(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, -1), judgment(9001, 1, None), judgment(9002, 1, 4)])
    scores = MT_BENCH.score_recorded(path, FULL)
    assert (scores["score"], scores["n"], scores["unscored"]) == (4, 2, {"recorded_failure": 1})


@pytest.mark.parametrize("options", [FULL, AS_PUBLISHED])
@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_one_unscored_row(tmp_path, score, options):
    path = write(tmp_path / "j.jsonl", [judgment(9001, 1, score), judgment(9001, 2, 8), judgment(9002, 1, 4)])
    scores = MT_BENCH.score_recorded(path, options)
    assert (scores["turn_1"], scores["turn_2"], scores["score"]) == (4, 8, 6)
    assert scores["unscored"]["recorded_failure"] >= 1


def test_one_judge_is_taken_out_of_a_file_with_two(tmp_path):
    lines = [judgment(9001, 1, score, judge=[name, "single-v1"]) for name, score in (("gpt-4", 4), ("gpt-4o", 9))]
    path = write(tmp_path / "j.jsonl", lines)
    for options in (FULL, AS_PUBLISHED):
        chosen = options.model_copy(update={"annotator": "gpt-4o"})
        assert MT_BENCH.score_recorded(path, chosen)["score"] == 9
    recorded = MT_BENCH.read_peer(path, SuiteOptions(annotator="gpt-4o"))
    MT_BENCH.copy_peer(path, recorded.header, tmp_path / "copy", "m")
    assert read(tmp_path / "copy/model_judgment.jsonl") == [lines[1]]
    with pytest.raises(UsageError, match="unknown judge 'gpt-4p'; did you mean 'gpt-4'"):
        MT_BENCH.score_recorded(path, SuiteOptions(annotator="gpt-4p"))


def test_the_annotator_is_no_part_of_what_identifies_figures():
    assert SuiteOptions(annotator="x").model_dump() == SuiteOptions().model_dump()


def test_one_model_is_taken_out_of_a_file_with_many(tmp_path):
    lines = [judgment(9001, turn, score, model=model) for model, score in (("a", 4), ("b", 9)) for turn in (1, 2)]
    path = write(tmp_path / "j.jsonl", lines)
    assert [v.value for row in MT_BENCH.read_peer(path, FULL, "b").rows for v in row.verdicts] == [9, 9]
    with pytest.raises(UsageError, match="2 models; unknown model 'c'"):
        MT_BENCH.read_peer(path, FULL, "c")
    # A file with one model may go by any name.
    one = write(tmp_path / "one.jsonl", lines[:2])
    assert MT_BENCH.read_peer(one, FULL, "c").rows == MT_BENCH.read_peer(one, FULL).rows


def test_math_prompts_of_one_judge_are_one_judge(tmp_path):
    rows = [judgment(9001, 1, 8), judgment(9002, 1, 4, judge=["gpt-4", "single-math-v1"])]
    assert MT_BENCH.score_recorded(write(tmp_path / "j.jsonl", rows), FULL)["score"] == 6


# --- the answers of recorded judgments


def answer(question_id, first="an answer", second="another", model_id="vicuna-13b", **other):
    choices = [{"index": 0, "turns": [first, second]}]
    return {"question_id": question_id, "model_id": model_id, "choices": choices, **other}


def answer_texts(path: Path, options=FULL) -> list[list[str | None]]:
    return [[reply.text for reply in row.replies] for row in MT_BENCH.read_peer(path, options).rows]


def test_answers_beside_the_judgments_come_along(tmp_path):
    path = write(tmp_path / "model_judgment.jsonl", RECORDED)
    lines = [answer(9001), answer(9002, second="$ERROR$"), answer(9004), answer(9003, model_id="other")]
    write(tmp_path / "model_answer.jsonl", lines)
    assert answer_texts(path) == [["an answer", "another"], ["an answer", None], [], ["an answer", "another"]]
    recorded = MT_BENCH.read_peer(path, FULL)
    assert recorded.rows[1].replies[1].unscored == Unscored("recorded_failure")
    # Question 9004 was answered and not judged: it can be shown, and takes no part in the figures.
    assert MT_BENCH.score_recorded(path, FULL)["n"] == 6


def test_answers_where_fastchat_keeps_them_come_along(tmp_path):
    path = write(tmp_path / "model_judgment/gpt-4_single.jsonl", RECORDED[:2])
    write(tmp_path / "model_answer/vicuna-13b.jsonl", [answer(9001)])
    write(tmp_path / "model_answer/other.jsonl", [answer(9001, "not this", model_id="other")])
    assert answer_texts(path) == [["an answer", "another"]]


def fastchat_prompts(first: str, second: str, shared: Path, *, math: bool) -> list[str]:
    """What FastChat's own prompts show a judge of two answers."""
    prompts = {row["name"]: row for row in read(shared / "mirror/raw/mt_bench/judge_prompts.jsonl")}
    questions, reference = ["Why?\n\n### User:\nreally?", "And how?"], ["a reference", "another"] if math else None
    return [judge_messages(prompts, questions, [first, second], reference, turn=turn)[-1].content for turn in (1, 2)]


@pytest.mark.parametrize("math", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Because.", "So."),
        ("", ""),
        ("a\n\n### User:\nwho?\n\n### Assistant A:\nme", "b\n\n### User:\nwho?\n\n### Assistant A:\nme"),
        ("[The End of Assistant's Answer]", "<|The End of Assistant A's Conversation with User|>"),
    ],
)
def test_answers_are_read_from_what_the_judge_was_shown(shared, tmp_path, first, second, math):
    prompts = fastchat_prompts(first, second, shared, math=math)
    lines = [judgment(1, turn, 8, user_prompt=prompt) for turn, prompt in enumerate(prompts, 1)]
    assert answer_texts(write(tmp_path / "j.jsonl", lines)) == [[first, second]]


def test_a_second_turn_alone_shows_both_answers(shared, tmp_path):
    prompts = fastchat_prompts("Because.", "So.", shared, math=False)
    path = write(tmp_path / "j.jsonl", [judgment(1, 2, 8, user_prompt=prompts[1])])
    [texts] = answer_texts(path)
    assert texts[-1] == "So."


def test_prompts_of_another_form_give_no_answer_and_are_shown(tmp_path):
    path = write(tmp_path / "j.jsonl", [judgment(1, 1, 8, user_prompt="Grade this: an answer")])
    [row] = MT_BENCH.read_peer(path, FULL).rows
    assert row.draws == ()
    page = MT_BENCH.question_page(row, HEADER)
    assert page["fields"] == [["what the judge was shown (turn 1)", "Grade this: an answer"]]


def test_known_questions_are_shown_in_their_words(tmp_path):
    questions = read(MINI_FOLDER / "question.jsonl")
    path = write(tmp_path / "j.jsonl", [judgment(questions[0]["question_id"], 1, 8, user_prompt="p")])
    [row] = MT_BENCH.read_peer(path, FULL).rows
    assert [message.content for message in row.prompt] == questions[0]["turns"]
    assert row.facts == {"category": questions[0]["category"]}


def test_the_pinned_questions_are_known_where_they_are_on_this_machine(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    [row] = MT_BENCH.read_peer(write(tmp_path / "j.jsonl", [judgment(81, 1, 8)]), FULL).rows
    assert len(row.prompt) == 2
    assert row.facts == {"category": "writing"}


def test_question_ids_that_a_table_made_floats_are_the_same_questions():
    assert [question_id_of({"question_id": value}) for value in (81, 81.0, "81", 81.5)] == ["81", "81", "81", "81.5"]


def test_scores_that_are_not_what_the_text_says_are_counted(tmp_path, caplog):
    texts = [(8, "Good. Rating: [[8]]"), (10, "Poor. Rating: [[2]]"), (-1, "Fair. Rating: [[5]]"), (7, "")]
    rows = [judgment(81 + number, 1, score, text) for number, (score, text) in enumerate(texts)]
    path = write(tmp_path / "model_judgment.jsonl", rows)
    assert MT_BENCH.score_recorded(path, FULL)["score"] == (8 + 2 + 5 + 7) / 4
    assert "the text of 1 of 3 judgments gives another rating than their score" in caplog.text
    caplog.clear()
    MT_BENCH.score_recorded(path, AS_PUBLISHED)
    assert not caplog.records
