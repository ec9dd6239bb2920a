"""How a version is trained: one process a run, with checkpoints it can be killed between."""
