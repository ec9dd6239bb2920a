"""The environment is the one that was chosen."""

import subprocess
import sys
from importlib.metadata import distributions, version


def test_torch_has_not_moved():
    assert version("torch").startswith("2.13.0")


def test_no_cuda_package_slipped_in():
    names = {item.metadata["Name"].lower() for item in distributions()}
    assert not {name for name in names if name.startswith("nvidia-")} - {"nvidia-ml-py"}


def test_the_api_starts_without_the_training_stack():
    banned = ["torch", "transformers", "evidently", "pandas", "sklearn", "scipy", "lightgbm"]
    program = (
        f"import sys, app.main, app.scheduler; print([m for m in {banned} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
