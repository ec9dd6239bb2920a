"""The tests that detectors stand on: p-values of counts, without an opinion."""
