"""Pairs of outputs labelled by people, on which a judge is measured, in the forms that published sets have.

    {"input": "...", "output_1": "...", "output_2": "...", "label": 1}                     LLMBar
    {"prompt": "...", "chosen": "...", "rejected": "...", "subset": "chat"}                RewardBench
    {"prompt": "...", "chosen": ["..."], "rejected": ["...", "...", "..."]}                RewardBench 2, best of four
    {"question": "...", "response_A": "...", "response_B": "...", "label": "A>B"}          JudgeBench
    {"conversation_a": [...], "conversation_b": [...], "winner": "model_a", "turn": 1}     MT-Bench's people, Arena
    {"input": "...", "outputs": ["...", "...", "..."], "label": 3}                         n-way

An output is a text, a list of texts (one per turn) or a conversation. A row may also have verdicts in both orders that
others recorded:

    {"input": "...", "output_1": "...", "output_2": "...", "label": 1, "as_listed": 1, "swapped": 2}
    {..., "results": [{"swap = False": {"winner": "1"}, "swap = True": {"winner": "2"}}]}              LLMBar

A verdict names the output that it prefers (1 or 2, whatever the order), "tie", or null for none. Of several of LLMBar's
results the last one counts, which its statistics are made of too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.assets.pins import PAIRS
from evalsuite.comparison.answer_rows import read_rows
from evalsuite.comparison.requests import dialogue_of, group_of, grouped, read_messages
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256
from evalsuite.suites.peer_files import id_text
from evalsuite.suites.registry import all_assets
from evalsuite.text import plural
from judges.card import Label, LabelledPair
from judges.types import Unscored
from judges.verdicts import Game, Request

_FIRST = ("1", "output_1", "a", "model_a", "response_a", "a>b", "a>>b", "chosen")
_SECOND = ("2", "output_2", "b", "model_b", "response_b", "b>a", "b>>a", "rejected")
_TIE = ("0", "tie", "both", "tie (bothbad)", "both_bad", "a=b", "equal")
_LABELS: Mapping[str, Label] = {
    **dict.fromkeys(_FIRST, 1),
    **dict.fromkeys(_SECOND, 2),
    **dict.fromkeys(_TIE, 0),
}
_SIDES = (
    ("output_1", "output_2"),
    ("response_A", "response_B"),
    ("response_a", "response_b"),
    ("conversation_a", "conversation_b"),
    ("answer_a", "answer_b"),
)
_LABEL_KEYS = ("label", "winner", "preference", "better")
_CATEGORY_KEYS = ("category", "subset", "source")
_ID_KEYS = ("id", "pair_id", "question_id")
_EXPECTED = (
    "is not a labelled pair; expected texts input, output_1, output_2 and label 1, 2 or 0 for a tie; prompt, chosen "
    "and rejected; or conversation_a, conversation_b and winner"
)

_OWN, _LLMBAR = ("as_listed", "swapped"), ("swap = False", "swap = True")
_WINNERS: Mapping[str, float | None] = {"1": 1.0, "output_1": 1.0, "2": 0.0, "output_2": 0.0, "tie": 0.5, "none": None}
"""The preference for output 1 by what a file says of the winner."""

Output = tuple[str, ...]
BothOrders = tuple[Game | Unscored, Game | Unscored]


def load_pairs(spec: str | None, limit: int | None) -> tuple[list[LabelledPair], dict[str, Any], list[str]]:
    """Load labelled pairs: pinned ones by their name (the first are the default), or a file.

    ``limit`` takes rows at equal distances. Returns the pairs, their pin {"name", "sha256", "source", "pinned"} and
    notes on copies. Raises DataError.
    """
    pinned = {name.removeprefix(f"{PAIRS}/"): asset for name, asset in all_assets().items() if asset.suite == PAIRS}
    if spec is None or spec in pinned:
        asset = pinned[spec or next(iter(pinned))]
        try:
            rows, found = assets.records(asset)
        except DataError as error:
            raise DataError(f"{error}; or give labelled pairs with --pairs FILE") from error
        pin = {"name": asset.name, **asdict(assets.data_pin(found))}
    else:
        path = Path(spec).expanduser()
        if not exists(path) or not path.is_file():
            raise DataError(f"no pairs {spec!r} found; give {', '.join(pinned)}, or a .json or .jsonl file")
        rows = read_rows(path)
        pin = {"name": path.name, "sha256": files_sha256([path]), "source": "file", "pinned": False}
    if limit is not None and limit < len(rows):
        numbered = [(i * len(rows) // limit + 1, rows[i * len(rows) // limit]) for i in range(limit)]
    else:
        numbered = list(enumerate(rows, 1))
    found_pairs = [(pair, group_of(row)) for number, row in numbered for pair in pairs_of(row, number, pin["name"])]
    groups, _ = grouped([(pair.id, pair.request, group) for pair, group in found_pairs])
    pairs = [replace(pair, question=group) for (pair, _), group in zip(found_pairs, groups, strict=True)]
    return pairs, pin, _copies(pairs)


def pairs_of(row: Mapping[str, Any], number: int, source: str) -> list[LabelledPair]:
    """Read the pairs of one row, several if it has more than two outputs; raises DataError that names the row."""
    where = f"{source} row {number}"
    identity = next((id_text(row[key]) for key in _ID_KEYS if row.get(key) is not None), str(number))
    category = next((str(row[key]) for key in _CATEGORY_KEYS if isinstance(row.get(key), str) and row[key]), None)
    common: dict[str, Any] = {"category": category}
    if isinstance(row.get("outputs"), list):
        return _one_of_many(row, where, identity, common)
    if "chosen" in row and "rejected" in row:
        chosen, rejected = (_alternatives(row[side], where) for side in ("chosen", "rejected"))
        common |= {
            "author_1": _text_or_none(row.get("chosen_model")),
            "author_2": _text_or_none(row.get("rejected_model")),
        }
        several = len(chosen) * len(rejected) > 1
        return [
            _pair(row, where, f"{identity}-{i}-{j}" if several else identity, (good, bad), 1,
                  {**common, "item": identity if several else None})
            for i, good in enumerate(chosen, 1)
            for j, bad in enumerate(rejected, 1)
        ]  # fmt: skip
    sides = next((sides for sides in _SIDES if all(side in row for side in sides)), None)
    label = _label(row)
    if sides is None or label is None:
        raise DataError(f"{where} {_EXPECTED}")
    authors = [_author(row, number) for number in (1, 2)]
    common |= {"author_1": authors[0], "author_2": authors[1]}
    return [_pair(row, where, identity, (row[sides[0]], row[sides[1]]), label, common)]


def _one_of_many(row: Mapping[str, Any], where: str, identity: str, common: Mapping[str, Any]) -> list[LabelledPair]:
    """Pair the best of several outputs with each other one."""
    outputs, best = row["outputs"], row.get("label")
    if isinstance(best, str) and best.isdigit():
        best = int(best)
    if not isinstance(best, int) or not 1 <= best <= len(outputs):
        raise DataError(
            f"{where} has {len(outputs)} outputs and the label {best!r}; expected the number of the best one"
        )
    others = [(n, output) for n, output in enumerate(outputs, 1) if n != best]
    item = {**common, "item": identity if len(others) > 1 else None}
    return [_pair(row, where, f"{identity}-{n}", (outputs[best - 1], other), 1, item) for n, other in others]


def _pair(
    row: Mapping[str, Any], where: str, identity: str, outputs: Sequence[Any], label: Label, more: Mapping[str, Any]
) -> LabelledPair:
    asked = dialogue_of({key: value for key, value in row.items() if key != "conversation"}, where)
    n_turns = row["turn"] if isinstance(row.get("turn"), int) and "conversation_a" in row else None
    read = [_output(output, where, n_turns) for output in outputs]
    requests = [Request(turns, system=system) for turns, system, _ in read if turns]
    request = asked.request if asked is not None else requests[0] if requests else None
    if request is None:
        raise DataError(f"{where} {_EXPECTED}")
    if requests:
        if any(other.turns != requests[0].turns for other in requests):
            raise DataError(f"{where} has two conversations with different user turns; give the same questions")
        request = replace(request, turns=requests[0].turns, system=request.system or requests[0].system)
    earlier = asked.replies if asked is not None and not requests else ()
    texts = [(*earlier, *answers) for _, _, answers in read]
    if any(len(answers) != len(request.turns) for answers in texts):
        raise DataError(
            f"{where} has {plural(len(request.turns), 'turn')} and {plural(min(map(len, texts)), 'answer')}; give one "
            "answer per turn as a list, or conversations"
        )
    return LabelledPair(identity, request, texts[0], texts[1], label, **more)


def _output(value: object, where: str, n_turns: int | None) -> tuple[tuple[str, ...], str, Output]:
    """Read one output: (the user's turns where it is a conversation, the system prompt, the answers)."""
    if isinstance(value, str):
        return (), "", (value,)
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return (), "", tuple(value)
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        turns = read_messages(value, where)
        said = {role: tuple(text for r, text in turns if r == role) for role in ("system", "user", "assistant")}
        return said["user"][:n_turns], "\n\n".join(said["system"]), said["assistant"][:n_turns]
    raise DataError(f"{where} {_EXPECTED}")


def _alternatives(value: object, where: str) -> list[Any]:
    """Return the outputs of a side: one text or conversation, or a list of several texts."""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return [value]
    if isinstance(value, list) and value:
        return value
    raise DataError(f"{where} {_EXPECTED}")


def _label(row: Mapping[str, Any]) -> Label | None:
    for name in _LABEL_KEYS:
        if row.get(name) is not None:
            return _LABELS.get(id_text(row[name]).strip().lower())
    flags = [row.get(f"winner_{name}") for name in ("model_a", "model_b", "tie")]
    if all(flag in (0, 1, "0", "1") for flag in flags) and sum(map(int, map(str, flags))) == 1:
        return (1, 2, 0)[[str(flag) for flag in flags].index("1")]
    return None


def _author(row: Mapping[str, Any], number: int) -> str | None:
    letter = "ab"[number - 1]
    names = (f"model_{number}", f"generator_{number}", f"model_{letter}")
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _copies(pairs: Sequence[LabelledPair]) -> list[str]:
    """Return a note on pairs that are in the file more than once."""
    keys = [(pair.question, frozenset((pair.output_1, pair.output_2))) for pair in pairs]
    n = len(keys) - len(set(keys))
    said = plural(n, "pair is a copy of another", "pairs are copies of others")
    return [f"{said}; pairs of one question count as one observation"] if n else []


def read_recorded_verdicts(path: Path) -> tuple[list[LabelledPair], list[BothOrders], dict[str, Any]]:
    """Return the pairs, both games of each, and the file's pin; raises DataError that names the row."""
    rows = read_rows(path)
    pin = {"name": path.name, "sha256": files_sha256([path]), "source": "recorded", "pinned": False}
    pairs: list[LabelledPair] = []
    games: list[BothOrders] = []
    for number, row in enumerate(rows, 1):
        where = f"{path.name} row {number}"
        found = pairs_of(row, number, path.name)
        if len(found) != 1:
            raise DataError(f"{where} has {len(found)} pairs; expected one pair per row")
        pairs += found
        games.append(_games(row, where))
    return pairs, games, pin


def _games(row: Mapping[str, Any], where: str) -> BothOrders:
    if all(name in row for name in _OWN):
        given = {order: row[name] for order, name in enumerate(_OWN)}
    else:
        results = row.get("results")
        last = results[-1] if isinstance(results, list) and results else None
        if not isinstance(last, Mapping) or not all(isinstance(last.get(name), Mapping) for name in _LLMBAR):
            raise DataError(f"{where} has no recorded verdicts; expected as_listed and swapped, or LLMBar's results")
        given = {order: last[name].get("winner") for order, name in enumerate(_LLMBAR)}
    as_listed, swapped = (_preference(given[order], where) for order in (0, 1))
    return (
        Unscored("no_verdict") if as_listed is None else Game(as_listed),
        Unscored("no_verdict") if swapped is None else Game(1 - swapped),
    )


def _preference(winner: Any, where: str) -> float | None:
    key = id_text(winner).lower()
    if key not in _WINNERS:
        raise DataError(f"{where} has the verdict {winner!r}; expected 1, 2, 'tie' or null")
    return _WINNERS[key]
