"""Building a mix: exact counts, byte-identical files, and every row accounted for."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from evalsuite.errors import DataError
from evalsuite.mix.build import ContaminationConfig, build_mix
from evalsuite.mix.rows import Stream
from evalsuite.progress import NoProgress
from evalsuite.recipes.recipe import recipe_of
from evalsuite.training.data import open_training_data
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import write_checkpoint

NO_CHECK = ContaminationConfig(data=None)


def chat(number: int, *, answer: str = "answer", dgm: str = "", turns: int = 1, **extra):
    messages = []
    for turn in range(turns):
        messages += [
            {"role": "user", "content": f"question {number} of turn {turn}"},
            {"role": "assistant", "content": f"{answer} {number} {dgm}".strip()},
        ]
    return {"messages": messages, **extra}


def chat_of(question: str, answer: str):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def build(out: Path, sources, *, contamination=NO_CHECK, seed=0, fresh=False, **mix):
    recipe = recipe_of({"name": "r", "seed": seed, "mix": {"sources": sources, **mix}})
    return build_mix(recipe, out, NoProgress(), contamination=contamination, fresh=fresh)


def rows_of(out: Path):
    return [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def first_prompts(out: Path) -> list[str]:
    return [row["messages"][0]["content"] for row in rows_of(out)]


def test_the_mix_and_its_document_match_the_recipe(tmp_path):
    chats = write(tmp_path / "chats.jsonl", [chat(number) for number in range(30)])
    table = {
        "question": [f"Which is number {n}?" for n in range(12)],
        "choices": [["one", "two"]] * 12,
        "answer": [n % 2 for n in range(12)],
    }
    parquet.write_table(pa.table(table), tmp_path / "questions.parquet")
    out = tmp_path / "out"
    sources = [
        {"data": chats, "count": 20, "dgm": "Q72"},
        {"data": str(tmp_path / "questions.parquet"), "count": 5},
    ]
    document = build(out, sources)
    rows = rows_of(out)
    assert document == json.loads((out / "mix.json").read_text())
    assert set(rows[0]) == {"messages", "conversation_hash", "source", "dgm"}
    assert [sum(row["source"] == name for row in rows) for name in ("chats", "questions")] == [20, 5]
    assert {(row["source"], row["dgm"]) for row in rows} == {("chats", "Q72"), ("questions", None)}
    assert document["dgms"] == ["Q72"]
    assert (document["n_rows"], document["tokens"], document["contamination"]) == (25, None, None)
    first = document["sources"][0]
    assert (first["asked"], first["available"], first["taken"], first["fewer"]) == (20, 30, 20, False)
    assert document["characters"] == sum(len(message["content"]) for row in rows for message in row["messages"])
    question = next(row for row in rows if row["source"] == "questions")
    assert question["messages"][0]["content"].endswith("\nA. one\nB. two")
    assert [row["source"] for row in rows] != sorted(row["source"] for row in rows), "the mix is not shuffled"
    for shard in document["shards"]:
        assert hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


SCRIPT = """
import sys
from pathlib import Path
from evalsuite.progress import NoProgress
from evalsuite.mix.build import ContaminationConfig, build_mix
from evalsuite.recipes.recipe import read_recipe
recipe, out = read_recipe(Path(sys.argv[1])), Path(sys.argv[2])
build_mix(recipe, out, NoProgress(), contamination=ContaminationConfig(data="mini"))
"""


def test_the_same_recipe_gives_the_same_bytes_in_any_process(tmp_path):
    a = write(tmp_path / "a.jsonl", [chat(number, dgm="a") for number in range(40)])
    b = write(tmp_path / "b.jsonl", [chat(number, dgm="b") for number in range(10, 50)])
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\nseed: 5\nmix:\n  duplicates: {near: 0.9}\n  sources:\n"
        f"  - {{name: both, count: 30, blend: [{{data: {a}, dgm: A}}, {{data: {b}, dgm: B}}]}}\n"
    )
    built = []
    for hash_seed in ("1", "4711"):
        out = tmp_path / f"out{hash_seed}"
        command = [sys.executable, "-c", SCRIPT, str(recipe), str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        built.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert set(built[0]) == {"mix.json", "mix-00000-of-00001.parquet"}
    assert built[0] == built[1]


def test_the_order_of_a_sources_rows_does_not_matter(tmp_path):
    rows = [chat(number) for number in range(40)]
    forward, backward = write(tmp_path / "f.jsonl", rows), write(tmp_path / "b.jsonl", rows[::-1])
    for path, out in ((forward, "of"), (backward, "ob")):
        build(tmp_path / out, [{"name": "s", "data": path, "count": 15}])
    assert rows_of(tmp_path / "of") == rows_of(tmp_path / "ob")


def test_a_larger_draw_with_the_same_seed_contains_the_smaller_one(tmp_path):
    path = write(tmp_path / "c.jsonl", [chat(number) for number in range(60)])
    small, large = tmp_path / "small", tmp_path / "large"
    build(small, [{"data": path, "count": 10}])
    build(large, [{"data": path, "count": 30}])
    assert set(first_prompts(small)) < set(first_prompts(large))
    other = tmp_path / "other"
    build(other, [{"data": path, "count": 10}], seed=1)
    assert set(first_prompts(other)) != set(first_prompts(small))


def test_too_few_rows_are_an_error_with_the_losses(tmp_path):
    rows = [chat(n, language="English") for n in range(6)] + [chat(n, language="French") for n in range(6, 10)]
    rows += [rows[0], {"messages": [{"role": "user", "content": "alone"}]}]
    path = write(tmp_path / "c.jsonl", rows)
    source = {"data": path, "count": 8, "filters": {"language": "english"}}
    expected = (
        r"asks for 8 conversations of source 'c', which has 6 "
        r"\(12 rows, of which were left out: duplicate 1, language 4, no_answer 1\); .*allow_fewer: true"
    )
    with pytest.raises(DataError, match=expected):
        build(tmp_path / "out", [source])
    assert not (tmp_path / "out").exists()
    document = build(tmp_path / "out", [{**source, "allow_fewer": True}])
    source = document["sources"][0]
    assert (source["asked"], source["taken"], source["fewer"], document["n_rows"]) == (8, 6, True, 6)
    member = source["members"][0]
    assert member["n_rows"] == member["taken"] + sum(member["dropped"].values())


@pytest.mark.parametrize("count", [{}, {"count": 3}, {"count": 3, "allow_fewer": True}])
def test_a_source_without_any_rows_is_an_error_even_with_allow_fewer(tmp_path, count):
    path = write(tmp_path / "c.jsonl", [chat(number, language="French") for number in range(4)])
    source = {"data": path, "filters": {"language": "English"}, **count}
    with pytest.raises(DataError, match=r"which has 0 .*language 4\); loosen its filters, give other data") as caught:
        build(tmp_path / "out", [source])
    assert "allow_fewer" not in str(caught.value)


FILTERED = [
    ({"min_turns": 2}, {2, 3}),
    ({"max_turns": 1}, {0, 1}),
    ({"min_chars": 41}, {2, 3}),
    ({"max_chars": 40}, {0, 1}),
    ({"finish_reason": "stop"}, {0, 2}),
    ({"language": ["English", "German"]}, {0, 1, 2}),
]


@pytest.mark.parametrize(("filters", "kept"), FILTERED, ids=[next(iter(filters)) for filters, _ in FILTERED])
def test_filters_keep_exactly_the_rows_that_pass(tmp_path, filters, kept):
    rows = []
    cases = [(1, ["stop"], "English"), (1, ["length"], "German"), (2, ["stop"] * 2, "english")]
    for number, (turns, ends, language) in enumerate([*cases, (2, ["stop", "length"], None)]):
        row = chat(number, turns=turns, language=language)
        for message, end in zip(row["messages"][1::2], ends, strict=True):
            message["finish_reason"] = end
        rows.append(row)
    path = write(tmp_path / "c.jsonl", rows)
    document = build(tmp_path / "out", [{"data": path, "filters": {"finish_reason": "any"} | filters}])
    assert {int(prompt.split()[1]) for prompt in first_prompts(tmp_path / "out")} == kept
    assert document["sources"][0]["members"][0]["dropped"] == {next(iter(filters)): 4 - len(kept)}


def test_a_blend_draws_equal_numbers_and_no_conversation_twice(tmp_path):
    a = write(tmp_path / "a.jsonl", [chat(number, dgm="a") for number in range(30)])
    b = write(tmp_path / "b.jsonl", [chat(number, dgm="b") for number in range(10, 40)])
    c = write(tmp_path / "c.jsonl", [chat(number, dgm="c") for number in range(5, 35)])
    blend = [{"data": a, "dgm": "A"}, {"data": b, "dgm": "B"}, {"data": c, "dgm": "C"}]
    document = build(tmp_path / "out", [{"name": "mixed", "blend": blend, "count": 36}])
    rows = rows_of(tmp_path / "out")
    assert [member["taken"] for member in document["sources"][0]["members"]] == [12, 12, 12]
    assert {(row["dgm"].lower(), row["messages"][1]["content"].split()[-1]) for row in rows} == {
        ("a", "a"), ("b", "b"), ("c", "c"),
    }  # fmt: skip
    prompts = first_prompts(tmp_path / "out")
    assert len(set(prompts)) == 36
    assert document["dgms"] == ["A", "B", "C"]
    # Of 40 conversations each DGM can give 13, and one of them one more.
    with pytest.raises(DataError, match=r"for 42 conversations of source 'mixed', which has 40 in equal shares"):
        build(tmp_path / "more", [{"name": "mixed", "blend": blend, "count": 42}])
    every = build(tmp_path / "all", [{"name": "mixed", "blend": blend}])
    assert [member["taken"] for member in every["sources"][0]["members"]] == [13, 13, 13]


@pytest.mark.parametrize(("members", "small", "large"), [(2, 101, 200), (3, 100, 200), (3, 25, 50), (3, 390, 399)])
def test_a_larger_blend_contains_the_smaller_one_with_its_answers(tmp_path, members, small, large):
    blend = []
    for dgm in "ABC"[:members]:
        # The first DGM has only every other prompt.
        rows = [chat(number, dgm=dgm) for number in range(0, 400, 2 if dgm == "A" else 1)]
        blend.append({"data": write(tmp_path / f"{dgm}.jsonl", rows), "dgm": dgm})
    drawn = []
    for count in (small, large):
        document = build(tmp_path / "out", [{"name": "s", "blend": blend, "count": count}], shuffle=False)
        shares = [member["taken"] for member in document["sources"][0]["members"]]
        assert sum(shares) == count
        assert max(shares) - min(shares) <= 1
        drawn.append(
            [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows_of(tmp_path / "out")]
        )
    assert set(drawn[0]) < set(drawn[1])


def test_the_order_of_rows_does_not_matter_in_a_blend(tmp_path):
    a = [chat(number, answer=answer, dgm="a") for number in range(12) for answer in ("answer", "ANSWER", "other")]
    b = write(tmp_path / "b.jsonl", [chat(number, dgm="b") for number in range(12)])
    for on in ("conversation", "prompts"):
        built = []
        for name, rows in (("f", a), ("r", a[::-1])):
            path = write(tmp_path / "a.jsonl", rows)
            blend = [{"data": path, "dgm": "A"}, {"data": b, "dgm": "B"}]
            build(tmp_path / name, [{"name": "s", "blend": blend, "count": 11}], duplicates={"on": on})
            built.append((tmp_path / name / "mix-00000-of-00001.parquet").read_bytes())
        assert built[0] == built[1]


def test_a_blend_is_read_at_most_three_times(tmp_path, monkeypatch):
    reads = []
    numbered = Stream.numbered

    def counted(self, *arguments):
        reads.append(self.dgm)
        return numbered(self, *arguments)

    monkeypatch.setattr(Stream, "numbered", counted)
    a = write(tmp_path / "a.jsonl", [chat(number, dgm="a") for number in range(600)])
    b = write(tmp_path / "b.jsonl", [chat(number, dgm="b") for number in range(5)])
    blend = [{"data": a, "dgm": "A"}, {"data": b, "dgm": "B"}]
    source = {"name": "s", "blend": blend, "count": 20, "allow_fewer": True}
    build(tmp_path / "out", [source], duplicates={"near": 0.95})
    assert sorted(reads) == ["A"] * 3 + ["B"] * 3


def test_duplicates_are_dropped_within_and_across_sources(tmp_path):
    a = write(tmp_path / "a.jsonl", [chat(1), {"messages": chat(1)["messages"], "id": 2}, chat(2)])
    upper = [{**turn, "content": turn["content"].upper() + "  "} for turn in chat(2)["messages"]]
    b = write(tmp_path / "b.jsonl", [{"messages": upper}, chat(3), chat(1, answer="another answer")])
    document = build(tmp_path / "out", [{"data": a}, {"data": b}])
    assert [source["taken"] for source in document["sources"]] == [2, 2]
    assert document["sources"][0]["members"][0]["dropped"] == {"duplicate": 1}
    assert document["sources"][1]["refused"] == {"duplicate_of_earlier_source": 1}
    by_prompts = build(tmp_path / "prompts", [{"data": a}, {"data": b}], duplicates={"on": "prompts"})
    assert [source["taken"] for source in by_prompts["sources"]] == [2, 1]
    kept = build(tmp_path / "kept", [{"data": a}, {"data": b}], duplicates={"exact": False})
    assert [source["taken"] for source in kept["sources"]] == [3, 3]


def test_texts_are_compared_without_case_white_space_and_composition(tmp_path):
    texts = ["Is 2³ prime?", "Is 23 prime?", "Caf\u00e9 or tea", "cafe\u0301  OR tea"]
    rows = [{"messages": [{"role": "user", "content": text}, chat(0)["messages"][1]]} for text in texts]
    path = write(tmp_path / "c.jsonl", rows)
    document = build(tmp_path / "out", [{"data": path}])
    assert document["sources"][0]["members"][0]["dropped"] == {"duplicate": 1}
    assert {"Is 2³ prime?", "Is 23 prime?"} <= set(first_prompts(tmp_path / "out"))


def test_near_duplicates_are_drawn_once(tmp_path):
    words = [f"word{number}" for number in range(200)]
    long = {"role": "assistant", "content": " ".join(words)}
    changed = {"role": "assistant", "content": " ".join([*words[:-1], "other"])}
    user = {"role": "user", "content": "Say many words."}
    rows = [{"messages": [user, long]}, {"messages": [user, changed]}, chat(1), chat(2)]
    # With the roles 205 words make 201 five-grams; the last word is in one of them: Jaccard 200/202.
    a, b = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", [{"messages": [user, changed]}, chat(5)])
    document = build(tmp_path / "out", [{"data": a}, {"data": b}], duplicates={"near": 0.8})
    assert [source["taken"] for source in document["sources"]] == [3, 1]
    assert document["sources"][0]["refused"] == {"near_duplicate": 1}
    assert sum(document["sources"][1]["refused"].values()) == 1
    without = build(tmp_path / "all", [{"data": a}, {"data": b}])
    assert [source["taken"] for source in without["sources"]] == [4, 1]


def words_from(generator: random.Random, count: int) -> list[str]:
    return [f"w{generator.randrange(10**6)}" for _ in range(count)]


def test_near_duplicates_are_left_to_the_short_member_of_a_blend(tmp_path):
    generator = random.Random(0)
    plenty = [" ".join(words_from(generator, 40)) for _ in range(60)]
    # 36 five-grams of 37 in common: Jaccard 0.97.
    scarce = [f"{prompts} more" for prompts in plenty[:6]]
    built = []
    for step, count in ((1, 12), (-1, 12), (1, 8)):
        members = (("A", plenty[::step]), ("B", scarce[::step]))
        blend = [
            {"data": write(tmp_path / f"{dgm}.jsonl", [chat_of(one, f"I am {dgm}") for one in prompts]), "dgm": dgm}
            for dgm, prompts in members
        ]
        source = {"name": "s", "blend": blend, "count": count}
        document = build(tmp_path / "out", [source], duplicates={"near": 0.8, "on": "prompts"})
        assert [member["taken"] for member in document["sources"][0]["members"]] == [count // 2] * 2
        assert document["sources"][0]["refused"] == {"near_duplicate": 6}
        drawn = first_prompts(tmp_path / "out")
        assert len({one.removesuffix(" more") for one in drawn}) == count
        built.append(drawn)
    assert built[0] == built[1]
    assert set(built[2]) < set(built[0])


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_of_an_offers_rows_are_kept_out(tmp_path, seed):
    generator = random.Random(0)
    texts: list[list[str]] = [[], [], []]
    for _ in range(12):
        words = words_from(generator, 70)
        # Shifted by five words, 51 of 61 five-grams are shared (0.84), by ten 46 of 66 (0.70).
        for member in range(3):
            texts[member].append(" ".join(words[5 * member : 5 * member + 60]))
    blend = [
        {"data": write(tmp_path / f"{dgm}.jsonl", [chat_of(text, "yes") for text in member]), "dgm": dgm}
        for dgm, member in zip("ABC", texts, strict=True)
    ]
    source = {"name": "s", "blend": blend}
    build(tmp_path / "out", [source], duplicates={"near": 0.77, "on": "prompts"}, seed=seed)
    drawn = set(first_prompts(tmp_path / "out"))
    assert drawn
    assert not [chain for chain in zip(*texts, strict=True) if {chain[0], chain[1]} <= drawn]
    assert not [chain for chain in zip(*texts, strict=True) if {chain[1], chain[2]} <= drawn]


def test_only_answers_that_ended_by_themselves_are_drawn_by_default(tmp_path):
    rows = []
    for number, end in enumerate([None, "stop", "length", "content_filter", "tool_calls"]):
        row = chat(number)
        row["messages"][1]["finish_reason"] = end
        rows.append(row)
    source = {"data": write(tmp_path / "c.jsonl", rows)}
    document = build(tmp_path / "out", [source])
    assert {int(prompt.split()[1]) for prompt in first_prompts(tmp_path / "out")} == {0, 1, 4}
    assert document["sources"][0]["members"][0]["dropped"] == {"finish_reason": 2}
    assert build(tmp_path / "all", [{**source, "filters": {"finish_reason": "any"}}])["n_rows"] == 5


def test_a_system_column_is_the_system_turn_and_an_empty_one_is_left_out(tmp_path):
    talk = [{"from": "human", "value": "Name a river."}, {"from": "gpt", "value": "la Seine"}]
    empty = [{"from": "system", "value": ""}, {"from": "human", "value": "Name a lake."}, talk[1]]
    rows = [{"system": "Answer in French.", "conversations": talk}, {"system": None, "conversations": empty}]
    document = build(tmp_path / "out", [{"data": write(tmp_path / "c.jsonl", rows)}], shuffle=False)
    assert sorted([turn["role"] for turn in row["messages"]] for row in rows_of(tmp_path / "out")) == [
        ["system", "user", "assistant"], ["user", "assistant"],
    ]  # fmt: skip
    assert {row["messages"][0]["content"] for row in rows_of(tmp_path / "out")} == {"Answer in French.", "Name a lake."}
    member = document["sources"][0]["members"][0]
    assert (member["dropped"], member["changed"]) == ({}, {"empty_system_left_out": 1})


def test_columns_that_a_mix_does_not_read_may_have_any_types(tmp_path):
    for name, score in (("a", 1), ("b", {"judge": 2})):
        talk = pa.Table.from_pylist([{**chat_of(f"question {name}", "answer"), "score": score}])
        parquet.write_table(talk, tmp_path / f"{name}.parquet")
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").rename(tmp_path / "data" / f"{name}.parquet")
    assert build(tmp_path / "out", [{"data": str(tmp_path / "data")}])["n_rows"] == 2


def test_max_tokens_counts_as_training_does(tmp_path):
    from evalsuite.checkpoint import resolve
    from evalsuite.serving.chat_format import load_chat_format

    folder = write_checkpoint(tmp_path / "tiny")
    form = load_chat_format(resolve(str(folder)))
    rows = [chat_of("abc" * number, "yes") for number in range(1, 9)]
    sizes = [len(form.conversation_tokens([Message(**turn) for turn in row["messages"]])) for row in rows]
    source = {"data": write(tmp_path / "c.jsonl", rows), "filters": {"max_tokens": sizes[4]}}
    document = build(tmp_path / "out", [source], tokenizer=str(folder))
    assert (document["n_rows"], document["tokens"]) == (5, sum(sizes[:5]))
    assert document["tokenizer"]["chat_template"] is True
    counts = open_training_data(str(tmp_path / "out"))
    longest = max(len(form.conversation_tokens(sample.messages)) for sample in counts)
    assert longest == sizes[4], "none is too long for sft"


def test_very_long_texts_are_counted_in_pieces(tmp_path, monkeypatch):
    from evalsuite.mix import tokens
    from evalsuite.serving.chat_format import ChatFormat

    folder = write_checkpoint(tmp_path / "tiny")
    monkeypatch.setattr(tokens, "_PIECE_CHARS", 50)
    encoded, encode = [], ChatFormat.encode

    def watched(self, text):
        encoded.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(ChatFormat, "encode", watched)
    rows = [chat_of("some words " * 40, "yes"), chat_of("short", "yes")]
    data = write(tmp_path / "c.jsonl", rows)
    counted = build(tmp_path / "out", [{"data": data}], tokenizer=str(folder))["tokens"]
    assert max(encoded) < 150
    # One token per letter, and the template's of each turn.
    start, end = len("user") + len("\n") + 1, 1 + len("\n")
    assert counted == (440 + 3) + (5 + 3) + 2 * (start + end + start + len("assistant") - len("user") + end)
    encoded.clear()
    monkeypatch.setattr(tokens.TokenCount, "least", lambda self, conversation: 10**6)
    with pytest.raises(DataError, match="max_tokens 2"):
        build(tmp_path / "none", [{"data": data, "filters": {"max_tokens": 9}}], tokenizer=str(folder))
    assert encoded == [], "what is too long for sure is not tokenised"
