"""Renders a chat template from stdin in bounded time and memory; run as a script, in a process of its own.

Exits with 3 if a bound was reached. Other errors are not this script's: the template is rendered again where they are
explained. Imports nothing of evalsuite, so that it starts in a tenth of a second.
"""

import json
import re
import resource
import sys

MEMORY, CPU_SECONDS = 2 << 30, 10
REACHED = 3
_TURNS = [{"role": role, "content": "Hello"} for role in ("user", "assistant", "user")]


def render(source: str) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals |= {"raise_exception": lambda _: "", "strftime_now": lambda _: ""}
    # The tags of transformers' own extension do not change what is rendered.
    template = environment.from_string(re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", source))
    for turns in (_TURNS[:1], _TURNS):
        template.render(messages=turns, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")  # noqa: S106


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        render(sys.stdin.buffer.read().decode("utf-8", "replace"))
    except MemoryError:
        sys.exit(REACHED)
    except Exception:
        sys.exit(0)
