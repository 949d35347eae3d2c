"""``evalsuite show``."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import pydantic

from evalsuite.commands.console import print_json
from evalsuite.commands.options import from_config
from evalsuite.config import Config
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.conversations.source import Rows
    from evalsuite.terminal import Console

SUMMARY_ROWS = 10_000
_STYLES = {"user": "bold cyan", "assistant": "bold green", "system": "bold yellow"}

Numbered = tuple[int, Mapping[str, Any]]


class ShowConfig(Config):
    """A whole ``evalsuite show``."""

    data: str = pydantic.Field(json_schema_extra={"argument": "DATA", "path": True})
    """Folder of generate or mix, file or hub data set."""
    row: str | int | None = pydantic.Field(default=None, json_schema_extra={"metavar": "N|HASH"})
    """Row by number (from 0) or by the start of its hash."""
    sample: int | None = pydantic.Field(default=None, ge=1)
    """Show this many randomly chosen rows."""
    seed: int = 0
    """Seed of the sample."""
    where: tuple[str, ...] = ()
    """COLUMN=VALUE or COLUMN!=VALUE; finish_reason matches if any answer has it."""
    thoughts: bool = False
    """Show the thinking in full."""


@from_config(ShowConfig)
def show(config: ShowConfig, *, as_json: bool) -> None:
    """Show conversations of DATA and summarise them: turns, lengths, languages, finish reasons.

    [bold]evalsuite show answers/ --where finish_reason=length --sample 3[/]
    [bold]evalsuite show mixes/re-wild --row 3fa4[/]
    """
    from evalsuite.conversations.source import open_source
    from evalsuite.errors import UsageError
    from evalsuite.terminal import Console

    rows, row = open_source(config.data), None if config.row is None else str(config.row)
    conditions = [_condition(text) for text in config.where]
    fitting = (each for each in enumerate(rows) if all(_fits(each[1], *one) for one in conditions))
    if row is not None:
        fitting = (each for each in fitting if row == str(each[0]) or _hash_of(each[1]).startswith(row))
    n = None if row is not None else config.sample
    chosen: list[Numbered] = [*islice(fitting, 1)] if n is None else _sampled(fitting, n, config.seed)
    if not chosen:
        raise UsageError(f"no row of {config.data} matches; try without --row and --where")
    if as_json:
        print_json({"rows": [{"row": number, **each} for number, each in chosen]})
        return
    console = Console()
    for number, each in chosen:
        _print_row(console, rows, number, each, thoughts=config.thoughts)
    if row is None:
        print_summary(console, rows)


def _sampled(rows: Iterator[Numbered], count: int, seed: int) -> list[Numbered]:
    """Return a uniform sample in the source's order, holding no more rows than it has (Vitter's algorithm R)."""
    generator = random.Random(seed)
    kept: list[Numbered] = []
    for number, each in enumerate(rows):
        if number < count:
            kept.append(each)
        elif (place := generator.randrange(number + 1)) < count:
            kept[place] = each
    return sorted(kept, key=lambda each: each[0])


def _condition(text: str) -> tuple[str, str, bool]:
    from evalsuite.errors import UsageError

    name, sign, value = text.partition("=")
    if not sign or not name.rstrip("!"):
        raise UsageError(f"--where {text!r} is not COLUMN=VALUE or COLUMN!=VALUE")
    return name.rstrip("!"), value, not name.endswith("!")


def _fits(row: Mapping[str, Any], name: str, value: str, equal: bool) -> bool:
    values = [turn.get(name) for turn in _turns(row) if turn.get("role") == "assistant"]
    given = values if name == "finish_reason" and name not in row else [row.get(name)]
    return any(str(one).casefold() == value.casefold() for one in given) == equal


def _turns(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    empty: list[Any] = []
    found = next((row[name] for name in ("messages", "conversation") if isinstance(row.get(name), list)), empty)
    return [turn for turn in found if isinstance(turn, Mapping)]


def _hash_of(row: Mapping[str, Any]) -> str:
    return str(row.get("conversation_hash") or "")


def _print_row(console: Console, rows: Rows, number: int, row: Mapping[str, Any], *, thoughts: bool) -> None:
    from evalsuite.conversations.formats import detect_format, prompts_of
    from judges.types import Unscored

    conversation = prompts_of(row, detect_format(rows.columns, rows.spec))
    names = [f"{name} {row[name]}" for name in ("model", "source", "dgm", "language", "sample") if row.get(name)]
    title = " ".join(filter(None, (f"── row {number}", _hash_of(row)[:12], ", ".join(names), "──")))
    console.print(title, style="dim", markup=False, highlight=False)
    if isinstance(conversation, Unscored):
        console.print(f"no conversation: {conversation.reason} ({conversation.detail})", markup=False)
        return
    recorded = [turn for turn in _turns(row) if turn.get("role") == "assistant"]
    n_answers = 0
    for message, end in zip(conversation.messages, conversation.finish_reasons, strict=True):
        facts = [end] if end else []
        if message.role == "assistant":
            tokens = recorded[n_answers].get("completion_tokens") if n_answers < len(recorded) else None
            facts += [plural(tokens, "token")] if tokens else []
            n_answers += 1
        ended = f" ({', '.join(facts)})" if facts else ""
        console.print(f"{message.role}{ended}", style=_STYLES.get(message.role), markup=False)
        if message.thought:
            folded = f"[{len(message.thought):,} characters of thinking; show with --thoughts]"
            console.print(message.thought if thoughts else folded, style="dim", markup=False, highlight=False)
        console.print(message.content or "(no text)", markup=False, highlight=False)
    console.print()


def print_summary(console: Console, rows: Rows) -> None:
    """Print what a source's conversations are like, from its first rows where it has many."""
    from evalsuite.conversations.summary import summarised, summary_lines, summary_rows
    from evalsuite.tables import print_rows

    summary = summarised(rows, SUMMARY_ROWS)
    if summary["n_rows"] == SUMMARY_ROWS:
        console.print(f"Of the first {SUMMARY_ROWS:,} rows:", highlight=False)
    print_rows(console, summary_rows(summary))
    for line in summary_lines(summary):
        console.print(line, markup=False, highlight=False)
