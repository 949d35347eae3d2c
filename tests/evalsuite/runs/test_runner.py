"""The whole of ``evalsuite run`` on the mini data, with a scripted endpoint in the model's place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evalsuite.config import read_config
from evalsuite.errors import ServerError, UsageError
from evalsuite.progress import Progress
from evalsuite.report.tabs import tabs_of
from evalsuite.results.reading import read_results_folder
from evalsuite.runs.runner import run
from evalsuite.suites.mt_bench.suite import MtBench
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

SUITES = ["mt_bench", "alpaca_eval", "mixeval"]


def obliging(path, body):
    """Answer whatever is asked: verdicts under guidance, log-probabilities where wanted, else words."""
    if body.get("top_logprobs"):
        top = [{"token": "m", "logprob": -0.7}, {"token": "M", "logprob": -0.8}]
        return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}
    guide = body.get("structured_outputs")
    if guide:
        return 200, text_reply(guide["choice"][len(guide["choice"]) // 2])
    return 200, text_reply("A plain answer.")


def config(stub, results, **changes):
    word = f"stub@{stub.url}"
    values = {"models": [word], "judge": word, "suites": SUITES, "data": "mini", "results": results}
    return read_config(values | changes)


def figures(outcome):
    """Return the only model's scores.json."""
    (scores,) = outcome.models
    return scores.as_json()


def folder_of(results: Path) -> Path:
    (folder,) = (path for path in results.glob("stub-*") if "~" not in path.name)
    return folder


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in {"seconds", "tokens", "tstamp"}}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_a_run_writes_the_contracts_files_and_a_second_one_asks_nothing(tmp_path):
    with StubEndpoint(obliging) as stub:
        outcome = run(config(stub, tmp_path))
        asked = len(stub.requests)
        again = run(config(stub, tmp_path))
        assert len(stub.requests) == asked > 0
    document = figures(outcome)
    assert without_times(figures(again)) == without_times(document)
    assert document["schema"] == 1
    assert document["data"] == "mini"
    known = {"schema", "model", "judge", "data", "limit", "suites", "average", "seconds", "tokens"}
    assert set(document) == known | {"reasoning", "answers"}
    assert set(document["suites"]) == set(SUITES)
    assert document["suites"]["mt_bench"]["n_scored"] == document["suites"]["mt_bench"]["n"] > 0
    assert document["suites"]["alpaca_eval"]["unscored"] == {}
    assert document["average"]["paper"] is None
    assert set(document["average"]["partial"]["paper"]["parts"]) == {"mixeval"}
    folder = folder_of(tmp_path)
    for file in (
        "scores.json",
        "manifest.json",
        "mt_bench/model_answer.jsonl",
        "mt_bench/model_judgment.jsonl",
        "alpaca_eval/model_outputs.json",
        "alpaca_eval/annotations.json",
    ):
        assert (folder / file).is_file(), file
    assert list((folder / "mixeval").glob("*.jsonl"))
    assert json.loads((folder / "scores.json").read_text()) == document


def test_the_manifest_says_what_the_figures_rest_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_API_KEY", "sekret")
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, seed=5))
    (folder,) = tmp_path.glob("stub-*~seed-5")
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["seed"] == 5
    assert manifest["versions"]["python"]
    assert set(manifest["suites"]) == set(SUITES)
    for suite in manifest["suites"].values():
        assert all(len(pin["sha256"]) == 64 for pin in suite["data_pins"].values())
    assert "sekret" not in text


def test_a_lost_results_file_is_written_again_from_the_store(tmp_path):
    with StubEndpoint(obliging) as stub:
        before = figures(run(config(stub, tmp_path)))
        asked = len(stub.requests)
        (folder_of(tmp_path) / "scores.json").unlink()
        after = figures(run(config(stub, tmp_path)))
        assert len(stub.requests) == asked
    assert without_times(after) == without_times(before)


def test_damaged_records_are_written_again_from_the_store(tmp_path):
    with StubEndpoint(obliging) as stub:
        before = figures(run(config(stub, tmp_path, suites=["mt_bench"])))
        asked = len(stub.requests)
        path = folder_of(tmp_path) / "records/mt_bench.jsonl"
        whole = path.read_bytes()
        for damaged in (whole[:-50], whole[:30], b"", whole + whole.splitlines(keepends=True)[1]):
            path.write_bytes(damaged)
            after = figures(run(config(stub, tmp_path, suites=["mt_bench"])))
            assert path.read_bytes() == whole
            assert without_times(after) == without_times(before)
        assert len(stub.requests) == asked


@pytest.mark.usefixtures("no_pauses")
def test_a_server_that_dies_half_way_loses_nothing(tmp_path):
    alive = [True]
    answered = [0]

    def mortal(path, body):
        if not alive[0]:
            return None
        answered[0] += 1
        alive[0] = answered[0] < 10
        return obliging(path, body)

    with StubEndpoint(obliging) as whole:
        expected = figures(run(config(whole, tmp_path / "whole")))
    with StubEndpoint(mortal) as stub:
        with pytest.raises(ServerError):
            run(config(stub, tmp_path / "cut"))
        asked = [json.dumps(body, sort_keys=True) for _, body in stub.requests[:10]]
        alive[0], answered[0] = True, -(10**9)
        first_part = len(stub.requests)
        resumed = figures(run(config(stub, tmp_path / "cut")))
        rest = [json.dumps(body, sort_keys=True) for _, body in stub.requests[first_part:]]
    assert not set(asked) & set(rest), "what was answered is not asked again"
    assert without_times(resumed["suites"]) == without_times(expected["suites"])


def test_without_a_judge_answers_are_kept_and_figures_are_missing(tmp_path):
    with StubEndpoint(obliging) as stub:
        outcome = run(config(stub, tmp_path, judge=None, no_judge=True))
        answers = len(stub.requests)
        document = figures(outcome)
        assert document["suites"]["mt_bench"]["score"] is None
        assert document["suites"]["mt_bench"]["unscored"] == {"no_judge": document["suites"]["mt_bench"]["n"]}
        assert document["suites"]["mixeval"]["score"] is not None, "the rule parser needs no judge"
        assert document["judge"] is None
        assert outcome.n_unscored == 0, "answers that await their judge are what was asked for"
        judged = figures(run(config(stub, tmp_path, fresh=True)))
        asked_again = [body for _, body in stub.requests[answers:] if "A plain answer" not in json.dumps(body)]
    assert judged["suites"]["mt_bench"]["score"] is not None
    assert not [body for body in asked_again if not body.get("structured_outputs") and not body.get("top_logprobs")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"limit": 2}, "no limit (now limit 2)"), ({"data": "full", "suites": ["mt_bench"]}, "data mini")],
)
def test_figures_on_other_data_are_refused_and_fresh_sets_the_old_ones_aside(tmp_path, monkeypatch, changes, words):
    load = MtBench.load
    monkeypatch.setattr(MtBench, "load", lambda self, options: load(self, options.model_copy(update={"data": "mini"})))
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mt_bench"]))
        before = (folder_of(tmp_path) / "scores.json").read_text()
        with pytest.raises(UsageError, match=re.escape(words)) as error:
            run(config(stub, tmp_path, **{"suites": ["mt_bench"]} | changes))
        assert "--fresh" in str(error.value)
        assert (folder_of(tmp_path) / "scores.json").read_text() == before
        run(config(stub, tmp_path, **{"suites": ["mt_bench"]} | changes, fresh=True))
    (aside,) = folder_of(tmp_path).glob("replaced/*/scores.json")
    assert aside.read_text() == before


def asked_of(stub):
    return len(stub.requests)


def test_another_judge_adds_its_figures_and_asks_the_model_nothing(tmp_path):
    def harsh(path, body):
        guide = body.get("structured_outputs")
        return (200, text_reply(guide["choice"][0])) if guide else obliging(path, body)

    with StubEndpoint(obliging) as stub, StubEndpoint(harsh, model="other") as other:
        first = figures(run(config(stub, tmp_path, suites=["mt_bench", "mixeval"])))
        asked = asked_of(stub)
        again = config(stub, tmp_path, suites=["mt_bench", "mixeval"], judge=f"other@{other.url}")
        second = figures(run(again))
        assert asked_of(stub) == asked, "the answers are there"
        assert asked_of(other) > 0
        judged = asked_of(other)
        back = figures(run(config(stub, tmp_path, suites=["mt_bench", "mixeval"])))
        assert figures(run(again))["suites"] == second["suites"]
        assert (asked_of(stub), asked_of(other)) == (asked, judged), "both judges' figures stand"
    assert second["judge"]["name"] == "other"
    assert second["suites"]["mt_bench"]["score"] < first["suites"]["mt_bench"]["score"]
    [earlier] = second["judged"]
    assert earlier["judge"]["name"] == "stub"
    assert earlier["suites"] == first["suites"] == back["suites"]
    rows = [json.loads(line) for line in (folder_of(tmp_path) / "records/mt_bench.jsonl").read_text().splitlines()]
    assert len(rows[0]["judges"]) == 2
    assert all(len({verdict["judge"] for verdict in row["verdicts"]}) == 2 for row in rows[1:])
    models = read_results_folder(tmp_path).models
    assert sorted(model.judge.name for model in models) == ["other", "stub"]
    for model in models:
        records = model.records("mt_bench")
        marks = [row.marks["score"][0] for row in records.rows()]
        expected = first if model.judge.name == "stub" else second
        assert sum(marks) / len(marks) == pytest.approx(expected["suites"]["mt_bench"]["score"])


def test_other_settings_are_another_variant_with_a_folder_of_its_own(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mt_bench"]))
        before = (folder_of(tmp_path) / "scores.json").read_text()
        run(config(stub, tmp_path, suites=["mt_bench"], seed=3))
        run(config(stub, tmp_path, suites=["mt_bench"], seed=4, label="mine"))
        with pytest.raises(UsageError, match=r"seed 4 \(now 5\)"):
            run(config(stub, tmp_path, suites=["mt_bench"], seed=5, label="mine"))
    slug = min(tmp_path.glob("stub-*")).name
    assert sorted(path.name for path in tmp_path.glob("stub-*")) == [slug, f"{slug}~mine", f"{slug}~seed-3"]
    assert (tmp_path / slug / "scores.json").read_text() == before
    assert sorted(model.name for model in read_results_folder(tmp_path).models) == [
        "stub",
        "stub (mine)",
        "stub (seed-3)",
    ]


def test_suites_run_on_different_days_stand_together(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mt_bench"]))
        document = figures(run(config(stub, tmp_path, suites=["alpaca_eval"])))
    assert set(document["suites"]) == {"mt_bench", "alpaca_eval"}
    assert set(document["judge"]["methods"]) == {"mt_bench", "alpaca_eval"}


def test_a_sample_has_its_own_folder_and_tab(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mixeval"]))
        asked = len(stub.requests)
        [scores] = run(config(stub, tmp_path, suites=["mixeval"], sample=4)).models
        # Answers and verdicts of the whole set are in the store.
        assert len(stub.requests) == asked
    assert scores.suites["mixeval"]["n"] == 4
    assert scores.variant == "sample-4"
    whole, part = sorted(read_results_folder(tmp_path).models, key=lambda model: model.scores.variant)
    assert "sample" not in whole.manifest.suites["mixeval"].options
    assert part.manifest.suites["mixeval"].options["sample"] == 4
    titles = [tab.title for tab in tabs_of([whole, part])]
    assert [title.split(" · ")[-1] for title in sorted(titles)] == [
        "mixeval a sample of 4 items, seed 0",
        "mixeval without sampling",
    ]


def test_figures_that_wait_for_no_judge_are_written_before_others_are_judged(tmp_path):
    """The judge looks at the results folder when it is asked first: the suite without one has its figures there."""
    seen = []

    def judging(path, body):
        written = [json.loads(file.read_text()) for file in tmp_path.glob("stub-*/scores.json")]
        seen.append({key: entry["n"] for one in written for key, entry in one["suites"].items()})
        return obliging(path, body)

    with StubEndpoint(obliging) as stub, StubEndpoint(judging, model="judge") as judge:
        suites = ["recipes/suites/shop_sums.yaml", "mt_bench"]
        outcome = run(config(stub, tmp_path, judge=f"judge@{judge.url}", suites=suites))
        n = figures(outcome)["suites"]["shop_sums"]["n"]
        assert seen[0] == {"shop_sums": n}
        assert set(figures(outcome)["suites"]) == {"shop_sums", "mt_bench"}
        asked = len(stub.requests)
        run(config(stub, tmp_path, judge=f"judge@{judge.url}", suites=suites))
        assert len(stub.requests) == asked


def test_the_bar_of_a_suite_has_its_mean_so_far_and_what_is_unscored(tmp_path):
    class Notes(Progress):
        def __init__(self):
            self.texts = {}

        def note(self, task, text):
            self.texts.setdefault(task, []).append(text)

    def sixes(path, body):
        return (200, text_reply("6")) if body.get("structured_outputs") else obliging(path, body)

    notes = Notes()
    with StubEndpoint(sixes) as stub:
        run(config(stub, tmp_path, suites=["mt_bench"]), notes)
        (texts,) = notes.texts.values()
    # Every rating is 6, so the mean has no error.
    assert texts[-1] == f"mean so far 6 (n {len(texts)})"
    assert [int(text.split("(n ")[1].rstrip(")")) for text in texts] == list(range(1, len(texts) + 1))
