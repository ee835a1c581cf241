"""Reading checkpoints: safetensors files and shards, tensor names of FLUX.2, dtypes, fp8 scales, and manifests of
weight folders."""
