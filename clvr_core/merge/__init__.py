"""Delta-space weight merge: base, distilled and aligned weights into one checkpoint, streamed from disk to disk.

The walk of a tensor through a merge, in the order of the files:

1. `recipe`: the inputs, the strengths, and the layout and dtype of the output, as the user asked for them.
2. `plan`: `make_plan` opens every input, reads the headers only, matches the tensors of all layouts and refuses inputs
   that cannot be merged. The tensor becomes one or more `Segment`s: which rows of which files go to which bytes of the
   output. `inputs` divides the checkpoints and matches their weights; `lowrank` (with `names`,
   `scales` and `products`) matches the deltas of LoRA files to the same segments.
3. `survey`: reads a sample of each tensor, refuses values that are not finite and inputs that were not made from this
   base, and simplifies segments whose delta is zero to plain copies. `sampling` has the kernel read the samples.
4. `stream`: worker threads walk over the output in windows of 4 MB and read the inputs of each window. `hashing` makes
   the SHA-256 of the inputs from the same buffers, and `sums` keeps them for the next merge.
5. `engine`: computes the merged values of a block and rounds them to the dtype of the output, in the compiled kernel
   that `native` loads, or in torch. `formula` says which arithmetic this is, in every implementation.
6. `target`: writes the windows into a temporary file, which takes the place of the old file only when it is complete.
7. `header`: the safetensors header with the recipe and the SHA-256 of the inputs, written last.

`run.merge` goes through steps 3 to 7; `run.verify` goes through them again without writing and compares every byte.
`measures` collects figures about the deltas on the way, `report` and `picture` present them, `keep` writes LoRAs beside
the merged file instead of into it, and `command` is `clvr merge`. `extract` makes a LoRA from the difference of two
checkpoints, and `extract_command` is `clvr extract`; `spectrum` measures the matrices of one, and `spectrum_command` is
`clvr spectrum`.
"""
