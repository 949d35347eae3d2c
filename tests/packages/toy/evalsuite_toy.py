"""A benchmark of one's own in a package of one's own: sums, marked right or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from evalsuite.assets import Asset
from evalsuite.assets.asset import InMirror, Pin
from evalsuite.errors import DataError
from evalsuite.files import read_objects
from evalsuite.records.rows import Draw, Header, Reply, Row
from evalsuite.serving.requests import Chat, Sampling, derive_seed
from evalsuite.suites.base import Suite, draw_of, marked
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Item, Loaded, Recorded
from judges.types import Message

SUMS = [(first, second) for first in range(2, 5) for second in range(2, 5)]


class ToyOptions(SuiteOptions):
    """The options of the toy suite."""

    toy_wording: Literal["short", "polite"] = "short"
    """How a sum is asked: short or polite."""


class Toy(Suite):
    """The suite ``toy``."""

    name, title = "toy", "Toy sums"
    options_type = ToyOptions
    answer_context = 64
    sizes: ClassVar = {"full": len(SUMS), "mini": len(SUMS)}
    assets: ClassVar = {"toy/sums": Asset("toy/sums", "toy", "CC0", "rows", (InMirror("toy/sums.jsonl"),))}

    def load(self, options: ToyOptions) -> Loaded:
        polite = "Please add " if options.toy_wording == "polite" else ""
        items = [
            Item(f"{first}+{second}", {"question": f"{polite}{first} + {second}", "answer": str(first + second)})
            for first, second in SUMS[: options.limit]
        ]
        return Loaded(items, data_pins={"toy/sums": Pin("0" * 64, "package", pinned=True)})

    def row(self, item: Item, loaded: Loaded) -> Row:
        prompt = (Message("user", item.data["question"]),)
        return Row(item.id, prompt=prompt, facts={"category": "sums", "reference": [item.data["answer"]]})

    async def answer(self, item: Item, loaded: Loaded, model: Chat, options: ToyOptions) -> Draw:
        sampling = Sampling(max_new_tokens=8, seed=derive_seed(options.seed, "toy", item.id))
        return draw_of([await model.chat(self.row(item, loaded).prompt, sampling)])

    def mark(self, row: Row, header: Header) -> Row:
        text = row.replies[0].text if row.replies else None
        return marked(row, score=None if text is None else float(row.facts["reference"][0] in text))

    def read_peer(self, path: Path, options: ToyOptions, model: str | None = None) -> Recorded:
        answers = {record.get("id"): record.get("response") for record in read_objects(path)}
        if not answers.keys() <= {f"{first}+{second}" for first, second in SUMS}:
            raise DataError(f"{path} holds unknown sums; give JSON lines with 'id' and 'response'")
        loaded = self.load(options)
        rows = [self.row(item, loaded) for item in loaded.items if item.id in answers]
        return Recorded(Header(self.name, len(rows)), [_answered(row, answers[row.item_id]) for row in rows])


def _answered(row: Row, text: str) -> Row:
    return Row(row.item_id, prompt=row.prompt, facts=row.facts, draws=(Draw((Reply(text),)),))


__all__ = ["Toy"]
