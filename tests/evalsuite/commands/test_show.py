"""``evalsuite show``: conversations at the terminal, and what they are like."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.conversations.source import open_source
from evalsuite.conversations.summary import bars, summarised


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


@pytest.fixture
def data(tmp_path):
    rows = []
    for number in range(20):
        end = "length" if number % 5 == 0 else "stop"
        answer = turn("assistant", f"answer {number} " + "x" * number, finish_reason=end, completion_tokens=number + 1)
        answer["reasoning_content"] = "a long thought"
        rows.append(
            {"conversation_hash": f"h{number:02}", "messages": [turn("user", f"question {number}"), answer],
             "language": "English" if number % 2 else "French"}
        )  # fmt: skip
    rows.append({"conversation_hash": "odd", "messages": []})
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def shown(*arguments):
    done = CliRunner().invoke(app, ["show", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    return done.exit_code, done.output


def test_json_lines_are_shown_by_the_base_install(data):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('pyarrow', 'datasets', 'transformers', 'torch'))); "
        f"from evalsuite.cli import app; app(['show', {data!r}, '--row', 'h05'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "question 5" in done.stdout


def test_a_hash_that_reads_as_a_number_is_a_hash(tmp_path):
    path = tmp_path / "c.jsonl"
    rows = [{"conversation_hash": f"1e1f{n:02}" if n == 3 else f"h{n}", "n": n} for n in range(12)]
    path.write_text(
        "".join(json.dumps({**row, "messages": [turn("user", f"question {row['n']}")]}) + "\n" for row in rows)
    )
    code, text = shown(str(path), "--row", "1e1")
    assert (code, "question 3" in text, "question 10" in text) == (0, True, False)
    assert "question 10" in shown(str(path), "--row", "10")[1]


def test_a_row_is_shown_with_its_ends_and_its_thought_folded(data):
    code, text = shown(data, "--row", "h05")
    assert code == 0
    assert "assistant (length, 6 tokens)" in text
    assert "question 5" in text
    assert "14 characters of thinking" in text
    assert "a long thought" not in text
    assert "a long thought" in shown(data, "--row", "5", "--thoughts")[1]


def test_rows_are_chosen_by_columns_and_at_random(data):
    code, text = shown(
        data, "--where", "finish_reason=length", "--where", "language!=English", "--sample", "9", "--json"
    )
    assert code == 0
    assert [row["row"] for row in json.loads(text)["rows"]] == [0, 10]
    sampled = [json.loads(shown(data, "--sample", "5", "--seed", seed, "--json")[1])["rows"] for seed in "001"]
    assert sampled[0] == sampled[1] != sampled[2]
    assert len(sampled[0]) == 5
    assert shown(data, "--row", "nobody")[0] == 2
    assert shown(data, "--where", "nonsense")[0] == 2


def test_rows_that_generate_could_not_ask_keep_their_reason(tmp_path):
    data = tmp_path / "answers.jsonl"
    rows = [{"messages": [], "unscored": reason} for reason in ("malformed_row", "tool_turns", None)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert summarised(open_source(str(data)))["unread"] == {"empty": 1, "malformed_row": 1, "tool_turns": 1}


def test_the_summary_counts_what_is_there(data):
    summary = summarised(open_source(data))
    assert summary["finish_reasons"] == {"stop": 16, "length": 4}
    assert summary["languages"] == {"French": 10, "English": 10}
    assert summary["unread"] == {"empty": 1}
    tokens = summary["lengths"]["tokens of an answer"]
    assert (tokens["n"], tokens["p10"], tokens["p50"], tokens["max"]) == (20, 2, 10, 20)
    assert sum(tokens["histogram"]) == 20
    text = shown(data)[1]
    assert "answers ended: stop 16, length 4" in text
    assert "no conversation: empty 1" in text


def test_bars_show_every_count_that_is_there():
    assert bars([0, 1, 8]) == " ▁█"
    assert bars([]) == ""


@pytest.mark.parametrize("place", [".", "demo-0"])
def test_a_results_folder_is_not_conversations(tmp_path, place):
    (tmp_path / "demo-0").mkdir()
    (tmp_path / "demo-0" / "scores.json").write_text("{}")
    (tmp_path / "demo-0" / "manifest.json").write_text("{}")
    (tmp_path / "leaderboard.csv").write_text("model,score\ndemo,1\n")
    ended = CliRunner().invoke(app, ["show", str(tmp_path / place)])
    assert ended.exit_code == 2
    assert "has results, not conversations; see their items with `evalsuite view`" in ended.output


def test_many_unknown_columns_are_counted(tmp_path):
    (tmp_path / "wide.csv").write_text(",".join(f"c{number:02}" for number in range(90)) + "\n" + "1," * 89 + "1\n")
    ended = CliRunner().invoke(app, ["show", str(tmp_path / "wide.csv")])
    assert ended.exit_code == 2
    assert "c10, c11 and 78 more; supported are" in ended.output
    assert ended.stdout == ""
