"""A checkpoint's own template can neither run on nor take the memory: it is rendered first where that is bounded."""

from __future__ import annotations

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.checkpoint.templates import check_bounds
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
    with pytest.raises(CheckpointError, match=r"does not finish within 10 s and 2 GiB .*--chat-template"):
        check_bounds(template)


@pytest.mark.slow
def test_a_template_that_never_ends_is_refused():
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
