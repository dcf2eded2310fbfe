"""From HR photos to batches of LR and HR crops."""
