"""What a benchmark in a file is asked with."""

from __future__ import annotations

import pydantic

from evalsuite.suites.options import NO_FIGURES, SuiteOptions


class FileOptions(SuiteOptions):
    """Options of a benchmark in a file."""

    trust_suite_code: bool = pydantic.Field(default=False, json_schema_extra=NO_FIGURES)
    """Run the scoring function that a benchmark's YAML file names, which is code by the file's author."""
