"""``--judge-format``: a preset by its name, or a YAML file of your own.

    template: |
      {{ question }}
      First: {{ answer_a }}
      Second: {{ answer_b }}
      Which is better? End with "Winner: first", "Winner: second" or "Winner: equal".
    verdict:
      regex: "Winner: (first|second|equal)"
      labels: {first: a, second: b, equal: tie}

``template`` is Jinja with question(s), answer_a/b (answers_a/b, dialogue_a/b by turn), reference, rubric, system,
category, criteria and nonce; ``system`` is the system message. The verdict is a label, two ``scores`` (two groups) or a
``rating`` of each answer alone (then the template has ``answer``), within ``scale``. With ``logprobs: true`` it is
read from the probabilities of the labels after ``lead_in``. ``base`` names a preset that gives the keys left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from evalsuite import assets
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.suites.registry import all_assets
from evalsuite.validation import Described, checked, read_mapping
from judges.formats import COMMON_VARIABLES, PAIR_VARIABLES, RATING_VARIABLES, JudgeFormat, Kind
from judges.templates import JudgeTemplate, template_folder
from judges.verdicts import Winner

_FIRST_REPLIES = 10
_LETTERS: Mapping[str, Winner] = {"A": "a", "B": "b"}
_PLACEHOLDER = re.compile(r"\{(question|answer_a|answer_b)\}")


class _Verdict(Described):
    regex: str
    kind: Kind = "label"
    labels: Mapping[str, Winner] = pydantic.Field(default_factory=lambda: dict(_LETTERS))
    scale: tuple[float, float] | None = None
    reads: Literal["first", "last"] = "last"
    logprobs: bool = False
    lead_in: str = ""


class _FormatFile(Described):
    verdict: _Verdict
    base: str = ""
    """Preset whose keys count where the file has none (``_with_base``)."""
    template: str = ""
    system: str = ""
    asset: str = ""
    """Pinned file of prompts that the text is read from, and the name of the row there."""
    prompt: str = ""
    delimiters: bool = True
    criteria: str = ""
    samples: Annotated[int, pydantic.Field(ge=1)] = 1
    temperature: Annotated[float, pydantic.Field(ge=0)] = 0.0
    max_tokens: Annotated[int, pydantic.Field(ge=1)] = 1024


@dataclass(slots=True)
class FormatWatch:
    """Notices a format that none of the first replies has, before all games are played in vain."""

    name: str
    n_replies: int = 0
    n_read: int = 0

    def saw(self, reply: str, *, is_read: bool) -> None:
        """Count a reply; raises UsageError after the first ten without any verdict."""
        self.n_replies, self.n_read = self.n_replies + 1, self.n_read + is_read
        if self.n_replies >= _FIRST_REPLIES and not self.n_read:
            shown = " ".join(reply.split())[-200:]
            raise UsageError(
                f"none of the first {self.n_replies} replies has a verdict of the format {self.name}; the last one "
                f"ends {shown!r}; use the judge's own format, or correct the regular expression"
            )


def preset_names() -> list[str]:
    """Return the names of the bundled formats."""
    return sorted(path.stem for path in (template_folder() / "formats").glob("*.yaml"))


def load_format(spec: str) -> JudgeFormat:
    """Load a preset or a file; raises UsageError or DataError that names what is wrong."""
    path = Path(spec).expanduser()
    if spec in preset_names():
        path = template_folder() / "formats" / f"{spec}.yaml"
    elif path.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"{unknown('judge format', spec, preset_names())}, or give a .yaml file")
    given = checked(_FormatFile, _with_base(read_mapping(path, "judge format"), path), str(path))
    try:
        pattern = re.compile(given.verdict.regex, re.IGNORECASE | re.MULTILINE)
    except re.error as error:
        raise UsageError(f"{path}: regex is not a regular expression ({error}); correct it") from error
    kind, outcomes = given.verdict.kind, list(given.verdict.labels.values())
    if pattern.groups != (wanted := 2 if kind == "scores" else 1):
        raise UsageError(f"{path}: regex has {pattern.groups} groups; expected {wanted} for a verdict of {kind}")
    low, high = given.verdict.scale or (0, 10)
    if given.verdict.logprobs and (kind == "scores" or (kind == "rating" and not 0 <= low < high <= 9)):
        raise UsageError(f"{path}: log-probabilities need one-token labels; give labels, or a scale within 0 to 9")
    if kind == "label" and not {"a", "b"} <= set(outcomes):
        raise UsageError(f"{path}: labels name {', '.join(outcomes)}; expected one for a and one for b")
    return JudgeFormat(
        name=path.stem,
        template=_template(given, path),
        pattern=pattern,
        max_new_tokens=given.max_tokens,
        **given.model_dump(include={"delimiters", "criteria", "samples", "temperature"}),
        **given.verdict.model_dump(exclude={"regex"}),
    )


def _with_base(given: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Return a file's keys over those of the preset that it names as its ``base``."""
    if (name := given.get("base")) is None:
        return given
    if name not in preset_names():
        raise UsageError(f"{path}: {unknown('base', str(name), preset_names())}")
    preset = read_mapping(template_folder() / "formats" / f"{name}.yaml", "judge format")
    own = {key: value for key, value in given.items() if key != "base"}
    verdict = own.get("verdict")
    return {**preset, **own, "verdict": {**preset["verdict"], **(verdict if isinstance(verdict, Mapping) else {})}}


def _template(given: _FormatFile, path: Path) -> JudgeTemplate:
    if bool(given.template) == bool(given.asset):
        raise UsageError(f"{path}: give either a template, or the asset and prompt that its text is read from")
    template = _pinned(given, path) if given.asset else JudgeTemplate(given.template, given.system or None)
    own = RATING_VARIABLES if given.verdict.kind == "rating" else PAIR_VARIABLES
    try:
        template.check(COMMON_VARIABLES | own, frozenset())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    sides = ("answer", "answers", "dialogue")
    if given.verdict.kind == "rating":
        missing = [] if template.variables & set(sides) else ["answer"]
    else:
        missing = [f"answer_{side}" for side in "ab" if not template.variables & {f"{name}_{side}" for name in sides}]
    if missing:
        raise UsageError(f"{path}: the template does not show {{{{ {missing[0]} }}}}; a judge needs it")
    return template


def _pinned(given: _FormatFile, path: Path) -> JudgeTemplate:
    """Read a prompt whose text is not ours, with {question}, {answer_a} and {answer_b}, from its pinned file."""
    asset = all_assets().get(given.asset)
    if asset is None:
        raise DataError(f"{path}: no pinned file {given.asset!r}; evalsuite data list names them")
    rows: list[dict[str, Any]] = assets.records(asset)[0]
    row = next((row for row in rows if row.get("name") == given.prompt), None)
    if row is None:
        raise DataError(f"{path}: {given.asset} has no prompt {given.prompt!r}")
    text = str(row["prompt_template"])
    if "{{" in text or "{%" in text:
        raise DataError(f"{path}: {given.prompt!r} of {given.asset} is a Jinja template; expected {{question}}")
    return JudgeTemplate(_PLACEHOLDER.sub(r"{{ \1 }}", text), str(row.get("system_prompt") or "") or None)
