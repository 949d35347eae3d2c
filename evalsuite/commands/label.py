"""``evalsuite label``."""

from __future__ import annotations

from evalsuite.commands.console import print_json
from evalsuite.commands.options import from_config
from evalsuite.labelling.settings import LabelConfig
from evalsuite.text import plural


@from_config(LabelConfig)
def label(config: LabelConfig, *, as_json: bool) -> None:
    """Write a page for people to label pairs of a comparison's answers without seeing the models' names.

    The page works offline, keeps the labels in the browser and saves labels.jsonl for compare --human.

    [bold]evalsuite label results/comparisons/a-vs-b --n 100 --out sheet.html[/]
    [bold]evalsuite label results/comparisons/a-vs-b --n 100 --seed 1 --out another-sheet.html[/]
    """
    from evalsuite.labelling.sheet import write_sheet

    n = write_sheet(config)
    if as_json:
        print_json({"n": n, "out": str(config.out)})
        return
    from evalsuite.terminal import Console

    said = f"{plural(n, 'pair')} written to {config.out}: open it in a browser, press A, B or T, then save"
    Console().print(said, highlight=False, markup=False)
