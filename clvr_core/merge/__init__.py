"""Delta-space weight merge: base, distilled and aligned weights into one checkpoint, streamed from disk to disk.

`plan.make_plan` reads the headers, maps the layouts onto each other and refuses what cannot be merged; `run.merge` writes the file;
`verify.verify` computes it again and compares.
"""
