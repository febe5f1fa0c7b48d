"""Converts a GGUF model of any type to BF16: matrices BF16 (nearest even), vectors F32, metadata as
it is. So another engine can be measured on the very weights that this one makes of the same file.

    python3 -m venv V && V/bin/pip install gguf==0.19.0 numpy
    V/bin/python tools/gguf_to_bf16.py IN.gguf OUT.gguf

The output appears under its name complete or not at all.
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np
from gguf import (GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, Keys,
                  LlamaFileType)
from gguf.quants import dequantize, quantize


def copy_metadata(reader, writer):
    # What the writer makes itself: these, and the header's counts (fields to the reader).
    made = {Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE}
    for field in reader.fields.values():
        if field.name in made or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = field.contents()
        if kind == GGUFValueType.ARRAY and not value:
            continue  # the writer cannot write an empty array
        writer.add_key_value(field.name, value, kind, sub_type=element)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)


def convert(source, target):
    reader = GGUFReader(source)
    architecture = reader.fields[Keys.General.ARCHITECTURE].contents()
    writer = GGUFWriter(target, architecture)
    writer.data_alignment = reader.alignment
    copy_metadata(reader, writer)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values)
        else:
            brain = GGMLQuantizationType.BF16
            writer.add_tensor(tensor.name, quantize(values, brain), raw_dtype=brain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description="Converts a GGUF model of any type to BF16.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    if not arguments.source.is_file():
        sys.exit(f"gguf_to_bf16.py: {arguments.source}: no such file")
    unfinished = arguments.target.with_name(arguments.target.name + f".tmp{os.getpid()}")
    try:
        convert(arguments.source, unfinished)
        os.replace(unfinished, arguments.target)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
