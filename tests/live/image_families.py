"""Models that also read images, in the manner of ``families``; vLLM imports torchvision for all of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.live.families import SIGLIP, Family, byte_level, sentencepiece


def _content(image: str, text: str = "part.text") -> str:
    """Return what writes the content of a message, a text or a list of parts."""
    return (
        "{% for part in ([{'type': 'text', 'text': m.content}] if m.content is string else m.content) %}"
        f"{{% if part.type == 'image' %}}{image}{{% elif part.type == 'text' %}}{{{{ {text} }}}}{{% endif %}}"
        "{% endfor %}"
    )


def _gemma(opens: str, closes: str, image: str) -> str:
    """Return a template without a system role: the first user turn begins with the system text."""
    return (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        f"{opens}{{{{ 'model' if m.role == 'assistant' else m.role }}}}\n"
        "{% if loop.index0 == 1 and messages[0].role == 'system' %}"
        "{{ messages[0].content if messages[0].content is string else messages[0].content[0].text }}\n\n{% endif %}"
        f"{_content(image, 'part.text | trim')}{closes}\n{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{opens}model\n{{% endif %}}"
    )


_TURNS = f"<|im_start|>{{{{ m.role }}}}\n{_content('<|vision_start|><|image_pad|><|vision_end|>')}<|im_end|>\n"
QWEN_VL = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    f"{{% for m in messages %}}{_TURNS}{{% endfor %}}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN35_VL = (
    f"{{% for m in messages %}}{_TURNS}{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL3 = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}[SYSTEM_PROMPT]Be helpful.[/SYSTEM_PROMPT]{% endif %}"
    "{% for m in messages %}{% set marks = {'system': ('[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]'), "
    "'user': ('[INST]', '[/INST]'), 'assistant': ('', eos_token)}[m.role] %}"
    f"{{{{ marks[0] }}}}{_content('[IMG]')}{{{{ marks[1] }}}}{{% endfor %}}"
)
LLAMA4 = (
    "{{ bos_token }}{% for m in messages %}<|header_start|>{{ m.role }}<|header_end|>\n\n"
    f"{_content('<|image|>', 'part.text | trim')}<|eot|>{{% endfor %}}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)

_LLAMA4_SIZES = {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}
_GEMMA4_SIZES = {"num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 16}
_QWEN = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 128}
_QWEN3 = {**_QWEN, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
_QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
_QWEN_NAMED = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]


def _qwen(config: str, template: str, style: str | None, settings: dict[str, Any], rope: dict[str, Any]) -> Family:
    return Family(
        config=config,
        settings={**settings, "rope_parameters": {"rope_type": "default", **rope}},
        template=template,
        tokenizer_class="Qwen2Tokenizer",
        tokens=lambda: byte_level(
            [*_QWEN_TOKENS, "<|image_pad|>", "<|video_pad|>"], ["<think>", "</think>"] if style else []
        ),
        ends=("<|im_end|>", "<|endoftext|>"),
        style=style,
        silent="<think>\n\n</think>\n\n" if style == "deepseek_r1" else "",
        vision={**_QWEN, "fullatt_block_indexes": [0]} if config == "Qwen2_5_VLConfig" else _QWEN3,
        around={"tie_word_embeddings": config != "Qwen2_5_VLConfig"},
        named=_QWEN_NAMED,
    )


IMAGE: Mapping[str, Family] = {
    "gemma3_image": Family(
        config="Gemma3Config",
        settings={"num_hidden_layers": 6, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 48},
        template=_gemma("<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
        tokenizer_class="GemmaTokenizer",
        tokens=lambda: sentencepiece(
            ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image>"]
        ),
        ends=("</s>", "<end_of_turn>"),
        bos="<s>",
        vision=SIGLIP,
        around={"mm_tokens_per_image": 4, "tie_word_embeddings": False},
        named={
            "image_token_index": "<image>",
            "boi_token_index": "<start_of_image>",
            "eoi_token_index": "<end_of_image>",
        },
    ),
    "gemma4": Family(
        config="Gemma4Config",
        settings={
            "num_hidden_layers": 6,
            "layer_types": _LAYERS * 2,
            "head_dim": 32,
            "global_head_dim": 64,
            "initializer_range": 0.05,
            "sliding_window": 48,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 512,
            "num_kv_shared_layers": 3,
            "final_logit_softcapping": 30.0,
        },
        template=_gemma("<|turn>", "<turn|>", "<|image|>"),
        tokenizer_class="GemmaTokenizer",
        tokens=lambda: sentencepiece(
            ["<|turn>", "<turn|>", "<|image|>", "<|image>", "<image|>", "<|video|>", "<|audio|>"]
        ),
        ends=("</s>", "<turn|>"),
        bos="<s>",
        vision={**{key: SIGLIP[key] for key in list(SIGLIP)[:4]}, **_GEMMA4_SIZES},
        around={"audio_config": None},
        named={
            "image_token_id": "<|image|>",
            "boi_token_id": "<|image>",
            "eoi_token_id": "<image|>",
            "video_token_id": "<|video|>",
            "audio_token_id": "<|audio|>",
        },
    ),
    "qwen2_5_vl": _qwen("Qwen2_5_VLConfig", QWEN_VL, None, {}, {"rope_theta": 1e6, "mrope_section": [4, 6, 6]}),
    "qwen3_vl": _qwen(
        "Qwen3VLConfig",
        QWEN_VL,
        "deepseek_r1",
        {"head_dim": 32},
        {"rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True},
    ),
    "qwen3_5_vl": _qwen(
        "Qwen3_5Config",
        QWEN35_VL,
        "qwen3",
        {
            "num_hidden_layers": 4,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
        },
        {"rope_theta": 1e7, "mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.25},
    ),
    "mistral3": Family(
        config="Mistral3Config",
        settings={"model_type": "mistral", "head_dim": 32, "sliding_window": None},
        template=MISTRAL3,
        tokenizer_class="LlamaTokenizerFast",
        tokens=lambda: byte_level(
            ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"]
        ),
        ends=("</s>",),
        bos="<s>",
        vision={**SIGLIP, "model_type": "pixtral"},
        around={"spatial_merge_size": 2},
        named={"image_token_index": "[IMG]"},
    ),
    "llama4": Family(
        config="Llama4Config",
        settings={
            "num_hidden_layers": 4,
            "head_dim": 32,
            "intermediate_size": 128,
            "intermediate_size_mlp": 256,
            "num_local_experts": 4,
            "attention_chunk_size": 64,
            "interleave_moe_layer_step": 2,
        },
        template=LLAMA4,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(
            ["<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>", "<|image|>", "<|patch|>"]
        ),
        ends=("<|eot|>",),
        bos="<|begin_of_text|>",
        vision={**SIGLIP, **_LLAMA4_SIZES},
        named={"image_token_index": "<|patch|>", "boi_token_index": "<|image|>", "eoi_token_index": "<|image|>"},
    ),
}
