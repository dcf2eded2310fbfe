"""Photos in, batches of (LR, HR) crops out."""
