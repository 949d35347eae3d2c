"""The suite openllm end to end on its mini tasks, a toy model and lm-eval itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import Header, Row
from evalsuite.results.folder import unscored_share
from evalsuite.suites.harness.peer import result_rows, write_results, written_samples
from evalsuite.suites.harness.run import HarnessResult, load_tasks, run_tasks
from evalsuite.suites.harness.suite import LmEvalOptions, LmEvalSuite, LmEvalTasks
from evalsuite.suites.openllm import suite as module
from evalsuite.suites.openllm.scores import PARTS, choices_of
from evalsuite.suites.openllm.suite import OpenLLM
from evalsuite.suites.types import WholeRun
from judges.types import Unscored
from tests.evalsuite.toy_lm import ToyServer, loop_in_a_thread, toy_tokenizer

pytestmark = [
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]

OPENLLM, LM_EVAL = OpenLLM(), LmEvalTasks()
MINI = LmEvalOptions(data="mini")
MINI_FOLDER = Path(module.__file__).parent / "mini"
BBH = ("mini_bbh_two_statements", "mini_bbh_shelf_order")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with loop_in_a_thread() as running:
        yield running


def answer(prompt: Sequence[int], _: Any) -> str:
    text = toy_tokenizer().decode(list(prompt))
    if "half of $18$" in text[-60:]:
        return "It is nine. Final Answer: The final answer is $9$. I hope it is correct."
    return "- a\n- b\n- c" if "fruits" in text else "salt and sea"


def with_options(options: LmEvalOptions, **changed: Any) -> LmEvalOptions:
    return options.model_copy(update=changed)


def header_of(run: WholeRun) -> Header:
    return Header("openllm", len(run.rows), missing=run.missing, document=run.document)


def scores_of(run: WholeRun, suite: LmEvalSuite = OPENLLM) -> dict[str, Any]:
    return suite.score(header_of(run), run.rows)


def samples_of(run: WholeRun, folder: Path, task: str) -> list[dict[str, Any]]:
    assert run.export is not None
    run.export(folder)
    return [json.loads(line) for line in (folder / f"samples_{task}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def result(loop: asyncio.AbstractEventLoop) -> WholeRun:
    seen: list[tuple[str, int, int, int]] = []
    run = OPENLLM.run_whole(
        OPENLLM.load(MINI), ToyServer(answer=answer), loop, MINI, lambda *progress: seen.append(progress)
    )
    assert {part for part, done, total, unscored in seen if done == total and not unscored} == set(PARTS)
    return run


# Scores ------------------------------------------------------------------------------------------


def test_every_part_of_the_contract_has_its_figures(result: WholeRun) -> None:
    scores = scores_of(result)
    assert OPENLLM.parts == tuple(PARTS)
    for part in PARTS:
        assert {"score", "stderr", "n", "normalized", "unscored"} <= set(scores[part])
        assert scores[part]["unscored"] == {}
    assert {part: scores[part]["n"] for part in PARTS} == {
        "bbh": 8, "gpqa": 6, "math": 6, "musr": 6, "ifeval": 6, "mmlu_pro": 6,
    }  # fmt: skip
    assert scores["unscored"] == {}
    json.dumps(scores, allow_nan=False)


def test_generation_is_scored_by_what_was_answered(result: WholeRun) -> None:
    scores = scores_of(result)
    # one problem of six is answered; "salt and sea" and the three bullets follow 6 of the 8 instructions
    assert scores["math"]["score"] == pytest.approx(1 / 6)
    assert scores["math"]["normalized"] == pytest.approx(100 / 6)
    rows = [row for row in result.rows if row.part == "ifeval/mini_ifeval"]
    assert [row.marks["inst_level_strict_acc"] for row in rows] == [(1.0,), (1.0,), (1.0,), (0.0,), (1.0,), (0.5,)]
    assert scores["ifeval"]["score"] == pytest.approx(4 / 6)
    assert scores["ifeval"]["inst_level_strict_acc"] == pytest.approx(6 / 8)


def test_the_rows_are_those_of_lm_eval_with_the_plain_way(result: WholeRun, loop: asyncio.AbstractEventLoop) -> None:
    """The trie changes requests, not results: a server asked the ordinary way gives the same document."""
    plain = run_tasks(OPENLLM.load(MINI), ToyServer(feature=False, answer=answer), loop)
    for task, row in result.document["results"].items():
        for key, value in row.items():
            assert plain.results["results"][task][key] == (pytest.approx(value) if isinstance(value, float) else value)


def recorded(**rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "results": rows,
        "group_subtasks": {
            "leaderboard_musr": [
                "leaderboard_musr_murder_mysteries",
                "leaderboard_musr_object_placements",
                "leaderboard_musr_team_allocation",
            ]
        },
        "configs": {},
        "n-samples": {
            "leaderboard_musr_murder_mysteries": {"original": 250, "effective": 250},
            "leaderboard_musr_object_placements": {"original": 256, "effective": 256},
            "leaderboard_musr_team_allocation": {"original": 250, "effective": 250},
            "leaderboard_mmlu_pro": {"original": 12032, "effective": 12032},
        },
    }


MUSR_ROWS: dict[str, dict[str, Any]] = {
    "leaderboard_musr": {"acc_norm,none": 0.4, "acc_norm_stderr,none": 0.0175},
    "leaderboard_musr_murder_mysteries": {"acc_norm,none": 0.75},
    "leaderboard_musr_object_placements": {"acc_norm,none": 0.1},
    "leaderboard_musr_team_allocation": {"acc_norm,none": 0.5},
}


# Unscored documents ------------------------------------------------------------------------------


def test_a_failed_document_leaves_the_metrics_and_is_counted(
    result: WholeRun, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    tokenizer = toy_tokenizer()

    def fault(prompt: Sequence[int]) -> Unscored | None:
        text = tokenizer.decode(list(prompt))
        if "The cellar key is brass" in text:
            return Unscored("request_failed", "503")
        return Unscored("malformed_reply") if "half of $18$" in text else None

    partial = OPENLLM.run_whole(OPENLLM.load(MINI), ToyServer(fault=fault, answer=answer), loop, MINI)
    scores, whole = scores_of(partial), scores_of(result)
    assert scores["bbh"]["unscored"] == {"request_failed": 1}
    assert scores["math"]["unscored"] == {"malformed_reply": 1}
    assert (scores["bbh"]["n"], scores["math"]["n"], scores["gpqa"]["n"]) == (7, 5, 6)
    marks = {task: [row.marks["acc_norm"][0] for row in result.rows if row.part == f"bbh/{task}"] for task in BBH}
    by_task = marks[BBH[0]][1:]
    kept = [*by_task, *marks[BBH[1]]]
    assert partial.document["results"][BBH[0]]["acc_norm,none"] == pytest.approx(sum(by_task) / 3)
    assert scores["bbh"]["score"] == pytest.approx(sum(kept) / 7)
    # the one right answer is the one that is lost: 0 of 5, not 0 of 6 and not 1 of 6
    assert scores["math"]["score"] == 0.0
    assert scores["gpqa"] == whole["gpqa"]
    n = scores["documents"]["n"]
    assert unscored_share({"openllm": scores}) == (2, n + 2)
    assert n + 2 == whole["documents"]["n"]
    [lost] = [sample for sample in samples_of(partial, tmp_path, "mini_math") if sample["metrics"] == []]
    assert lost["unscored"] == "malformed_reply"
    assert "exact_match" not in lost
    [row] = [row for row in partial.rows if row.unscored and row.part == "math/mini_math"]
    assert row.marks == {"exact_match": (None,)}
    assert [reply.unscored for reply in row.replies] == [Unscored("malformed_reply")]


def test_a_part_whose_every_document_failed_is_null_with_a_reason(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    options = with_options(MINI, parts=("gpqa", "math"))
    server = ToyServer(fault=lambda _: Unscored("request_failed"), answer=answer)
    dead = OPENLLM.run_whole(OPENLLM.load(options), server, loop, options)
    scores = scores_of(dead)
    assert scores["gpqa"] is None
    assert scores["math"] is None
    assert "no document" in scores["unscored"]["gpqa"]
    assert scores["unscored"]["bbh"] == "not asked for"
    unscored = dead.document["evalsuite"]["unscored"]
    assert unscored == {"mini_gpqa": {"request_failed": 6}, "mini_math": {"request_failed": 6}}
    assert scores["documents"] == {"n": 0, "unscored": {"request_failed": 12}}
    assert unscored_share({"openllm": scores}) == (12, 12), "what has no figure is missing all the same"
    by_name = scores_of(dead, LM_EVAL)
    assert unscored_share({"lm_eval": by_name}) == (12, 12)
    lines = list(LM_EVAL.lines("lm_eval", by_name))
    assert (lines[0].note, lines[-1].unscored) == ("no document of it was answered", "request_failed 12")
    samples_of(dead, tmp_path, "mini_math")


# Files -------------------------------------------------------------------------------------------


def test_the_export_gives_the_same_scores_back(result: WholeRun, tmp_path: Path) -> None:
    result.export(tmp_path)
    assert OPENLLM.score_recorded(tmp_path, MINI) == json.loads(json.dumps(scores_of(result)))
    recorded_run = OPENLLM.read_peer(tmp_path, MINI)
    assert scores_of(result) == OPENLLM.score(recorded_run.header, recorded_run.rows)
    assert list(recorded_run.rows) == [without_counts(row) for row in result.rows]


def without_counts(row: Row) -> Row:
    """A row as lm-eval's samples hold it: they have no token counts."""
    draws = [
        replace(draw, turns=tuple(replace(reply, prompt_tokens=0, answer_tokens=0) for reply in draw.turns))
        for draw in row.draws
    ]
    return replace(row, draws=tuple(draws))


def test_lm_evals_own_table_reads_the_export(result: WholeRun, tmp_path: Path) -> None:
    from lm_eval.utils import make_table

    result.export(tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    table = make_table(document)
    for task in PARTS:
        assert PARTS[task].mini_task in table
    assert f"{scores_of(result)['math']['score']:.4f}" in table
    assert "mini_bbh" in make_table(document, "groups")


def test_samples_have_the_fields_that_lm_eval_writes(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    from lm_eval.loggers import EvaluationTracker

    run = run_tasks(OPENLLM.load(with_options(MINI, parts=("bbh",))), ToyServer(), loop)
    write_results(run, {}, tmp_path / "ours")
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.model_name_sanitized = "toy"
    tracker.date_id = "2025-01-01T00-00-00"
    task = "mini_bbh_shelf_order"
    tracker.save_results_samples(task, [dict(sample) for sample in run.samples[task]])
    [theirs] = (tmp_path / "theirs").rglob("samples_*.jsonl")
    ours = (tmp_path / "ours" / f"samples_{task}.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in ours] == [json.loads(line) for line in theirs.read_text().splitlines()]


def test_a_document_written_by_lm_eval_itself_is_scored(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Longest(LM):  # type: ignore[misc]
        """Prefers longer choices; answers 9 to everything."""

        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            return [(float(len(request.args[1])) ** 2, False) for request in requests]

        def loglikelihood_rolling(self, requests: Any) -> list[float]:
            raise NotImplementedError

        def generate_until(self, requests: Any) -> list[str]:
            return ["The final answer is $9$. I hope it is correct." for _ in requests]

    tracker = EvaluationTracker(output_path=str(tmp_path))
    document = lm_eval.simple_evaluate(
        model=Longest(),
        tasks=["mini_bbh", "mini_math", "mini_musr"],
        task_manager=TaskManager(include_path=str(MINI_FOLDER), include_defaults=False),
        evaluation_tracker=tracker,
    )
    samples = document.pop("samples")
    tracker.save_results_aggregated(results=document, samples=samples)
    scores = OPENLLM.score_recorded(tmp_path, LmEvalOptions())
    # The longest choice per character is "False"; of three equal ones the first is taken.
    rows = [json.loads(line) for line in (MINI_FOLDER / "mini_bbh.jsonl").read_text().splitlines()]
    right = [row["target"] == ("False" if row["subtask"] == "two_statements" else "(A)") for row in rows]
    statements, shelves = sum(right[:4]) / 4, sum(right[4:]) / 4
    assert scores["bbh"]["score"] == pytest.approx(sum(right) / 8)
    assert scores["bbh"]["normalized"] == pytest.approx(
        100 * (max(0, (statements - 0.5) / 0.5) + max(0, (shelves - 1 / 3) / (2 / 3))) / 2
    )
    assert scores["math"]["score"] == pytest.approx(1 / 6)
    assert scores["math"]["n"] == 6
    assert scores["ifeval"] is None
    assert scores["unscored"].keys() == {"gpqa", "ifeval", "mmlu_pro"}


def test_the_newest_document_of_a_folder_counts(tmp_path: Path) -> None:
    old, new = recorded(**MUSR_ROWS), recorded(leaderboard_mmlu_pro={"acc,none": 0.5})
    (tmp_path / "m").mkdir()
    # written in the other order, so that the files' times would mislead
    (tmp_path / "m" / "results_2025-02-01T10-00-00.000001.json").write_text(json.dumps(new))
    (tmp_path / "m" / "results_2024-12-31T10-00-00.000001.json").write_text(json.dumps(old))
    assert OPENLLM.score_recorded(tmp_path, LmEvalOptions())["mmlu_pro"]["score"] == 0.5


@pytest.mark.parametrize(
    "text", ["[]", '{"results": 3}', '{"results": {"leaderboard_bbh": 1}}', "{", '{"results": {}}']
)
def test_a_file_that_is_not_lm_evals_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"results\.json") as caught:
        OPENLLM.score_recorded(path, LmEvalOptions())
    assert "\n" not in str(caught.value)


def test_no_text_of_gpqa_is_written() -> None:
    secret = "What is the correct answer to this question: secret"
    sample = {
        "doc_id": 0, "doc": {"Question": secret}, "target": "(A)", "arguments": [(secret, " (A)")],
        "resps": [[(-1.0, False)]], "filtered_resps": [(-1.0, False)], "filter": "none", "metrics": ["acc_norm"],
        "doc_hash": "d", "prompt_hash": "p", "target_hash": "t", "acc_norm": 1.0,
    }  # fmt: skip
    task = "leaderboard_gpqa_main"
    results = {"results": {}, "configs": {task: {"dataset_path": "Idavidrein/gpqa"}}}
    gpqa = HarnessResult(
        results, {task: [sample, {**sample, "doc_id": 1, "resps": [[secret]], "filtered_resps": [secret]}]}
    )
    [written, generated] = written_samples(gpqa, task)
    assert "secret" not in json.dumps([written, generated])
    assert "resps" not in generated
    assert "secret" not in repr(result_rows(gpqa, {task: task}))
    assert written == {
        "doc_id": 0, "resps": [[["-1.0", "False"]]], "filtered_resps": [["-1.0", "False"]], "filter": "none",
        "metrics": ["acc_norm"], "doc_hash": "d", "prompt_hash": "p", "target_hash": "t", "acc_norm": 1.0,
    }  # fmt: skip


# Loading and running -----------------------------------------------------------------------------


def test_an_unknown_part_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'musr'"):
        OPENLLM.load(with_options(MINI, parts=("muzr",)))


def test_a_part_that_is_not_available_is_missing_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    load = module._load

    def without_gpqa(part: str, data: Any) -> Any:
        if part == "gpqa":
            raise DataError("openllm/gpqa not found; request access")
        return load(part, data)

    monkeypatch.setattr(module, "_load", without_gpqa)
    options = with_options(MINI, parts=("gpqa", "mmlu_pro"), limit=2)
    scores = scores_of(OPENLLM.run_whole(OPENLLM.load(options), ToyServer(), loop, options))
    assert scores["gpqa"] is None
    assert scores["unscored"]["gpqa"] == "openllm/gpqa not found; request access"
    assert scores["mmlu_pro"]["n"] == 2


def test_no_available_part_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise DataError("it is not there")

    monkeypatch.setattr(module, "_load", gone)
    with pytest.raises(DataError, match="gpqa: it is not there"):
        OPENLLM.load(with_options(MINI, parts=("gpqa",)))


def test_another_thread_is_refused_because_math_would_score_zero_there(loop: asyncio.AbstractEventLoop) -> None:
    loaded = OPENLLM.load(with_options(MINI, parts=("math",)))
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            OPENLLM.run_whole(loaded, ToyServer(), loop, MINI)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_the_chat_template_is_used_where_there_is_one(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    import copy

    tokenizer = copy.deepcopy(toy_tokenizer())
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    options = with_options(MINI, parts=("mmlu_pro",), limit=1)
    seen = {}
    for wanted in (True, False):
        server = ToyServer(tokenizer)
        run = OPENLLM.run_whole(
            OPENLLM.load(options), server, loop, with_options(options, chat_template_on_openllm=wanted)
        )
        [sample] = samples_of(run, tmp_path, "mini_mmlu_pro")
        seen[wanted] = sample["arguments"]["gen_args_0"]["arg_0"]
        assert run.document["chat_template"] == (tokenizer.chat_template if wanted else None)
        assert run.applied == {"chat_template_on_openllm": wanted, "fewshot_as_multiturn": wanted}
    assert seen[True].count("[user]") == 3
    assert "[user]" not in seen[False]


def test_runs_leave_no_trace_in_tasks_or_random_states(loop: asyncio.AbstractEventLoop) -> None:
    import random

    options = with_options(MINI, parts=("mmlu_pro",), limit=1)
    loaded = OPENLLM.load(options)
    before = random.getstate()
    OPENLLM.run_whole(loaded, ToyServer(), loop, options)
    assert random.getstate() == before
    assert not {"apply_filters", "process_results"} & set(vars(loaded.tasks["mini_mmlu_pro"]))


def test_mini_pins_differ_by_part_and_say_what_they_are() -> None:
    pins = OPENLLM.data_pins(MINI)
    assert pins.keys() == {f"openllm/{part}" for part in PARTS}
    assert {pin.source for pin in pins.values()} == {"mini"}
    assert len({pin.sha256 for pin in pins.values()}) == len(PARTS)


def test_an_unknown_task_of_lm_eval_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'mini_musr'"):
        load_tasks(["mini_muzr"], MINI_FOLDER)


@pytest.mark.parametrize("part", ["musr", "mmlu_pro", "bbh"])
def test_the_leaderboards_choices_are_those_of_the_data(
    part: str, shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    loaded = OPENLLM.load(LmEvalOptions(parts=(part,)))
    for name, task in loaded.tasks.items():
        documents = list(task.eval_docs)[:600]
        assert choices_of(name, task.dump_config()) == max(len(task.doc_to_choice(document)) for document in documents)
