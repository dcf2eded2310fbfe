"""The two training stages: trainers, callbacks, checkpoints and the assembly of a run."""
