#!/usr/bin/env python3
"""Writes a Hugging Face directory with about 0.25 GiB of bf16 weights, for the test of loading's
peak memory.  Standard library only.  Usage:  make_big_checkpoint.py OUT_DIR"""
import json
import struct
import sys
from pathlib import Path

DIM, LAYERS, HEADS, KV_HEADS, FFN, VOCAB = 1024, 6, 16, 4, 4096, 16384


def shapes():
    yield "model.embed_tokens.weight", (VOCAB, DIM)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (DIM,)
        yield p + "self_attn.q_proj.weight", (DIM, DIM)
        yield p + "self_attn.k_proj.weight", (KV_HEADS * DIM // HEADS, DIM)
        yield p + "self_attn.v_proj.weight", (KV_HEADS * DIM // HEADS, DIM)
        yield p + "self_attn.o_proj.weight", (DIM, DIM)
        yield p + "post_attention_layernorm.weight", (DIM,)
        yield p + "mlp.gate_proj.weight", (FFN, DIM)
        yield p + "mlp.up_proj.weight", (FFN, DIM)
        yield p + "mlp.down_proj.weight", (DIM, FFN)
    yield "model.norm.weight", (DIM,)
    yield "lm_head.weight", (VOCAB, DIM)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    header, position = {}, 0
    for name, shape in shapes():
        count = 1
        for n in shape:
            count *= n
        header[name] = {"dtype": "BF16", "shape": list(shape),
                        "data_offsets": [position, position + 2 * count]}
        position += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = struct.pack("<H", 0x3C23) * (1 << 19)  # 0.01
    with open(out / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, position, len(block)):
            f.write(block[:position - begin])
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": DIM,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "intermediate_size": FFN, "vocab_size": VOCAB,
              "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192,
              "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    (out / "config.json").write_text(json.dumps(config))


main()
