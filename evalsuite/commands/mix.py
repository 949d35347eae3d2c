"""``evalsuite mix``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from evalsuite.commands.console import print_error, print_json, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.contamination.settings import CheckedMix, OverlapConfig
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.terminal import Console


class MixConfig(OverlapConfig):
    """A whole ``evalsuite mix``."""

    recipe: Path = pydantic.Field(json_schema_extra={"argument": "RECIPE"})
    """YAML file with name, seed and a mix section."""
    out: Path
    """Folder for the Parquet shards and mix.json."""
    contamination: CheckedMix = "full"
    drop_contaminated: bool = False
    """Draw other conversations instead of contaminated ones."""
    fresh: bool = False
    """Build it again even if the same mix exists."""


@from_config(MixConfig)
def mix(config: MixConfig, *, as_json: bool) -> None:
    """Build a data mix: sources, filters, seeded draws, deduplication, shuffling; writes Parquet and mix.json.

    [bold]evalsuite mix recipes/re-wild.yaml --out mixes/re-wild[/]
    [bold]evalsuite mix my-mix.yaml --out mixes/mine --drop-contaminated[/]
    """
    from evalsuite.contamination.index import OverlapRule
    from evalsuite.mix.build import ContaminationConfig, build_mix
    from evalsuite.recipes.recipe import read_recipe

    checked = ContaminationConfig(
        None if config.contamination == "off" else config.contamination,
        OverlapRule(config.ngram, config.overlap),
        config.drop_contaminated,
        config.turns,
        config.near,
    )
    recipe, out = read_recipe(config.recipe), config.out
    with showing_progress() as progress:
        document = build_mix(recipe, out, progress, contamination=checked, fresh=config.fresh)
    for source in document["sources"]:
        if source["fewer"]:
            print_error(f"{source['name']} gave {source['taken']:,} of {source['asked']:,}: it has no more")
    if as_json:
        print_json(document)
    else:
        from evalsuite.terminal import Console

        _print_mix(Console(), document, out)
        suggest(f"show {out}", f"report --data {out}")


def _print_mix(console: Console, document: dict[str, Any], out: Path) -> None:
    from evalsuite.commands.show import print_summary
    from evalsuite.contamination.measure import suite_rows
    from evalsuite.conversations.source import open_source
    from evalsuite.tables import print_rows

    has_tokens = document["tokens"] is not None
    print_rows(
        console,
        [
            {
                "source": source["name"],
                "asked": "all" if source["asked"] is None else f"{source['asked']:,}",
                "available": f"{source['available']:,}",
                "taken": f"{source['taken']:,}",
                "left out": _left_out(source),
                "tokens" if has_tokens else "characters": f"{source['tokens' if has_tokens else 'characters']:,}",
            }
            for source in document["sources"]
        ],
    )
    if document["contamination_detail"] is not None:
        print_rows(console, suite_rows(document["contamination_detail"]))
    size = f"{document['tokens']:,} tokens" if has_tokens else f"{document['characters']:,} characters"
    console.print(
        f"{plural(document['n_rows'], 'conversation')}, {size}, hash {document['hash'][:12]}, written to {out}/",
        highlight=False,
    )
    print_summary(console, open_source(str(out)))


def _left_out(source: dict[str, Any]) -> str:
    """List the rules that left rows out with their counts, over all members."""
    counts = Counter(source["refused"])
    for member in source["members"]:
        counts.update(member["dropped"])
        counts.update(member["changed"])
    return ", ".join(f"{rule} {count:,}" for rule, count in sorted(counts.items()))
