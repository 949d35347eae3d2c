"""evalsuite as a model of lm-eval's own command line and Python API.

lm-eval has no plugin mechanism, so this module registers the model and hands over:

    python -m evalsuite.lm_eval --model evalsuite --model_args pretrained=ckpt/ --tasks hellaswag
    python -m evalsuite.lm_eval --model evalsuite --model_args pretrained=ckpt/,base_url=http://127.0.0.1:8000/v1 ...

Options and output are lm-eval's. From Python: ``ServedLM("ckpt/")`` as the ``model`` of
``lm_eval.simple_evaluate``. Answers are stored in ``results``/store.sqlite, shared with ``evalsuite run``.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
from pathlib import Path
from typing import Any

from lm_eval.api.registry import model_registry

from evalsuite.doctor import require_servable
from evalsuite.errors import EvalsuiteError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.known_servers import FILE as SERVERS_FILE
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.harness.lm import EvalsuiteLM
from evalsuite.validation import checked

_IGNORED = frozenset({"batch_size", "max_batch_size", "device"})
"""What lm-eval passes to every model; the server decides these."""


class ServedLM(EvalsuiteLM):
    """A checkpoint on a managed server, or on an external one at ``base_url``, as an lm-eval model.

    ``pretrained`` is what ``evalsuite run`` takes as MODEL, ``results`` holds the store and the server's log, and
    ``others`` are the fields of ``ServeConfig``. lm-eval has no unscored items: where requests fail, their call raises
    DataError after all others are answered and stored, so that no placeholder becomes a score. Close it, or use it
    as a context manager, to stop the server.
    """

    def __init__(
        self, pretrained: str, *, base_url: str | None = None, results: str = "results", **others: Any
    ) -> None:
        self._resources = contextlib.ExitStack()
        folder = Path(results)
        serve = checked(ServeConfig, {name: value for name, value in others.items() if name not in _IGNORED})
        try:
            store = self._resources.enter_context(Store(folder / "store.sqlite"))
            thread = self._resources.enter_context(LoopThread())
            checkpoint = serve.resolve(pretrained, base_url=base_url)
            require_servable([checkpoint] if base_url is None else [], serve)
            log_path = folder / "logs" / f"{checkpoint.slug}-lm_eval.log"
            session = self._resources.enter_context(
                Session(checkpoint, store, serve, log_path, base_url=base_url, servers=folder / SERVERS_FILE)
            )
            thread.wait(session.client.detect_features())
            self._resources.callback(lambda: thread.wait(session.client.close()))
            super().__init__(session.client, thread.loop, strict=True)
            self._resources.enter_context(self.told_output_types())
            # lm-eval's command line never closes a model.
            atexit.register(self.close)
        except BaseException:
            self._resources.close()
            raise

    def close(self) -> None:
        """Stop a managed server and close the store."""
        atexit.unregister(self.close)
        self._resources.close()

    def __enter__(self) -> ServedLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> int:
    """Run lm-eval's command line with evalsuite among its models."""
    from lm_eval.__main__ import cli_evaluate

    model_registry.register("evalsuite", target=ServedLM)
    try:
        cli_evaluate()
    except EvalsuiteError as error:
        sys.stderr.write(f"evalsuite: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
