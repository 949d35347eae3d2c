"""One HTML page from the templates: every script and style inlined, and allowed by its hash alone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evalsuite.report.texts import visible, without_paths
from evalsuite.text import plural, well_formed

LIBRARIES = ("vendor/purify.min.js", "vendor/markdown-it.umd.min.js")
_TOOLS = ("dom.js", "address.js", "data.js", "statistics.js", "markdown.js", "diff.js")
_VIEWS = ("table.js", "models.js", "filters.js", "items.js", "item.js", "compare.js", "categories.js", "tokens.js")
SCRIPTS = (*_TOOLS, *_VIEWS, "preferences.js", "analyses.js", "main.js")
STYLE = "style.css"
LICENCES = {"vendor/markdown-it.umd.min.js": "vendor/LICENSE.markdown-it"}
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)
_TAG_IN_SCRIPT = re.compile(r"<(!--|/?script|/?style)", re.IGNORECASE)


def template_folder() -> Path:
    """Return the folder of the report's templates: inside an installed wheel, or beside the source tree."""
    packaged = Path(__file__).parent / "_templates"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / "templates" / "report"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(template_folder()),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["plural"] = plural
    environment.filters["public"] = without_paths
    return environment


@lru_cache(maxsize=32)
def _inlined(name: str) -> str:
    r"""Return a file's text for inlining, with its licence in front where the library does not carry it.

    A source map would only make a browser ask for a file. Inside a script, HTML must not see a comment or a script tag
    begin; in JavaScript's strings and patterns \x3C is the same character.
    """
    text = _SOURCE_MAP.sub("", (template_folder() / name).read_text(encoding="utf-8"))
    licence = template_folder() / LICENCES[name] if name in LICENCES else None
    if licence is not None:
        text = f"/*! {licence.read_text(encoding='utf-8').strip()} */\n{text}"
    return _TAG_IN_SCRIPT.sub(r"\\x3C\1", text)


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def content_security_policy(scripts: Sequence[str], style: str) -> str:
    """Return a policy that runs the given scripts and nothing else, and lets nothing in or out.

    No network of any kind, no frame, form, base or plug-in; HTML may enter the document only through the sanitiser.
    """
    allowed = " ".join(_hash_source(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash_source(style)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
    )


def render_page(
    template: str, blocks: Mapping[str, str], scripts: Sequence[str] = (*LIBRARIES, *SCRIPTS), **values: Any
) -> str:
    """Render ``template`` with scripts and style inlined and ``blocks`` (id to base64) embedded."""
    sources = [_inlined(name) for name in scripts]
    style = _inlined(STYLE)
    # A path may hold bytes that are not UTF-8.
    return well_formed(
        _environment()
        .get_template(template)
        .render(
            policy=content_security_policy(sources, style),
            # Files of this package, not user input.
            style=Markup(style),  # noqa: S704
            scripts=[Markup(script) for script in sources],  # noqa: S704
            # Base64 holds nothing to escape, and looking for it in megabytes takes seconds.
            blocks={name: Markup(text) for name, text in blocks.items()},  # noqa: S704
            **values,
        )
    )
