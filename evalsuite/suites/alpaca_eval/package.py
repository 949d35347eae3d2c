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
from typing import TYPE_CHECKING, Any

from evalsuite.suites.patching import patched, root_logger_kept

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Array = NDArray[np.float64]

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

    Returns ``lc_win_rate`` and ``lc_standard_error`` (0-100), ``lc_ci95`` (:func:`length_controlled_interval`), and
    ``lc``: {"C", "reason": None, "warning"}.
    """
    import pandas as pd
    import sklearn

    names = {"generator_1": "baseline", "generator_2": "baseline" if is_baseline else "candidate"}
    table = pd.DataFrame({**annotations, **names}, index=list(positions))
    fitted: list[Any] = []
    interval: list[float] = []
    with _alpaca_eval() as glm, sklearn.config_context(), warnings.catch_warnings():
        # The package passes penalty= and keeps attributes that newer scikit-learn announces to remove.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"sklearn\..*")
        fit = glm.fit_LogisticRegressionCV

        def fit_and_keep(data: Any, column: str, *, sample_weight: Any, **kwargs: Any) -> Any:
            fitted.append(fit(data, column, sample_weight=sample_weight, **kwargs))
            features, shares = data.drop(columns=[column]).to_numpy(), data[column].to_numpy()
            found = length_controlled_interval(features, shares, sample_weight.to_numpy(), fitted[-1].coef_[0])
            interval[:] = [100 * end for end in found or ()]
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
    error = float(metrics["lc_standard_error"])
    return {"lc_win_rate": win_rate, "lc_standard_error": error, "lc_ci95": interval or None, "lc": lc}


def length_controlled_interval(
    features: _Array, shares: _Array, weights: _Array, fitted: _Array
) -> tuple[float, float] | None:
    """Return the 95 % interval of the length-controlled win rate over instructions, 0 to 1.

    None without spread, also where all games have the same share, which a penalty keeps from running away; and for a
    fit that has run away: a rate that is 0 or 1 to the last digit has no log-odds.

    The package's standard error is the spread of its predictions, which differ by the instructions' difficulty alone:
    it knows nothing of the error of the fit. ``features`` (games, 3) are length, difficulty and 1 for the model's own
    games, 0 for the fixed ones of the gamed baselines; ``shares`` are what was won of each game, ``fitted`` the
    coefficients. The variance is that of the influence of each instruction on the mean prediction, through the
    fit and through its difficulty (Huber 1967; Stefanski and Boos 2002, Am. Stat. 56, 29-38), on the log-odds. The
    penalty is left out: with the C of published models it moves a coefficient by a few thousandths.
    """
    import numpy as np
    from scipy.special import expit

    from judges.statistics import NO_SPREAD, normal_ci

    chances = expit(features @ fitted)
    curvature = (weights * chances * (1 - chances))[:, None] * features
    own = features[:, 2] == 1
    scores = (shares - chances)[own, None] * features[own]
    of_equal_length = features[own] * [0.0, 1.0, 1.0]
    rates = expit(of_equal_length @ fitted)
    slope = ((rates * (1 - rates))[:, None] * of_equal_length).mean(axis=0)
    n, rate = len(rates), float(rates.mean())
    if not 0 < rate < 1 or np.ptp(shares[own]) <= NO_SPREAD:
        return None
    influence = (rates - rate) / n + scores @ np.linalg.lstsq(curvature.T @ features, slope, rcond=None)[0]
    error = float(np.sqrt(n) * influence.std(ddof=1))
    odds = float(np.log(rate / (1 - rate)))
    ends = normal_ci(odds, error / (rate * (1 - rate))) if error > NO_SPREAD else None
    if ends is None:
        return None
    low, high = expit(ends).tolist()
    return low, high


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
