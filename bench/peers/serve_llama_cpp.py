"""llama.cpp (through llama-cpp-python's C bindings) as a process that compare.py asks for measurements.

Timed are llama_decode and the access to the logits of every user, which waits for it; the choice of the
best id is not. Threads are the only setting: caches, batches and attention are as the library has them.
"""
import argparse
import ctypes
import os
import sys
import time

import llama_cpp as lib
import numpy as np

import serve


class LlamaCpp:
    def __init__(self, model, threads, states):
        lib.llama_backend_init()
        self.silence = lib.llama_log_callback(lambda *_: None)  # C keeps a pointer to it
        lib.llama_log_set(self.silence, None)
        self.model = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {model}")
        self.threads = threads
        self.states = states
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.context = None
        self.shape = None
        self.prompts = 0

    def make_context(self, users, positions):
        """One whose users have caches of their own, kept for the next measurement of the same shape."""
        if self.shape == (users, positions):
            return False
        if self.context:
            lib.llama_free(self.context)
        params = lib.llama_context_default_params()
        params.n_seq_max = users
        params.n_ctx = users * ((positions + 255) // 256 * 256)
        params.n_threads = params.n_threads_batch = self.threads
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"llama.cpp has no context of {users} users with {positions} positions")
        self.memory = lib.llama_get_memory(self.context)
        self.shape = (users, positions)
        return True

    def run(self, rows):
        """rows: (id, position, user, asks for logits); seconds, and the logits of those that ask."""
        batch = lib.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, user, asks) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = user
            batch.logits[i] = asks
        begin = time.perf_counter()
        status = lib.llama_decode(self.context, batch)
        pointers = [lib.llama_get_logits_ith(self.context, i) for i, row in enumerate(rows) if row[3]]
        seconds = time.perf_counter() - begin
        lib.llama_batch_free(batch)
        if status != 0:
            sys.exit(f"llama_decode: status {status}")
        return seconds, [np.ctypeslib.as_array(p, shape=(self.vocab,)) for p in pointers]

    def fill(self, users, context):
        """Positions 0 to context - 2 of everybody: computed once, then copied."""
        ids = serve.random_ids(context, context - 1, self.vocab)
        # A context of several users reads only what one of as many wrote.
        path = self.states and f"{self.states}-{context}x{users}.kv"
        if path and os.path.exists(path):
            tokens = (lib.llama_token * context)()
            count = ctypes.c_size_t(0)
            if not lib.llama_state_seq_load_file(self.context, path.encode(), 0, tokens, context,
                                                 ctypes.byref(count)):
                sys.exit(f"llama.cpp does not read its own {path}; remove it")
        else:
            for first in range(0, len(ids), 512):
                part = ids[first:first + 512]
                self.run([(token, first + i, 0, False) for i, token in enumerate(part)])
            if path and context >= 4096:
                tokens = (lib.llama_token * len(ids))(*ids)
                lib.llama_state_seq_save_file(self.context, path.encode(), 0, tokens, len(ids))
        for user in range(1, users):
            lib.llama_memory_seq_cp(self.memory, 0, user, -1, -1)

    def decode(self, users, context, steps):
        if self.make_context(users, context + serve.WARM_UP + steps):
            self.fill(users, context)
        for user in range(users):
            lib.llama_memory_seq_rm(self.memory, user, context - 1, -1)
        ids = serve.random_ids(users, users, self.vocab)
        times = []
        for step in range(serve.WARM_UP + steps):
            seconds, logits = self.run([(ids[u], context - 1 + step, u, True) for u in range(users)])
            ids = [int(np.argmax(row)) for row in logits]
            if step >= serve.WARM_UP:
                times.append(seconds)
        return times

    def prefill(self, tokens):
        if self.make_context(1, tokens):
            self.run([(1, 0, 0, True)])  # the first use of its buffers
        lib.llama_memory_seq_rm(self.memory, 0, -1, -1)
        self.prompts += 1
        ids = serve.random_ids(self.prompts, tokens, self.vocab)
        seconds, _ = self.run([(token, i, 0, i + 1 == tokens) for i, token in enumerate(ids)])
        return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--states", default="", help="keep caches of long contexts in files that begin so")
    args = parser.parse_args()
    answers = serve.silence_stdout()
    begin = time.perf_counter()
    engine = LlamaCpp(args.model, args.threads, args.states)
    serve.serve(answers, {"engine": "llama.cpp", "version": lib.__version__,
                          "load_s": time.perf_counter() - begin,
                          "system": lib.llama_print_system_info().decode()},
                engine.decode, engine.prefill)


main()
