"""``evalsuite prefer``."""

from __future__ import annotations

from evalsuite.commands.console import print_error, print_json
from evalsuite.commands.options import from_config
from evalsuite.prefer.settings import PreferConfig


@from_config(PreferConfig)
def prefer(config: PreferConfig, *, as_json: bool) -> None:
    """Turn a comparison's verdicts, or scored answers, into preference pairs for DPO in TRL's format.

    A pair needs both orders (and all judges of a panel) to prefer the same answer; with --by it is the best and the
    worst scored answer to a prompt (generate --samples). All others are in dropped.jsonl with the reason.

    [bold]evalsuite prefer a-vs-b --out pairs/ --min-margin 0.2[/]
    [bold]evalsuite prefer answers/ --by rating --scores results/ratings/X/ --out pairs/[/]
    """
    from evalsuite.prefer.pairs import prefer as make_pairs

    document = make_pairs(config)
    for name, why in ((document["contamination"] or {}).get("missing") or {}).items():
        print_error(f"{name} was not checked for contamination: {why}")
    if as_json:
        print_json(document)
        return
    from evalsuite.tables import print_rows
    from evalsuite.terminal import Console

    console = Console()
    counts = {"pairs": document["n_pairs"], **{f"dropped: {name}": n for name, n in document["dropped"].items()}}
    of = "verdicts" if config.by is None else "prompts"
    print_rows(console, [{of: name, "n": f"{n:,}"} for name, n in counts.items()])
    if left_out := (document.get("rows") or {}).get("left_out"):
        rows = ", ".join(f"{name} {n:,}" for name, n in left_out.items())
        console.print(f"answers left out, of {document['rows']['n']:,}: {rows}", highlight=False)
    found = (document["contamination"] or {}).get("pairs_by_suite") or {}
    if found:
        print_error("prompts of " + ", ".join(f"{name} {n:,}" for name, n in found.items()))
    lengths = document["characters"]
    if lengths is not None:
        console.print(
            f"chosen {lengths['chosen']:.0f} characters on average, rejected {lengths['rejected']:.0f}", highlight=False
        )
    console.print(f"written to {config.out}/", highlight=False)
