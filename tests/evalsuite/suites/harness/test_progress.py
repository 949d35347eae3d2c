"""One bar per suite: its total stands from the first answer on."""

from __future__ import annotations

from types import SimpleNamespace

from evalsuite.suites.harness.run import HarnessLoaded, _by_part


def task(*repeats: int) -> SimpleNamespace:
    return SimpleNamespace(instances=[SimpleNamespace(repeats=n) for n in repeats])


def test_the_total_of_all_parts_is_told_with_the_first_answer_and_never_grows() -> None:
    # Two kinds of requests of part a, which lm-eval sends in two calls, and one request asked twice of part b.
    tasks = {"a1": task(1, 1), "a2": task(1), "b": task(2)}
    told: dict[str, tuple[int, int]] = {}
    sums: list[tuple[int, int]] = []

    def note(part: str, done: int, total: int, unscored: int) -> None:
        assert unscored == 0
        told[part] = done, total
        sums.append(tuple(map(sum, zip(*told.values(), strict=True))))

    report = _by_part(HarnessLoaded({"a": ("a1", "a2"), "b": ("b",)}, tasks, {}), note)
    assert report is not None
    for name, answered, asked in (("a1", 1, 1), ("a2", 1, 1), ("a1", 1, 1), ("b", 1, 2), ("b", 2, 2)):
        report(name, answered, asked, 0)
    # The first call tells every part.
    assert sums[1:] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
