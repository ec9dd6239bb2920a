"""The control plane: it decides, and never computes what a worker can."""
