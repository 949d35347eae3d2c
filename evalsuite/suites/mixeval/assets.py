"""MixEval's pinned data: the items of each version, and the lines that close its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.assets.asset import Asset, InMirror, InWheel, OnHub, Wheel, by_name

_FIELDS = ("id", "problem_type", "context", "prompt", "options", "target", "benchmark_name")
_LIGHTEVAL = Wheel("lighteval", "0.13.0", "2552944f09e90680394f051bc109ca951cff694002ac3365c99fd6b6bb394dcf")
_HUB_CONFIGS = {"mixeval": "MixEval", "mixeval_hard": "MixEval_Hard"}
_ON_HUB = "2024-06-01"
"""The hub holds one version only, the first."""

_FILES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "2024-06-01": {
        "mixeval/free_form": (2000, "060d12102514316d4965191a31a83e4aa7f76d3f5686b2fc4101e00719c31715"),
        "mixeval/multiple_choice": (2000, "3c7b1ebab4c19c3297c56fb7fe758fbf857c24f1bc72895fcd78382716135643"),
        "mixeval_hard/free_form": (500, "55167abde842c86b80504913eaf839a2fbd7e96b4332eb69406f583dbb6ce7c5"),
        "mixeval_hard/multiple_choice": (500, "11e57fa2e1bc6bd3529167e4353991cae7c548e55ccf5067ef42a95971397af1"),
    },
    "2024-08-11": {
        "mixeval/free_form": (2000, "6709e72987079e0a01a196395995e3e5c6f98d517a0009d07dcc3fd0e5732ca6"),
        "mixeval/multiple_choice": (1995, "db8bc584529f471e6af4668017871767eb1885624570f71d07d1a8f3fac48254"),
        "mixeval_hard/free_form": (500, "4784526892f825d421a43a3c34a139adcfa9f8b17d1898b7e5c57079fecf5b4e"),
        "mixeval_hard/multiple_choice": (500, "3015ee7cc02f20ae7e412e0b42919a9a7d361c6c37de36db5ada38a576a36fea"),
    },
}
"""Number of rows and SHA-256 of the raw file, by version and table."""

_ROWS_SHA256 = {
    "mixeval/free_form": "9d4278238b7889dc5fa3fc53cb1e5987a4dc30d7604632825cd2ce7c67d663ed",
    "mixeval/multiple_choice": "0e204a582281a985784ab3e293a4a3a1e37a0b43e5f2a37dd3790ce23926f33f",
    "mixeval_hard/free_form": "62a8e03601edd447a8531f9c4532f408f7a55de43f6221288ec503d393f94fde",
    "mixeval_hard/multiple_choice": "f1247ace6059108dd80788f305354b0e64662b129024c82863250cd7d41d16ae",
}
"""SHA-256 of the rows, known of the version on the hub."""

PROMPTS = Asset(
    name="mixeval/prompts",
    suite="mixeval",
    licence="MIT",
    kind="file",
    locations=(InWheel(_LIGHTEVAL, "lighteval/tasks/tasks/mix_eval/prompts.py"),),
    sha256="b5480ae9de551c5556d75fac98d36facfa9013b8e1a2d0bd88536841875a3c85",
    remark="read as text, never run",
)


def asset_name(version: str, key: str, split: str) -> str:
    """Return the name of the items of a version, of MixEval or MixEval-Hard by its key, in one split."""
    return f"mixeval/{version}/{key}/{split}"


def _raw_types(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row the types of the raw file: the hub's table holds option numbers as text."""
    target = row.get("target")
    targets: list[Any] = list(target) if isinstance(target, list | tuple) else [target]
    is_numbered = row.get("problem_type") == "multiple-choice"
    return {**row, "id": str(row["id"]), "target": [int(one) for one in targets] if is_numbered else targets}


def _items(version: str, table: str, rows: int, file_sha256: str) -> Asset:
    key, split = table.split("/")
    hub = OnHub("MixEval/MixEval", f"{_HUB_CONFIGS[key]}/{split}*.parquet")
    return Asset(
        name=asset_name(version, key, split),
        suite="mixeval",
        licence="none stated",
        kind="rows",
        locations=(
            InMirror(f"mixeval/mixeval-{version}/{table.replace('_', '-')}.json"),
            *([hub] if version == _ON_HUB else []),
        ),
        rows=rows,
        sha256=_ROWS_SHA256[table] if version == _ON_HUB else None,
        file_sha256=file_sha256,
        fields=_FIELDS,
        normalize=_raw_types,
    )


ASSETS: Mapping[str, Asset] = by_name(
    *(_items(version, table, *facts) for version, tables in _FILES.items() for table, facts in tables.items()), PROMPTS
)
"""Every asset of the suite by its name."""
