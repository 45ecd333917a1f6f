"""What only this machine does to databases: checkpoints, overwriting, proofs of soundness."""
