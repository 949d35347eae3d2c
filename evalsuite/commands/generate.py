"""``evalsuite generate``."""

from __future__ import annotations

from evalsuite.commands.console import print_error, print_json, require_scored, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.exits import keep_tracebacks_in
from evalsuite.generation.settings import GenerateConfig


@from_config(GenerateConfig, exclude=("chunks",))
def generate(config: GenerateConfig, *, as_json: bool) -> None:
    """Answer every user turn of every conversation with each MODEL and write Parquet shards.

    Killed or interrupted, it resumes: run the same command again.

    [bold]evalsuite generate ckpt/ --prompts allenai/WildChat-1M --language English --out answers/[/]
    [bold]evalsuite generate demo ckpt/ --prompts chats.jsonl --temperature 0.7 --out answers/ --shard 1/4[/]
    """
    from evalsuite.fleet.generate import generate_on
    from evalsuite.generation.run import generate as answer

    keep_tracebacks_in(config.out)
    with showing_progress(config.out, "evalsuite generate") as progress:
        generated = (answer if config.on is None else generate_on)(config, progress)
        if config.push_to is not None:
            from evalsuite.generation.card import push

            progress.step(f"uploading to {config.push_to}")
            print_error(f"uploaded to {push(config.push_to, generated, public=config.public)}")
            progress.step("")
    if as_json:
        print_json({"models": [dict(manifest) for manifest in generated.manifests]})
    else:
        from evalsuite.commands.show import print_summary
        from evalsuite.conversations.source import open_source
        from evalsuite.generation.tables import print_generated
        from evalsuite.terminal import Console

        console = Console()
        print_generated(console, generated)
        for folder in generated.folders:
            print_summary(console, open_source(str(folder)))
        suggest(f"show {generated.folders[0]}", f"report --data {generated.folders[0]}")
    require_scored(*generated.unscored, config.max_unscored, "answers")
