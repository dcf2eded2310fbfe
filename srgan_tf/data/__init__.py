"""HR photos, and batches of LR and HR crops."""
