"""Kill evalsuite repeatedly, resume it, compare with an undisturbed run, and print what was lost.

    python bench/faults.py [--kills 100] [--signals 20] [--only run] [--seed 0]
    python bench/faults.py --live          # the same with a real vLLM, whose process is killed too

The model and the judge are a scripted endpoint in a separate process, whose answers depend on the request's content.
After every kill the store must pass SQLite's integrity check and no process may be left. A request may be sent a
second time only if it was in flight at a kill. The files in the end must be those of an undisturbed run, except for
the fields of times and costs listed in ``tests/evalsuite/kills.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.tally import Tally, print_table
from evalsuite.files import write_jsonl
from tests.evalsuite.kills import (
    NEVER,
    Account,
    Life,
    Trigger,
    adopt_orphans,
    contents,
    differences,
    in_a_child,
    leftovers,
    live,
    load_what_it_loaded,
    orphans,
    random_trigger,
)
from tests.evalsuite.scripted_endpoint import Behaviour, ScriptedEndpoint

IN_FLIGHT = 4
_KILLS_A_FOLDER = 14
_LATENCY_S = (0.01, 0.08)
_WARM = 0.4
_INTERRUPTED = 130
_GO_ON = "run the same command again"

SHORT = (
    Trigger(count=3),
    Trigger("before an answer is committed", 4),
    Trigger("after an answer is committed", 3),
    Trigger(count=12, delay_s=0.05),
    Trigger(count=14, delay_s=0.05),
    Trigger("while scoring"),
    Trigger("before a file is synced", 3),
    # The eleventh file of a run with three suites is scores.json, the twelfth manifest.json.
    Trigger("before a file is renamed", 11),
    Trigger("after a file is renamed", 11),
)
"""One kill in each phase, for a test."""

Words = Callable[[str, Path, Path], list[str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One command to kill: its arguments, given the endpoint's URL, a folder of inputs and the folder to write."""

    name: str
    words: Words
    prepare: Callable[[Path], None] = lambda _: None
    asks: bool = True
    """Whether it uses the endpoint; one that trains is killed after a delay and at exact calls."""
    models: tuple[str, ...] = ("candidate", "judge")
    forgets: bool = False
    """Whether it deletes answers once they are in a finished file, so that its store is not a full account."""
    share: float = 1.0
    """Its share of the kills: each start of a training takes seconds."""


def _run_words(url: str, inputs: Path, folder: Path) -> list[str]:  # noqa: ARG001
    suites = [word for suite in ("mt_bench", "alpaca_eval", "mixeval") for word in ("--suite", suite)]
    words = ["run", f"candidate@{url}", "--judge", f"judge@{url}", *suites, "--data", "mini"]
    return [*words, "--in-flight", str(IN_FLIGHT), "--results", str(folder)]


def _harness_words(url: str, inputs: Path, folder: Path) -> list[str]:
    words = ["run", str(inputs / "candidate"), "--base-url", url, "--data", "mini", "--in-flight", str(IN_FLIGHT)]
    return [*words, "--suite", "openllm:mmlu_pro,math,musr", "--results", str(folder)]


def _generate_words(url: str, inputs: Path, folder: Path) -> list[str]:
    words = ["generate", f"candidate@{url}", "--prompts", str(inputs / "chats.jsonl"), "--shard-size", "4"]
    return [*words, "--max-new-tokens", "64", "--in-flight", str(IN_FLIGHT), "--out", str(folder / "out")]


def _sft_words(url: str, inputs: Path, folder: Path) -> list[str]:  # noqa: ARG001
    return ["sft", str(inputs / "recipe.yaml"), "--data", str(inputs / "mix"), "--out", str(folder / "ckpt")]


def _study_words(url: str, inputs: Path, folder: Path) -> list[str]:  # noqa: ARG001
    return ["study", str(inputs / "study.yaml"), "--only", "mix", "--only", "sft", "--results", str(folder)]


def _write_training(inputs: Path) -> None:
    from tests.evalsuite.tiny_training import conversation, write_mix, write_recipe, write_tiny_model

    base = write_tiny_model(inputs / "base")
    write_mix(inputs / "mix", [conversation(i, 1 + i % 2) for i in range(14)])
    write_recipe(inputs / "recipe.yaml", base, epochs=6, save_every_steps=3)


def _write_study(inputs: Path) -> None:
    import yaml

    from tests.evalsuite.tiny_training import conversation, write_tiny_model

    for name in ("judge", "t"):
        write_tiny_model(inputs / name)
    for name in ("a", "b"):
        write_jsonl(inputs / f"{name}.jsonl", ({"messages": conversation(i)} for i in range(8)))
    settings = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 2, "micro_batch_size": 1, "max_length": 128}
    study = {"name": "toy", "judge": str(inputs / "judge"), "targets": {"T": {"model": str(inputs / "t")}}}
    study |= {"dgms": {name: {"answers": str(inputs / f"{name.lower()}.jsonl")} for name in ("A", "B")}}
    study |= {"sizes": [6], "sft": {**settings, "gradient_checkpointing": False, "save_every_steps": 2}}
    (inputs / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


def _write_checkpoint(inputs: Path) -> None:
    from tests.evalsuite.tiny_checkpoint import write_checkpoint

    write_checkpoint(inputs / "candidate", context=32_768)


def _write_chats(inputs: Path) -> None:
    turns = [{"role": "user", "content": "Tell me about stone {n}."}, {"role": "assistant", "content": "It is old."}]
    turns += [{"role": "user", "content": "And how old?"}, {"role": "assistant", "content": "Very."}]
    rows = (
        {
            "conversation_hash": f"c{n}",
            "conversation": [{**t, "content": t["content"].format(n=n)} for t in turns[: 2 + 2 * (n % 2)]],
        }
        for n in range(22)
    )
    write_jsonl(inputs / "chats.jsonl", rows)


SCENARIOS: Mapping[str, Scenario] = {
    "run": Scenario("run", _run_words),
    "run openllm": Scenario("run openllm", _harness_words, _write_checkpoint, models=("candidate",), share=0.25),
    "generate": Scenario("generate", _generate_words, _write_chats, forgets=True),
    "sft": Scenario("sft", _sft_words, _write_training, asks=False, share=0.2),
    "study": Scenario("study", _study_words, _write_study, asks=False, share=0.08),
}


def undisturbed(scenario: Scenario, url: str, place: Path) -> dict[str, Any]:
    """Run the command to its end once and return the files it leaves."""
    folder = place / "whole"
    life = live(scenario.words(url, place / "inputs", folder), place / "whole-out", folder, NEVER, Account(), None)
    if life.code not in (0, 1):
        raise SystemExit(f"the undisturbed {scenario.name} failed with code {life.code}:\n{life.stderr[-2000:]}")
    load_what_it_loaded(place / "whole-out")
    return contents(folder)


def disturb(
    scenario: Scenario,
    endpoint: ScriptedEndpoint,
    place: Path,
    expected: Mapping[str, Any],
    triggers: Sequence[Trigger],
    tally: Tally,
    *,
    how: signal.Signals = signal.SIGKILL,
    cold: bool = False,
) -> int:
    """Kill the command at each trigger, resume it to its end and compare; return the number of kills."""
    folder = place / f"cut-{len(list(place.iterdir()))}"
    words = scenario.words(endpoint.url, place / "inputs", folder)
    account, kinds, faults, n_asked = Account(), [], [], 0
    for trigger in [*triggers, NEVER]:
        life = live(words, place / "out", folder, trigger, account, endpoint, how=how, cold=cold)
        n_asked += life.n_asked
        if life.killed:
            kinds.append(f"{_name(how)} of {scenario.name}: {life.phase}")
            faults += _manners(life, how)
        elif life.code not in (0, 1):
            faults.append(f"{scenario.name} failed with code {life.code}: {life.stderr[-400:]}")
        if not life.killed:
            break
    faults += [f"left running after {scenario.name}: {one}" for one in orphans([endpoint.pid])]
    faults += [f"{scenario.name}: {name} differs" for name in differences(expected, contents(folder))]
    faults += _asked_without_need(scenario, account, len(kinds))
    tally.add(kinds, faults)
    tally.asked += n_asked
    tally.repeated += account.repeated
    tally.in_flight += account.repeated if scenario.forgets else account.in_flight_at_kills
    tally.left_behind += len(leftovers(folder))
    return len(kinds)


def _asked_without_need(scenario: Scenario, account: Account, n_kills: int) -> list[str]:
    """Report requests that were sent a second time although they were not in flight at a kill."""
    if scenario.forgets:
        allowed = n_kills * IN_FLIGHT
        return [f"{scenario.name}: {account.repeated} asked twice"] if account.repeated > allowed else []
    faults = []
    if account.without_need:
        faults.append(f"{scenario.name}: {account.without_need} questions asked although their answers were stored")
    if account.worst > IN_FLIGHT:
        faults.append(f"{scenario.name}: a kill lost {account.worst} answers, {IN_FLIGHT} may be in flight")
    return faults


def _name(how: signal.Signals) -> str:
    return "kill -9" if how == signal.SIGKILL else how.name


def _manners(life: Life, how: signal.Signals) -> list[str]:
    """Check that an interrupted process ends in time, with its exit code and without a traceback."""
    if how == signal.SIGKILL:
        return []
    faults = [] if life.code == _INTERRUPTED else [f"{how.name} while {life.phase}: exit code {life.code}"]
    if "Traceback" in life.stderr or _GO_ON not in life.stderr:
        faults.append(f"{how.name} while {life.phase}: {life.stderr[-300:]!r}")
    return faults


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of kills per command: kill -9, the same in new interpreters, SIGTERM or SIGINT; or ``SHORT``."""

    n_kills: int
    n_cold: int
    n_signals: int
    seed: int
    short: bool = False


def bench_scenario(scenario: Scenario, place: Path, tally: Tally, plan: Plan) -> None:
    """Kill one scenario as often as planned."""
    (place / "inputs").mkdir(parents=True)
    in_a_child(lambda: scenario.prepare(place / "inputs"))
    behaviour = Behaviour(models=scenario.models, latency_s=_LATENCY_S)
    with ScriptedEndpoint(behaviour, place / "asked.jsonl") as endpoint:
        began = time.monotonic()
        expected = undisturbed(scenario, endpoint.url, place)
        # The first process loads its libraries, later ones inherit them.
        span_s = None if scenario.asks else _WARM * (time.monotonic() - began)
        if plan.short:
            disturb(scenario, endpoint, place, expected, SHORT, tally)
            return
        draw = random.Random(f"{plan.seed} {scenario.name}")
        politely = (signal.SIGTERM, signal.SIGINT)
        rounds = (((signal.SIGKILL,), plan.n_kills, False), ((signal.SIGKILL,), plan.n_cold, True))
        for signals, planned, cold in (*rounds, (politely, plan.n_signals, False)):
            done, goal = 0, round(planned * scenario.share)
            while done < goal:
                outside = cold or signals == politely
                n_triggers = min(_KILLS_A_FOLDER, goal - done)
                triggers = [random_trigger(draw, from_outside=outside, span_s=span_s) for _ in range(n_triggers)]
                how = draw.choice(signals)
                done += disturb(scenario, endpoint, place, expected, triggers, tally, how=how, cold=cold)
            print(f"{scenario.name}: {done} kills", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kill -9 of each command")
    parser.add_argument("--cold", type=int, default=4, help="kill -9 of each command in new interpreters")
    parser.add_argument("--signals", type=int, default=10, help="SIGTERM and SIGINT of each command")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="commands (all by default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="only one kill in each phase of each command")
    parser.add_argument("--live", action="store_true", help="with a real vLLM (minutes)")
    parser.add_argument("--json", action="store_true", help="also print the figures as one JSON document")
    arguments = parser.parse_args()
    plan = Plan(arguments.kills, arguments.cold, arguments.signals, arguments.seed, arguments.short)
    adopt_orphans()
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.live:
            from bench.live_faults import bench_live

            bench_live(Path(folder), tally)
        else:
            for name in arguments.only or SCENARIOS:
                place = Path(folder) / name.replace(" ", "-")
                bench_scenario(SCENARIOS[name], place, tally, plan)
    print_table(tally)
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.json:
        figures = {"tried": dict(tally.tried), "lost": dict(tally.lost), "remarks": tally.remarks}
        figures |= {"asked": tally.asked, "repeated": tally.repeated, "in_flight": tally.in_flight}
        print(json.dumps(figures))
    if tally.lost.total() or tally.remarks:
        os._exit(1)


if __name__ == "__main__":
    main()
