"""Prompt texts: our own Jinja templates, and one-pass filling of the benchmarks' own prompt files.

Whatever is filled in is data. A Jinja variable is never rendered again, and :func:`fill`
never looks at a value it has put in, so an answer that contains ``{output_2}`` or ``{{ x }}``
stays exactly as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, TemplateNotFound, TemplateSyntaxError, UndefinedError, meta

from judges.sandbox import PromptSandbox
from judges.types import Message

_KEYS_A_SALT = 1_000_000
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def template_folder() -> Path:
    """Return the folder of our judge templates: inside an installed wheel, or beside the source tree."""
    packaged = Path(__file__).parent / "_templates"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "templates" / "judge"


@lru_cache(maxsize=1)
def _environment() -> PromptSandbox:
    # Prompts are plain text for a model: HTML escaping would change the answers that are judged.
    return PromptSandbox(
        loader=FileSystemLoader(template_folder()),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _unknown_template(name: str) -> ValueError:
    known = ", ".join(sorted(path.stem for path in template_folder().glob("*.jinja")))
    return ValueError(f"unknown judge template {name!r}; known: {known}")


def render(name: str, /, **values: object) -> str:
    """Render the judge template ``name`` (file name without ``.jinja``) with ``values``.

    Raises ValueError for an unknown name and ``jinja2.UndefinedError`` for a missing value.
    """
    try:
        template = _environment().get_template(f"{name}.jinja")
    except TemplateNotFound:
        raise _unknown_template(name) from None
    return template.render(**values)


def template_sha256(name: str) -> str:
    """Return the SHA-256 (64 hex digits) of the template's bytes; raises ValueError for an unknown name."""
    path = template_folder() / f"{name}.jinja"
    if not path.is_file():
        raise _unknown_template(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _render(source: str, values: Mapping[str, object]) -> str:
    try:
        return _environment().from_string(source).render(**values).removesuffix("\n")
    except UndefinedError:
        raise
    except Exception as error:  # a template is foreign code and fails in its own words, also when the sandbox stops it
        raise ValueError(f"the judge template cannot be rendered ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, slots=True)
class JudgeTemplate:
    """A judge's prompt as Jinja source: the user's message and, where there is one, the system's."""

    user: str
    system: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 (64 hex digits) of both parts."""
        return hashlib.sha256(f"{self.system}\x1f{self.user}".encode()).hexdigest()

    def messages(self, **values: object) -> list[Message]:
        """Render the prompt; raises ``jinja2.UndefinedError`` for a missing value."""
        user = Message("user", _render(self.user, values))
        return [user] if self.system is None else [Message("system", _render(self.system, values)), user]

    def check(self, known: frozenset[str], needed: frozenset[str]) -> None:
        """Raise ValueError unless the template is Jinja that renders, uses every needed variable and no unknown one."""
        try:
            used = {
                name
                for source in (self.user, self.system or "")
                for name in meta.find_undeclared_variables(_environment().parse(source))
            }
        except TemplateSyntaxError as error:
            words = " ".join(str(error.message).split())
            raise ValueError(f"the judge template is not Jinja: line {error.lineno}, {words}") from error
        if missing := sorted(needed - used):
            raise ValueError(f"the judge template never uses {{{{ {missing[0]} }}}}, without which it cannot judge")
        if unknown := sorted(used - known):
            raise ValueError(f"the judge template uses {unknown[0]!r}; known: {', '.join(sorted(known))}")
        faults = [fault for n_turns in (1, 2) if (fault := self._fault_of(known, n_turns)) is not None]
        if len(faults) == 2:
            raise ValueError(f"the judge template cannot be rendered ({faults[0]}); mend that expression")

    def _fault_of(self, known: frozenset[str], n_turns: int) -> str | None:
        """Say what goes wrong with sample texts of ``n_turns`` turns; None when nothing does."""
        lists = {name: ["a text"] * n_turns for name in known if name.startswith(("questions", "answers"))}
        try:
            self.messages(**{**dict.fromkeys(known, "a text"), "scale": [("A", 1)], **lists})
        except Exception as error:  # a template is foreign code: it may divide by zero or call itself for ever
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None


def judge_template(name: str) -> JudgeTemplate:
    """Return our own template ``name`` with its ``<name>_system``; raises ValueError for an unknown name."""
    folder = template_folder()
    user, system = folder / f"{name}.jinja", folder / f"{name}_system.jinja"
    if not user.is_file():
        raise _unknown_template(name)
    return JudgeTemplate(
        user.read_text(encoding="utf-8"), system.read_text(encoding="utf-8") if system.is_file() else None
    )


def nonce(*texts: str, salt: int = 0) -> str:
    """Return a mark of 16 hex digits that depends on the texts and ``salt`` alone and occurs in none of the texts.

    Delimiters that carry it cannot be closed by a text: to hold the mark, the text would have to
    foresee the hash of itself.
    """
    for attempt in range(salt * _KEYS_A_SALT, (salt + 1) * _KEYS_A_SALT):
        mark = hashlib.sha256("\x1f".join([str(attempt), *texts]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not any(mark in text for text in texts):
            return mark
    raise ValueError("the texts hold every mark that was tried")


def placeholders_of(template: str) -> frozenset[str]:
    """Return the names that stand as ``{name}`` in a benchmark's prompt text; other braces do not count."""
    return frozenset(_PLACEHOLDER.findall(template))


def fill(template: str, placeholders: Mapping[str, str]) -> str:
    """Replace each given ``{name}`` of a benchmark's own prompt text by its value, in one pass.

    Every occurrence is replaced, values are never looked at again, and braces that hold anything
    else (JSON, code) stay. It is right for FastChat's ``judge_prompts.jsonl`` too: those are meant
    for ``str.format`` but hold no escaped braces. Raises ValueError when a given name does not occur.

    >>> fill("[{answer}] is {a: 1}", {"answer": "{answer} or {a}"})
    '[{answer} or {a}] is {a: 1}'
    """
    missing = sorted(set(placeholders) - placeholders_of(template))
    if missing:
        raise ValueError(f"the prompt has no placeholder {{{missing[0]}}}; check that it is the file it should be")
    return _PLACEHOLDER.sub(lambda match: placeholders.get(match[1], match[0]), template)
