"""Benchmark items in training data: found by the rule as it is defined, counted, and never quoted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.analysis.document import as_json
from evalsuite.assets.asset import Pin
from evalsuite.contamination import measure as measure_module
from evalsuite.contamination.index import BenchmarkIndex, OverlapRule, words_of
from evalsuite.contamination.measure import analysis_of, load_meter, measure, suite_rows
from evalsuite.contamination.prompts import Benchmarks, counted_names, is_here, load_benchmarks
from evalsuite.conversations.formats import conversation_of
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError
from evalsuite.mix.build import ContaminationConfig, build_mix
from evalsuite.progress import NoProgress
from evalsuite.recipes.recipe import recipe_of
from evalsuite.records.rows import Row
from evalsuite.suites import registry
from evalsuite.suites.base import Suite
from evalsuite.suites.types import CheckedItem, Item, Loaded
from judges.types import Message

ALPHABET = st.sampled_from(["a", "b", "c"])


def words(start: int, stop: int) -> str:
    return " ".join(f"w{number}" for number in range(start, stop))


def found(items, *turns: str, rule: OverlapRule | None = None) -> dict[str, float]:
    index = BenchmarkIndex(items, rule or OverlapRule())
    return {overlap.item.id: overlap.share for overlap in index.overlaps(turns)}


def item(text: str, *more: str, id: str = "1", options=()) -> CheckedItem:  # noqa: A002
    return CheckedItem("s", id, (text, *more), tuple(options))


@pytest.mark.parametrize(
    ("shared", "share"),
    # Of an item of 16 words, a run of k shared words holds k - 7 eight-grams and covers k words.
    [(7, None), (8, None), (9, 9 / 16), (16, 1.0)],
)
def test_more_than_half_of_the_words_must_be_covered(shared, share):
    turn = f"please tell me {words(0, shared)} and something else"
    assert found([item(words(0, 16))], turn) == ({} if share is None else {"1": share})


def test_two_runs_are_covered_once_where_they_meet():
    # Words 0 to 8 and 4 to 11 of 20: together twelve words, 0.6.
    assert found([item(words(0, 20))], f"{words(0, 9)} x {words(4, 12)}") == {"1": 12 / 20}


def test_gpt_3s_rule_is_any_thirteen_words():
    rule = OverlapRule(13, 0.0)
    assert found([item(words(0, 100))], words(20, 33), rule=rule) == {"1": 13 / 100}
    assert found([item(words(0, 100))], words(20, 32), rule=rule) == {}


def test_a_short_prompt_must_be_the_whole_turn():
    items = [item("How do I wrap a present?")]
    assert found(items, "how do i  wrap a present") == {"1": 1.0}
    assert found(items, "Tell me: how do I wrap a present?") == {}


def test_a_short_later_turn_says_nothing():
    assert found([item(words(0, 9), "Why is that?")], "Why is that?") == {}
    assert found([item(words(0, 9), words(20, 30))], words(20, 30)) == {"1": 1.0}


def test_a_short_question_is_known_by_its_options():
    question = item("Which is it?", options=["the first of them", "the second of them"])
    assert found([question], "Which is it?\nA. the first of them\nB. the second of them") == {"1": 1.0}
    assert found([question], "Which is it?") == {}


def test_what_many_items_share_tells_nothing_about_one():
    formula = words(0, 20)
    items = [item(f"{formula} own{n} a{n} b{n} c{n} d{n} e{n} f{n} g{n} h{n}", id=str(n)) for n in range(11)]
    assert found(items, formula) == {}
    assert found(items[:10], formula) != {}
    # The whole prompt still is the item, and only this one.
    assert found(items, items[3].turns[0]) == {"3": 1.0}


def test_copies_of_an_item_are_no_formula():
    text = words(0, 20)
    copies = [CheckedItem(suite, str(n), (text,)) for suite in ("a", "b") for n in range(6)]
    overlaps = BenchmarkIndex(copies, OverlapRule()).overlaps([text])
    assert [(one.item.suite, one.item.id, one.share) for one in overlaps] == [
        (suite, str(n), 1.0) for suite in ("a", "b") for n in range(6)
    ]
    # Eleven different items share the beginning of the copies, which so tells nothing; their own end still does.
    others = [item(f"{words(0, 10)} {words(100 * n, 100 * n + 30)}", id=f"o{n}") for n in range(1, 12)]
    assert found([item(text), item(text, id="2"), *others], words(0, 10)) == {}
    assert found([item(text), item(text, id="2"), *others], text) == {"1": 1.0, "2": 1.0}


@pytest.mark.parametrize("suite", ["mixeval", "mixeval_hard"])
def test_every_item_of_mixeval_is_found_in_its_own_words(shared, monkeypatch, suite):
    """MixEval asks some items several times over, and MixEval-Hard's are items of MixEval."""
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    items = load_benchmarks("full", ["mixeval", "mixeval_hard"]).items
    index = BenchmarkIndex(items, OverlapRule())
    own = [one for one in items if one.suite == suite]
    asked = [("\n".join([*one.turns, *one.options]), *one.turns) for one in own]
    missed = [
        one.id
        for one, turns in zip(own, asked, strict=True)
        if (one.suite, one.id) not in {(found.item.suite, found.item.id) for found in index.overlaps(turns)}
    ]
    assert (len(own), missed) == ({"mixeval": 4000, "mixeval_hard": 1000}[suite], [])


def test_alpaca_evals_252_self_instruct_prompts_are_all_found(shared, monkeypatch):
    """AlpacaEval took its 252 self-instruct prompts from self-instruct's user-oriented instructions."""
    from evalsuite.conversations.formats import conversation_of
    from evalsuite.conversations.source import open_source

    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    benchmarks = load_benchmarks("full", ["alpaca_eval"])
    assert len(benchmarks.items) == 805
    index = BenchmarkIndex(benchmarks.items, OverlapRule())
    folder = next((shared / "mirror/hub/datasets--local-sample--self-instruct-seeds").rglob("user_oriented.parquet"))
    conversations = [conversation_of(row, "chat") for row in open_source(str(folder))]
    items = {
        overlap.item.id
        for conversation in conversations
        for overlap in index.overlaps([m.content for m in conversation.messages if m.role == "user"])
    }
    assert len(conversations) == len(items) == 252


def test_words_are_compared_without_case_marks_and_labels():
    assert words_of("(A) Ｆｕｌｌ-width\nB) naïve x_1") == ["full", "width", "naïve", "x_1"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(ALPHABET, min_size=3, max_size=12), min_size=1, max_size=4),
    st.lists(st.lists(ALPHABET, max_size=12), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.5, 0.8]),
)
def test_the_index_finds_what_a_plain_search_finds(prompts, turns, share):
    n = 3
    expected = {}
    grams = {tuple(turn[at : at + n]) for turn in turns for at in range(len(turn) - n + 1)}
    for number, prompt in enumerate(prompts):
        covered = {
            at + step for at in range(len(prompt) - n + 1) if tuple(prompt[at : at + n]) in grams for step in range(n)
        }
        if len(covered) / len(prompt) > share:
            expected[str(number)] = len(covered) / len(prompt)
    items = [item(" ".join(prompt), id=str(number)) for number, prompt in enumerate(prompts)]
    got = found(items, *(" ".join(turn) for turn in turns), rule=OverlapRule(n, share))
    assert got == pytest.approx(expected)


OPENLLM = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro")
NAMES = {"mt_bench", "alpaca_eval", "mixeval", "mixeval_hard", *OPENLLM}


def test_the_names_counted_are_those_of_the_suites_and_of_open_llms_parts():
    assert set(counted_names()) >= NAMES
    assert "lm_eval" not in counted_names()


class Toy(Suite):
    """A suite of another package: its items are checked without a line about contamination."""

    name, title = "toy", "Toy"

    def load(self, options):
        items = [Item(str(n), {"question": f"How many apples are left of {n} when two are eaten?"}) for n in range(3)]
        return Loaded(items, {"toy/apples": Pin("0" * 64, "package", pinned=True)})

    def row(self, item, loaded):
        return Row(item.id, prompt=(Message("user", item.data["question"]),))


class Absent(Toy):
    name = "absent"

    def load(self, options):
        raise DataError("the apples are not on this machine; type 'toy pull'")


def test_a_suite_of_another_package_is_counted_or_missing_with_its_remedy(monkeypatch):
    known = {**registry.suites(), "toy": Toy(), "absent": Absent()}
    monkeypatch.setattr("evalsuite.contamination.prompts.suites", lambda: known)
    benchmarks = load_benchmarks("mini", ["toy", "absent"])
    assert [(one.suite, one.id) for one in benchmarks.items] == [("toy", "0"), ("toy", "1"), ("toy", "2")]
    assert list(benchmarks.pins) == ["toy/apples"]
    assert benchmarks.missing == {"absent": "the apples are not on this machine; type 'toy pull'"}
    assert (is_here("toy", "mini"), is_here("absent", "mini"), is_here("gone", "mini")) == (True, False, False)


def test_data_that_are_not_here_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    monkeypatch.delenv("EVALSUITE_MIRROR", raising=False)
    benchmarks = load_benchmarks("full")
    assert "gpqa" in benchmarks.missing
    assert "request access to" in benchmarks.missing["gpqa"]
    assert str(tmp_path) not in " ".join(benchmarks.missing.values()), "the sentences stand in files that travel"
    assert {entry.suite for entry in benchmarks.items}.isdisjoint(benchmarks.missing)
    assert {entry.suite for entry in benchmarks.items} | set(benchmarks.missing) == set(counted_names())


def mini_item(suite: str) -> CheckedItem:
    benchmarks = load_benchmarks("mini")
    return next(entry for entry in benchmarks.items if entry.suite == suite and len(words_of(entry.turns[0])) >= 8)


def mix_file(tmp_path):
    def row(text, answer="Something."):
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}

    leaked = mini_item("gpqa").turns[0]
    quoted = mini_item("mt_bench").turns[0]
    rows = [row(f"Question number {n}, and nothing that was ever asked before?") for n in range(8)]
    rows += [row(f"My homework says: {leaked}"), row(quoted), row("An honest question?", answer=leaked)]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return str(path), leaked


def test_the_report_counts_items_and_quotes_none(tmp_path):
    word, leaked = mix_file(tmp_path)
    figures = measure([word], load_meter("mini"), NoProgress())
    assert (figures["n_conversations"], figures["n_overlapping"]) == (11, 2)
    assert {suite: own["n_overlapped"] for suite, own in figures["suites"].items() if own["n_overlapped"]} == {
        "gpqa": 1,
        "mt_bench": 1,
    }
    gpqa = figures["suites"]["gpqa"]
    assert gpqa["share"] == 1 / gpqa["n_items"]
    # The question stands there whole, its options do not.
    assert 0.5 < gpqa["examples"][0]["covered"] < 1
    document = as_json(analysis_of(figures, [word]))
    assert document["kind"] == "contamination"
    assert leaked not in json.dumps(document) + json.dumps(suite_rows(figures))


def test_a_source_without_conversations_is_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"messages": []}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"has no conversation \(empty 1\)"):
        measure([str(path)], load_meter("mini"), NoProgress())


def test_a_mix_carries_its_figures_and_can_drop_what_is_found(tmp_path):
    word, leaked = mix_file(tmp_path)
    recipe = recipe_of({"name": "r", "mix": {"sources": [{"data": word}]}})
    plain = build_mix(recipe, tmp_path / "plain", NoProgress(), contamination=ContaminationConfig("mini"))
    assert plain["n_rows"] == 11
    assert plain["contamination"]["gpqa"] == plain["contamination_detail"]["suites"]["gpqa"]["share"] > 0
    dropping = ContaminationConfig("mini", drop=True)
    clean = build_mix(recipe, tmp_path / "clean", NoProgress(), contamination=dropping)
    assert clean["n_rows"] == 9
    assert clean["sources"][0]["refused"] == {"contaminated": 2}
    assert set(clean["contamination"].values()) == {0.0}
    assert leaked not in (tmp_path / "clean" / "mix.json").read_text()


def test_other_turns_and_near_matches_are_counted_if_asked_for(tmp_path, monkeypatch):
    asked = words(0, 16)
    # Every seventh word differs: no common 8-gram, but 5-grams.
    changed = " ".join("x" if number % 7 == 6 else f"w{number}" for number in range(30, 58))
    items = (item(asked), item(words(30, 58), id="2"), item("Why is that?", id="3"))
    benchmarks = Benchmarks(items, {}, {})
    monkeypatch.setattr(measure_module, "load_benchmarks", lambda data, names: benchmarks)
    talk = [{"role": "user", "content": changed}, {"role": "assistant", "content": "Yes.", "reasoning_content": asked}]
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"messages": talk}) + "\n")
    counts = {}
    for turns, near in (("user", None), ("all", None), ("user", 0.5)):
        figures = measure([str(path)], load_meter("full", turns=turns, near=near), NoProgress())
        assert figures["rule"]["turns"] == turns
        assert figures["suites"]["s"]["n_whole_turn_only"] == 1, "three words are found as a whole turn only"
        counts[turns, near] = (figures["suites"]["s"]["n_overlapped"], figures["suites"]["s"].get("n_near"))
        assert suite_rows(figures)[0]["whole turn only"] == "33.3%"
        assert as_json(analysis_of(figures, [str(path)]))
    assert counts == {("user", None): (0, None), ("all", None): (1, None), ("user", 0.5): (0, 1)}


def test_a_text_without_spaces_is_found():
    text = "河流由降水和冰川融水汇集而成顺着地势向低处流动"
    assert found([item(text)], f"请问{text}吗") == {"1": 1.0}


def test_the_items_in_the_sample_conversations_are_really_there(shared, monkeypatch):
    """OpenAssistant's prompts are a part of AlpacaEval: each item that is found is a user's turn word for word."""
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = open_source("local-sample/oasst-en-100")
    index = BenchmarkIndex(load_benchmarks("full", ["alpaca_eval"]).items, OverlapRule())
    n_found = 0
    for row in rows:
        conversation = conversation_of(row, "chat")
        users = [message.content for message in conversation.messages if message.role == "user"]
        for overlap in index.overlaps(users):
            n_found += 1
            assert words_of(overlap.item.turns[0]) == words_of(users[0])
    assert n_found == 6
