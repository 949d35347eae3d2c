"""``evalsuite forget``: the answers of one model go, and no others."""

from __future__ import annotations

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_config
from evalsuite.runs.runner import run
from evalsuite.store import Store
from tests.evalsuite.dialects import MODEL, OTHER, Hosted

A, B = {"root": "/ckpt/a"}, {"root": "/ckpt/b"}


def answered(server, results, model=MODEL, judge=OTHER, **options):
    config = {"models": [f"{model}@{server.url}"], "judge": f"{judge}@{server.url}", "suites": ["mt_bench"]}
    run(read_config({**config, "data": "mini", "results": results, **options}))


def forget(*words):
    return CliRunner().invoke(app, ["forget", *map(str, words)])


def counts(results, model):
    done = forget(model, "--results", results, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["answers"]


def test_the_answers_of_a_model_are_counted_and_then_deleted_and_a_judges_stay(tmp_path):
    with Hosted() as server:
        answered(server, tmp_path)
        n_model, n_judge = counts(tmp_path, MODEL), counts(tmp_path, OTHER)
        assert n_model == 10
        assert n_judge == 10
        done = forget(MODEL, "--results", tmp_path)
        assert done.stdout.startswith("10 stored answers from hosted (")
        assert done.stdout.endswith("; pass --yes to delete them\n")
        assert counts(tmp_path, MODEL) == 10, "without --yes nothing goes"
        assert MODEL in (tmp_path / "servers.json").read_text()
        done = forget(MODEL, "--results", tmp_path, "--yes")
        assert "deleted 10 stored answers from hosted" in done.stdout
        assert "; the figures in hosted-" in done.stdout
        assert done.stdout.endswith(" are kept until run --fresh\n")
        assert (counts(tmp_path, MODEL), counts(tmp_path, OTHER)) == (0, 10)
        assert f"{MODEL}@" not in (tmp_path / "servers.json").read_text()
        asked = [body["model"] for body in server.requests]
        answered(server, tmp_path, fresh=True)
        again = [body["model"] for body in server.requests[len(asked) :]]
    assert again.count(MODEL) >= 10, "its answers are asked again"
    assert again.count(OTHER) == 0, "and the same answers have their verdicts"


def test_two_models_of_one_name_are_chosen_by_the_digits_of_their_folder(tmp_path):
    for listed in (A, B):
        with Hosted(listed=listed) as server:
            answered(server, tmp_path)
    one, two = sorted(path.name for path in tmp_path.glob("hosted-*") if path.is_dir())
    done = forget(MODEL, "--results", tmp_path)
    assert done.exit_code == 2
    assert f"several models named hosted; give {one} or {two}" in done.output
    for chosen in (one, tmp_path / one, f"{one}~seed-3"):
        assert counts(tmp_path, chosen) == 10
    forget(one, "--results", tmp_path, "--yes")
    assert (counts(tmp_path, one), counts(tmp_path, two)) == (0, 10)


def test_an_unknown_model_or_folder_is_one_sentence(tmp_path):
    assert "has no store.sqlite" in forget("m", "--results", tmp_path).output
    with Hosted() as server:
        answered(server, tmp_path)
    done = forget("hosted-3", "--results", tmp_path)
    assert done.exit_code == 2
    assert "unknown model 'hosted-3'; did you mean 'hosted" in done.output


@pytest.mark.parametrize("text", ["plain", '"_of":"', '","_of":"abc"}', "\ud800", "n\u0000l"])
def test_a_mark_is_not_part_of_an_answer_and_no_text_is_a_mark(tmp_path, text):
    with Store(tmp_path / "store.sqlite") as store:
        store.put("k1", {"text": text, "_of": "abc"})
        store.put("k2", {"text": text})
        assert store.get("k1") == store.get("k2") == {"text": text}
        assert store.forget("abc", dry=False) == 1
        assert (store.get("k1"), store.get("k2")) == (None, {"text": text})


def test_an_answer_saved_before_the_marks_is_the_same_answer_in_a_merge(tmp_path):
    with Store(tmp_path / "old.sqlite") as old, Store(tmp_path / "new.sqlite") as new:
        old.put("k", {"text": "a"})
        new.put("k", {"text": "a", "_of": "abc"})
    with Store(tmp_path / "new.sqlite") as new:
        assert new.merge([tmp_path / "old.sqlite"]) == 0
    assert sqlite3.connect(tmp_path / "new.sqlite").execute("SELECT COUNT(*) FROM completions").fetchone() == (1,)
