"""One model over several nodes: the options that docs/fleet.md names reach vLLM's own parser as they are meant."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.commands.options import from_config
from evalsuite.config import RunConfig
from evalsuite.serving import server as server_module
from evalsuite.serving.device import Device
from tests.evalsuite.tiny_checkpoint import write_checkpoint

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"


def documented() -> list[list[str]]:
    """Return the ``evalsuite run`` lines of the section, as words."""
    section = DOCS.read_text("utf-8").partition("## One model over several nodes")[2].partition("\n## ")[0]
    return [shlex.split(line)[2:] for line in re.findall(r"^evalsuite run .*$", section, re.MULTILINE)]


def config_of(words: list[str]) -> RunConfig:
    """Read a command line as ``evalsuite run`` does."""
    read: list[RunConfig] = []
    app = typer.Typer()

    @app.command()
    @from_config(RunConfig)
    def run(config: RunConfig, *, as_json: bool) -> None:
        read.append(config)

    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    return read[0]


def parsed(command: list[str]):
    """Return what the parser of the installed vLLM makes of a server's command line."""
    launchers = pytest.importorskip("vllm.entrypoints.launchers.cli_args")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    given = launchers.make_arg_parser(FlexibleArgumentParser()).parse_args(command[3:])
    launchers.validate_parsed_serve_args(given)
    return AsyncEngineArgs.from_cli_args(given)


@pytest.fixture
def command(tmp_path):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt")))
    server = SimpleNamespace(model_name="big", port=8000, device=Device("cuda", "0"), adapters={}, tokenizer=None)
    return lambda words: server_module._command(server, checkpoint, config_of(words).serve)


def test_the_documented_commands_are_what_vllm_reads(command):
    sizes = []
    for words in documented():
        engine = parsed(command(words))
        assert engine.distributed_executor_backend == "ray", words
        sizes.append((engine.tensor_parallel_size, engine.pipeline_parallel_size))
        serve = config_of(words).serve
        assert serve.devices == engine.tensor_parallel_size * engine.pipeline_parallel_size
        assert not serve.answer_args, "where a model runs is not part of its answers' keys"
    assert sizes == [(16, 1), (8, 2)]


def test_vllm_refuses_an_option_that_it_does_not_have(command, capsys):
    with pytest.raises(SystemExit):
        parsed(command(["big", "-tp", "16", "--vllm-arg", "pipeline_parts=2"]))
    assert "--pipeline-parts" in capsys.readouterr().err
