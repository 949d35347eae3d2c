"""Every regular expression and every parser of model output or recorded files takes linear time."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalsuite.analysis.judge_words import excerpt, terms
from evalsuite.analysis.markup import read_page
from evalsuite.analysis.measuring import count_words
from evalsuite.analysis.overlap import rouge_tokens
from evalsuite.suites.harness.rows import sample_row, without_text
from evalsuite.suites.mt_bench.peer import recorded_rating
from judges import extraction, pairwise, parse, verdicts
from tests.processor_time import TooSlow, within

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 200_000
LIMIT_S = 1.0
"""What takes 25 ps times the length squared is found: twice the length would need four times as long."""
FILE_NAMES = ("samples_(?P<task>",)
"""Patterns that read names of files alone, which have 255 bytes at most."""
BAIT = "01aAeE _-.,:/'\"()[]<>|{}*`#\n\t@=ü٣"
"""Characters that stand for the classes of a pattern."""


def check(texts: Iterable[str], read: Callable[[str], object]) -> None:
    for text in texts:
        with within(LIMIT_S):
            read(text)


def repeated(piece: str, tail: str = "") -> str:
    return (piece * (LENGTH // len(piece)))[: LENGTH - len(tail)] + tail


# --- every pattern that is written out in the source

_FLAGS = {name: getattr(re, name) for name in ("IGNORECASE", "MULTILINE", "DOTALL", "VERBOSE", "ASCII")}
_METHODS = {"match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split"}
Case = tuple[str, re.Pattern[Any], frozenset[str]]


def patterns_of(path: Path) -> Iterator[Case]:
    """Yield the name, the pattern and the methods called of each pattern given as a plain string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    names = {
        id(node.value): target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in calls:
        function = call.func
        if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
            continue
        given = call.args[0] if call.args else None
        if function.value.id != "re" or not (isinstance(given, ast.Constant) and isinstance(given.value, str | bytes)):
            continue
        written = ast.unparse(call)
        pattern = re.compile(given.value, sum(flag for name, flag in _FLAGS.items() if f"re.{name}" in written))
        name = names.get(id(call), "")
        used = {one.func.attr for one in calls if isinstance(one.func, ast.Attribute) and _owner(one.func) == name}
        methods = used & _METHODS if function.attr == "compile" else {function.attr}
        yield f"{path.relative_to(ROOT)}:{call.lineno}", pattern, frozenset(methods) or frozenset({"search"})


def _owner(function: ast.Attribute) -> str:
    return function.value.id if isinstance(function.value, ast.Name) else ""


PATTERNS = [
    found
    for package in ("evalsuite", "judges")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "mini" not in path.parts
    for found in patterns_of(path)
]


def pieces_of(pattern: re.Pattern[Any]) -> list[tuple[str, str]]:
    """Return (head, body) pairs: what a pattern reads before a repetition, and one round of the repetition."""
    found: list[tuple[str, str]] = []

    def sample(items: Any, head: str, bait: str) -> str:
        text = ""
        for kind, value in items:
            name = str(kind)
            if name == "LITERAL":
                text += chr(value)
            elif name in ("NOT_LITERAL", "ANY", "IN"):
                text += next((one for one in bait + BAIT if _fits(kind, value, one)), "x")
            elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
                least, most, inner = value
                body = sample(inner, head + text, bait)
                if most > 1 and body:
                    found.append((head + text, body))
                text += body * max(least, 1 if most > 1 else 0)
            elif name == "SUBPATTERN":
                text += sample(value[3], head + text, bait)
            elif name == "ATOMIC_GROUP":
                text += sample(value, head + text, bait)
            elif name == "BRANCH":
                branches = [sample(branch, head + text, bait) for branch in value[1]]
                text += branches[0]
        return text

    parser = re._parser  # type: ignore[attr-defined]
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    for bait in ("1", "a", " ", "-", "\n", "A"):
        whole = sample(parser.parse(source, pattern.flags & ~re.UNICODE), "", bait)
        found.append(("", whole or "x"))
    return sorted(set(found))


def _fits(kind: Any, value: Any, one: str) -> bool:
    """Whether a character is in a class of the parsed pattern."""
    compiler, state = re._compiler, re._parser.State()  # type: ignore[attr-defined]
    parsed = re._parser.SubPattern(state, [(kind, value)])  # type: ignore[attr-defined]
    state.str = ""
    return compiler.compile(parsed, 0).fullmatch(one) is not None


def worst_texts(pattern: re.Pattern[Any]) -> Iterator[str]:
    for head, body in pieces_of(pattern):
        for tail in ("\x00", ""):
            yield head + repeated(body, tail)
        yield repeated(head + body, "\x00")
        yield repeated(head + body + " ")
        if head:
            yield repeated(head, "\x00")


@pytest.mark.parametrize(("pattern", "methods"), [case[1:] for case in PATTERNS], ids=[case[0] for case in PATTERNS])
def test_every_pattern_of_ours_is_linear(pattern: re.Pattern[Any], methods: frozenset[str]) -> None:
    longest = 255 if str(pattern.pattern).startswith(FILE_NAMES) else LENGTH

    def read(text: str) -> None:
        subject: Any = text[:longest] if isinstance(pattern.pattern, str) else text.encode()
        for method in methods:
            if method in ("sub", "subn"):
                pattern.sub(subject[:0], subject)
            else:
                found = getattr(pattern, method)(subject)
                list(found if method == "finditer" else ())

    check(dict.fromkeys(worst_texts(pattern)), read)


def test_the_check_finds_a_quadratic_pattern() -> None:
    for source in (r"\[(\d+\.?\d*)\]", r"-?\d+[eE]\d+", r"(a+)+b", r"^\s*x"):
        pattern = re.compile(source, re.MULTILINE)
        with pytest.raises(TooSlow):
            check(worst_texts(pattern), pattern.findall)


# --- every parser, those included whose patterns are put together

_KEY = "0123456789abcdef"
PIECES = (
    "1", "1.", ".1", "1e", "-1", "1,111", "1,", "[", "]", "[[", "[[1", "[[1]]", "[[1]] x ", "[7] x ", "[7] ", "[ [ 1",
    "Rating: ", "Rating: 7 ", "Rating: [7] ", "Rating: [[7]] ", "rating is", "score of .7/1 ", "[[rating ", "[8/10 ",
    "Option: [[A]] ", "(A", " A ", "**A", "so ", "answer is ", "=", " ", "\n", "\n ", "\t*_`\"'(", "a", "n't ", "not ",
    "not a ", "a'a", "a-a", "ü", "ก", "漢", f"Verdict {_KEY}: ", f"Verdict {_KEY}: [[A]] x\n", "> ", "<|im_start|>",
    "<|im_start|>user\n", "<|im_end|>", "[The Start of Assistant's Answer]\n", "\n[The End of Assistant's Answer]",
    "<|The Start of Assistant A's Conversation with User|>\n\n", "### Assistant A:\n", "<a ", "<a x='", "<!--", "<?",
    "</div", "<![CDATA[", "<![x[", "<p>", "<div class=answer>", "&#1", "<script>",
)  # fmt: skip


def _chatml(text: str) -> object:
    try:
        return pairwise.parse_chatml_template(text)
    except ValueError:
        return None


def _sample(text: str) -> object:
    responses = [text, [text, "True"]]
    sample = {"doc_id": 0, "filtered_resps": responses, "resps": [responses], "acc": 1.0}
    return sample_row(sample, "", protected=True), without_text(sample)


PARSERS: dict[str, Callable[[str], object]] = {
    "rating": parse.parse_rating,
    "rating as published": lambda text: parse.parse_rating(text, as_published=True),
    "score": parse.parse_score_0_to_1,
    "option": lambda text: parse.parse_option(text, 4),
    "option as published": lambda text: parse.parse_option(text, 4, as_published=True),
    "verdict": lambda text: verdicts.parse_verdict(text, _KEY),
    "choice by rule": lambda text: extraction.parse_choice_by_rule(text, ["one", "two"]),
    "free form by rule": lambda text: extraction.free_form_is_correct_by_rule(text, ["no such answer", "3.5"]),
    "recorded rating": lambda text: recorded_rating({"score": 5, "judgment": text}),
    "chatml": _chatml,
    "sample": _sample,
    "terms": terms,
    "excerpt": lambda text: (excerpt(text, "not clear"), excerpt(text, "clear")),
    "words": count_words,
    "tokens": rouge_tokens,
    "page": read_page,
}


def hostile(pieces: Sequence[str]) -> Iterator[str]:
    for piece in pieces:
        yield "[[" + repeated(piece, "x")
        yield "so " + repeated(piece)


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_is_linear(name: str) -> None:
    check(hostile(PIECES), PARSERS[name])
