"""The ``sft:`` section of a recipe: what is trained and how, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import pydantic

from evalsuite.conversations.formats import Thinking
from evalsuite.validation import Described

Count = Annotated[int, pydantic.Field(ge=1, strict=True)]
CountFromZero = Annotated[int, pydantic.Field(ge=0, strict=True)]


class Section(Described):
    """A part of a recipe."""


def _no_truth_value(value: object) -> object:
    # YAML reads yes as a truth value, and a float takes that for 1.
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a number")
    return value


_Number = Annotated[float, pydantic.BeforeValidator(_no_truth_value), pydantic.Field(allow_inf_nan=False)]


class LoraConfig(Section):
    """Low-rank adapters instead of all weights; ``targets`` is "all-linear" or names of modules.

    ``merge`` writes whole weights with the adapter added in; otherwise the checkpoint is the
    adapter alone, which is served on its base. Further keys are those of peft's ``LoraConfig``.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    rank: Count = 16
    alpha: Count = 32
    dropout: _Number = pydantic.Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    merge: bool = False

    @property
    def further(self) -> dict[str, pydantic.JsonValue]:
        """The settings for peft beside the fields."""
        return dict(self.model_extra or {})


class TrainingConfig(Section):
    """How a checkpoint is trained; the defaults are those of the paper's runs where it states them.

    ``batch_size`` counts windows (packed sequences, or conversations where packing is off) an optimizer step over all
    devices; ``micro_batch_size`` those that one device holds at once. ``learning_rate`` None is 2e-5 for full training
    and 2e-4 for LoRA. ``held_out`` conversations are kept out of training and their loss is measured before and after
    it. ``devices`` None is every GPU in sight. ``template_args`` are variables of the chat template. ``thinking`` keeps
    the thoughts of answers, drops them, or drops them in half of the conversations; with ``empty_thoughts: train`` the
    empty thought that a template writes before an answer without one has loss. ``train_on: last`` puts loss on the last
    answer alone. ``keep_checkpoints`` leaves every training checkpoint in the checkpoint's folder, where ``evalsuite
    watch`` finds them; otherwise the last two are kept until the training ends. ``trainer`` is passed to trl's
    ``SFTConfig`` by name.
    Source: penfever/wildchat-50m@285b20a:configs/axolotl/rewild-sft.yaml
    (AdamW, 2e-5, cosine, 100 warm-up steps, one epoch, 8,192 tokens packed, loss on answers only, bf16, gradient
    checkpointing, 2 windows a device times 8 accumulated; on the four GPUs of its batch file that makes 64 windows a
    step). Deviation: nothing is held out unless asked (there 2 %).
    """

    base: str = pydantic.Field(min_length=1)
    chat_template: str | None = None
    template_args: Mapping[str, pydantic.JsonValue] = {}
    thinking: Thinking = "keep"
    empty_thoughts: Literal["mask", "train"] = "mask"
    train_on: Literal["all", "last"] = "all"
    method: Literal["full", "lora"] = "full"
    lora: LoraConfig = LoraConfig()

    learning_rate: _Number | None = pydantic.Field(default=None, gt=0, le=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: CountFromZero = 100
    epochs: _Number = pydantic.Field(default=1.0, gt=0)
    max_steps: Count | None = None
    weight_decay: _Number = pydantic.Field(default=0.0, ge=0)
    max_grad_norm: _Number = pydantic.Field(default=1.0, gt=0)
    batch_size: Count = 64
    micro_batch_size: Count = 2

    max_length: int = pydantic.Field(default=8192, ge=16, strict=True)
    packing: bool = True
    too_long: Literal["drop", "cut_at_turn"] = "drop"
    held_out: CountFromZero = 0

    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = "auto"
    liger: Literal["auto", "on", "off"] = "auto"
    gradient_checkpointing: bool = True
    devices: Count | None = None
    trainer: Mapping[str, pydantic.JsonValue] = {}
    save_every_steps: Count = 100
    keep_checkpoints: bool = False
    log_every_steps: Count = 1

    @pydantic.field_validator("liger", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        # YAML reads a bare on or off as a truth value.
        return ("on" if value else "off") if isinstance(value, bool) else value

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if self.method == "full" and "lora" in self.model_fields_set:
            raise ValueError("lora settings are given but method is full; set method: lora or drop them")
        return self

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.learning_rate or (2e-4 if self.method == "lora" else 2e-5)
