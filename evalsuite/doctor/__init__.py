"""Checks for what would go wrong in a run, made in seconds before hours of a GPU are spent."""

from __future__ import annotations

from evalsuite.doctor.capacity import require_servable
from evalsuite.doctor.examination import ModelUse, examine, preflight
from evalsuite.doctor.finding import Finding
from evalsuite.doctor.needs import unmet_needs

__all__ = ["Finding", "ModelUse", "examine", "preflight", "require_servable", "unmet_needs"]
