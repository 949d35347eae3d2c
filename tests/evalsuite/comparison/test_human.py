"""People's labels in ``evalsuite compare --human``: corrected rates and ranking, and files that cannot be used."""

from __future__ import annotations

import json

import pytest

from evalsuite.comparison.human import read_labels
from evalsuite.errors import DataError
from tests.evalsuite.comparison.test_comparison import models_and, run
from tests.evalsuite.comparison_judges import judge, prefers

IDS = [f"q{number}" for number in range(80)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def label(prompt_id, verdict, a="good", b="plain", **more):
    return {"prompt_id": prompt_id, "a": a, "b": b, "label": verdict, **more}


def prompts(folder):
    return write(folder / "prompts.jsonl", [{"id": one, "prompt": f"Tell me of {one}."} for one in IDS])


def test_a_judge_that_is_wrong_on_some_prompts_is_corrected_by_labels(tmp_path):
    # The judge always prefers "good"; people prefer "plain" on 10 of 40 labelled prompts, labels in both directions.
    labels = [label(one, "b" if rank % 4 == 0 else "a") for rank, one in enumerate(IDS[:20])]
    labels += [label(one, "a" if rank % 4 == 0 else "b", "plain", "good") for rank, one in enumerate(IDS[20:40])]
    with models_and(umpire=judge(prefers("good"))) as stubs:
        options = {"prompts": prompts(tmp_path), "human": write(tmp_path / "labels.jsonl", labels)}
        document = run(stubs, tmp_path / "results", "umpire", **options).document
    [pair] = document["human"]["pairs"]
    assert (pair["n"], pair["n_labels"], pair["agreement"]) == (80, 40, 0.75)
    rate = pair["rate_a"]
    # A judge with no spread does not say where it is wrong: the labels alone decide.
    assert (rate["judged"], rate["alone"], rate["value"], rate["weight"]) == (1.0, 0.75, 0.75, 0.0)
    # 30 of 40: 0.75 plus or minus t(39) = 2.0227 times the root of 0.1875 / 40.
    assert rate["ci95"] == pytest.approx([0.75 - 2.0227 * 0.06847, 0.75 + 2.0227 * 0.06847], abs=2e-3)
    assert [row["model"] for row in document["human"]["ranking"]] == ["good", "plain"]
    points = [row["points"]["value"] for row in document["human"]["ranking"]]
    assert points == pytest.approx([0.75, 0.25])


def test_too_few_labels_give_no_interval_and_say_how_many_are_wanted(tmp_path):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        options = {"prompts": prompts(tmp_path), "human": write(tmp_path / "labels.jsonl", [label("q3", "a")])}
        human = run(stubs, tmp_path / "results", "umpire", **options).document["human"]
    assert human["pairs"][0]["rate_a"] is None
    assert human["pairs"][0]["reason"] == "1 label; an interval needs at least 30"
    assert human["reason"] == "good and plain have fewer than 30 labels"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([label("q99x", "a")], r"row 1: unknown prompt 'q99x'"),
        ([label("q1", "a", b="plane")], r"row 1: unknown model 'plane'; did you mean 'plain'"),
        (
            [label("q1", "a"), label("q1", "tie")],
            r"row 2: prompt 'q1' of good and plain has the labels a and tie; keep",
        ),
        ([label("q1", "a"), label("q1", "a", "plain", "good")], r"has the labels a and b; keep one"),
        ([label("q1", "better")], r"row 1 is not a label .* give prompt_id, a, b and label"),
        ([label("q1", "a", chance=0)], r"row 1 is not a label"),
        ([label("q1", "a", "good", "good")], r"good is compared with itself"),
    ],
)
def test_labels_that_cannot_be_used_are_named(tmp_path, rows, fault):
    with pytest.raises(DataError, match=fault):
        read_labels(write(tmp_path / "labels.jsonl", rows), [("good", "plain")], IDS)


def test_the_same_label_twice_counts_once(tmp_path):
    rows = [label("q1", "a"), label("q1", "b", "plain", "good")]
    assert len(read_labels(write(tmp_path / "labels.jsonl", rows), [("good", "plain")], IDS)["good", "plain"]) == 1
