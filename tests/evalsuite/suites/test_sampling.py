"""Seeded samples in which every category has its share, and which leave whole sets as they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.results.variants import variant_settings
from evalsuite.suites.harness.run import load_tasks, run_tasks
from evalsuite.suites.openllm import suite as openllm
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.registry import parse_suite
from evalsuite.suites.sampling import sampled, stratified
from tests.evalsuite.toy_lm import ToyServer, loop_in_a_thread

CATEGORIES = ["a"] * 60 + ["b"] * 30 + ["c"] * 10


def test_every_category_has_its_share() -> None:
    chosen = stratified(CATEGORIES, 20, "0")
    assert Counter(CATEGORIES[position] for position in chosen) == {"a": 12, "b": 6, "c": 2}
    assert chosen == sorted(set(chosen))
    assert stratified(CATEGORIES, 20, "0") == chosen
    assert stratified(CATEGORIES, 20, "1") != chosen
    assert stratified(CATEGORIES, 100, "0") == list(range(100))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 33, 99])
def test_the_size_is_met_and_no_share_is_off_by_one(n: int) -> None:
    counts = Counter(CATEGORIES[position] for position in stratified(CATEGORIES, n, "0"))
    assert counts.total() == n
    assert all(abs(counts[name] - n * share) < 1 for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)))


def test_equal_remainders_do_not_favour_a_category() -> None:
    """One of four equal categories: over 400 seeds each is taken about 100 times."""
    taken = Counter(stratified(["a", "b", "c", "d"], 1, str(seed))[0] for seed in range(400))
    assert all(70 < taken[position] < 130 for position in range(4))


def test_a_suite_loads_its_sample() -> None:
    suite = parse_suite("mixeval").suite
    whole = suite.load(suite.options_type(data="mini"))
    options = suite.options_type(data="mini", sample=4)
    items = sampled(suite, suite.load(options), options).items
    assert len(items) == 4
    assert {item.id.partition("/")[0] for item in items} == {"free_form", "multiple_choice"}
    assert [item.id for item in items] != [item.id for item in whole.items[:4]]
    assert sampled(suite, whole, suite.options_type(data="mini")) is whole


def test_a_task_of_lm_eval_is_asked_its_sample_alone() -> None:
    loaded = load_tasks(["mini_bbh"], Path(openllm.__file__).parent / "mini")
    with loop_in_a_thread() as loop:
        one, again, other = (run_tasks(loaded, ToyServer(), loop, sample=(2, seed)) for seed in (0, 0, 5))
    ids = [{task: [row["doc_id"] for row in rows] for task, rows in run.samples.items()} for run in (one, again, other)]
    assert all(len(rows) == 2 for rows in ids[0].values())
    assert ids[0] == ids[1] != ids[2]


def test_whole_sets_keep_their_keys_and_samples_have_folders_of_their_own() -> None:
    assert "sample" not in SuiteOptions(sample_seed=3).model_dump()
    assert SuiteOptions(sample=5).model_dump()["sample_seed"] == 0
    base = {"models": ["demo"], "data": "mini"}
    assert "sample" not in variant_settings(read_config(base))
    assert variant_settings(read_config({**base, "sample": 5})) == {"sample": "5"}
    assert variant_settings(read_config({**base, "sample": 5, "sample_seed": 2})) == {"sample": "5", "sample_seed": "2"}
    with pytest.raises(UsageError, match="--limit and --sample cannot be used together"):
        read_config({**base, "sample": 5, "limit": 5})
