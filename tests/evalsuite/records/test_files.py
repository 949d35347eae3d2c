"""The records file: what is written is read, and what is broken is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import DataError
from evalsuite.records.files import RecordsFile, RecordsInMemory, write_records
from evalsuite.records.rows import Draw, Header, JudgeRef, Reply, Row, Verdict, for_judge, merged
from judges.types import Message, Unscored

HEADER = Header(suite="toy", n_items=3, options={"data": "mini"}, judges={"j": JudgeRef("judge")})


def row(item_id, part="", text="4", judge="j", value=7.0):
    return Row(
        item_id,
        part,
        prompt=(Message("user", "2 + 2?"),),
        facts={"category": "math", "reference": ["4"]},
        draws=(Draw((Reply(text, answer_tokens=1),)),),
        verdicts=(Verdict(judge, value, text="fine"),),
    )


def written(tmp_path, rows, header=HEADER):
    path = tmp_path / "records" / "toy.jsonl"
    write_records(path, header, rows)
    return path


def test_what_is_written_is_read_again_part_by_part(tmp_path):
    rows = [row("1", "a"), row("2", "a"), row("1", "b")]
    file = RecordsFile(written(tmp_path, rows))
    assert file.header == HEADER
    assert list(file.parts) == ["a", "b"]
    assert file.rows("a") == rows[:2]
    assert file.rows() == rows == RecordsInMemory(HEADER, rows).rows()


texts = st.text(max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Row,
            item_id=texts,
            part=st.sampled_from(["", 'a"b', "ä/ö", "{\\"]),
            prompt=st.none() | st.just((Message("user", "x"),)),
            facts=st.dictionaries(texts, texts | st.none() | st.floats(allow_nan=False, allow_infinity=False)),
            draws=st.tuples(st.builds(Draw, turns=st.tuples(st.builds(Reply, text=st.none() | texts)))),
            unscored=st.just(()) | st.just((Unscored("timeout", "60 s"),)),
        ),
        unique_by=lambda one: (one.part, one.item_id),
        max_size=8,
    )
)
def test_every_row_survives(tmp_path_factory, rows):
    rows = sorted(rows, key=lambda one: one.part)
    file = RecordsFile(written(tmp_path_factory.mktemp("records"), rows))
    assert file.rows() == rows
    assert list(file.parts) == list(dict.fromkeys(one.part for one in rows))


def test_half_of_a_surrogate_pair_is_the_replacement_character(tmp_path):
    file = RecordsFile(written(tmp_path, [row("1", text="a\ud800b")]))
    assert file.rows()[0].replies[0].text == "a\ufffdb"


def test_a_file_cut_in_mid_line_is_named(tmp_path):
    path = written(tmp_path, [row("1"), row("2")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"toy\.jsonl line 3 is cut short"):
        RecordsFile(path).rows()


def test_a_newer_schema_is_named(tmp_path):
    path = written(tmp_path, [row("1")])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(lines[0]), "schema": 9}), *lines[1:]]) + "\n")
    with pytest.raises(DataError, match="schema 9; this evalsuite reads up to 1: upgrade evalsuite"):
        RecordsFile(path).rows()


def test_a_duplicate_item_is_named(tmp_path):
    with pytest.raises(DataError, match="duplicate item '1'"):
        RecordsFile(written(tmp_path, [row("1"), row("1")])).rows()


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b"\xff\xfe\n", b'{"suite": 1, "n_items": 2}\n'])
def test_what_is_not_a_records_file_is_named(tmp_path, content):
    path = tmp_path / "toy.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="header of records"):
        RecordsFile(path).rows()


def test_a_row_of_another_form_is_named_by_its_line(tmp_path):
    path = written(tmp_path, [row("1")])
    path.write_bytes(path.read_bytes() + b'{"item_id":"2","draws":"x"}\n')
    with pytest.raises(DataError, match="line 3 is not a row"):
        RecordsFile(path).rows()


def test_scattered_parts_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 3: the rows of part 'a' are not contiguous"):
        RecordsFile(written(tmp_path, [row("1", "a"), row("1", "b"), row("2", "a")])).rows()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=9), min_size=1, max_size=6))
def test_parts_of_any_size_are_found(tmp_path_factory, lengths):
    rows = [
        row(str(number), str(part), text="x" * length)
        for part, group in enumerate(lengths)
        for number, length in enumerate(group)
    ]
    file = RecordsFile(written(tmp_path_factory.mktemp("records"), rows))
    assert {part: len(file.rows(part)) for part in file.parts} == {
        str(part): len(group) for part, group in enumerate(lengths)
    }


def test_a_second_judge_is_added_to_the_same_answers():
    old, new = row("1", judge="a", value=3.0), row("1", judge="b", value=9.0)
    [both] = merged([old], [new])
    assert [(verdict.judge, verdict.value) for verdict in both.verdicts] == [("a", 3.0), ("b", 9.0)]
    assert for_judge(both, "a").verdicts == old.verdicts
    assert for_judge(both, None).verdicts == ()


def test_the_same_judge_again_takes_the_place_of_its_verdicts():
    [again] = merged([row("1", value=3.0)], [row("1", value=9.0)])
    assert [verdict.value for verdict in again.verdicts] == [9.0]


def test_verdicts_on_another_answer_are_dropped():
    [other] = merged([row("1", judge="a", text="4")], [row("1", judge="b", text="5")])
    assert [verdict.judge for verdict in other.verdicts] == ["b"]
