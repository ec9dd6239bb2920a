"""The supervising side stays free of the training stack."""

import subprocess
import sys


def test_supervision_and_the_protocol_import_no_training_stack() -> None:
    code = (
        "import sys, workers.training.supervise, workers.training.task_type, workers.task_types;"
        "print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
