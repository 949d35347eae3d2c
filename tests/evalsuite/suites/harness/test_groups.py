"""Groups of lm-eval's tasks: what is listed is what the installed lm-eval has."""

from __future__ import annotations

import json
from pathlib import Path

import lm_eval.tasks
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.suites.harness import groups
from evalsuite.suites.harness.groups import GROUPS, task_groups

TASKS = Path(lm_eval.tasks.__file__).parent


def test_every_task_exists_in_the_installed_version():
    listed = {group.name: group for group in task_groups()}
    assert listed.keys() == GROUPS.keys()
    assert [task.name for group in listed.values() for task in group.tasks if task.absent] == []
    assert all(task.datasets for group in listed.values() for task in group.tasks)


def test_facts_are_those_of_the_yamls():
    tasks = {task.name: task for group in task_groups() for task in group.tasks}
    assert tasks["aime24"].datasets == ("Maxwell-Jia/AIME_2024",)
    assert tasks["aime24"].answer_tokens == 32768
    assert tasks["aime24"].stops == ("Question:",), "tokens of chat formats never stand in an answer"
    assert tasks["gpqa_diamond_cot_zeroshot"].gated
    assert tasks["minerva_math500"].answer_tokens == 256, "lm-eval's own default, which cuts answers in words"
    assert tasks["humaneval_instruct"].unsafe_code
    assert tasks["mmlu_pro"].filters == ("custom-extract",)


def test_code_needs_its_confirmation_and_longer_answers():
    [code] = [group for group in task_groups() if group.name == "code"]
    assert code.options[:2] == ("--suite", "lm_eval:code")
    assert "--confirm-run-unsafe-code" in code.options
    assert "--max-answer-tokens" in code.options


def test_a_task_that_another_version_lacks_is_said(monkeypatch: pytest.MonkeyPatch):
    table = {"reasoning": {"aime24": "aime/aime24.yaml", "aime99": "aime/aime99.yaml", "aime25": "aime/aime24.yaml"}}
    monkeypatch.setattr(groups, "GROUPS", table)
    [group] = task_groups()
    assert [task.absent for task in group.tasks] == [False, True, True]
    assert group.options[1] == "lm_eval:reasoning"


def test_the_command_lists_suites_and_groups():
    result = CliRunner().invoke(app, ["suites", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert {"mt_bench", "lm_eval"} <= {suite["name"] for suite in document["suites"]}
    assert [group["name"] for group in document["groups"]] == list(GROUPS)
    shown = CliRunner().invoke(app, ["suites"], env={"COLUMNS": "80"}).stdout
    for whole in (
        "math-ai/aime25",
        "executes the model's code",
        *(suite["judge"] or "" for suite in document["suites"]),
    ):
        assert whole in shown
