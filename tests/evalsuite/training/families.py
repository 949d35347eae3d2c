"""Chat templates written in the manner of families of reasoning models, in ChatML's tokens."""

_LAST_USER = (
    "{% set ns = namespace(user=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.user = loop.index0 %}{% endif %}{% endfor %}"
)
_CALLS = (
    "{% for c in m.tool_calls or [] %}{% set call = {'name': c.function.name, 'arguments': c.function.arguments} %}"
    "{{ '\n' }}<tool_call>\n{{ call | tojson }}\n</tool_call>{% endfor %}"
)
_SPLIT = (
    "{% set thought = m.reasoning_content or '' %}{% set text = m.content %}"
    "{% if not thought and '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].split('<think>')[-1] | trim %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
_TOOLS = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
    "Tools:{% for t in tools %}{{ '\n' }}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
)
_HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n"
_EMPTY = "<think>\n\n</think>\n\n"

QWEN3 = (
    f"{_LAST_USER}{_TOOLS}{{% for m in messages %}}{{% if m.role == 'assistant' %}}{_SPLIT}<|im_start|>assistant\n"
    "{% if loop.index0 > ns.user and (loop.last or thought) %}"
    "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}"
    f"{{{{ text }}}}{_CALLS}<|im_end|>\n{{% elif m.role == 'tool' %}}<|im_start|>user\n<tool_response>\n"
    "{{ m.content }}\n</tool_response><|im_end|>\n{% elif not (tools and m.role == 'system') %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    f"{_HEADER}{{% if enable_thinking is defined and enable_thinking is false %}}{_EMPTY}{{% endif %}}{{% endif %}}"
)
"""A switch; the prompt does not open the thought; the answers after the last user turn are written with theirs."""

QWEN35 = (
    f"{_LAST_USER}{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{% if m.role == 'assistant' %}}{_SPLIT}"
    "{% if loop.index0 > ns.user %}<think>\n{{ thought | trim }}\n</think>\n\n{% endif %}{{ text | trim }}"
    "{% else %}{{ m.content | trim }}{% endif %}<|im_end|>\n{% endfor %}"
    f"{_HEADER}{{% if enable_thinking is defined and enable_thinking is false %}}{_EMPTY}{{% else %}}<think>\n"
    "{% endif %}{% endif %}"
)
"""A switch; the prompt opens the thought."""

DEEPSEEK_R1 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% set text = m.content %}"
    "{% if m.role == 'assistant' and '</think>' in text %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ text }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""No switch; the prompt opens the thought; no answer is ever written with one."""

CHATML_OPEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""ChatML that opens the thought and knows nothing else of it."""

DEEPSEEK_V31 = (
    f"{_LAST_USER}{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{% if m.role == 'assistant' %}}"
    "{% if loop.index0 > ns.user %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}{% endif %}</think>"
    "{% endif %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    f"{_HEADER}{{% if thinking %}}<think>{{% else %}}</think>{{% endif %}}{{% endif %}}"
)
"""A switch that is off; without thinking, the prompt has the end mark alone."""

SMOLLM3 = (
    "<|im_start|>system\nMode: {{ 'no_think' if enable_thinking is defined and not enable_thinking else 'think' }}"
    "<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    f"{_HEADER}{{% if enable_thinking is defined and not enable_thinking %}}<think>\n\n</think>\n{{% endif %}}"
    "{% endif %}"
)
"""A switch that changes the system turn too; every answer is written with its thought."""

HARMONY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    "{# <|channel|>analysis<|message|> #}"
)
"""An answer in several messages, as gpt-oss writes it."""
