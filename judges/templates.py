"""Prompt templates: evalsuite's Jinja templates, and one-pass filling of the benchmarks' prompt files.

Inserted values are data. A Jinja variable is never rendered a second time, and :func:`fill` never rescans a value it
has inserted, so an answer that contains ``{output_2}`` or ``{{ x }}`` stays unchanged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from judges.types import Message

if TYPE_CHECKING:  # jinja2 is loaded with the first template
    from jinja2 import Template

    from judges.sandbox import PromptSandbox

_ATTEMPTS_PER_SALT = 1_000_000
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def template_folder() -> Path:
    """Return the folder of the bundled judge templates, in an installed wheel or in the source tree."""
    packaged = Path(__file__).parent / "_templates"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "templates" / "judge"


@lru_cache(maxsize=1)
def _environment() -> PromptSandbox:
    from jinja2 import FileSystemLoader, StrictUndefined

    from judges.sandbox import PromptSandbox

    # Prompts are plain text: HTML escaping would change the answers that are judged.
    return PromptSandbox(
        loader=FileSystemLoader(template_folder()),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


def _render(source: str, values: Mapping[str, object]) -> str:
    from jinja2 import UndefinedError

    try:
        return _compiled(source).render(**values).removesuffix("\n")
    except UndefinedError:
        raise
    except Exception as error:  # a template is untrusted code and may raise anything, as may the sandbox
        raise ValueError(f"the judge template cannot be rendered ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, slots=True)
class JudgeTemplate:
    """A judge prompt as Jinja source: the user message and an optional system message."""

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

    @property
    def variables(self) -> frozenset[str]:
        """The variables that it uses; raises ``jinja2.TemplateSyntaxError``."""
        from jinja2 import meta

        sources = (self.user, self.system or "")
        return frozenset(
            name for source in sources for name in meta.find_undeclared_variables(_environment().parse(source))
        )

    def check(self, known: frozenset[str], needed: frozenset[str]) -> None:
        """Raise ValueError unless the template renders and uses all needed and no unknown variables."""
        from jinja2 import TemplateSyntaxError

        try:
            used = self.variables
        except TemplateSyntaxError as error:
            message = " ".join(str(error.message).split())
            raise ValueError(f"the judge template is not valid Jinja: line {error.lineno}, {message}") from error
        if missing := sorted(needed - used):
            raise ValueError(f"the judge template does not use {{{{ {missing[0]} }}}}; add it, a judge needs it")
        if unknown := sorted(used - known):
            raise ValueError(f"the judge template uses {unknown[0]!r}; known: {', '.join(sorted(known))}")
        errors = [self._rendering_error(known, n_turns) for n_turns in (1, 2)]
        if None not in errors:
            raise ValueError(f"the judge template cannot be rendered ({errors[0]}); fix that expression")

    def _rendering_error(self, known: frozenset[str], n_turns: int) -> str | None:
        """Return the error that rendering sample texts of ``n_turns`` turns raises, or None."""
        lists = {name: ["a text"] * n_turns for name in known if name.startswith(("questions", "answers"))}
        try:
            self.messages(**{**dict.fromkeys(known, "a text"), "scale": [("A", 1)], **lists})
        except Exception as error:  # a template is untrusted code: it may divide by zero or recurse forever
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None


def judge_template(name: str) -> JudgeTemplate:
    """Return the bundled template ``name`` with its ``<name>_system``; raises ValueError for an unknown name."""
    folder = template_folder()
    user, system = folder / f"{name}.jinja", folder / f"{name}_system.jinja"
    if not user.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.jinja")))
        raise ValueError(f"unknown judge template {name!r}; known: {known}")
    instructions = system.read_text(encoding="utf-8") if system.is_file() else None
    return JudgeTemplate(user.read_text(encoding="utf-8"), instructions)


def nonce(*texts: str, salt: int = 0) -> str:
    """Return a key of 16 hex digits that depends only on the texts and ``salt`` and occurs in none of the texts.

    A text cannot close delimiters that contain the key: to contain it, the text would have to predict its own hash.
    """
    for attempt in range(salt * _ATTEMPTS_PER_SALT, (salt + 1) * _ATTEMPTS_PER_SALT):
        key = hashlib.sha256("\x1f".join([str(attempt), *texts]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not any(key in text for text in texts):
            return key
    raise ValueError(f"the texts contain all {_ATTEMPTS_PER_SALT:,} keys that were tried; check them")


def placeholders_of(template: str) -> frozenset[str]:
    """Return the names of the ``{name}`` placeholders in a benchmark's prompt; other braces are ignored."""
    return frozenset(_PLACEHOLDER.findall(template))


def fill(template: str, placeholders: Mapping[str, str]) -> str:
    """Replace each given ``{name}`` of a benchmark's prompt with its value, in one pass.

    Every occurrence is replaced, values are not rescanned, and other braces (JSON, code) are kept. This
    also suits FastChat's ``judge_prompts.jsonl``, whose prompts are written for ``str.format`` but contain
    no escaped braces. Raises ValueError if a given name does not occur.

    >>> fill("[{answer}] is {a: 1}", {"answer": "{answer} or {a}"})
    '[{answer} or {a}] is {a: 1}'
    """
    if missing := sorted(set(placeholders) - placeholders_of(template)):
        raise ValueError(f"the prompt has no placeholder {{{missing[0]}}}; pull the prompt file again")
    return _PLACEHOLDER.sub(lambda match: placeholders.get(match[1], match[0]), template)
