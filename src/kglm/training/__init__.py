"""One loop for all methods: batches, checkpoints, resume, logs."""
