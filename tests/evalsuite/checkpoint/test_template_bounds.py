"""A checkpoint's own template and tokenizer can neither run on nor take the memory: both are tried first, bounded."""

from __future__ import annotations

import json

import pytest

from evalsuite.checkpoint import bounded_trial, resolve
from evalsuite.checkpoint.templates import check_bounds, check_tokenizer_bounds
from evalsuite.errors import CheckpointError
from evalsuite.serving.chat_format import load_chat_format
from tests.evalsuite.tiny_checkpoint import write_checkpoint

MEMORY = [
    "{{ 'x' * 10000000000 }}",
    "{{ 'x'.center(10000000000) }}",
    "{% generation %}{{ messages[0]['content'] * 10000000000 }}{% endgeneration %}",
]


@pytest.mark.parametrize("template", MEMORY)
def test_a_template_that_takes_all_memory_is_refused(template):
    with pytest.raises(CheckpointError, match=r"template does not finish within 10 s and 2 GiB .*--chat-template"):
        check_bounds(template)


def test_a_template_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(bounded_trial, "CPU_SECONDS", 1)
    with pytest.raises(CheckpointError, match="does not finish within 10 s"):
        check_bounds("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")


@pytest.mark.parametrize(
    "template",
    [
        "{% for turn in messages %}{{ turn.content | tojson }}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{{ raise_exception('no') }}{{ strftime_now('%Y') }}",
        "{% for",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "\ud800",
    ],
)
def test_other_faults_are_left_to_where_they_are_explained(template):
    check_bounds(template)


def test_a_checkpoint_with_such_a_template_is_refused_before_it_is_rendered(tmp_path):
    folder = write_checkpoint(tmp_path)
    (folder / "chat_template.jinja").write_text(MEMORY[0])
    with pytest.raises(CheckpointError, match="does not finish within"):
        load_chat_format(resolve(str(folder)))


def with_tokenizer(folder, **fields):
    path = write_checkpoint(folder) / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path.parent


def test_a_tokenizer_that_takes_all_memory_is_refused_before_it_is_used(tmp_path):
    """Three rules of 1,000 characters each make a billion of one letter; the library then aborts the process."""
    rule = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1000}
    folder = with_tokenizer(tmp_path, normalizer={"type": "Sequence", "normalizers": [rule] * 3})
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.json does not finish within 10 s and 2 GiB .*; copy the base"
    ):
        load_chat_format(resolve(str(folder)))


def test_a_tokenizer_with_faults_of_another_kind_is_explained_where_it_is_loaded(tmp_path):
    folder = with_tokenizer(tmp_path, model={"type": "nosuch"})
    check_tokenizer_bounds(folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match="cannot load the tokenizer"):
        load_chat_format(resolve(str(folder)))
