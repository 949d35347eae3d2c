"""Write docs/notebook.ipynb, executed: a first evaluation from Python, over the scripted models of session.py.

python docs/site/notebook.py     (needs the extra `docs`)
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import nbformat
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).parent))

from session import MODELS, ROOT, prepare, reply

from tests.evalsuite.stub_endpoint import StubEndpoint

CELLS = (
    """# A first evaluation from Python

The models of this notebook are scripts that answer at random, so that it runs anywhere in seconds. It shows what the
functions return; the figures mean nothing. Replace the models with your own checkpoint folders, hub ids or servers.""",
    """import os

import evalsuite

a, b, judge = (f"{name}@{os.environ[name.upper().replace('-', '_')]}" for name in ("tiny-a", "tiny-b", "judge"))""",
    """`run` serves each model, asks, judges and scores. It returns one `scores.json` per model, shown as the terminal's
tables.""",
    """evalsuite.run(a, b, suites=["mt_bench", "mixeval"], judge=judge, data="mini")""",
    "The figures of all models in a results folder, a row per model and judge, with 95 % intervals and `n`:",
    """figures = evalsuite.load_results(short=True)
figures.set_index("model").filter(regex="mt_bench|mixeval").T""",
    "And one row per item, with its answer, verdict and mark. Where was one model right and the other wrong?",
    """items = evalsuite.load_items()
marks = items[items.suite == "mixeval"].pivot_table(index="item_id", columns="model", values="mark")
marks[(marks["tiny-a"] > 0.5) & (marks["tiny-b"] <= 0.5)]""",
    "Pairwise, in both orders, with intervals and a ranking:",
    """outcome = evalsuite.compare(a, b, judge=judge, prompts="prompts.jsonl", name="first")
pair = outcome["pairs"][0]
{key: pair[key] for key in ("a", "b", "wins_a", "wins_b", "ties", "rate_a", "ci95_a", "position_flips")}""",
    "The report is one file that opens without network; `evalsuite view --open` shows it live.",
    """written = evalsuite.report()
written.models, written.items""",
)
"""Markdown and code, in turn, after the first two."""


def main() -> None:
    """Execute the cells in a folder of their own and write the notebook with what they showed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalsuite-notebook-")))
        prepare(folder)
        for name in MODELS:
            stub = stack.enter_context(StubEndpoint(lambda _, body: (200, reply(body)), model=name))
            os.environ[name.upper().replace("-", "_")] = stub.url
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        book = nbformat.v4.new_notebook()
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for number, text in enumerate(CELLS):
            is_code = number > 0 and number % 2 == 1
            make = nbformat.v4.new_code_cell if is_code else nbformat.v4.new_markdown_cell
            book.cells.append(make(text, id=f"cell-{number}"))
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
        text = nbformat.writes(quiet(book))
    for real, stand_in in {str(folder): ".", str(ROOT): ".", str(Path.home()): "~"}.items():
        text = text.replace(real, stand_in)
    path = ROOT / "docs" / "notebook.ipynb"
    path.write_text(re.sub(r"http://127\.0\.0\.1:\d+", "http://localhost:8000", text) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def quiet(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what tells no reader anything: times, progress, warnings about the scripts."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.output_type == "execute_result"]
            for one in cell.outputs:
                if "text/html" in one.data:
                    one.data.pop("text/plain", None)
    book.metadata.get("language_info", {}).pop("version", None)
    return book


if __name__ == "__main__":
    main()
