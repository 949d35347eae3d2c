"""Tries a foreign chat template, tokenizer.json or regular expression in a process with bounded time and memory.

``SECONDS --tokenizer PATH``; ``--pattern`` and ``--template`` are read from stdin. Exits with 3 if a bound was reached,
and by a signal where a library does not survive one. Other errors are ignored: they are met again where they are
explained. Imports nothing of evalsuite, so that it starts in a tenth of a second.
"""

import json
import re
import resource
import sys

MEMORY, CPU_SECONDS = 2 << 30, 10
REACHED = 3
_TEXT = "The quick brown fox jumps over 13 lazy dogs; " + "a" * 32 + "!"
_ANSWER = 2000
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


def match(pattern: str) -> None:
    """Search texts as long as an answer that repeat the start of a match and never complete it."""
    for piece in (
        _TEXT.replace("!", " ").replace(".", " "),
        "a",
        "1",
        " ",
        "a ",
        "1, ",
        "\n",
        "**a** ",
        "[[1]] ",
        "(1) ",
    ):
        list(re.finditer(pattern, (piece * _ANSWER)[:_ANSWER] + "?"))


def tokenize(path: str) -> None:
    from tokenizers import Tokenizer

    Tokenizer.from_file(path).encode(_TEXT)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
    try:
        if sys.argv[2] == "--tokenizer":
            tokenize(sys.argv[3])
        else:
            tried = {"--template": render, "--pattern": match}[sys.argv[2]]
            tried(sys.stdin.buffer.read().decode("utf-8", "replace"))
    except MemoryError:
        sys.exit(REACHED)
    except Exception:  # only bounds are looked for here: whoever asked meets any other fault again, and explains it
        sys.exit(0)
