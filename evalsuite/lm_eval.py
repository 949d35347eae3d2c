"""evalsuite as a model of lm-eval's own command line and Python API.

lm-eval has no plugin mechanism, so this module registers the model and hands over:

    python -m evalsuite.lm_eval --model evalsuite --model_args pretrained=ckpt/ --tasks hellaswag
    python -m evalsuite.lm_eval --model evalsuite --model_args pretrained=ckpt/,base_url=http://127.0.0.1:8000/v1 ...

Everything else is lm-eval's: its options, its output. From Python: ``ServedLM("ckpt/")`` as the
``model`` of ``lm_eval.simple_evaluate``. Answers are remembered in ``results``/store.sqlite, shared
with ``evalsuite run``.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval.api.registry import model_registry

from evalsuite.checkpoint import resolve
from evalsuite.errors import DataError, EvalsuiteError, UsageError
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.server import ServeOptions
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.harness.lm import EvalsuiteLM

_LM_EVALS_OWN = frozenset({"batch_size", "max_batch_size", "device"})
"""What lm-eval hands to every model; the server decides these."""


class ServedLM(EvalsuiteLM):
    """A checkpoint served by evalsuite, or by somebody else under ``base_url``, as an lm-eval model.

    ``pretrained`` is what ``evalsuite run`` takes as MODEL; ``results`` holds the store and the
    server's log. lm-eval has no word for an unscored item: where requests fail, the call that
    asked for them raises DataError after all others are answered and remembered, so that no
    stand-in value becomes a score. Close it, or use it as a context manager, to stop the server.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        base_url: str | None = None,
        results: str = "results",
        dtype: str = "auto",
        max_model_len: int | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int = 1,
        **others: Any,
    ) -> None:
        if unknown := set(others) - _LM_EVALS_OWN:
            raise UsageError(f"--model_args of evalsuite knows no {', '.join(sorted(unknown))}")
        self._left = contextlib.ExitStack()
        folder = Path(results)
        options = ServeOptions(
            dtype=dtype,
            max_model_len=max_model_len,
            tensor_parallel_size=tensor_parallel_size,
            data_parallel_size=data_parallel_size,
        )
        try:
            store = self._left.enter_context(Store(folder / "store.sqlite"))
            thread = self._left.enter_context(LoopThread())
            checkpoint = resolve(pretrained, base_url=base_url)
            log_path = folder / "logs" / f"{checkpoint.slug}-lm_eval.log"
            session = self._left.enter_context(Session(checkpoint, store, options, log_path, base_url=base_url))
            thread.wait(session.client.detect_features())
            self._left.callback(lambda: thread.wait(session.client.close()))
            super().__init__(session.client, thread.loop)
            # lm-eval's command line lets go of a model without a word.
            atexit.register(self.close)
        except BaseException:
            self._left.close()
            raise

    def close(self) -> None:
        """Stop the server, if it is ours, and close the store."""
        atexit.unregister(self.close)
        self._left.close()

    def __enter__(self) -> ServedLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return self._complete(lambda: super(ServedLM, self).loglikelihood(requests, disable_tqdm))

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        return self._complete(lambda: super(ServedLM, self)._loglikelihood_tokens(requests, **kwargs))

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        return self._complete(lambda: super(ServedLM, self).loglikelihood_rolling(requests, disable_tqdm))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return self._complete(lambda: super(ServedLM, self).generate_until(requests, disable_tqdm))

    def _complete(self, answer: Callable[[], list[Any]]) -> list[Any]:
        """Answer all requests of one call, or raise DataError."""
        self.faults.clear()
        values = answer()
        if not self.faults:
            return values
        words = ", ".join(f"{reason} {count}" for reason, count in sorted(self.faults.items()))
        raise DataError(
            f"{self.faults.total()} of {len(values)} requests are unscored ({words}), for which lm-eval has no word; "
            "`evalsuite run MODEL --suite lm_eval:TASK` leaves their documents out and counts them"
        )


def register() -> None:
    """Make ``evalsuite`` a model name of lm-eval in this process."""
    model_registry.register("evalsuite", target=ServedLM)


def main() -> int:
    """Run lm-eval's command line with evalsuite among its models."""
    from lm_eval.__main__ import cli_evaluate

    register()
    try:
        cli_evaluate()
    except EvalsuiteError as error:
        sys.stderr.write(f"evalsuite: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
