"""The figures of the table: what each column shows, on which scale, and where its parts stand in scores.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from judges.statistics import wilson_ci

_Z95 = 1.959963984540054
NO_SPREAD = 1e-9
"""Below this, marks and figures differ by rounding only."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell. Without a value, ``reason`` says why; ``n`` counts scored observations."""

    value: float | None = None
    stderr: float | None = None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    unscored: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``top`` is the best possible value; ``judged`` says that its figure needs a judge.

    ``suite`` names the suite in scores.json; ``items`` the prefix of the item parts behind it.
    """

    key: str
    title: str
    says: str
    top: float
    digits: int
    suite: str
    read: Callable[[Mapping[str, Any]], Figure]
    judged: bool = False
    main: bool = True
    items: str = ""


def _interval(part: Mapping[str, Any], value: float | None, stderr: float | None) -> tuple[float, float] | None:
    ci95 = part.get("ci95")
    if isinstance(ci95, list) and len(ci95) == 2 and all(isinstance(end, int | float) for end in ci95):
        low, high = float(ci95[0]), float(ci95[1])
    elif value is None or stderr is None:
        return None
    else:
        low, high = value - _Z95 * stderr, value + _Z95 * stderr
    # Items that are all alike have no spread to make an interval of; one without a width would claim certainty.
    return (low, high) if high - low > NO_SPREAD else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def unscored_words(counts: Any) -> str:
    """Say which reasons left how many items unscored."""
    if not isinstance(counts, Mapping):
        return ""
    return ", ".join(f"{reason} {count}" for reason, count in counts.items() if count)


def _count(counts: Any) -> int:
    values = counts.values() if isinstance(counts, Mapping) else ()
    return sum(value for value in values if isinstance(value, int))


def _scored(part: Mapping[str, Any], key: str = "score") -> Figure:
    value, stderr = _number(part.get(key)), _number(part.get("stderr")) if key == "score" else None
    reason = ""
    if value is None:
        missing = part.get("missing")
        reason = "; ".join(f"{name}: {why}" for name, why in missing.items()) if isinstance(missing, Mapping) else ""
        reason = reason or unscored_words(part.get("unscored")) or "no item of it was scored"
    counted = part.get("n_scored", part.get("n"))
    return Figure(
        value,
        stderr,
        _interval(part, value, stderr) if key == "score" else None,
        counted if isinstance(counted, int) and key == "score" else None,
        _count(part.get("unscored")),
        reason,
    )


def _absent(suite: str) -> Figure:
    return Figure(reason=f"{suite} was not run")


def _suite(name: str, key: str = "score") -> Callable[[Mapping[str, Any]], Figure]:
    def read(suites: Mapping[str, Any]) -> Figure:
        part = suites.get(name)
        return _absent(name) if not part else _scored(part, key)

    return read


def _alpaca(key: str, error_key: str) -> Callable[[Mapping[str, Any]], Figure]:
    def read(suites: Mapping[str, Any]) -> Figure:
        part = suites.get("alpaca_eval")
        if not part:
            return _absent("alpaca_eval")
        value, stderr = _number(part.get(key)), _number(part.get(error_key))
        # The recorded interval is the plain win rate's; the length-controlled one has its standard error only.
        interval = _interval(part if key == "win_rate" else {}, value, stderr)
        why = (part.get("lc") or {}).get("reason") if key == "lc_win_rate" else None
        reason = "" if value is not None else str(why or unscored_words(part.get("unscored")) or "nothing was scored")
        n = part.get("n_total")
        return Figure(value, stderr, interval, n if isinstance(n, int) else None, _count(part.get("unscored")), reason)

    return read


def _openllm(name: str, key: str = "score") -> Callable[[Mapping[str, Any]], Figure]:
    def read(suites: Mapping[str, Any]) -> Figure:
        suite = suites.get("openllm")
        if not suite:
            return _absent("openllm")
        part = suite.get(name)
        if not isinstance(part, Mapping):
            return Figure(reason=str((suite.get("unscored") or {}).get(name) or f"openllm:{name} was not run"))
        figure = _scored(part, key)
        # lm-eval's standard error of documents that are all right or all wrong is 0, which is no certainty.
        if figure.stderr == 0 and figure.value in (0.0, 1.0) and figure.n:
            return replace(figure, ci95=wilson_ci(int(figure.value) * figure.n, figure.n))
        return figure

    return read


def _part(key: str, title: str, says: str) -> Column:
    return Column(key, title, f"{says}; 0 to 1", 1.0, 3, "openllm", _openllm(key), items=f"openllm/{key}/")


COLUMNS: tuple[Column, ...] = (
    Column(
        "mt_bench",
        "MT-Bench",
        "mean rating of both turns; 1 to 10",
        10.0,
        2,
        "mt_bench",
        _suite("mt_bench"),
        judged=True,
        items="mt_bench",
    ),
    Column(
        "alpaca_eval",
        "AlpacaEval 2",
        "length-controlled win rate against the baseline; percent",
        100.0,
        2,
        "alpaca_eval",
        _alpaca("lc_win_rate", "lc_standard_error"),
        judged=True,
    ),
    _part("bbh", "BBH", "BIG-Bench Hard, acc_norm"),
    _part("gpqa", "GPQA", "acc_norm"),
    _part("math", "MATH", "MATH level 5, exact match"),
    _part("musr", "MuSR", "acc_norm as lm-eval weighs it; the averages take the mean of its subtasks"),
    _part("ifeval", "IFEval", "strict accuracy by prompt"),
    _part("mmlu_pro", "MMLU-Pro", "acc"),
    Column(
        "mixeval",
        "MixEval",
        "both splits weighed by count; 0 to 1",
        1.0,
        3,
        "mixeval",
        _suite("mixeval"),
        judged=True,
        items="mixeval/",
    ),
)
"""The paper's nine columns, in its order of the suites."""

EXTRA_COLUMNS: tuple[Column, ...] = (
    Column(
        "alpaca_win_rate",
        "AlpacaEval 2 WR",
        "plain win rate against the baseline; percent",
        100.0,
        2,
        "alpaca_eval",
        _alpaca("win_rate", "standard_error"),
        judged=True,
        main=False,
        items="alpaca_eval",
    ),
    Column(
        "mixeval_hard",
        "MixEval-Hard",
        "0 to 1",
        1.0,
        3,
        "mixeval_hard",
        _suite("mixeval_hard"),
        judged=True,
        main=False,
        items="mixeval_hard/",
    ),
    Column(
        "mt_bench_turn_1",
        "MT-Bench turn 1",
        "1 to 10",
        10.0,
        2,
        "mt_bench",
        _suite("mt_bench", "turn_1"),
        judged=True,
        main=False,
    ),
    Column(
        "mt_bench_turn_2",
        "MT-Bench turn 2",
        "1 to 10",
        10.0,
        2,
        "mt_bench",
        _suite("mt_bench", "turn_2"),
        judged=True,
        main=False,
    ),
    Column(
        "musr_subtasks",
        "MuSR, mean of subtasks",
        "the paper's figure; 0 to 1",
        1.0,
        3,
        "openllm",
        _openllm("musr", "mean_of_subtasks"),
        main=False,
    ),
)
"""Figures that a reader may switch on."""

AVERAGES: Mapping[str, tuple[str, str]] = {
    "paper": ("Mean of 7", "BBH, GPQA, MATH, MuSR, IFEval, MMLU-Pro and MixEval; 0 to 1"),
    "nine": ("Mean of 9", "the seven with MT-Bench/10 and AlpacaEval/100; 0 to 1"),
    "leaderboard_v2": ("Leaderboard v2", "mean of the six normalised scores; 0 to 100"),
}


def average_figure(average: Mapping[str, Any], name: str) -> Figure:
    """Return an average of scores.json; one with a missing part is empty and names the parts that are there."""
    value = _number(average.get(name))
    if value is not None:
        return Figure(value)
    partial = ((average.get("partial") or {}).get(name)) or {}
    parts = partial.get("parts") or []
    if not parts:
        return Figure(reason="none of its parts is there")
    return Figure(reason=f"not all parts are there; over {', '.join(parts)} the mean is {partial['mean']:.4f}")
