"""Mistakes at the command line: one sentence with the remedy, the exit code of CONTRACT's table, no traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app

MISTAKES = [
    ("run", 2, "MODEL is missing"),
    ("run --suite mt_bench", 2, "MODEL is missing"),
    ("run ck --suite mtbench --no-judge", 2, "did you mean 'mt_bench'?"),
    ("run ck --suite openllm:ifevl", 2, "did you mean 'ifeval'?"),
    ("run ck --suite mt_bench:x", 2, "mt_bench has no parts; drop ':x'"),
    ("run ck --suite nothing.yaml", 2, "cannot read nothing.yaml"),
    ("run demo --suite mt_bench --suite mt_bench", 2, "duplicate suite mt_bench"),
    ("run ck --limit many", 2, "--limit"),
    ("run ck --limit 1.5", 2, "--limit"),
    ("run ck --limit 0", 2, "--limit must be at least 1, not 0"),
    ("run ck --seed -1", 2, "--seed must be at least 0, not -1"),
    ("run ck --repeats 0", 2, "--repeats must be at least 1, not 0"),
    ("run ck -tp 0", 2, "--tensor-parallel-size must be at least 1, not 0"),
    ("run ck --max-unscored 2", 2, "--max-unscored must be at most 1"),
    ("run ck --data big", 2, "'full'"),
    ("run ck --dtype float8", 2, "'auto'"),
    ("run ck --limit 3 --sample 3", 2, "give one of them"),
    ("run ck --judge demo --no-judge", 2, "give one of them"),
    ("run ck demo --name one", 2, "--label for variants"),
    ("run ck --jugde demo", 2, "--judge"),
    ("run ck --vllm-arg x", 2, "'x' is not key=value"),
    ("run ck --config bad.yaml", 2, "did you mean 'judge'?"),
    ("run ck --config list.yaml", 2, "is not a mapping of keys to values"),
    ("run ck --config broken.yaml", 2, "is not YAML (line 2)"),
    ("run ck --config missing.yaml", 2, "cannot read missing.yaml"),
    ("run ck --suite openllm:ifeval", 2, "save the checkpoint again"),
    ("run nowhere/", 2, "give an existing checkpoint folder"),
    ("run m@nonsense --no-judge", 2, "NAME@URL"),
    ("run m@http://127.0.0.1:9/v1 --suite mt_bench --no-judge --data mini", 3, "is the server up"),
    ("run --checkpoints empty --suite openllm", 2, "has no complete checkpoint-N"),
    ("compare", 2, "--judge is missing"),
    ("compare ck --judge demo", 2, "give two or more"),
    ("report --results missing", 2, "run `evalsuite run demo --data mini` first"),
    ("generate ck", 2, "--prompts is missing; --out is missing"),
    ("generate ck --prompts missing.jsonl --out o", 2, "source 'missing.jsonl' not found"),
    ("sft bad.yaml", 2, "--out"),
    ("mix bad.yaml", 2, "--out"),
    ("score mt_bench missing.jsonl", 2, "--from"),
    ("import mt_bench missing.jsonl", 2, "--model"),
    ("export --results missing", 2, "--to"),
    ("rn", 2, "Did you mean 'run'?"),
]


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    for name, text in {
        "bad.yaml": "juge: x\n",
        "list.yaml": "- a\n",
        "broken.yaml": "a: [1\n",
        "ck/config.json": "{",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize(("line", "code", "said"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_told_in_one_sentence_with_its_exit_code(line: str, code: int, said: str) -> None:
    began = time.process_time()
    done = CliRunner().invoke(app, line.split())
    spent = time.process_time() - began
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit)
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert spent < 2, f"{spent:.1f} s of CPU"
