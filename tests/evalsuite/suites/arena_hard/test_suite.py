"""Arena-Hard: both games, the published arithmetic, style control beside the raw rate, and its own files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import Draw, Header, JudgeRef, Reply, Row, Verdict, replaced
from evalsuite.suites.arena_hard.suite import ArenaHard, ArenaHardOptions
from judges.types import Unscored
from tests.evalsuite.scripted_chat import ScriptedChat

SUITE = ArenaHard()
MINI = ArenaHardOptions(data="mini")
HEADER = Header("arena_hard", 1)


def games(
    first: str | None, second: str | None, uid: str = "q", part: str = "hard_prompt", answer: str = "an answer"
) -> Row:
    """A row with the judge's labels of both games: the baseline is A in the first, the model in the second."""
    verdicts = tuple(
        Verdict("j", label, order=order, unscored=None if label else Unscored("no_verdict"))
        for label, order in ((first, "ba"), (second, "ab"))
    )
    facts = {"category": "coding", "reference": ["the baseline's answer"], "baseline": "base"}
    return Row(uid, part=part, facts=facts, draws=(Draw((Reply(answer),)),), verdicts=verdicts)


def scored(rows: list[Row], **options: Any) -> dict[str, Any]:
    header = Header("arena_hard", len(rows), options=options, judges={"j": JudgeRef("j")})
    return SUITE.score(header, [SUITE.mark(row, header) for row in rows])


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ("B>A", "A>B", 1.0),
        ("A>B", "A>B", 0.5),
        ("B>>A", "B>A", 0.75),
        ("A=B", "A>>B", 3.5 / 4),
        ("A>>B", "B>>A", 0.0),
        ("A=B", "A=B", 0.5),
    ],
)
def test_a_row_is_the_share_of_its_games_with_weight_three_for_strong_ones(first, second, share):
    assert SUITE.mark(games(first, second), HEADER).marks["score"] == (share,)


def test_swapping_model_and_baseline_mirrors_the_share():
    mirror = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}
    for first in mirror:
        for second in mirror:
            [share] = SUITE.mark(games(first, second), HEADER).marks["score"]
            [other] = SUITE.mark(games(mirror[first], mirror[second]), HEADER).marks["score"]
            assert share + other == 1


def test_the_figure_is_the_mean_over_games_and_not_over_prompts():
    """One prompt lost with weight 6, one won with weight 2: 2 of 8 games."""
    scores = scored([games("A>>B", "B>>A", "1"), games("B>A", "A>B", "2")])
    assert scores["score"] == pytest.approx(25.0)
    assert (scores["n"], scores["n_scored"]) == (2, 2)
    assert scores["categories"] == {"coding": 25.0}


def test_a_game_without_a_label_takes_its_prompt_out_and_is_counted():
    scores = scored([games("B>A", None, "1"), games("B>A", "A>B", "2")])
    assert scores["score"] == 100.0
    assert scores["unscored"] == {"no_verdict": 1}
    assert (scores["n"], scores["n_scored"]) == (2, 1)


def test_nothing_scored_has_no_figures():
    scores = scored([games(None, None)])
    assert scores["score"] is None
    assert scores["sc_score"] is None
    assert scores["ci95"] is None


def test_creative_writing_has_figures_of_its_own():
    rows = [games("B>A", "A>B", "1"), games("A>B", "B>A", "2", part="creative_writing")]
    scores = scored(rows)
    assert (scores["score"], scores["n"]) == (100.0, 1)
    assert (scores["creative_writing"]["score"], scores["creative_writing"]["n"]) == (0.0, 1)


def long_answers(n: int = 60) -> list[Row]:
    """The model's answer is long on every other prompt and wins there 4 of 5 times, elsewhere half the time."""
    rows = []
    for number in range(n):
        longer = number % 2 == 0
        won = (number // 2) % 5 != 0 if longer else (number // 2) % 2 == 0
        labels = ("B>A", "A>B") if won else ("A>B", "B>A")
        answer = "word " * (40 if longer else 4)
        row = games(*labels, str(number), answer=answer)
        rows.append(replaced(row, facts={**row.facts, "reference": ["word " * 4]}))
    return rows


def test_style_control_stands_beside_the_raw_rate():
    """Raw: 24 + 15 of 60. In equal style the rate is that of the prompts where both answers are as long: one half."""
    scores = scored(long_answers())
    assert scores["score"] == pytest.approx(65.0)
    assert scores["sc_score"] == pytest.approx(50.0, abs=0.1)
    assert scores["sc_ci95"][0] < 50 < scores["sc_ci95"][1]
    assert scores["style"]["coefficients"]["length"] > 0
    assert scores["style"]["coefficients"]["headers"] == 0, "no answer has any"


def test_as_published_gives_the_original_quantiles_and_its_centred_features():
    scores = scored(long_answers(), as_published=True)
    low, high = scores["quantiles_5_95"]
    assert low < scores["score"] < high
    assert scores["score"] == pytest.approx(65.0, abs=1.5), "the mean of 100 draws"
    assert scores["style"]["centred"] is True
    assert scores["sc_score"] > 60, "centred features leave the model its average length"


def test_few_prompts_have_no_style_control_and_say_why():
    scores = scored([games("B>A", "A>B", str(number)) for number in range(8)])
    assert scores["sc_score"] is None
    assert "at least 20 judged prompts; these are 8" in scores["style"]["reason"]


def test_mini_items_play_both_games_with_our_own_prompt():
    loaded = SUITE.load(MINI)
    assert [item.data["category"] for item in loaded.items].count("creative_writing") == 1
    item = loaded.items[0]
    judge = ScriptedChat(["I compare. [[A>B]]", "I compare. [[A>>B]]"])
    draw = Draw((Reply("mine"),))
    verdicts = asyncio.run(SUITE.judge(item, draw, loaded, judge, MINI))
    assert [(one.order, one.value) for one in verdicts] == [("ba", "A>B"), ("ab", "A>>B")]
    baseline_first, model_first = (call.messages[-1].content for call in judge.calls)
    assert baseline_first.index(item.data["baseline_answer"]) < baseline_first.index("mine")
    assert model_first.index("mine") < model_first.index(item.data["baseline_answer"])
    row = SUITE.mark(replaced(SUITE.row(item, loaded), draws=(draw,), verdicts=tuple(verdicts)), HEADER)
    assert row.marks["score"] == (3 / 4,)
    assert row.facts["judge_prompt"] == "own"


def test_a_judgment_without_a_label_is_closed_under_guidance():
    item = SUITE.load(MINI).items[0]
    said = iter(["I cannot say.", "Assistant A is better."])
    judge = ScriptedChat(lambda call: "B>>A]]" if call.guide else next(said))
    [first, second] = asyncio.run(SUITE.judge(item, Draw((Reply("mine"),)), SUITE.load(MINI), judge, MINI))
    assert (first.value, second.value) == ("B>>A", "B>>A")
    assert first.text.endswith("My final verdict is: [[B>>A]]")
    assert first.closed_by_guide
    assert second.closed_by_guide
    assert (first.contradicts, second.contradicts) == (False, True)


def test_log_probability_verdicts_are_a_share_per_game():
    options = ArenaHardOptions(data="mini", arena_hard_verdict="logprobs")
    loaded = SUITE.load(options)
    judge = ScriptedChat(labels={"A": -0.5, "B": -0.5})
    verdicts = asyncio.run(SUITE.judge(loaded.items[0], Draw((Reply("mine"),)), loaded, judge, options))
    assert [verdict.value for verdict in verdicts] == [0.5, 0.5]
    assert not judge.calls


def test_log_probability_verdicts_never_claim_the_published_prompt():
    row = games("B>A", "A>B")
    published = replaced(row, facts={**row.facts, "judge_prompt": "published"})
    assert scored([published])["judge_prompt"] == "published"
    assert scored([published], arena_hard_verdict="logprobs")["judge_prompt"] == "own"


def test_a_missing_answer_is_not_judged():
    loaded = SUITE.load(MINI)
    draw = Draw((Reply(unscored=Unscored("timeout")),))
    verdicts = asyncio.run(SUITE.judge(loaded.items[0], draw, loaded, ScriptedChat(), MINI))
    assert {verdict.unscored.reason for verdict in verdicts if verdict.unscored} == {"timeout"}


def test_versions_are_two_benchmarks():
    assert SUITE.key(("v0.1",)) == "arena_hard_v0_1"
    assert SUITE.key(()) == SUITE.key(("v2.0",)) == "arena_hard"
    with pytest.raises(UsageError, match="two benchmarks"):
        SUITE.check_parts(("v0.1", "v2.0"))
    with pytest.raises(UsageError, match=r"v0\.1"):
        SUITE.check_parts(("v0.2",))


# ---------------------------------------------------------------- the published data


def test_version_2_has_500_hard_prompts_and_says_what_it_lacks(recorded: Path):
    loaded = SUITE.load(ArenaHardOptions())
    assert len(loaded.items) == 500
    assert {item.data["baseline"] for item in loaded.items} == {"o3-mini-2025-01-31"}
    assert list(loaded.missing) == ["creative_writing"]
    assert "gemini-2.0-flash-001" in loaded.missing["creative_writing"]
    assert all(pin.pinned for pin in loaded.data_pins.values())
    limited = SUITE.load(ArenaHardOptions(limit=8))
    assert len(limited.items) == 8
    assert {item.data["subcategory"] for item in limited.items} == {"coding", "math"}


def test_the_published_prompt_is_read_from_the_data(recorded: Path):
    options = ArenaHardOptions(parts=("v0.1",), limit=1)
    loaded = SUITE.load(options)
    judge = ScriptedChat("[[A=B]]")
    asyncio.run(SUITE.judge(loaded.items[0], Draw((Reply("MINE {QUESTION}"),)), loaded, judge, options))
    system, user = judge.calls[0].messages
    settings = json.loads((recorded / "judge_settings.json").read_text(encoding="utf-8"))["settings"]
    assert system.content == settings["arena-hard-v0.1"]["system_prompt"]
    assert user.content.startswith(f"<|User Prompt|>\n{loaded.items[0].data['prompt']}\n\n")
    assert user.content.endswith("MINE {QUESTION}\n<|The End of Assistant B's Answer|>")
    assert SUITE.row(loaded.items[0], loaded).facts["judge_prompt"] == "published"


def test_published_answers_are_imported_with_their_questions(recorded: Path):
    path = recorded / "arena-hard-v0.1/model_answer/gpt-3.5-turbo-0125.jsonl"
    read = SUITE.read_peer(path, ArenaHardOptions(parts=("v0.1",)))
    assert len(read.rows) == 500
    assert SUITE.recorded_limit(read.header, read.rows) is None
    assert SUITE.recorded_limit(read.header, read.rows[:80]) == 80
    assert read.header.suite == "arena_hard_v0_1"
    assert all(row.prompt and row.facts["baseline"] == "gpt-4-0314" for row in read.rows)
    with pytest.raises(DataError, match=r"none of the questions of Arena-Hard v2\.0"):
        SUITE.read_peer(path, ArenaHardOptions())


def test_the_baseline_against_itself_is_even(recorded: Path, tmp_path: Path):
    """Equal answers and a judge with a taste for the first: 50, as the published leaderboard has it."""
    path = recorded / "arena-hard-v0.1/model_answer/gpt-4-0314.jsonl"
    options = ArenaHardOptions(parts=("v0.1",))
    rows = []
    for row in SUITE.read_peer(path, options).rows:
        assert row.replies[0].text == row.facts["reference"][0]
        played = tuple(Verdict("j", "A>B", order=order) for order in ("ba", "ab"))
        rows.append(replaced(row, verdicts=played))
    scores = scored(rows)
    assert scores["score"] == 50.0
    assert scores["sc_score"] == pytest.approx(50.0)


# ---------------------------------------------------------------- files


def test_written_files_are_read_back_with_the_same_figures(tmp_path: Path):
    rows = long_answers()
    SUITE.write_peer(HEADER, rows, tmp_path, model="m", judge="j")
    judgment = json.loads((tmp_path / "model_judgment.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert [game["score"] for game in judgment["games"]] == ["A>B", "B>A"]
    answer = json.loads((tmp_path / "model_answer.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert answer["metadata"]["token_len"] == 40
    assert scored(_read_unknown(tmp_path))["score"] == pytest.approx(scored(rows)["score"])


def _read_unknown(folder: Path) -> list[Row]:
    """Read files of questions that are not Arena-Hard's, on a machine without its data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EVALSUITE_MIRROR", raising=False)
        patch.setenv("HF_HUB_CACHE", str(folder / "nothing"))
        return list(SUITE.read_peer(folder, ArenaHardOptions(), "m").rows)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"uid": "1", "model": "m"}, "messages"),
        ({"uid": "1", "model": "m", "messages": []}, "has no text"),
        ({"uid": "1", "model": "m", "messages": [{"role": "a", "content": {"answer": 3}}]}, "has no text"),
        ({"uid": "1", "model": "m", "judge": "j", "games": [{"score": 7}]}, "games"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, row: dict[str, Any], fault: str):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=fault) as raised:
        SUITE.read_peer(path, ArenaHardOptions())
    assert f"{path} line 1" in str(raised.value)


def test_a_null_game_of_a_recorded_file_is_a_recorded_failure(tmp_path: Path):
    rows = [
        {"uid": "1", "model": "m", "judge": "j", "games": [{"score": "A>B"}, {"score": None}]},
        {"uid": "2", "model": "m", "judge": "j", "games": [{"score": "A>B"}]},
        {"uid": "3", "model": "m", "judge": "j", "games": [{"score": "B>A"}, {"score": "A>B"}]},
    ]
    answers = [{"uid": str(n), "model": "m", "messages": [{"role": "assistant", "content": "x"}]} for n in (1, 2, 3)]
    (tmp_path / "model_judgment.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "model_answer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    scores = scored(_read_unknown(tmp_path))
    assert scores["unscored"] == {"recorded_failure": 2}
    assert scores["score"] == 100.0
