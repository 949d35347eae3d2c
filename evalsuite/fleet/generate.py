"""``evalsuite generate --on PLACE``: units write the Parquet files of one machine, a range of them each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.config import resolved_yaml
from evalsuite.conversations.source import Rows
from evalsuite.errors import UsageError
from evalsuite.files import write_text
from evalsuite.fleet.head import Head, UnitsFailedError, heading
from evalsuite.fleet.places import executor_of
from evalsuite.fleet.units import FLEET, SCRATCH, Done, Unit, delete, paths_in, unit_folder
from evalsuite.generation.chunks import SEEN, Chunks, plan_chunks
from evalsuite.generation.feed import SeenConversations
from evalsuite.generation.manifest import Costs, ManifestFile, manifest_name, read_manifest, verified_shards
from evalsuite.generation.plan import Plan, folders_of, locked_part, plan_of
from evalsuite.generation.run import Generated, opened_prompts
from evalsuite.generation.settings import GenerateConfig
from evalsuite.placement import read_placement
from evalsuite.progress import NoProgress, Progress

_UNITS = 8
"""Units of a model where neither --jobs nor the machine says how many run at once."""
_MEASURED = ("written_at", "complete", "counts", "tokens", "seconds", "peak_memory", "costs", "shards")


def generate_on(config: GenerateConfig, progress: Progress | None = None, head: Head | None = None) -> Generated:
    """Answer the conversations as ``generate`` does, with the same files, wherever ``config.on`` says.

    ``head`` is who else of this process has units on the same executor.
    """
    progress = progress or NoProgress()
    if config.shard.of > 1:
        raise UsageError("--shard divides the work manually, --on automatically; give one of them")
    rows = opened_prompts(config, progress)
    checkpoints = [
        config.serve.resolve(spec, base_url=config.base_url, on_step=progress.step) for spec in config.models
    ]
    manifests, folders = [], folders_of(config, checkpoints)
    placement = read_placement(config.on or "local")
    for checkpoint, folder in zip(checkpoints, folders, strict=True):
        with ExitStack() as stack:
            stack.enter_context(locked_part(folder, config))
            plan = plan_of(config, rows, checkpoint, folder, progress)
            if plan.old is not None and (plan.grown or (folder / "_unfinished" / "earlier").exists()):
                raise UsageError(f"{folder} contains answers to reuse; run without --on, or pass --fresh")
            if plan.is_complete:
                manifests.append(plan.old or {})
                continue
            if head is None:
                stack.enter_context(heading(folder))
                executor = executor_of(placement, folder, config.jobs, config.slurm_template)
                stack.callback(executor.close)
            gpus = 0 if config.base_url or checkpoint.endpoint else config.serve.devices
            gpus = gpus if placement.gpus is None else placement.gpus
            carrier = replace(head, progress=progress) if head else Head(executor, progress, config.detach)
            manifests.append(_Generation(config, rows, plan, gpus, carrier).run(progress))
    return Generated(manifests, folders)


class _Generation:
    """The files of one model: planned, written by units, taken over."""

    def __init__(self, config: GenerateConfig, rows: Rows, plan: Plan, gpus: int, head: Head) -> None:
        self._config, self._rows, self._plan, self._gpus, self._head = config, rows, plan, gpus, head
        self._written = dict(plan.written)
        self._about: dict[str, Any] = {}
        self._told: Mapping[str, Any] = {}
        costs = (plan.old or {}).get("costs")
        self._costs = Costs(**costs) if isinstance(costs, dict) else Costs()

    def run(self, progress: Progress) -> dict[str, Any]:
        """Write what is missing; return the manifest. Raises UnitsFailedError, and keeps finished files."""
        folder = self._plan.folder
        progress.step("planning the files")
        self._chunks = self._planned()
        for out in (folder / FLEET).glob("*/out"):
            # Of units of another number, which an earlier call left.
            self._take(out)
        failed: UnitsFailedError | None = None
        try:
            missing = [number for number in range(len(self._chunks.marks)) if number not in self._written]
            ranges = _ranges(missing, self._head.executor.at_once or _UNITS)
            self._head.carry_out([self._unit(first, last) for first, last in ranges], self._done)
        except UnitsFailedError as error:
            failed = error
        manifest = self._write(complete=failed is None)
        if failed is not None:
            raise failed
        shutil.rmtree(folder / FLEET, ignore_errors=True)
        return manifest

    def _planned(self) -> Chunks:
        """Read the source once; what is seen goes to the units."""
        target = self._plan.folder / FLEET / SEEN
        with tempfile.TemporaryDirectory(prefix="evalsuite-plan-", dir=self._config.store) as scratch:
            seen = SeenConversations(Path(scratch) / SEEN)
            chunks = plan_chunks(self._config, self._rows, seen)
            seen.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(scratch) / SEEN, target)
        if not chunks.marks:
            raise UsageError(f"{self._rows.spec} has no conversations to answer; check --language and --limit")
        return chunks

    def _unit(self, first: int, last: int) -> Unit:
        identity = [self._plan.settings, first, last]
        folder = unit_folder(self._plan.folder, f"files-{first:05d}-{last:05d}", identity)
        chunks = folder / "chunks.json"
        replace(self._chunks, first=first, last=last).write(chunks)
        given: dict[str, Any] = dict.fromkeys(("on", "jobs", "slurm_template", "store", "push_to")) | {"detach": False}
        # A served model's name is part of how its folder is found again.
        given |= {"models": (self._spec(),), "out": folder / "out"}
        text = resolved_yaml(self._config.model_copy(update=given), with_secrets=True) + f"chunks: {chunks}\n"
        write_text(folder / "config.yaml", text)
        (folder / "config.yaml").chmod(0o600)
        arguments = ("generate", f"--config={folder / 'config.yaml'}", f"--store={SCRATCH}", "--max-unscored=1")
        reads = paths_in((self._spec(), self._config.prompts))
        return Unit(folder, f"files {first} to {last}", arguments, gpus=self._gpus, reads=reads)

    def _spec(self) -> str:
        checkpoint: Checkpoint = self._plan.checkpoint
        specs = self._config.models
        if len(specs) == 1:
            return specs[0]
        resolve = self._config.serve.resolve
        return next(spec for spec in specs if resolve(spec, base_url=self._config.base_url).slug == checkpoint.slug)

    def _done(self, unit: Unit, _: Done) -> None:
        self._take(unit.folder / "out")
        delete([unit])

    def _take(self, out: Path) -> None:
        """Take finished files over; the first of several with one number stays."""
        path = out / manifest_name("")
        if not path.is_file():
            return
        manifest = read_manifest(path)
        if manifest["settings"] != self._plan.settings:
            return
        shards, _ = verified_shards(out, manifest, "")
        for number, shard in shards.items():
            if number not in self._written:
                target = self._plan.folder / shard.file
                target.unlink(missing_ok=True)
                os.link(out / shard.file, target)
                self._written[number] = shard
        self._about = {key: value for key, value in manifest.items() if key not in (*_MEASURED, "server")}
        self._told = {"server": manifest["server"]} if "server" in manifest else {}
        costs, seconds = manifest["costs"], manifest["seconds"]
        self._costs = self._costs.plus(
            serve=seconds["serve"],
            generate=seconds["generate"],
            usage=costs["usage"],
            peak=costs["peak_bytes"],
            of=costs["peak_of"],
            restarts=costs["restarts"],
            stretches=[(each[0], each[1]) for each in costs.get("stretches", [])],
        )
        self._write(complete=False)

    def _write(self, *, complete: bool) -> dict[str, Any]:
        if not self._about:
            return {}
        file = ManifestFile(self._plan.folder, "", self._about)
        write_text(self._plan.folder / "_config.yaml", resolved_yaml(self._config))
        return file.write(self._written, self._chunks.end, self._costs, self._told, complete=complete)


def _ranges(numbers: Sequence[int], n: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of ``n`` ranges of as many consecutive numbers each, or of more where there are gaps."""
    cuts = {len(numbers) * part // n for part in range(1, n)}
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or at in cuts or numbers[at] != numbers[at - 1] + 1:
            yield numbers[start], numbers[at - 1]
            start = at
