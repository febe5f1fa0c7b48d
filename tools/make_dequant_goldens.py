"""Writes goldens of what the Python package gguf (an implementation that is not ours) makes of
stored tensors.

    python3 -m venv V && V/bin/pip install gguf==0.19.0 numpy
    V/bin/python tools/make_dequant_goldens.py              -> tests/golden/dequant.json
    V/bin/python tools/make_dequant_goldens.py MODEL.gguf   -> tests/golden/gguf_smollm2.json

dequant.json: random blocks of every type. Each case: "dtype", "blocks" (the bytes, hex) and
"values" (the f32 values as their bytes, hex).
gguf_smollm2.json: for each tensor of a file (by its GGUF name) the sum of (i + 1) * (bits of f32
value i) modulo 2^64, as hex: a changed, missing or moved value changes it.
"""
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGML_QUANT_SIZES, GGUFReader
from gguf.quants import dequantize

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"

# Where each format keeps its f16 scales and minimums: byte offsets in a block.
HALVES = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
          Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}
# Scales that every format must survive: zeros, the smallest subnormal, the largest normal.
HARD = np.array([0.0, -0.0, 2.0**-24, -(2.0**-24), 65504.0, -65504.0, 1.0, -1.0], dtype=np.float16)


def blocks_of(kind, count, rng):
    _, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALVES[kind]:
        halves = (rng.standard_normal(count) * 0.05).astype(np.float16)
        halves[: len(HARD) // 2] = rng.permutation(HARD)[: len(HARD) // 2]
        blocks[:, offset : offset + 2] = halves.view(np.uint8).reshape(count, 2)
    return blocks


def random_blocks():
    rng = np.random.default_rng(20261125)
    cases = []
    for kind in HALVES:
        count = 8 if kind in (Type.Q4_K, Type.Q5_K, Type.Q6_K) else 24
        stored = blocks_of(kind, count, rng)
        cases.append((kind, stored, dequantize(stored, kind)))
    # Finite ones (the bits of a NaN are no value), then the special cases by hand.
    halves = rng.integers(0, 0x7C00, 256).astype(np.uint16)
    halves[:4] = [0x0001, 0x03FF, 0x8000, 0x7C00]
    cases.append((Type.F16, halves, halves.view(np.float16).astype(np.float32)))
    brains = rng.integers(0, 0x7F80, 256).astype(np.uint16)
    brains[:4] = [0x0001, 0x007F, 0x8000, 0xFF80]
    cases.append((Type.BF16, brains, dequantize(brains.view(np.uint8).reshape(1, -1), Type.BF16)))
    floats = rng.standard_normal(64).astype(np.float32)
    cases.append((Type.F32, floats, floats))
    out = [{"dtype": kind.name, "blocks": np.ascontiguousarray(stored).tobytes().hex(),
            "values": np.ascontiguousarray(values, dtype=np.float32).tobytes().hex()}
           for kind, stored, values in cases]
    text = json.dumps({"made_with": "gguf 0.19.0", "cases": out}, indent=1)
    (GOLDEN / "dequant.json").write_text(text + "\n")


def checksums(path):
    sums = {}
    for tensor in GGUFReader(path).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).ravel()
        bits = values.view(np.uint32).astype(np.uint64)
        weights = np.arange(1, bits.size + 1, dtype=np.uint64)
        sums[tensor.name] = f"{int((bits * weights).sum(dtype=np.uint64)):016x}"
    golden = {"made_with": "gguf 0.19.0", "file": Path(path).name, "checksums": sums}
    text = json.dumps(golden, indent=1)
    (GOLDEN / "gguf_smollm2.json").write_text(text + "\n")


if len(sys.argv) > 1:
    checksums(sys.argv[1])
else:
    random_blocks()
