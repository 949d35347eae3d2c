"""The wheel without extras in a new environment: it reads, scores, imports, compares over a URL and reports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evalsuite.packages import EXTRAS, SERVING
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

ROOT = Path(__file__).resolve().parents[2]
MAX_MB = 300
HEAVY = {"torch", "accelerate", "transformers", "datasets", "pyarrow", "lm_eval", "gguf", "rensa", "sklearn"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the source")]


def uv(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    built = uv("build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    if built.returncode:
        pytest.skip(f"the wheel cannot be built here: {built.stderr[-300:]}")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """The Python of an environment with the wheel alone."""
    folder = tmp_path_factory.mktemp("base") / "env"
    assert uv("venv", "--quiet", "--python", sys.executable, folder).returncode == 0
    installed = uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", wheel)
    if installed.returncode:
        pytest.skip(f"the base cannot be installed here: {installed.stderr[-300:]}")
    return folder / "bin" / "python"


@pytest.fixture
def evalsuite(base, tmp_path):
    def call(*arguments: object, code: int = 0) -> str:
        # Isolated from PYTHONPATH and the working folder: only what the wheel brought.
        command = [base, "-I", "-m", "evalsuite", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return call


def test_it_is_light(base):
    names = {path.name for path in (base.parent.parent / "lib").glob("python3*/site-packages/*")}
    assert not HEAVY & names
    size = sum(
        path.stat().st_size for path in base.parent.parent.rglob("*") if path.is_file() and path.suffix != ".pyc"
    )
    assert size < MAX_MB * 1e6


def answers(path, body):
    """Judge with a rating or a preference, answer everything else."""
    asked = json.dumps(body.get("messages", ""))
    if guide := body.get("structured_outputs") or body.get("response_format"):
        choices = guide.get("choice") if isinstance(guide, dict) else None
        return 200, text_reply(choices[0] if choices else "[[A]]")
    return 200, text_reply("Rating: [[7]]" if "[[rating]]" in asked or "[[5]]" in asked else "I say [[A]]")


def test_import_score_report_and_compare(evalsuite, tmp_path):
    results = tmp_path / "results"
    verdicts = tmp_path / "model_judgment.jsonl"
    # 4 questions, ratings 6 and 8: their mean is 7 by definition.
    rows = [
        {"question_id": 81 + q, "model": "ours", "judge": ["judge", "single-v1"], "user_prompt": "q", "judgment": "j",
         "score": score, "turn": turn, "tstamp": 0.0}
        for q in range(4) for turn, score in ((1, 6), (2, 8))
    ]  # fmt: skip
    verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = json.loads(evalsuite("score", "mt_bench", "--from", verdicts, "--json"))
    assert (scored["turn_1"], scored["turn_2"], scored["score"]) == (6.0, 8.0, 7.0)
    evalsuite("import", "mt_bench", verdicts, "--model", "ours", "--results", results)
    # As many prompts as style control wants.
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} + {n}?"}) + "\n" for n in range(25)))
    with StubEndpoint(answers, model="a") as a, StubEndpoint(answers, model="b") as b:
        printed = evalsuite(
            "compare", f"a@{a.url}", f"b@{b.url}", "--prompts", prompts,
            "--judge", f"a@{a.url}", "--method", "reasoned", "--results", results, "--json",
        )  # fmt: skip
        assert '"n_prompts": 25' in printed
        assert re.search(r'"rate_a": 0.5\b', printed), "the two give equal answers"
        assert "scikit-learn" not in printed
        evalsuite(
            "run", f"a@{a.url}", "--suite", "mt_bench", "--data", "mini", "--judge", f"b@{b.url}",
            "--results", results,
        )  # fmt: skip
    evalsuite("report", "--results", results)
    assert (results / "leaderboard.html").stat().st_size > 10_000
    assert "ours" in (results / "leaderboard.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("run", "x@http://127.0.0.1:9/v1"), "benchmarks"),
        (("run", "x@http://127.0.0.1:9/v1", "--suite", "openllm:ifeval"), "benchmarks"),
        (("score", "openllm", "--from", "."), "benchmarks"),
        (("mix", "recipes/tiny.yaml", "--out", "out"), "data"),
        (("generate", "x@http://127.0.0.1:9/v1", "--prompts", "chats.jsonl", "--out", "out"), "data"),
        (("analyze", "similarity", "a", "b"), "data"),
        (("sft", "recipes/tiny.yaml", "--out", "out"), "train"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(evalsuite, arguments, extra):
    said = evalsuite(*arguments, code=2)
    assert f"pip install 'evalsuite[{extra}]'" in said
    assert len(said.strip().splitlines()) == 1


def test_a_checkpoint_without_vllm_names_setup(evalsuite):
    said = evalsuite("run", "demo", "--data", "mini", "--suite", "mt_bench", "--judge", "demo", code=2)
    assert "vLLM is not installed; run evalsuite setup" in said
    planned = evalsuite("setup", "--cpu", "--dry-run", "--extra", "train")
    assert "vllm" not in planned.split("--requirement")[-1]
    assert "cpu-overrides.txt" in planned
    assert "trl" in planned
    assert "trian" in evalsuite("setup", "--extra", "trian", "--dry-run", code=2)


def test_doctor_names_what_a_checkpoint_needs_once(evalsuite):
    document = json.loads(evalsuite("doctor", "demo", "--data", "mini", "--json", code=2).partition("\nchecking")[0])
    faults = {finding["check"]: finding for finding in document["findings"] if finding["level"] == "fault"}
    assert "pip install 'evalsuite[benchmarks]'" in faults["template"]["message"]
    assert not faults["template"]["remedy"]
    missing = [
        finding["message"] for finding in document["findings"] if "needs the package sklearn" in finding["message"]
    ]
    assert len(missing) == 1


def test_the_wheel_has_recipes_overrides_and_links_but_no_stray_files(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        about = file.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "evalsuite/recipes/_examples/tiny.yaml" in names
    assert "evalsuite/installation/cpu-overrides.txt" in names
    assert not [name for name in names if name.endswith(".gitkeep")]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"evalsuite", "judges"}
    for line in ("Classifier: Programming Language :: Python :: 3.13", "Author", "Project-URL: Source"):
        assert line in about
    assert "](docs/" not in about, "links in the README must work on an index too"


def test_every_optional_package_comes_with_the_extra_that_is_named(base):
    code = "import sys; from evalsuite.installation.setup import requirements_of; print(*requirements_of(sys.argv[1:]))"
    modules = {"lm_eval": "lm-eval", "fastchat": "fschat", "sklearn": "scikit-learn"}
    brought = {
        extra: subprocess.run([base, "-I", "-c", code, extra], capture_output=True, text=True, check=True).stdout
        for extra in set(EXTRAS.values())
    }
    for module, extra in EXTRAS.items():
        name = modules.get(module, module.replace("_", "-"))
        assert re.search(rf"\b{name}[<>[]", brought[extra]), (module, extra)
    assert not SERVING & EXTRAS.keys()
