"""The judge's template of a benchmark: ours, or the file that its YAML names."""

from __future__ import annotations

from evalsuite.errors import UsageError
from evalsuite.suites.file.definition import Benchmark
from judges.rubric import NEEDED, VARIABLES, scale_fault
from judges.templates import JudgeTemplate, judge_template


def rating_template(benchmark: Benchmark) -> JudgeTemplate:
    """Return the rating template, checked; ``X_system.jinja`` beside ``X.jinja`` is its system message.

    Raises UsageError for a file that cannot be read, that does not render, or that contradicts the scale.
    """
    spec = benchmark.score.rating
    if spec is None or spec.template is None:
        return judge_template("rubric_rating")
    file = benchmark.folder / spec.template
    system = file.with_name(f"{file.stem}_system{file.suffix}")
    try:
        user_text = file.read_text(encoding="utf-8")
        system_text = system.read_text(encoding="utf-8") if system.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the judge template {file} ({error}); give a Jinja file") from error
    template = JudgeTemplate(user_text, system_text)
    try:
        template.check(VARIABLES, NEEDED)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    if fault := scale_fault(template, spec.rubric):
        raise UsageError(f"{file}: {fault}")
    return template
