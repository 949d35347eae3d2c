"""A model's folder: which figures are taken over, which judge's stand at the top, and how folders are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.documents import Judged, JudgedEntry, JudgeEntry, Manifest, Scores, SuiteEntry
from evalsuite.errors import DataError
from evalsuite.results.folder import focused, judge_views, model_folder, reusable, stored_manifest, stored_scores
from judges.types import REASONS

# What a further run may cure: the server's own troubles, and what was not asked or judged at all.
CURED = {
    "request_failed",
    "timeout",
    "malformed_reply",
    "unfinished_reply",
    "empty_reply",
    "wrong_model",
    "content_filter",
    "no_logprobs",
    "non_finite_logprob",
    "no_answer",
    "no_judge",
}


def scores(suites, judge=None, judged=()):
    return Scores(
        schema=1,
        model={"name": "m", "fingerprint": "f"},
        judge=judge,
        data="full",
        limit=None,
        suites=suites,
        average={"paper": None},
        judged=judged,
    )


@pytest.mark.parametrize(("read", "name"), [(stored_scores, "scores.json"), (stored_manifest, "manifest.json")])
def test_what_a_newer_version_wrote_is_not_called_damaged(tmp_path, read, name):
    (tmp_path / name).write_text('{"schema": 9}')
    with pytest.raises(DataError, match=f"{name} has schema 9; this evalsuite reads up to 1: upgrade evalsuite$"):
        read(tmp_path)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_figures_that_another_run_may_complete_are_not_taken_over(reason):
    manifest = Manifest(suites={"s": SuiteEntry(run_key="k")})
    stored = scores({"s": {"score": 1.0, "unscored": {reason: 1}}})
    assert reusable(stored, manifest, "s", "k") is (reason not in CURED)
    nested = scores({"s": {"part": {"unscored": {reason: 1}}, "unscored": {}}})
    assert reusable(nested, manifest, "s", "k") is (reason not in CURED)


def test_only_the_very_same_question_is_taken_over():
    manifest = Manifest(suites={"s": SuiteEntry(run_key="k")})
    assert reusable(scores({"s": {"unscored": {}}}), manifest, "s", "k")
    assert not reusable(scores({"s": {"unscored": {}}}), manifest, "s", "other")
    assert not reusable(scores({"s": {"unscored": {}}}), Manifest(), "s", "k")
    assert not reusable(None, manifest, "s", "k")


def entry(name):
    return JudgeEntry(name=name, fingerprint=name * 8, methods={"chat": "rating"})


def test_another_judges_figures_come_to_the_top_and_back_again():
    a, b = entry("a"), entry("b")
    suites = {"chat": {"score": 1.0}, "plain": {"score": 9.0}}
    judged = (Judged(judge=b, suites={"chat": {"score": 2.0}}, average={"paper": 0.2}),)
    entries = (JudgedEntry(judge=b, suites={"chat": SuiteEntry(run_key="kb")}),)
    stored = scores(suites, a, judged)
    manifest = Manifest(suites={"chat": SuiteEntry(run_key="ka"), "plain": SuiteEntry(run_key="kp")}, judged=entries)
    top, top_manifest = focused(stored, manifest, b.key)
    assert top.judge == b
    assert top.suites == {"plain": {"score": 9.0}, "chat": {"score": 2.0}}
    assert top.average == {"paper": 0.2}
    assert top_manifest.suites["chat"].run_key == "kb"
    assert [one.judge for one in top.judged] == [a]
    back, back_manifest = focused(top, top_manifest, a.key)
    assert (back.judge, back.suites, back.judged) == (a, suites, judged)
    assert back_manifest.suites == manifest.suites
    assert [view.judge for view, _ in judge_views(stored, manifest)] == [a, b]


def test_a_judge_without_figures_takes_none_of_anothers():
    top, _ = focused(scores({"chat": {"score": 1.0}, "plain": {}}, entry("a")), Manifest(), entry("c").key)
    assert top.judge is None
    assert set(top.suites) == {"plain"}
    assert [one.judge.name for one in top.judged] == ["a"]


@pytest.mark.parametrize(
    ("label", "name"),
    [("", "slug"), ("seed-3", "slug~seed-3"), ("a/b c", "slug~a-b-c"), ("..", "slug"), ("x" * 200, "slug~" + "x" * 80)],
)
def test_a_variants_folder_is_named_after_its_label(label, name):
    assert model_folder(Path("results"), "slug", label) == Path("results") / name
