"""Many runs at the same time: `engine` does pieces of work side by side, `rounds` drives sessions whose pictures are drawn
in one batch, and `shard` divides a list of work between processes."""
