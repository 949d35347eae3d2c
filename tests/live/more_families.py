"""Mixtures of experts, latent attention, recurrent layers and channels, in the manner of ``families``."""

from __future__ import annotations

from collections.abc import Mapping

from tests.evalsuite.training.families import CHATML_OPEN, QWEN3, QWEN35
from tests.live.families import MISTRAL, Family, byte_level, sentencepiece

_CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_THINK = ["<think>", "</think>"]
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_expand": 2, "mamba_chunk_size": 16}

HARMONY = (
    "<|start|>system<|message|>The date is {{ strftime_now('%Y-%m-%d') }}. Effort: "
    "{{ reasoning_effort | default('medium') }}. Channels: analysis, commentary, final.<|end|>"
    "{% for m in messages %}{% if m.role == 'system' %}<|start|>developer<|message|>{{ m.content }}<|end|>"
    "{% elif m.role == 'assistant' %}{% if m.thinking and loop.last %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last and not "
    "add_generation_prompt else '<|end|>' }}{% else %}<|start|>user<|message|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""Channels, a level of effort, and an answer that ends otherwise than a turn of the past."""
SMOLLM3 = (
    "{% set ns = namespace(mode='/no_think' if enable_thinking is defined and not enable_thinking else '/think', "
    "text='') %}{% if messages[0].role == 'system' %}{% set ns.text = messages[0].content %}{% endif %}"
    "{% for mode in ('/no_think', '/think') %}{% if mode in ns.text %}{% set ns.mode = mode %}"
    "{% set ns.text = ns.text.replace(mode, '').rstrip() %}{% endif %}{% endfor %}"
    "<|im_start|>system\nDate: {{ strftime_now('%d %B %Y') }}\nMode: {{ ns.mode }}\n{{ ns.text }}<|im_end|>\n"
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% if ns.mode == '/no_think' %}<think>\n\n</think>\n{% endif %}{{ m.content.lstrip('\n') }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if ns.mode == '/no_think' %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
"""A switch, by a variable or by a word in the system turn, which wins."""
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'user' %}{{ m.content }}"
    "{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}{% elif m.role == 'assistant' %}"
    "<think>{{ (m.reasoning_content or '').strip() if loop.last else '' }}</think>\n{{ m.content.strip() }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}{% endif %}"
)
"""Turns that only the next one's header ends; the switch is written behind every question too."""
DEEPSEEK_V31 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "<|User|>{{ m.content }}{% else %}<|Assistant|></think>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>{{ '<think>' if thinking else '</think>' }}{% endif %}"
)
"""A switch that is off, and then an end mark alone."""
GRANITE = (
    "{% if messages[0].role != 'system' %}<|start_of_role|>system<|end_of_role|>Be helpful.<|end_of_text|>\n{% endif %}"
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
"""A system turn of the template's own."""
TULU = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Roles in ordinary text."""
LFM = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

MORE: Mapping[str, Family] = {
    "qwen3_moe": Family(
        config="Qwen3MoeConfig",
        settings={
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
        },
        template=QWEN3,
        tokenizer_class="Qwen2Tokenizer",
        tokens=lambda: byte_level(_CHATML, _THINK),
        ends=("<|im_end|>", "<|endoftext|>"),
        style="qwen3",
    ),
    "mixtral": Family(
        config="MixtralConfig",
        settings={"num_local_experts": 4, "num_experts_per_tok": 2},
        template=MISTRAL,
        tokenizer_class="LlamaTokenizer",
        tokens=lambda: sentencepiece(["[INST]", "[/INST]"]),
        ends=("</s>",),
        bos="<s>",
    ),
    "olmoe": Family(
        config="OlmoeConfig",
        settings={"num_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 4},
        template=TULU,
        tokenizer_class="GPTNeoXTokenizer",
        tokens=lambda: byte_level(["<|endoftext|>"]),
        ends=("<|endoftext|>",),
        bos="<|endoftext|>",
    ),
    "olmo3": Family(
        config="Olmo3Config",
        settings={"num_hidden_layers": 4, "sliding_window": 48, "num_key_value_heads": 4},
        template=CHATML_OPEN,
        tokenizer_class="GPT2Tokenizer",
        tokens=lambda: byte_level(_CHATML),
        ends=("<|endoftext|>", "<|im_end|>"),
        style="deepseek_r1",
        silent="\n</think>\n\n",
    ),
    "gpt_oss": Family(
        config="GptOssConfig",
        settings={
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 48,
            "intermediate_size": 128,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 4.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 512,
            },
        },
        template=HARMONY,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(
            ["<|endoftext|>", "<|return|>", "<|call|>", "<|start|>", "<|end|>", "<|channel|>", "<|message|>"]
        ),
        ends=("<|return|>", "<|endoftext|>", "<|call|>"),
        style="openai_gptoss",
        silent="<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "deepseek_v3": Family(
        config="DeepseekV3Config",
        # The one size of latent that vLLM has a kernel for on a CPU, which is DeepSeek's.
        settings={
            "kv_lora_rank": 512,
            "q_lora_rank": 64,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
            # Published files have these two, transformers knows no other.
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
        },
        template=DEEPSEEK_V31,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(["<|begin|>", "<|end|>"], ["<|User|>", "<|Assistant|>", *_THINK]),
        ends=("<|end|>",),
        bos="<|begin|>",
        style="qwen3",
    ),
    "glm4_moe": Family(
        config="Glm4MoeConfig",
        settings={
            "head_dim": 32,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
        },
        template=GLM,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(
            ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"],
            ["/nothink", *_THINK],
        ),
        ends=("<|endoftext|>", "<|user|>", "<|observation|>"),
        style="qwen3",
    ),
    "smollm3": Family(
        config="SmolLM3Config",
        settings={"num_hidden_layers": 4, "no_rope_layer_interval": 4, "pad_token_id": None},
        template=SMOLLM3,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"], _THINK),
        ends=("<|im_end|>",),
        style="qwen3",
    ),
    "granite4": Family(
        config="GraniteMoeHybridConfig",
        settings={
            **_MAMBA,
            "num_hidden_layers": 4,
            "layer_types": ["mamba", "mamba", "attention", "mamba"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 64,
            "shared_intermediate_size": 64,
            "position_embedding_type": "nope",
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.8,
            "logits_scaling": 2.0,
            "attention_multiplier": 0.2,
            "tie_word_embeddings": True,
        },
        template=GRANITE,
        tokenizer_class="GPT2Tokenizer",
        tokens=lambda: byte_level(["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"]),
        ends=("<|end_of_text|>",),
    ),
    "lfm2": Family(
        config="Lfm2Config",
        settings={
            "num_hidden_layers": 4,
            "layer_types": ["conv", "conv", "full_attention", "conv"],
            "block_multiple_of": 32,
            # Published files have these, transformers knows them no more.
            "conv_dim": 128,
            "block_dim": 128,
        },
        template=LFM,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(["<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        ends=("<|im_end|>",),
        bos="<|startoftext|>",
    ),
    "nemotron_h": Family(
        config="NemotronHConfig",
        settings={
            # Without experts, whose activation vLLM has no kernel for on a CPU.
            "layers_block_type": ["linear_attention", "mlp", "full_attention", "linear_attention"],
            "head_dim": 32,
            "mamba_num_heads": 8,
            "mamba_head_dim": 32,
            "ssm_state_size": 16,
            "n_groups": 2,
            "chunk_size": 16,
            "intermediate_size": 256,
        },
        template=QWEN35,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"], _THINK),
        ends=("<|im_end|>", "</s>"),
        style="qwen3",
    ),
    "falcon_h1": Family(
        config="FalconH1Config",
        settings={**_MAMBA, "num_hidden_layers": 2, "mamba_d_ssm": 256, "head_dim": 32},
        template=LFM,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens=lambda: byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"]),
        ends=("<|end_of_text|>", "<|im_end|>"),
        bos="<|begin_of_text|>",
    ),
}
