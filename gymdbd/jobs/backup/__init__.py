"""A backup: checkpoint, snapshot, proof, publication; and saving a damaged database as it is."""
