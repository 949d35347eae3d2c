"""A suite in somebody else's package: installed into an environment of its own, it is everywhere a built-in one is."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "packages" / "toy"
BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "raises RuntimeError: no licence"),
    "name_exists": (
        "from evalsuite.suites.base import Suite\n"
        "class Bad(Suite):\n"
        "    name, title = 'openllm', 'Mine'\n"
        "    def load(self, options): ...\n"
        "    def row(self, item, loaded): ...\n"
        "    def row(self, item, loaded): ...\n"
        "    async def answer(self, *a): ...\n"
        "    def mark(self, row, header): ...\n",
        "has the name 'openllm', which is taken",
    ),
    "lacks_a_method": (
        "from evalsuite.suites.base import Suite\n"
        "class Bad(Suite):\n"
        "    name, title = 'bad', 'Bad'\n"
        "    def load(self, options): ...\n"
        "    def row(self, item, loaded): ...\n"
        "    def row(self, item, loaded): ...\n"
        "    async def answer(self, *a): ...\n",
        "has no mark",
    ),
    "is_no_suite": ("class Bad: pass", "is not a Suite"),
}

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment that sees the packages of this one, and what is installed into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        packages = next((folder / "lib").glob("python3*")) / "site-packages"
        ours = sysconfig.get_path("purelib")
        (packages / "ours.pth").write_text(f"{ROOT}\nimport site; site.addsitedir({ours!r})\n")

    def install(self, package: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run(
            [*command, "--no-build-isolation", package], check=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull}
        )

    def evalsuite(self, *arguments: object, code: int = 0) -> str:
        """Run the command line and return what it printed."""
        command = [self.python, "-m", "evalsuite", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


def adds(path, body):
    """Add up the sum of the last question, wrongly where it is 4 + 4."""
    if body.get("structured_outputs"):
        return 200, text_reply(body["structured_outputs"]["choice"][0])
    text = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
    numbers = [int(one) for one in text.replace("+", " ").split() if one.isdigit()]
    return 200, text_reply(str(sum(numbers[-2:]) + (numbers[-2:] == [4, 4])))


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    environment = Environment(folder / "env")
    source = folder / "toy"
    shutil.copytree(PACKAGE, source)
    environment.install(source)
    return environment


@pytest.fixture(scope="module")
def results(environment, tmp_path_factory):
    """A results folder of two models, one run and one imported."""
    folder = tmp_path_factory.mktemp("results")
    with StubEndpoint(adds) as stub:
        printed = environment.evalsuite("run", f"stub@{stub.url}", "--suite", "toy", "--results", folder)
    assert "Toy sums (0–1)" in printed
    assert "0.8889" in printed  # 8 of 9 sums are right
    recorded = folder / "recorded.jsonl"
    rows = [{"id": f"{a}+{b}", "response": "4"} for a in range(2, 5) for b in range(2, 5)]
    recorded.write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment.evalsuite("import", "toy", recorded, "--model", "four", "--results", folder)
    return folder


def test_the_toy_is_one_file_of_under_80_lines():
    assert len((PACKAGE / "evalsuite_toy.py").read_text().splitlines()) < 80


def test_run_writes_scores_records_and_its_options(environment, results):
    [folder] = results.glob("stub-*")
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["suites"]["toy"]["score"] == pytest.approx(8 / 9)
    assert scores["suites"]["toy"]["n"] == 9
    lines = (folder / "records" / "toy.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["suite"] == "toy"
    assert len(lines) == 10
    assert "--toy-wording" in environment.evalsuite("run", "--help")


def test_score_and_import(environment, results):
    scored = json.loads(environment.evalsuite("score", "toy", "--from", results / "recorded.jsonl", "--json"))
    assert scored["score"] == pytest.approx(1 / 9)
    [folder] = results.glob("four-*")
    assert json.loads((folder / "scores.json").read_text())["suites"]["toy"]["score"] == pytest.approx(1 / 9)


def test_report_has_its_column_items_and_star(environment, results):
    environment.evalsuite("report", "--results", results)
    with (results / "leaderboard.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert float(rows["stub"]["toy"]) == pytest.approx(8 / 9)
    page = (results / "leaderboard.html").read_text()
    assert "Toy sums" in page
    done = json.loads(environment.evalsuite("report", "--results", results, "--json"))
    assert (done["models"], done["items"], done["left_out"]) == (2, 18, [])


def test_compare_asks_its_prompts(environment, results):
    with StubEndpoint(adds) as stub:
        document = environment.evalsuite(
            "compare", f"stub@{stub.url}", "four", "--prompts", "toy", "--judge", f"stub@{stub.url}",
            "--method", "reasoned", "--results", results, "--json",
        )  # fmt: skip
    assert '"n_prompts": 9' in document


def test_doctor_data_and_contamination_know_it(environment, results, tmp_path):
    assert "toy" in environment.evalsuite("doctor", "--suite", "toy", "--results", results)
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Please add 2 + 2"}, {"role": "assistant", "content": "4"}]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    assert "toy" in environment.evalsuite("analyze", "contamination", chats, "--data", "mini", "--results", results)
    listed = json.loads(environment.evalsuite("data", "list", "--json"))
    assert "toy/sums" in json.dumps(listed)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """An environment with a package whose suites are all broken, each in its own way."""
    folder = tmp_path_factory.mktemp("broken")
    package = folder / "package"
    package.mkdir()
    for kind, (content, _) in BROKEN.items():
        (package / f"broken_{kind}.py").write_text(content)
    entries = "".join(f'{kind} = "broken_{kind}:Bad"\n' for kind in BROKEN)
    modules = [f"broken_{kind}" for kind in BROKEN]
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "broken-suite"\nversion = "1"\n'
        f'[project.entry-points."evalsuite.suites"]\n{entries}'
        f"[tool.setuptools]\npy-modules = {json.dumps(modules)}\n"
    )
    environment = Environment(folder / "env")
    environment.install(package)
    return environment


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_suite_is_named_with_its_package(broken, kind):
    printed = broken.evalsuite("run", "demo", "--suite", kind, code=2)
    assert f"suite '{kind}' of the package broken-suite {BROKEN[kind][1]}" in printed
    assert "uninstall broken-suite" in printed


def test_beside_broken_suites_the_rest_works(broken):
    assert "mt_bench/question" in broken.evalsuite("data", "list", "--json")


def test_types_are_shipped():
    for package in ("evalsuite", "judges"):
        assert (ROOT / package / "py.typed").is_file()
