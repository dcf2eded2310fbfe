"""Training of generators: trainers, the loop, checkpoints, distribution and runs."""
