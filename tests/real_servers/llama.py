"""Runs llama.cpp's own server: python llama.py PORT MODEL [MMPROJ]"""

from __future__ import annotations

import sys
import threading

import xllamacpp

port, model, *mmproj = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = model, int(port), ["127.0.0.1"]
params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers = 32768, 1, False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
# The model tells positions apart by less than half precision has.
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
if mmproj:
    params.mmproj.path, params.mmproj_use_gpu = mmproj[0], False
else:
    params.no_mmproj = True
server = xllamacpp.Server(params)
print(f"listens at {server.listening_address}", flush=True)
threading.Event().wait()
