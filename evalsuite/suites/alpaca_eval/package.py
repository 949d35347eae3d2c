"""Calling the alpaca_eval package without its side effects.

Importing it sets the root logger to INFO and loads a ``.env`` file from a parent folder. Its
length-controlled win rate always downloads ``df_gamed.csv``, writes weights into site-packages, enables
scikit-learn's metadata routing for the whole process, and chooses its regularisation on folds whose order
depends on the processor in older versions of scikit-learn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.suites.patching import patched, root_logger_kept

_RATES = ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total")


def win_rates(preferences: Sequence[float]) -> dict[str, float | int | None]:
    """Count and average ``preferences`` (each in [1, 2], none missing) with the package's ``get_winrate``.

    Returns win_rate, standard_error and discrete_win_rate in percent (None without any; the error also for one),
    n_wins, n_wins_base, n_draws and n_total.
    """
    if not preferences:
        return {name: 0 if name.startswith("n_") else None for name in _RATES}
    import pandas as pd

    with _alpaca_eval() as glm:
        rates = glm.get_winrate(pd.DataFrame({"preference": list(preferences)}))
    values = {name: float(rates[name]) if math.isfinite(rates[name]) else None for name in _RATES}
    return values | {name: int(rates[name]) for name in _RATES if name.startswith("n_")}


def length_controlled_win_rate(
    annotations: Mapping[str, Sequence[Any]], positions: Sequence[int], df_gamed: Path, *, is_baseline: bool
) -> Mapping[str, Any]:
    """Fit and predict with the package's ``get_length_controlled_winrate``.

    ``annotations`` has the columns output_1 (the baseline's), output_2 and preference, in [1, 2], NaN where unscored:
    such a row is predicted but not fitted. ``positions`` are those among the canonical 805: the package takes them
    from the table's index, and row numbers are right only when no row is missing. The package recognises the baseline
    by its name and gives any model of that name 50 without a fit: here ``is_baseline`` decides, the names are ours.

    Returns ``lc_win_rate`` and ``lc_standard_error`` (0-100), and ``lc``: {"C", "reason": None, "warning"}.
    """
    import pandas as pd
    import sklearn

    names = {"generator_1": "baseline", "generator_2": "baseline" if is_baseline else "candidate"}
    table = pd.DataFrame({**annotations, **names}, index=list(positions))
    fitted: list[Any] = []
    with _alpaca_eval() as glm, sklearn.config_context(), warnings.catch_warnings():
        # The package passes penalty= and keeps attributes that newer scikit-learn announces to remove.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"sklearn\..*")
        fit = glm.fit_LogisticRegressionCV

        def fit_and_keep(*args: Any, **kwargs: Any) -> Any:
            fitted.append(fit(*args, **kwargs))
            return fitted[-1]

        with patched(
            glm,
            hf_hub_download=lambda **_: str(df_gamed),
            fit_LogisticRegressionCV=fit_and_keep,
            GroupKFold=_fixed_folds(),
        ):
            metrics = glm.get_length_controlled_winrate(
                table, save_weights_dir=None, is_add_glm_preference_inplace=False, is_warn_extreme_changes=False
            )
        win_rate = float(metrics["length_controlled_winrate"])
        extreme = glm.get_is_extreme_changes(metrics["win_rate"], win_rate)
    warning = f"very far from the raw win rate of {metrics['win_rate']:.1f}: the fit may have failed"
    lc = {"C": float(fitted[0].C_[0]) if fitted else None, "reason": None, "warning": warning if extreme else None}
    return {"lc_win_rate": win_rate, "lc_standard_error": float(metrics["lc_standard_error"]), "lc": lc}


@contextmanager
def _alpaca_eval() -> Iterator[Any]:
    """Yield ``alpaca_eval.metrics.glm_winrate``, without lasting side effects of its import or use."""
    import dotenv

    with root_logger_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        with patched(dotenv, load_dotenv=lambda *_, **__: False):
            from alpaca_eval.metrics import glm_winrate
        yield glm_winrate


def _fixed_folds() -> type:
    """Return GroupKFold with folds that depend on the groups alone, as in scikit-learn since it sorts ties stably.

    Largest groups first, of equal ones the last first, each into the emptiest fold.
    """
    import numpy as np
    from sklearn.model_selection import GroupKFold

    class FixedFolds(GroupKFold):  # type: ignore[misc]
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Any, Any]]:  # noqa: ARG002, N803
            _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            fold_of_group, rows_in_fold = np.zeros(len(sizes), dtype=int), np.zeros(self.n_splits)
            for group in np.argsort(sizes, kind="stable")[::-1]:
                fold_of_group[group] = rows_in_fold.argmin()
                rows_in_fold[fold_of_group[group]] += sizes[group]
            fold_of_row = fold_of_group[group_of_row]
            for fold in range(self.n_splits):
                yield np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)

    return FixedFolds
