"""The terminal table of ``evalsuite generate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.generation.run import Generated
    from evalsuite.terminal import Console


def print_generated(console: Console, generated: Generated) -> None:
    """Print one line per model with its counts, and its files and left out rows."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold")
    thinks = any(manifest["tokens"].get("thought") for manifest in generated.manifests)
    names = (
        "model",
        "conversations",
        "answers",
        "missing",
        "tokens",
        *(("of thoughts",) if thinks else ()),
        "tokens/s",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "model" else "right")
    for manifest in generated.manifests:
        counts, tokens = manifest["counts"], manifest["tokens"]
        seconds = manifest["seconds"]["generate"]
        n_generated = manifest["costs"]["usage"].get("completion_tokens", 0)
        table.add_row(
            escape(manifest["model"]["name"]),
            f"{counts['conversations']:,}",
            f"{counts['answers']:,}",
            _reasons(counts["unscored"]),
            f"{tokens['completion'] + tokens.get('thought', 0):,}",
            *([f"{tokens.get('thought', 0):,}"] if thinks else []),
            f"{n_generated / seconds:,.0f}" if seconds and n_generated else "–",
        )
    console.print(table)
    for folder, manifest in zip(generated.folders, generated.manifests, strict=True):
        left_out = {reason: count for reason, count in manifest["counts"]["left_out"].items() if count}
        suffix = f"; left out: {_reasons(left_out)}" if left_out else ""
        files = plural(len(manifest["shards"]), "Parquet file")
        console.print(f"{folder}/: {files}{suffix}", highlight=False, markup=False)


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "0"
