"""Which models vLLM can divide among devices, by its own rules (``ParallelConfig``, ``QKVParallelLinear``)."""

from __future__ import annotations

import pytest

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.capacity import check_parallel, require_servable
from evalsuite.errors import CheckpointError
from evalsuite.serving.config import ServeConfig


def model(**config: int) -> Checkpoint:
    return Checkpoint("m", None, "f" * 64, config=config)


@pytest.mark.parametrize(
    ("config", "tensor", "said"),
    [
        ({"num_attention_heads": 9, "num_key_value_heads": 3}, 2, "9 attention heads, 3 KV heads cannot be divided"),
        ({"num_attention_heads": 9, "num_key_value_heads": 3}, 3, ""),
        ({"num_attention_heads": 32, "num_key_value_heads": 8}, 4, ""),
        # Fewer KV heads than devices are copied, where the devices are a multiple of them.
        ({"num_attention_heads": 32, "num_key_value_heads": 2}, 8, ""),
        ({"num_attention_heads": 12, "num_key_value_heads": 4}, 6, "4 KV heads cannot be divided among 6 devices"),
        ({"num_attention_heads": 24, "num_key_value_heads": 6}, 4, "6 KV heads cannot be divided among 4 devices"),
        ({"num_attention_heads": 32, "intermediate_size": 11_007}, 2, "11,007 feed-forward units"),
        ({"num_attention_heads": 32, "moe_intermediate_size": 1408}, 8, ""),
        ({"num_attention_heads": 32, "moe_intermediate_size": 1412}, 8, "1,412 units of an expert cannot be divided"),
        # 32,001 entries are padded to 32,064, which are 2 * 2 * 2 * ... but not 5 times anything.
        ({"num_attention_heads": 40, "vocab_size": 32_001}, 8, ""),
        ({"num_attention_heads": 40, "vocab_size": 32_001}, 5, "32,064 padded vocabulary entries"),
        ({}, 7, ""),
    ],
)
def test_heads_layers_and_vocabulary_are_divided_as_vllm_divides_them(config, tensor, said):
    sentences = [one.sentence for one in check_parallel(model(**config), ServeConfig(tensor_parallel_size=tensor))]
    assert (said in sentences[0]) if said else not sentences


def test_the_remedy_names_sizes_that_work():
    [found] = check_parallel(model(num_attention_heads=9, num_key_value_heads=3), ServeConfig(tensor_parallel_size=2))
    assert "--tensor-parallel-size 1" in found.sentence
    [found] = check_parallel(model(num_attention_heads=32, num_key_value_heads=8), ServeConfig(tensor_parallel_size=6))
    assert "1 or 2 or 4" in found.sentence


def test_whole_experts_are_divided_among_devices():
    serve = ServeConfig(tensor_parallel_size=8, vllm_args=["enable_expert_parallel=true"])
    assert not check_parallel(model(num_attention_heads=32, moe_intermediate_size=1412), serve)
    without = ServeConfig(tensor_parallel_size=8, vllm_args=["enable_expert_parallel=false"])
    assert check_parallel(model(num_attention_heads=32, moe_intermediate_size=1412), without)


def test_a_pipeline_has_no_more_stages_than_layers():
    serve = ServeConfig(vllm_args=["pipeline_parallel_size=4"])
    assert not check_parallel(model(num_hidden_layers=4), serve)
    [found] = check_parallel(model(num_hidden_layers=3), serve)
    assert "3 layers cannot be divided among 4 pipeline stages" in found.sentence


def test_an_external_server_divides_its_model_itself():
    served = Checkpoint("m", None, "f" * 64, endpoint="http://h/v1", config={"num_attention_heads": 9})
    assert not check_parallel(served, ServeConfig(tensor_parallel_size=2))


def test_the_commands_that_serve_raise_one_sentence():
    with pytest.raises(CheckpointError, match="cannot be divided among 2 devices; pass --tensor-parallel-size 1"):
        require_servable([model(num_attention_heads=9)], ServeConfig(tensor_parallel_size=2))
