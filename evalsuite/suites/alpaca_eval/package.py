"""The alpaca_eval package at work, with its traps closed.

Left alone, importing it sets the root logger to INFO and loads a ``.env`` file from above its own
folder; its length-controlled win rate downloads ``df_gamed.csv`` whatever is at hand, writes weights
into site-packages, switches scikit-learn's metadata routing on for the whole process, and chooses its
regularisation on folds whose order depends on the processor in older versions of scikit-learn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.suites.patching import replaced, root_logger_kept

CANDIDATE, BASELINE = "candidate", "baseline"


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Length-controlled win rate and standard error (0-100), the chosen C, and the package's doubt if any."""

    win_rate: float
    standard_error: float
    inverse_regularisation: float | None
    warning: str | None


def win_rates(preferences: Sequence[float]) -> dict[str, float | int | None]:
    """Count and average ``preferences`` (each in [1, 2], none missing) with the package's ``get_winrate``.

    Returns win_rate, standard_error and discrete_win_rate in percent (None of nothing; the error
    also of one), n_wins, n_wins_base, n_draws and n_total.
    """
    names = ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total")
    if not preferences:
        return {name: 0 if name.startswith("n_") else None for name in names}
    import pandas as pd

    with _alpaca_eval() as glm:
        found = glm.get_winrate(pd.DataFrame({"preference": list(preferences)}))
    return {name: int(found[name]) if name.startswith("n_") else _finite(found[name]) for name in names}


def length_controlled_win_rate(
    *,
    positions: Sequence[int],
    preferences: Sequence[float],
    baseline_outputs: Sequence[str],
    outputs: Sequence[str],
    is_baseline: bool,
    df_gamed: Path,
) -> LengthControlled:
    """Fit and predict with the package's ``get_length_controlled_winrate``.

    All sequences are parallel. ``positions`` are places among the canonical 805: the package takes them
    from the table's index, and row numbers are right only when no row is missing. ``preferences``
    lie in [1, 2], NaN where unscored: such a row is predicted but not learned from. The package
    tells the baseline by its name, so a checkpoint of that name would get 50 unseen:
    ``is_baseline`` decides here, and the names are ours.
    """
    import pandas as pd
    import sklearn

    annotations = pd.DataFrame(
        {
            "preference": list(preferences),
            "output_1": list(baseline_outputs),
            "output_2": list(outputs),
            "generator_1": BASELINE,
            "generator_2": BASELINE if is_baseline else CANDIDATE,
        },
        index=list(positions),
    )
    fitted: list[Any] = []
    with _alpaca_eval() as glm, sklearn.config_context(), warnings.catch_warnings():
        # The package passes penalty= and keeps attributes that newer scikit-learn announces to remove.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"sklearn\..*")
        fit = glm.fit_LogisticRegressionCV

        def fit_and_keep(*args: Any, **kwargs: Any) -> Any:
            fitted.append(fit(*args, **kwargs))
            return fitted[-1]

        with replaced(
            glm,
            hf_hub_download=lambda **_: str(df_gamed),
            fit_LogisticRegressionCV=fit_and_keep,
            GroupKFold=_fixed_folds(),
        ):
            metrics = glm.get_length_controlled_winrate(
                annotations, save_weights_dir=None, is_add_glm_preference_inplace=False, is_warn_extreme_changes=False
            )
        win_rate = float(metrics["length_controlled_winrate"])
        extreme = glm.get_is_extreme_changes(metrics["win_rate"], win_rate)
    return LengthControlled(
        win_rate=win_rate,
        standard_error=float(metrics["lc_standard_error"]),
        inverse_regularisation=float(fitted[0].C_[0]) if fitted else None,
        warning=f"very far from the raw win rate of {metrics['win_rate']:.1f}: the fit may have failed"
        if extreme
        else None,
    )


@contextmanager
def _alpaca_eval() -> Iterator[Any]:
    """Yield ``alpaca_eval.metrics.glm_winrate``, its import and use leaving no trace in the process."""
    import dotenv

    with root_logger_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        with replaced(dotenv, load_dotenv=lambda *_, **__: False):
            from alpaca_eval.metrics import glm_winrate
        yield glm_winrate


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _fixed_folds() -> type:
    """Return GroupKFold with folds that depend on the groups alone.

    The same assignment as scikit-learn's from 1.6 on, where ties are sorted stably: largest groups
    first, of equal ones the last first, each into the emptiest fold.
    """
    import numpy as np
    from sklearn.model_selection import GroupKFold

    class FixedFolds(GroupKFold):  # type: ignore[misc]
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Any, Any]]:  # noqa: ARG002, N803
            _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            fold_of_group, rows_in_fold = np.zeros(len(sizes), dtype=int), [0] * self.n_splits
            for group in np.argsort(sizes, kind="stable")[::-1]:
                emptiest = rows_in_fold.index(min(rows_in_fold))
                fold_of_group[group] = emptiest
                rows_in_fold[emptiest] += int(sizes[group])
            for fold in range(self.n_splits):
                is_test = fold_of_group[group_of_row] == fold
                yield np.flatnonzero(~is_test), np.flatnonzero(is_test)

    return FixedFolds
