"""Which GPUs may the runs of this worker have? Asked of the driver: a worker loads no torch."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import structlog

log = structlog.get_logger()

_ASK_SECONDS = 20.0


def usable_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that a training process started here could use.

    None where torch is a build for CPUs, no driver answers, or CUDA_VISIBLE_DEVICES hides them.
    """
    if _is_for_cpus_only():
        return ()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return ()
    return chosen(_installed(), visible)


def chosen(installed: Sequence[str], visible: str | None) -> tuple[str, ...]:
    """Return those of the installed GPUs that CUDA_VISIBLE_DEVICES names.

    By index or UUID, as CUDA reads it: what follows the first name that it does not know is hidden.

    Args:
        installed: UUIDs, by index.
        visible: the variable; None = all.
    """
    if visible is None:
        return tuple(installed)
    found: list[str] = []
    for word in visible.replace(" ", "").split(","):
        if word.isdigit() and int(word) < len(installed):
            found.append(installed[int(word)])
        elif word.startswith("MIG-"):
            found.append(word)
        elif word.startswith("GPU-") and (known := [u for u in installed if u.startswith(word)]):
            found.append(known[0])
        else:
            break
    return tuple(dict.fromkeys(found))


def grouped(gpus: Sequence[str], n: int) -> tuple[str, ...]:
    """Return GPUs in groups of n, of fewer where there are no n; a run has one to itself.

    A group is named as CUDA_VISIBLE_DEVICES names it. What makes no whole group is left out.
    """
    size = min(n, len(gpus)) or 1
    return tuple(",".join(gpus[at : at + size]) for at in range(0, len(gpus) - size + 1, size))


def _is_for_cpus_only() -> bool:
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def _installed() -> Sequence[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    ask = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        told = subprocess.run(  # noqa: S603  # the driver's own program
            ask, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("gpus.unknown", detail=str(error))
        return ()
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]
