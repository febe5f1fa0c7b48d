#!/usr/bin/env python3
"""Writes the tiny model of tests/golden in the two forms that are not stored: Meta's with one shard and
the repacked one, in torch's file format, joined from the 8 shards.

Standard library only; nothing of the program is used, so that the program's reading and repacking can be
compared with it.  Usage: make_tiny_forms.py GOLDEN_TINY OUT_DIR
OUT_DIR/{meta,repacked} are made, OUT_DIR/{hf,meta_mp8} become links to GOLDEN_TINY.
"""
import hashlib
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

from make_ckpt_cases import pth_bytes

SHARDS = 8
LAYERS_PER_FILE = 2
# SHA-256 over the names and bytes of all tensors, sorted by name, as torch 2.13 wrote them in one file.
TENSORS = "1ea51bba86c9e1077407fe83d422da658df10337e83a82975fc96472de067ba6"


class Tensors(pickle.Unpickler):
    """A torch file's pickle, for contiguous bf16 tensors that fill their storage."""

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (shape, storage)
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch", "BFloat16Storage"):
            return "BF16"
        raise ValueError(f"{module}.{name} in a checkpoint")

    def persistent_load(self, pid):
        return pid[2]  # ("storage", type, key, place, count)


def read_shard(path):
    """{name: (shape, bytes)}"""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        with archive.open(root + "/data.pkl") as records:
            found = Tensors(records).load()
        return {name: (shape, archive.read(f"{root}/data/{key}")) for name, (shape, key) in found.items()}


def join(name, parts):
    """Column-parallel matrices are cut by rows, row-parallel ones by columns; norms are whole in each."""
    shape, first = parts[0]
    if len(shape) == 1:
        return shape, first
    rows, columns = shape
    if name.endswith(("wo.weight", "w2.weight")):
        width = 2 * columns
        return (rows, columns * len(parts)), b"".join(
            part[r * width:(r + 1) * width] for r in range(rows) for _, part in parts)
    return (rows * len(parts), columns), b"".join(part for _, part in parts)


def digest(tensors):
    sum_ = hashlib.sha256()
    for name, (_, data) in sorted(tensors.items()):
        sum_.update(name.encode() + b"\0" + data)
    return sum_.hexdigest()


def write(folder, stem, tensors):
    typed = {name: ("BF16", shape, data) for name, (shape, data) in tensors.items()}
    (folder / f"{stem}.pth").write_bytes(pth_bytes(typed, root=stem))


def main(golden, out):
    shards = [read_shard(golden / f"meta_mp8/consolidated.{i:02}.pth") for i in range(SHARDS)]
    whole = {name: join(name, [shard[name] for shard in shards]) for name in shards[0]}
    if digest(whole) != TENSORS:
        sys.exit(f"{golden}/meta_mp8: the joined tensors have the digest {digest(whole)}, not {TENSORS}")
    for form in ("meta", "repacked"):
        (out / form).mkdir(parents=True, exist_ok=True)
        for name in ("params.json", "tokenizer.model"):
            shutil.copyfile(golden / "meta_mp8" / name, out / form / name)
    write(out / "meta", "consolidated.00", whole)
    layers = 1 + max(int(name.split(".")[1]) for name in whole if name.startswith("layers."))
    for begin in range(0, layers, LAYERS_PER_FILE):
        end = begin + LAYERS_PER_FILE
        # What belongs to no layer is in the first file.
        part = {name: tensor for name, tensor in whole.items()
                if (begin <= int(name.split(".")[1]) < end if name.startswith("layers.") else begin == 0)}
        write(out / "repacked", f"layers_{begin}-{end - 1}", part)
    for form in ("hf", "meta_mp8"):
        link = out / form
        link.unlink(missing_ok=True)
        os.symlink((golden / form).resolve(), link)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
