import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import templates
from judges.templates import JudgeTemplate, fill, judge_template, placeholders_of, template_folder


@pytest.mark.parametrize(
    ("template", "values", "filled"),
    [
        ("{a}", {"a": "1"}, "1"),
        ("{a} and {a}", {"a": "1"}, "1 and 1"),
        ("{a}{b}", {"a": "{b}", "b": "{a}"}, "{b}{a}"),
        ("{a}", {"a": "{a}"}, "{a}"),
        ("{answer}{answer_b}", {"answer": "x", "answer_b": "y"}, "xy"),
        ('{\n    "k": "{a}",\n    {\n    }\n}', {"a": "v"}, '{\n    "k": "v",\n    {\n    }\n}'),
        ("{a} {c}", {"a": "1"}, "1 {c}"),
        ("{a} { a } {0} {}", {"a": "1"}, "1 { a } {0} {}"),
        ("{a}", {"a": r"\1 \g<0>"}, r"\1 \g<0>"),
        ("no placeholder", {}, "no placeholder"),
    ],
)
def test_fill(template, values, filled):
    assert fill(template, values) == filled


def test_a_placeholder_that_does_not_occur_is_rejected():
    with pytest.raises(ValueError, match=r"no placeholder \{b\}"):
        fill("{a}", {"a": "1", "b": "2"})


@given(st.text(st.sampled_from("{}ab_ \n")), st.text(st.sampled_from("{}ab_ \n")))
def test_fill_never_rescans_inserted_values(first, second):
    assert fill("<{a}|{b}|{a}>", {"a": first, "b": second}) == f"<{first}|{second}|{first}>"


@given(st.text(st.characters(exclude_characters="{}")), st.text())
def test_fill_of_one_placeholder_equals_str_format(around, value):
    template = f"{around}{{a}}{around}"
    assert fill(template, {"a": value}) == template.format(a=value)


def test_placeholders_of_ignores_other_braces():
    assert placeholders_of('{a} {"b": 1} {c_1} { d } {0}') == {"a", "c_1"}


def test_every_template_is_strict_about_its_values():
    names = [path.stem for path in template_folder().glob("*.jinja")]
    assert names
    for name in names:
        if "{{" in (template_folder() / f"{name}.jinja").read_text():
            with pytest.raises(jinja2.UndefinedError):
                JudgeTemplate((template_folder() / f"{name}.jinja").read_text()).messages()


def test_values_are_data_and_never_rendered_or_escaped():
    answer = "{{ nonce }} {% raw %} {# x #} <b>&amp;</b> {response}"
    messages = judge_template("mixeval_free_form").messages(prompt="Q", targets=["G"], response=answer, nonce="K")
    assert f"\n{answer}\n" in messages[-1].content


def test_an_unknown_template_raises_with_the_known_names():
    with pytest.raises(ValueError, match=r"unknown judge template 'nosuch'; known: .*mixeval_option"):
        judge_template("nosuch")


def test_templates_inside_an_installed_package_come_first(tmp_path, monkeypatch):
    (tmp_path / "judges" / "_templates").mkdir(parents=True)
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "judges" / "templates.py"))
    assert template_folder() == tmp_path / "judges" / "_templates"
