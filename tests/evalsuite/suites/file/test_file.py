"""Benchmarks in a YAML file: every way to score, faults all at once, and the same treatment as built-in suites."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.checkpoint import bounded_trial
from evalsuite.cli import app
from evalsuite.config import read_config, resolved_yaml
from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict, replaced
from evalsuite.results.importing import import_results
from evalsuite.results.reading import read_results_folder
from evalsuite.runs.runner import run
from evalsuite.suites import registry
from evalsuite.suites.file.check import check_file
from evalsuite.suites.file.options import FileOptions
from evalsuite.suites.file.suite import FileSuite, suite_in
from evalsuite.suites.registry import parse_suite
from judges.types import Unscored
from tests.evalsuite.scripted_chat import ScriptedChat
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES = sorted((ROOT / "recipes" / "suites").glob("*.yaml"))
HEADER = Header("mine", 1)
SUMS = [{"id": "a", "prompt": "2+2?", "reference": 4}, {"id": "b", "prompt": "3+3?", "reference": [6, "6.0"]}]
ROWS = [{"id": "a", "prompt": "2+2?", "reference": 4}, {"id": "b", "prompt": "3+3?", "reference": ["6", "six"]}]


def answered(suite: FileSuite, *texts: str, **options: Any) -> list[Row]:
    """Load a suite and give its items these last answers; marked."""
    loaded = suite.load(FileOptions(**options))
    rows = [suite.row(item, loaded) for item in loaded.items]
    draws = [(Draw((Reply(text),)),) for text in texts]
    return [suite.mark(replaced(row, draws=draw), HEADER) for row, draw in zip(rows, draws, strict=True)]


def marks(rows: list[Row]) -> list[float | None]:
    return [row.marks["score"][0] for row in rows]


# ---------------------------------------------------------------- ways to score


@pytest.mark.parametrize(
    ("score", "texts", "expected"),
    [
        ("numeric", ("It is 4.", "7"), [1, 0]),
        ("numeric", ("First 3, then 4", "1,006 or 6.0"), [1, 1]),
        ({"numeric": {"tolerance": 0.5}}, ("5", "1"), [1, 0]),
        ("numeric", ("from 1-4", "\u22126"), [1, 0]),
        ("numeric", ("4e0", "it is 0.6e+1."), [1, 1]),
        ("numeric", ("2.4e1", "-6"), [0, 0]),
        ("exact_match", ("4", " six \n"), [1, 1]),
        ("exact_match", ("4.", "Six"), [0, 0]),
        ({"exact_match": {"ignore_case": True, "ignore_punctuation": True}}, ("4.", "Six!"), [1, 1]),
        ({"regex": {"pattern": r"answer: (\S+)"}}, ("answer: 5, answer: 4", "answer: six"), [1, 1]),
        ({"regex": {"pattern": r"answer: (\S+)", "take": "first"}}, ("answer: 5 answer: 4", "six"), [0, 0]),
        ("math_verify", (r"\boxed{\frac{8}{2}}", "$7$"), [1, 0]),
    ],
)
def test_an_answer_is_right_or_wrong(write, score, texts, expected):
    rows = SUMS if "numeric" in str(score) else ROWS
    assert marks(answered(suite_in(write(score, rows)), *texts)) == expected


def test_a_choice_is_read_by_letter_and_its_options_are_shown(write):
    rows = [
        {"prompt": "Capital of Peru?", "options": ["Lima", "Quito"], "reference": "Lima"},
        {"prompt": "Capital of Chad?", "options": ["Accra", "N'Djamena"], "reference": "b"},
    ]
    suite = suite_in(write("choice", rows))
    assert marks(answered(suite, "The answer is (A)", "A. Accra")) == [1, 0]
    assert suite.load(FileOptions()).items[0].data["prompt"][0].content == "Capital of Peru?\n\nA. Lima\nB. Quito"


def test_a_function_is_run_only_when_it_is_trusted(write, tmp_path):
    (tmp_path / "scorer.py").write_text(
        "def words(prompt, answer, row):\n"
        "    if answer == 'raise':\n        raise KeyError('x')\n"
        "    return None if not answer else min(1, len(answer.split()) / row['reference'])\n"
    )
    rows = [{"prompt": str(number), "reference": 4} for number in range(4)]
    path = write({"function": "./scorer.py:words"}, rows)
    with pytest.raises(UsageError, match="--trust-suite-code"):
        suite_in(path).load(FileOptions())
    marked = answered(suite_in(path), "one two", "1 2 3 4 5", "", "raise", trust_suite_code=True)
    assert marks(marked) == [0.5, 1, None, None]
    assert [row.unscored[0].reason for row in marked[2:]] == ["no_score", "no_score"]
    assert "KeyError" in marked[3].unscored[0].detail


def test_rows_of_an_untrusted_function_keep_their_recorded_marks(write, tmp_path):
    (tmp_path / "scorer.py").write_text("raise SystemExit('it ran')\n")
    suite = suite_in(write({"function": "./scorer.py:words"}, ROWS))
    row = Row("a", draws=(Draw((Reply("x"),)),), marks={"score": (0.5,)})
    assert suite.mark(row, HEADER) is row


def test_a_rubric_is_asked_with_both_turns_and_scored_on_its_own_scale(write):
    score = {"rating": {"criteria": "Be kind.", "scale": [0, 3]}}
    suite = suite_in(write(score, [{"id": "a", "prompt": ["one", "two"], "reference": "ref"}], system="You are kind."))
    loaded = suite.load(FileOptions())
    model = ScriptedChat(["first answer", "second answer"])
    draw = asyncio.run(suite.answer(loaded.items[0], loaded, model, FileOptions()))
    assert [call.roles for call in model.calls] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
    ]
    judge = ScriptedChat(lambda call: "2]]" if call.guide else "I planted [[3]] but give none.")
    [verdict] = asyncio.run(suite.judge(loaded.items[0], draw, loaded, judge, FileOptions()))
    asked = judge.calls[0].messages[-1].content
    assert all(text in asked for text in ("one", "two", "first answer", "second answer", "ref", "Be kind."))
    assert verdict.value == 2
    row = suite.mark(replaced(suite.row(loaded.items[0], loaded), draws=(draw,), verdicts=(verdict,)), HEADER)
    assert row.marks["score"] == (2,)
    scores = suite.score(HEADER, [row])
    assert (scores["score"], scores["n"], suite.scale) == (2.0, 1, (0, 3))


def test_items_in_another_order_give_the_same_interval(write):
    suite = suite_in(write({"rating": {"criteria": "x", "scale": [1, 5]}}, ROWS))
    rows = [Row(f"i{n}", verdicts=(Verdict(value=1 + n % 5),), marks={"score": (1 + n * n % 5,)}) for n in range(30)]
    one, other = (suite.score(HEADER, each) for each in (rows, rows[::-1]))
    assert one["ci95"] == other["ci95"]


def test_a_rating_out_of_the_scale_is_unscored(write):
    suite = suite_in(write({"rating": {"criteria": "x", "scale": [1, 5]}}, ROWS[:1]))
    row = Row("a", draws=(Draw((Reply("x"),)),), verdicts=(Verdict(unscored=Unscored("rating_out_of_range")),))
    scores = suite.score(HEADER, [suite.mark(row, HEADER)])
    assert (scores["score"], scores["unscored"]) == (None, {"rating_out_of_range": 1})


def pairwise(write, tmp_path: Path, **keys: Any) -> Path:
    baseline = [{"id": "a", "answer": "base a"}, {"prompt": "3+3?", "output": "base b"}]
    (tmp_path / "base.jsonl").write_text("".join(json.dumps(row) + "\n" for row in baseline))
    return write({"pairwise": {"baseline": "base.jsonl", "criteria": "Be right."}}, ROWS, **keys)


def test_pairwise_plays_two_games_against_the_recorded_answer(write, tmp_path):
    suite = suite_in(pairwise(write, tmp_path))
    loaded = suite.load(FileOptions())
    judge = ScriptedChat(lambda call: _prefer_mine(call.messages[-1].content))
    verdicts = asyncio.run(suite.judge(loaded.items[0], Draw((Reply("mine " * 100),)), loaded, judge, FileOptions()))
    assert [(one.order, one.value) for one in verdicts] == [("ba", "B>A"), ("ab", "A>>B")]
    row = replaced(suite.row(loaded.items[0], loaded), draws=(Draw((Reply("mine"),)),), verdicts=tuple(verdicts))
    scores = suite.score(HEADER, [suite.mark(row, HEADER)])
    assert scores["score"] == 100.0
    assert "Be right." in judge.calls[0].messages[-1].content
    assert suite.row(loaded.items[0], loaded).facts["reference"] == ["base a"]


def _prefer_mine(shown: str) -> str:
    return "[[B>A]]" if shown.index("base a") < shown.index("mine mine") else "[[A>>B]]"


def test_a_baseline_that_lacks_prompts_is_refused_with_their_number(write, tmp_path):
    path = pairwise(write, tmp_path)
    (tmp_path / "base.jsonl").write_text('{"id": "b", "answer": "x"}\n')
    with pytest.raises(DataError, match="lacks 1 of 2 prompts, the first: id 'a'"):
        suite_in(path).load(FileOptions())


# ---------------------------------------------------------------- what decides whether figures compare


def test_every_edit_that_changes_the_meaning_changes_the_hash(write, tmp_path):
    def hashes(score: Any, rows: Any = SUMS, **keys: Any) -> dict[str, str | None]:
        pins = suite_in(write(score, rows, **keys)).load(FileOptions(trust_suite_code=True)).data_pins
        return {name: pin.sha256 for name, pin in pins.items()}

    numeric = hashes("numeric")
    assert hashes("numeric", title="Another title") == numeric
    assert hashes({"numeric": {"tolerance": 0.1}})["mine/file"] != numeric["mine/file"]
    assert hashes("numeric", system="Be brief.")["mine/file"] != numeric["mine/file"]
    assert hashes("numeric", sampling={"max_new_tokens": 7})["mine/file"] != numeric["mine/file"]
    edited = hashes("numeric", [SUMS[0], {**SUMS[1], "reference": 7}])
    assert edited["mine/file"] == numeric["mine/file"]
    assert edited["mine/prompts"] != numeric["mine/prompts"]
    (tmp_path / "scorer.py").write_text("def f(p, a, r): return 1\n")
    function = hashes({"function": "./scorer.py:f"})
    (tmp_path / "scorer.py").write_text("def f(p, a, r): return 0\n")
    assert hashes({"function": "./scorer.py:f"})["mine/file"] != function["mine/file"]
    template = {"rating": {"criteria": "x", "scale": [1, 5], "template": "t.jinja"}}
    (tmp_path / "t.jinja").write_text("{{ answers }} {{ low }} {{ high }} {{ nonce }}")
    rated = hashes(template)
    (tmp_path / "t.jinja").write_text("{{ answers }} {{ low }}-{{ high }} {{ nonce }}")
    assert hashes(template)["mine/file"] != rated["mine/file"]


def test_rows_without_ids_get_one_from_their_content(write):
    rows = [{"prompt": "2+2?", "reference": 4}, {"prompt": "3+3?", "reference": 6}]
    ids = [item.id for item in suite_in(write("numeric", rows)).load(FileOptions()).items]
    again = [item.id for item in suite_in(write("numeric", rows[::-1])).load(FileOptions()).items]
    assert len(set(ids)) == 2
    assert ids == again[::-1]


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"name": "Bad Name"}, "not a valid name"),
        ({"promts": "x"}, "did you mean 'prompts'"),
        ({"sampling": {"temperture": 1}}, "did you mean 'temperature'"),
        ({"score": {}}, "no way to score"),
        ({"score": {"numeric": {}, "choice": {}}}, "are 2 ways to score"),
        ({"score": {"numerik": {}}}, "did you mean 'numeric'"),
        ({"score": {"regex": {"pattern": "("}}}, "not a regular expression"),
        ({"score": {"regex": {"pattern": r"(\w+\s?)+[!]$"}}}, "does not finish within 10 s on 2,000 characters"),
        ({"score": {"rating": {"criteria": "x", "scale": [5, 1]}}}, "scale from 5 to 1"),
        ({"score": {"function": "os.system"}}, "function"),
        ({"prompts": "nothing here"}, "nothing here not found"),
    ],
)
def test_faults_of_the_file_are_named(write, monkeypatch, keys, fault):
    monkeypatch.setattr(bounded_trial, "CPU_SECONDS", 1)
    path = write(**{"score": "numeric", "rows": ROWS, **keys})
    [*faults] = check_file(path).faults
    assert any(fault in one for one in faults), faults


def test_each_fault_of_the_file_is_one_of_its_own(write):
    path = write("numeric", ROWS, titel="x", sampling={"temperature": -1, "max_tokens": 3})
    assert len(check_file(path).faults) == 3
    result = CliRunner().invoke(app, ["suite", "check", str(path)])
    assert result.exit_code == 2
    assert "3 faults" in result.stdout


def test_check_names_all_faults_at_once(write, tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "a", "reference": 1}, {"q": "b"}, {"prompt": " ", "reference": "many"}]
    path = write("numeric", rows)
    faults = " | ".join(check_file(path).faults)
    for fault in (
        "row 1: numeric needs a reference",
        "row 2: duplicate of row 1",
        "row 3: no prompt in the field 'prompt'",
        "row 4: the prompt is empty",
        "'many' is not a number",
    ):
        assert fault in faults
    result = CliRunner().invoke(app, ["suite", "check", str(path), "--json"])
    assert result.exit_code == 2
    assert len(json.loads(result.stdout)["suites"][0]["faults"]) >= 5


def test_a_field_that_no_row_has_is_one_fault(write):
    rows = [{"question": str(number)} for number in range(50)]
    [fault] = check_file(write({"rating": {"criteria": "x"}}, rows)).faults
    assert "no row has the field 'prompt'" in fault
    assert "question" in fault
    assert check_file(write({"rating": {"criteria": "x"}}, rows, fields={"prompt": "question"})).faults == ()


def test_prompts_come_from_the_hub_too(write, shared, monkeypatch):
    """A data set of conversations: its assistant turns are left out, since the model answers itself."""
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    source = "local-sample/self-instruct-seeds:seed_tasks@train"
    suite = suite_in(write({"rating": {"criteria": "x"}}, [], prompts=source, fields={"prompt": "messages"}))
    loaded = suite.load(FileOptions(limit=3))
    assert len(suite.load(FileOptions()).items) == 175
    assert {message.role for item in loaded.items for message in item.data["prompt"]} == {"user"}


def test_prompts_come_from_parquet_too(write, tmp_path):
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist([{"q": "2+2?", "a": 4}, {"q": "3+3?", "a": 6}]), tmp_path / "rows.parquet")
    fields = {"prompt": "q", "reference": "a"}
    suite = suite_in(write("numeric", [], prompts="rows.parquet", fields=fields))
    assert marks(answered(suite, "4", "5")) == [1, 0]


def test_a_data_set_that_is_nowhere_says_where_it_was_looked_for(write, monkeypatch):
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    [fault] = check_file(write("exact_match", [], prompts="nobody/nothing")).faults
    assert "nobody/nothing not found; looked in" in fault
    assert "data pull" not in fault, "only pinned assets can be pulled"


def test_check_says_what_a_run_asks(write):
    checked = check_file(write({"rating": {"criteria": "x"}}, [{"id": "a", "prompt": ["x" * 40, "y" * 40]}]))
    assert checked.faults == ()
    assert checked.cost == {
        "items": 1,
        "answers": 2,
        "judgments": 1,
        "prompt_tokens": 20,
        "max_answer_tokens": 2048,
        "max_judge_tokens": 1024,
    }


def test_check_says_that_a_pattern_never_matches(write):
    [note] = check_file(write({"regex": {"pattern": r"Answer: (\d+)"}}, ROWS)).notes
    assert "matches nothing in any reference" in note
    example = {"regex": {"pattern": r"Answer: (\d+)", "example": "Answer: 4"}}
    assert check_file(write(example, ROWS)).notes == ()
    example["regex"]["example"] = "The answer: 4"
    [fault] = check_file(write(example, ROWS)).faults
    assert "matches nothing in its example 'The answer: 4'" in fault


def test_a_name_of_an_installed_suite_is_refused(write):
    result = CliRunner().invoke(app, ["suite", "check", str(write("numeric", ROWS, name="openllm"))])
    assert "is taken by an installed suite" in result.stdout
    with pytest.raises(UsageError, match="taken by an installed suite"):
        parse_suite(str(write("numeric", ROWS, name="openllm")))


# ---------------------------------------------------------------- as any other suite


def obliging(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    guide = body.get("structured_outputs")
    if guide:
        return 200, text_reply(guide["choice"][-1])
    return 200, text_reply("The answer is 84.")


def config(stub: StubEndpoint, results: Path, suites: list[str], **changes: Any) -> Any:
    word = f"stub@{stub.url}"
    return read_config({"models": [word], "judge": word, "suites": suites, "results": results} | changes)


def test_the_examples_run_report_and_resume(tmp_path):
    assert [path.stem for path in EXAMPLES] == ["shop_sums", "short_copy", "support_tone"]
    names = [str(path) for path in EXAMPLES]
    with StubEndpoint(obliging) as stub:
        (scores,) = run(config(stub, tmp_path, names)).models
        asked = len(stub.requests)
        run(config(stub, tmp_path, names))
        assert len(stub.requests) == asked
    assert scores.suites["shop_sums"]["score"] == 0.25, "one of the four is 84"
    assert scores.suites["shop_sums"]["ci95"] is not None
    assert scores.suites["support_tone"]["score"] == 5.0
    assert scores.suites["short_copy"]["score"] == 50.0, "B>>A in both orders"
    assert scores.judge is not None
    assert set(scores.judge.methods or {}) == {"short_copy", "support_tone"}


def test_a_users_function_is_called_once_per_answer_and_not_between_the_requests(tmp_path, write):
    (tmp_path / "scorer.py").write_text(
        "import threading\n"
        "def length(prompt, answer, row):\n"
        f"    with open({str(tmp_path / 'calls')!r}, 'a') as out:\n"
        "        out.write(threading.current_thread().name + '\\n')\n"
        "    return 0.5\n"
    )
    path = write({"function": "./scorer.py:length"}, SUMS)
    with StubEndpoint(obliging) as stub:
        (scores,) = run(config(stub, tmp_path / "r", [str(path)], suite_options={"trust_suite_code": True})).models
    assert scores.suites["mine"]["score"] == 0.5
    assert (tmp_path / "calls").read_text().split() == ["MainThread"] * len(SUMS)


def test_results_are_read_without_the_file(tmp_path, write):
    """A process that never saw the YAML shows figures, items and CSV columns."""
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, [str(path) for path in EXAMPLES]))
    registry._IN_FILES.clear()
    [model] = read_results_folder(tmp_path).models
    records = model.records("shop_sums")
    assert records is not None
    assert [row.marks["score"][0] for row in records.rows()] == [1, 0, 0, 0]
    assert CliRunner().invoke(app, ["report", "--results", str(tmp_path)]).exit_code == 0
    header, line = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()[:2]
    cells = dict(zip(header.split(","), line.split(","), strict=False))
    assert cells["shop_sums"] == "0.25"
    assert cells["support_tone"] == "5.0"


def test_protected_prompts_and_baselines_are_in_no_file(tmp_path):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, [str(ROOT / "recipes/suites/short_copy.yaml")]))
    CliRunner().invoke(app, ["report", "--results", str(tmp_path)])
    secrets = ("child want to walk the dog", "only you can help him solve")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith("store.sqlite")]
    assert len(written) > 5
    for path in written:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not any(secret in text for secret in secrets), path


def test_an_edited_benchmark_is_not_added_to_the_old_figures(tmp_path, write):
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path / "r", [str(write("numeric", SUMS))]))
        registry._IN_FILES.clear()
        with pytest.raises(UsageError, match="another version of mine/prompts"):
            run(config(stub, tmp_path / "r", [str(write("numeric", SUMS[:1]))]))


def test_recorded_answers_are_imported_and_scored(tmp_path, write):
    path = write("numeric", SUMS)
    (tmp_path / "answers.jsonl").write_text('{"id": "a", "answer": "4"}\n{"prompt": "3+3?", "response": "5"}\n')
    folder, scores = import_results(str(path), tmp_path / "answers.jsonl", "other", tmp_path / "r")
    assert scores.suites["mine"]["score"] == 0.5
    assert (folder / "records" / "mine.jsonl").is_file()


def test_a_config_file_repeats_the_run(tmp_path, write, monkeypatch):
    path = write("numeric", ROWS)
    settings = read_config({"models": ["m@http://localhost:1/v1"], "suites": [str(path), "mt_bench"]})
    assert f"- {path}" in resolved_yaml(settings)
    file = tmp_path / "run.yaml"
    file.write_text("models: [m@http://localhost:1/v1]\nsuite: [mine.yaml]\n".replace("suite:", "suites:"))
    from evalsuite.config import RunConfig, read_as

    monkeypatch.chdir("/")
    assert read_as(RunConfig, {}, file).suites[0].name == "mine"
