"""A run with several judges: each one's figures, the panel's from their mean, and what they disagree on."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.records.files import RecordsFile
from evalsuite.report.build import build_report
from evalsuite.report.tabs import tabs_of
from evalsuite.results.reading import read_results_folder
from evalsuite.runs.runner import run
from judges.panel import weight_by_accuracy
from tests.evalsuite.runs.test_runner import folder_of, obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

TURNS = 10  # five questions of the mini data, two turns each


def rates(first, second=None):
    """Answer as a judge that rates every first turn ``first`` and every second one ``second``."""

    def answer(path, body):
        text = "\n".join(message["content"] for message in body["messages"])
        given = second if second is not None and "second answer" in text else first
        return (200, text_reply(f"Rating: [[{given}]]")) if given is not None else (400, {"error": "no"})

    return answer


class Judged:
    """A scripted candidate with its judges, by name."""

    def __init__(self, results, **judges):
        self.results, self.judges, self.stack = results, judges, ExitStack()

    def __enter__(self):
        self.candidate = self.stack.enter_context(StubEndpoint(obliging))
        self.stubs = {
            name: self.stack.enter_context(StubEndpoint(handler, model=name)) for name, handler in self.judges.items()
        }
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)

    def run(self, *names, **changes):
        judges = [f"{name}@{self.stubs[name].url}" for name in names or self.stubs]
        values = {"models": [f"stub@{self.candidate.url}"], "judge": judges, "suites": ["mt_bench"], "data": "mini"}
        [scores] = run(read_config({**values, "results": self.results, "max_unscored": 1, **changes})).models
        return scores.as_json()


def test_the_panels_figures_are_the_mean_and_each_judge_has_its_own(tmp_path):
    with Judged(tmp_path, high=rates(9, 7), low=rates(4, 2)) as judged:
        scores = judged.run()
        asked = {name: len(stub.requests) for name, stub in judged.stubs.items()}
        assert asked == {"high": TURNS, "low": TURNS}
        assert judged.run() == scores
        assert {name: len(stub.requests) for name, stub in judged.stubs.items()} == asked, "nothing is asked twice"
    assert scores["judge"]["name"] == "panel of high, low"
    assert [(one["name"], one["weight"]) for one in scores["judge"]["members"]] == [("high", 1.0), ("low", 1.0)]
    own = scores["suites"]["mt_bench"]
    assert (own["score"], own["turn_1"], own["turn_2"], own["n"]) == (5.5, 6.5, 4.5, TURNS)
    each = {one["judge"]["name"]: one["suites"]["mt_bench"] for one in scores["judged"]}
    assert {name: one["score"] for name, one in each.items()} == {"high": 8.0, "low": 3.0}
    assert "panel" in own
    assert all("panel" not in one for one in each.values())


def test_agreement_and_the_items_that_judges_disagree_on(tmp_path):
    def by_category(path, body):
        text = "\n".join(message["content"] for message in body["messages"])
        return 200, text_reply(f"Rating: [[{9 if 'bakery' in text else 5}]]")

    with Judged(tmp_path, one=by_category, other=rates(5)) as judged:
        panel = judged.run()["suites"]["mt_bench"]["panel"]
    # One item of five is rated 9 and 5, the others 5 and 5: two points on ten are a fifth, four are more.
    assert (panel["n"], panel["disputed"]) == (5, 1)
    [pair] = panel["pairs"]
    assert (pair["a"], pair["b"], pair["n"], pair["alike"]) == ("one", "other", 5, 0.8)
    # Marks 9,5,5,5,5 and 5,5,5,5,5. Kappa: 1 - mean((x-y)^2) / (var x + var y + difference of means squared)
    # = 1 - 3.2 / (2.56 + 0 + 0.64) = 0. Alpha: observed 32/10, expected 2 (10 * 9.6 - ...) below.
    assert pair["kappa"] == pytest.approx(0.0)
    values = [9, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    expected = sum((x - y) ** 2 for x in values for y in values) / (10 * 9)
    assert panel["alpha"] == pytest.approx(1 - (2 * 16 / 10) / expected)
    assert panel["alpha_ci95"] is None, "four of the five without one item each are alike, the fifth has no alpha"
    [row] = [
        row
        for row in RecordsFile(folder_of(tmp_path) / "records/mt_bench.jsonl").rows()
        if row.item_id in panel["disputed_items"]
    ]
    assert "one: 9\nother: 5" in [verdict.text for verdict in row.verdicts]


def test_alpha_has_an_interval_in_the_figures_and_at_the_terminal(tmp_path):
    def by_length(shift):
        def answer(path, body):
            length = sum(len(message["content"]) for message in body["messages"])
            return 200, text_reply(f"Rating: [[{1 + (length + shift * (length % 2)) % 9}]]")

        return answer

    with Judged(tmp_path, one=by_length(0), other=by_length(2)) as judged:
        words = ["run", f"stub@{judged.candidate.url}", "--suite", "mt_bench", "--data", "mini"]
        for name, stub in judged.stubs.items():
            words += ["--judge", f"{name}@{stub.url}"]
        words += ["--results", str(tmp_path)]
        shown = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        [scores] = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["models"]
    panel = scores["suites"]["mt_bench"]["panel"]
    low, high = panel["alpha_ci95"]
    assert low < panel["alpha"] < high
    assert f"alpha {panel['alpha']:.2f} [{low:.2f}, {high:.2f}]" in shown.output


def test_a_later_single_judge_and_an_earlier_one_share_the_members_figures(tmp_path):
    with Judged(tmp_path, high=rates(9), low=rates(4), third=rates(2)) as judged:
        alone = judged.run("high")
        judged.run("high", "low")
        asked = len(judged.stubs["high"].requests)
        again = judged.run("low")
        assert len(judged.stubs["high"].requests) == asked == TURNS
        assert again["judge"]["name"] == "low", "its figures of the panel's run stand"
        third = judged.run("third")
    assert {one["judge"]["name"] for one in third["judged"]} == {"high", "low", "panel of high, low"}
    members = {one["judge"]["name"]: one["suites"]["mt_bench"]["score"] for one in third["judged"]}
    assert members["high"] == alone["suites"]["mt_bench"]["score"]


@pytest.mark.usefixtures("no_pauses")
def test_a_panel_needs_more_than_half_of_its_judges(tmp_path):
    with Judged(tmp_path, high=rates(9), low=rates(None, None), third=rates(None, None)) as judged:
        scores = judged.run()["suites"]["mt_bench"]
    assert (scores["score"], scores["n_scored"]) == (None, 0)
    assert scores["unscored"] == {"request_failed": TURNS}, "another run may still bring the verdicts"
    with Judged(tmp_path / "2", high=rates(9), low=rates(4), third=rates(None, None)) as judged:
        scores = judged.run()["suites"]["mt_bench"]
    assert (scores["score"], scores["n_scored"]) == (6.5, TURNS)


@pytest.mark.usefixtures("no_pauses")
def test_a_judge_that_fails_takes_no_other_judges_figures_with_it(tmp_path):
    fails = [True]

    def low(path, body):
        return None if fails else rates(4)(path, body)

    with Judged(tmp_path, high=rates(9), low=low) as judged:
        words = ["run", f"stub@{judged.candidate.url}", "--suite", "mt_bench", "--data", "mini"]
        for name, stub in judged.stubs.items():
            words += ["--judge", f"{name}@{stub.url}"]
        words += ["--results", str(tmp_path)]
        failed = CliRunner().invoke(app, [*words, "--json"])
        fails.clear()
        asked = {name: len(stub.requests) for name, stub in judged.stubs.items()}
        again = CliRunner().invoke(app, [*words, "--json"])
        assert len(judged.stubs["high"].requests) == asked["high"], "its verdicts stand"
    assert failed.exit_code == 3
    assert "failed: stub mt_bench judged by low" in failed.stderr
    assert "stub: the figures of high are written; the panel needs the verdicts of all its judges" in failed.stderr
    [scores] = json.loads(failed.stdout)["models"]
    assert (scores["judge"]["name"], scores["suites"]["mt_bench"]["score"]) == ("high", 9.0)
    assert again.exit_code == 0, again.output
    [scores] = json.loads(again.stdout)["models"]
    assert scores["suites"]["mt_bench"]["score"] == 6.5
    assert {one["judge"]["name"]: one["suites"]["mt_bench"]["score"] for one in scores["judged"]} == {
        "high": 9.0,
        "low": 4.0,
    }


def test_weights_by_card(tmp_path):
    with Judged(tmp_path, good=rates(9), fair=rates(4)) as judged:
        with pytest.raises(UsageError, match="the judge good has no card"):
            judged.run(judge_weights="card")
        equal = judged.run()
        for name, accuracy in (("good", 0.9), ("fair", 0.6)):
            fingerprint = next(one for one in equal["judge"]["members"] if one["name"] == name)["fingerprint"]
            folder = tmp_path / "judges" / f"{name}-{fingerprint[:8]}"
            folder.mkdir(parents=True)
            card = {"judge": {"name": name, "method": "verdict"}, "pairs": {"name": "pairs", "n": 100}}
            (folder / "card.json").write_text(json.dumps({**card, "agreement": {"accuracy": accuracy}}))
        weighed = judged.run(judge_weights="card")
    # ln(0.9 / 0.1) and ln(0.6 / 0.4): 2.1972 and 0.4055.
    expected = (9 * 2.197225 + 4 * 0.405465) / (2.197225 + 0.405465)
    assert weighed["suites"]["mt_bench"]["score"] == pytest.approx(expected, abs=1e-5)
    assert weighed["judge"]["members"][0]["card"]["accuracy"] == 0.9
    assert weighed["judge"]["fingerprint"] != equal["judge"]["fingerprint"]
    assert weight_by_accuracy(0.4) == 0.0


def test_verdicts_closed_under_guided_output_are_counted_per_judge(tmp_path):
    def closes(path, body):
        if choices := body.get("structured_outputs"):
            return 200, text_reply(choices["choice"][6])
        second = "second answer" in "\n".join(message["content"] for message in body["messages"])
        return 200, text_reply("A poor answer. Rating: 2" if second else "I cannot say.")

    with Judged(tmp_path, closing=closes, plain=rates(9)) as judged:
        words = ["run", f"stub@{judged.candidate.url}", "--suite", "mt_bench", "--data", "mini"]
        for name, stub in judged.stubs.items():
            words += ["--judge", f"{name}@{stub.url}"]
        shown = CliRunner().invoke(app, [*words, "--results", str(tmp_path), "--json"], env={"COLUMNS": "200"})
        table = CliRunner().invoke(app, [*words, "--results", str(tmp_path)], env={"COLUMNS": "200"})
    [scores] = json.loads(shown.stdout)["models"]
    each = {one["judge"]["name"]: one["suites"]["mt_bench"] for one in scores["judged"]}
    assert each["closing"]["verdicts"] == {"n": TURNS, "closed_by_guide": TURNS, "contradictions": TURNS // 2}
    assert each["plain"]["verdicts"] == {"n": TURNS, "closed_by_guide": 0, "contradictions": 0}
    assert "verdicts" not in scores["suites"]["mt_bench"], "the panel's verdicts are means of its members'"
    assert f"(closing): {TURNS} of {TURNS} verdicts were completed under guided output" in table.output
    assert f"{TURNS // 2} of these contradict the text" in table.output
    rows = list(RecordsFile(folder_of(tmp_path) / "records/mt_bench.jsonl").rows())
    closed = [one for row in rows for one in row.verdicts if one.judge.startswith("closing")]
    assert [(one.turn, one.value, one.closed_by_guide, one.contradicts) for one in closed[:2]] == [
        (1, 7.0, True, False),
        (2, 7.0, True, True),
    ]
    assert not build_report(tmp_path).faults


def test_options_of_a_panel_are_checked(tmp_path):
    with Judged(tmp_path, high=rates(9)) as judged, pytest.raises(UsageError, match="duplicate judge high"):
        judged.run("high", "high")


def test_a_panel_has_a_tab_of_its_own_and_the_terminal_shows_each_judge(tmp_path):
    with Judged(tmp_path, high=rates(9), low=rates(4)) as judged:
        words = ["run", f"stub@{judged.candidate.url}", "--suite", "mt_bench", "--data", "mini"]
        for name, stub in judged.stubs.items():
            words += ["--judge", f"{name}@{stub.url}"]
        shown = CliRunner().invoke(app, [*words, "--results", str(tmp_path)], env={"COLUMNS": "160"})
        asked = len(judged.stubs["high"].requests)
        again = CliRunner().invoke(app, ["run", "--config", str(folder_of(tmp_path) / "config.yaml"), "--json"])
        assert again.exit_code == 0, again.output
        assert len(judged.stubs["high"].requests) == asked
    assert shown.exit_code == 0, shown.output
    for text in ("panel of high, low", "high", "9.00", "low", "4.00", "6.50", "alpha"):
        assert text in shown.output
    results = read_results_folder(tmp_path)
    tabs = tabs_of(results.models)
    assert sorted(tab.judge.name for tab in tabs) == ["high", "low", "panel of high, low"]
    assert not build_report(tmp_path).faults
