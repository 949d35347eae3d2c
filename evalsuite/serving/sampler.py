"""Which requests are sampled, so that asking again may give another answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalsuite.serving.bodies import sampling_fields
from evalsuite.serving.reasoning import NO_REASONING, Reasoning
from evalsuite.serving.requests import Completion, Guide, Sampling
from evalsuite.serving.thinking import of_model
from judges.types import Message


@dataclass(slots=True)
class Sampler:
    """Says which requests are sampled; as a model that is asked it answers nothing and notes whether any was.

    ``generation`` are the checkpoint's own settings, None for an external server, which is taken to sample where a
    request leaves it to the model.
    """

    generation: Mapping[str, Any] | None
    reasoning: Reasoning = NO_REASONING
    is_sampled: bool = field(default=False, init=False)

    def samples(self, sampling: Sampling) -> bool:
        """Whether a model asked so may answer differently the next time."""
        how = self.reasoning.sampling
        if how == "model" or (self.reasoning.thinks and how != "benchmark"):
            sampling = of_model(sampling)
        return "seed" in sampling_fields(sampling, self.generation)

    async def chat(
        self,
        messages: Sequence[Message],  # noqa: ARG002
        sampling: Sampling,
        guide: Guide | None = None,  # noqa: ARG002
    ) -> Completion:
        self.is_sampled = self.is_sampled or self.samples(sampling)
        return Completion("", "stop", 0, 0)

    async def label_logprobs(
        self,
        messages: Sequence[Message],  # noqa: ARG002
        labels: Sequence[str],  # noqa: ARG002
        spellings: Sequence[str] = (),  # noqa: ARG002
    ) -> dict[str, float]:
        return {}
