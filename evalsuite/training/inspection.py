"""``evalsuite sft --inspect``: one example as the trainer sees it, token by token, and the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evalsuite.contamination.settings import Checked
from evalsuite.progress import NoProgress, Progress
from evalsuite.text import plural
from evalsuite.training.data import TokenCounts
from evalsuite.training.masks import IGNORED
from evalsuite.training.train import Prepared, Trust, left_out, open_recipe, tokenise

if TYPE_CHECKING:
    from evalsuite.terminal import Console


def inspect(
    recipe_path: Path,
    out: Path | None = None,
    *,
    data: str | None = None,
    contamination: Checked = "full",
    row: int = 0,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tokenise all data as training would and return the counts and example number ``row``.

    Nothing is trained, and nothing is kept on disk except, with ``out``, a mix that had to be built. Raises what
    ``train`` raises before it loads the base.
    """
    progress = progress or NoProgress()
    trust = Trust(allow_pickle, trust_remote_code)
    with TemporaryDirectory(prefix="evalsuite-inspect-") as folder:
        prepared = open_recipe(recipe_path, out or Path(folder, "out"), data, contamination, progress, trust)
        counts = tokenise(prepared, Path(folder), progress)
        example = _example(prepared, Path(folder), row % counts.n_trained)
    return {"counts": asdict(counts), "left_out": left_out(counts, prepared.config), "example": example}


def print_inspection(console: Console, document: Mapping[str, Any]) -> None:
    """Print the example, with loss tokens in green and the others dimmed, and the counts."""
    from rich.text import Text

    text = Text()
    for token in document["example"]["tokens"]:
        # Line ends are shown.
        text.append(token["text"].replace("\n", "⏎\n"), style="bold green" if token["loss"] else "dim")
    console.print(text)
    counts, example = TokenCounts(**document["counts"]), document["example"]
    n_loss = sum(token["loss"] for token in example["tokens"])
    console.print()
    console.print(
        f"conversation {example['conversation_hash'][:16]}: {len(example['tokens']):,} tokens, {n_loss:,} with loss "
        "([bold green]green[/])"
    )
    share = counts.n_loss_tokens / counts.n_tokens
    console.print(
        f"all {plural(counts.n_trained, 'conversation')}: {counts.n_tokens:,} tokens, {counts.n_loss_tokens:,} with "
        f"loss ({share:.1%}), longest {counts.longest:,}; {counts.n_with_thought:,} with a thought; "
        f"held out {counts.n_held_out:,}",
        highlight=False,
    )
    for line in document["left_out"]:
        console.print(line, highlight=False)


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text of each token as it continues the one before: SentencePiece drops the space of a first word."""
    texts = [tokenizer.decode(ids[:1])] if ids else []
    for before, both in zip(ids, pairwise(ids), strict=False):
        texts.append(tokenizer.decode(list(both))[len(tokenizer.decode([before])) :])
    return texts


def _example(prepared: Prepared, folder: Path, row: int) -> dict[str, Any]:
    from datasets import Dataset

    example = Dataset.from_file(str(folder / "train.arrow"))[row]
    ids = example["input_ids"]
    texts = token_texts(prepared.template.tokenizer, ids)
    tokens = [
        {"id": number, "text": text, "loss": label != IGNORED}
        for number, text, label in zip(ids, texts, example["labels"], strict=True)
    ]
    return {"conversation_hash": example["conversation_hash"], "tokens": tokens}
