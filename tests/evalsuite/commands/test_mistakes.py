"""Mistakes at the command line: one sentence with the remedy, the documented exit code, no traceback."""

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
    ("score mt_bench", 2, "--from is missing"),
    ("score mt_bench missing.jsonl", 2, "(missing.jsonl); --from is missing; see evalsuite score --help"),
    ("import mt_bench missing.jsonl", 2, "--model is missing"),
    ("analyze similarity", 2, "ANSWERS is missing"),
    ("analyze contamination x --ngram 1", 2, "--ngram must be at least 2, not 1"),
    ("show x --sample many", 2, "--sample must be a whole number, not 'many'"),
    ("export --results missing", 2, "--to"),
    ("rn", 2, "Did you mean 'run'?"),
    ("run ck --thinking maybe", 2, "--thinking: 'maybe' is not one of 'auto', 'on', 'off'; see"),
    ("run ck --label é --no-judge", 2, "has no letter from A to Z and no digit"),
    ("run ck --on nosuch --no-judge", 2, "'nosuch' is not a place to run; give local, ray"),
    ("run ck --on slurm:x --no-judge", 2, "unknown setting of slurm 'x'"),
    ("run ck --extra-body x --no-judge", 2, "'x' is not JSON"),
    ("run ck --chat-template-kwargs x --no-judge", 2, "'x' is not key=value"),
    ("run ck --template-date yesterday --no-judge", 2, "must be a date like 2025-12-31, not 'yesterday'"),
    ("run ck --log-to nosuch --no-judge", 2, "unknown logger 'nosuch'; known: mlflow"),
    ("run ck --suite bad.yaml --no-judge", 2, "bad.yaml: name is missing; score is missing; unknown key 'juge'"),
    ("gate a", 2, "CANDIDATE is missing"),
    ("gate a b --non-inferior 2", 2, "--non-inferior must be less than 1, not 2"),
    ("gate a b --non-inferor 1", 2, "unknown option --non-inferor; did you mean --non-inferior?"),
    ("gate a b --nosuch", 2, "gate --help"),
    ("plan --suite mt_bench --models 1", 2, "--models must be at least 2, not 1"),
    ("prefer empty --out o", 2, "empty is not a comparison"),
    ("prefer empty --out o --by", 2, "'--by' requires an argument"),
    ("label empty --n 0 --out o.html", 2, "--n must be at least 1, not 0"),
    ("merge nosuch --into r", 2, "nosuch is not a folder; give results folders"),
    ("watch empty --every 0 --no-judge", 2, "--every must be at least 1, not 0"),
    ("view --port 99999", 2, "--port must be at most 65535, not 99999"),
    ("forget nosuch", 2, "give a results folder with --results"),
    ("judge-card demo --judge-format nosuch", 2, "unknown judge format 'nosuch'; known: auto-j"),
    ("rate ck --judge demo --factors bad.yaml", 2, "bad.yaml: factors is missing; unknown key 'juge'"),
    ("study bad.yaml", 2, "unknown key 'juge'; did you mean 'judge'?"),
    ("show bad.yaml", 2, "convert it to one of these"),
    ("suite check bad.yaml", 2, "fault: name is missing"),
    ("data lst", 2, "No such command 'lst'. Did you mean 'list'?"),
    ("data verify mt_bench:x", 2, "mt_bench has no parts; drop ':x'"),
    ("export --to nosuch", 2, "--to: 'nosuch' is not one of 'markdown', 'latex'"),
    ("score preferences --from bad.yaml", 2, "expected question_id,<model>,<model>"),
    ("generate ck --prompts missing.jsonl --out o --shard 5/4", 2, "'5/4' is not i/n with i from 1 to n"),
    ("sft --merge nosuch --out o", 2, "model 'nosuch' not found"),
    ("paper table99", 2, "unknown table 'table99'; known: table1"),
    ("setup --extra nosuch --dry-run", 2, "unknown extra 'nosuch'"),
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
    assert "╭" not in done.output, "a sentence, not a box"
    assert spent < 2, f"{spent:.1f} s of CPU"
