"""``--repeats``: several answers to each sampled item, through a whole run with a scripted endpoint."""

from __future__ import annotations

import json
from statistics import fmean, variance

import pytest

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.records.files import RecordsFile
from evalsuite.runs.runner import run
from evalsuite.suites.mt_bench.suite import TEMPERATURES
from evalsuite.tables import print_models
from evalsuite.terminal import Console
from judges.repeats import pass_at_k
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def model(path, body):
    """Rate an answer by the digit that it ends in; answer with a digit that follows from the seed."""
    if is_judge(body):
        shown = body["messages"][-1]["content"].rpartition("says ")[2][:1]
        return 200, text_reply(f"Rating: [[{1 + int(shown)}]]")
    return 200, text_reply(f"It says {body.get('seed', 0) % 7}")


def is_judge(body):
    return any("Rating:" in message["content"] for message in body["messages"])


def config(stub, results, suites=("mt_bench",), **changes):
    word = f"stub@{stub.url}"
    given = {"models": [word], "judge": word, "suites": list(suites), "data": "mini", "results": results}
    return read_config(given | changes)


def answers_asked(stub):
    return sum(not is_judge(body) for _, body in stub.requests)


def rows_of(outcome, suite="mt_bench"):
    [folder] = outcome.folders
    return RecordsFile(folder / "records" / f"{suite}.jsonl").rows()


def test_sampled_items_are_answered_again_and_greedy_ones_once(tmp_path):
    with StubEndpoint(model) as stub:
        first = run(config(stub, tmp_path))
        asked = answers_asked(stub)
        again = run(config(stub, tmp_path, repeats=3))
        more = answers_asked(stub) - asked
    rows, once = rows_of(again), {row.item_id: row for row in rows_of(first)}
    sampled = [row for row in rows if TEMPERATURES[row.facts["category"]] > 0]
    assert 0 < len(sampled) < len(rows)
    # Two turns, two further answers; the first of each item is the run's without repeats.
    assert more == len(sampled) * 2 * 2
    for row in rows:
        assert [draw.repeat for draw in row.draws] == ([0, 1, 2] if row in sampled else [0])
        assert row.draws[0] == once[row.item_id].draws[0]
        assert len(row.marks["score"]) == len(row.draws)
        assert [verdict.repeat for verdict in row.verdicts if verdict.turn == 1] == list(range(len(row.draws)))
    assert again.folders[0].name.endswith("~repeats-3")


def test_the_figure_is_the_mean_over_repeats_with_its_spread(tmp_path):
    with StubEndpoint(model) as stub:
        outcome = run(config(stub, tmp_path, repeats=4))
    rows, [scores] = rows_of(outcome), outcome.models
    figures = scores.suites["mt_bench"]
    marks = [list(row.marks["score"]) for row in rows]
    assert figures["score"] == pytest.approx(fmean(map(fmean, marks)))
    found = figures["repeats"]
    assert (found["n"], found["sampled"] + found["once"]) == (4, len(rows))
    [part] = found["parts"].values()
    assert part["within"] == pytest.approx(fmean(variance(own) if len(own) > 1 else 0 for own in marks))
    assert part["stderr"] == pytest.approx((variance(map(fmean, marks)) / len(marks)) ** 0.5)
    assert part["scores"][1] == pytest.approx(fmean(own[1] if len(own) > 1 else own[0] for own in marks))
    assert part["stderr"] <= part["stderr_one"]
    assert figures["n"] == 2 * len(rows)
    lines = (outcome.folders[0] / "mt_bench/model_answer.jsonl").read_text().splitlines()
    choices = [[choice["index"] for choice in json.loads(line)["choices"]] for line in lines]
    assert [len(own) for own in choices] == [len(row.draws) for row in rows]
    judged = (outcome.folders[0] / "mt_bench/model_judgment.jsonl").read_text().splitlines()
    assert len(judged) == 2 * len(rows)


def test_parts_with_a_right_answer_have_pass_at_k(tmp_path):
    def guessing(path, body):
        return 200, text_reply("AB"[body["seed"] % 2] if "seed" in body else "A")

    with StubEndpoint(guessing) as stub:
        outcome = run(config(stub, tmp_path, ["mixeval"], repeats=3, mixeval_parser="rule"))
    [scores] = outcome.models
    part = scores.suites["mixeval"]["repeats"]["parts"]["multiple_choice"]
    rows = [row for row in rows_of(outcome, "mixeval") if row.part == "multiple_choice"]
    rights = [int(sum(row.marks["score"])) for row in rows]
    assert 0 < sum(rights) < 3 * len(rows)
    for k in (1, 2, 3):
        expected = fmean(pass_at_k(3, right, k) for right in rights)
        assert part["pass_at"][str(k)]["value"] == pytest.approx(expected)
    assert part["maj_at"]["1"]["value"] == pytest.approx(fmean(rights) / 3)
    # Two kinds of letters at most are given, so the majority of three is right where two are.
    assert part["maj_at"]["3"]["value"] == pytest.approx(fmean(right >= 2 for right in rights))


def test_the_table_says_what_the_repeats_show(tmp_path, capsys):
    def guessing(path, body):
        return 200, text_reply("AB"[body["seed"] % 2] if "seed" in body else "A")

    with StubEndpoint(guessing) as stub:
        outcome = run(config(stub, tmp_path, ["mixeval"], repeats=3, mixeval_parser="rule"))
    print_models(Console(), outcome.models)
    said = " ".join(capsys.readouterr().out.split())
    assert "mixeval: mean of 3 answers to 12 items" in said
    assert "multiple_choice: standard error" in said
    assert "pass@3" in said
    assert "maj@3" in said


def test_repeats_of_greedy_answers_alone_are_refused(tmp_path):
    with StubEndpoint(model) as stub:
        with pytest.raises(UsageError, match=r"has nothing to repeat.*--sampling model"):
            run(config(stub, tmp_path, ["arena_hard"], repeats=2))
        assert answers_asked(stub) == 0
