"""Is a checkpoint readable when its writer was killed? Ours, and that of transformers' Trainer."""

import json
import multiprocessing
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch

from workers.training import checkpoints

LONGEST_WRITE_SECONDS: Final = 0.05
Rows = list[dict[str, Any]]


def weights(step: int) -> dict[str, torch.Tensor]:
    """Return what a checkpoint holds: 256 KiB that say which step it is."""
    return {"weight": torch.full((64, 1024), float(step))}


def write_ours(root: Path, said: Connection) -> None:
    """Write checkpoints for ever, and say when each is done."""
    torch.set_num_threads(1)
    step = 0
    while True:
        step += 1
        tensors = {"model": weights(step), "optimiser": {**weights(step)}}
        checkpoints.write(root, step, tensors, {"step": step})
        said.send(step)


def read_ours(root: Path) -> int | None:
    """Return the step that a run would go on from; None if there is none."""
    found = checkpoints.latest(root)
    if found is None or not bool((found.tensors["model"]["weight"] == found.step).all()):
        return None
    return found.step


def write_theirs(root: Path, said: Connection) -> None:
    """Have Trainer write checkpoints of like size for ever."""
    import transformers as hf  # noqa: PLC0415  # the rival's own stack

    torch.set_num_threads(1)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(64, 1024))

    model = Layer()
    trainer = hf.Trainer(
        model,
        hf.TrainingArguments(
            str(root), report_to="none", use_cpu=True, save_total_limit=checkpoints.N_KEPT
        ),
    )
    trainer.create_optimizer_and_scheduler(1_000_000)
    model.weight.grad = torch.zeros(64, 1024)
    trainer.optimizer.step()
    while True:
        trainer.state.global_step += 1
        with torch.no_grad():
            model.weight.fill_(float(trainer.state.global_step))
        trainer._save_checkpoint(model, None)  # what its training loop calls
        said.send(trainer.state.global_step)


def read_theirs(root: Path) -> int | None:
    """Return the step that Trainer would resume from; None if reading that checkpoint fails.

    It takes the folder of the highest number, and reads the weights, then optimiser, schedule and
    random state by `torch.load`, then its state; here without running code.
    """
    from safetensors.torch import load_file  # noqa: PLC0415  # as above
    from transformers.trainer_utils import get_last_checkpoint  # noqa: PLC0415

    folder = get_last_checkpoint(str(root))
    if folder is None:
        return None
    place = Path(folder)
    try:
        held = load_file(place / "model.safetensors")["weight"]
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(place / name, weights_only=True)
        step = int(json.loads((place / "trainer_state.json").read_text())["global_step"])
    except Exception:  # noqa: BLE001  # whatever it is, there is no resuming from it
        return None
    return step if bool((held == step).all()) and (place / "rng_state.pth").exists() else None


WRITERS: Final = {
    "ours": (write_ours, read_ours, 1000),
    "Trainer": (write_theirs, read_theirs, 200),
}


def writer(scratch: Path, quick: bool) -> Rows:
    """Kill each writer at random moments and read what is left."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "transformers"])
    rows: Rows = []
    for name, (write, read, n_usual) in WRITERS.items():
        n_kills = n_usual // 10 if quick else n_usual
        draw = random.Random(0)  # noqa: S311  # no secret
        unreadable, lost = 0, []
        started = time.monotonic()
        for number in range(n_kills):
            root = scratch / f"{name}-{number}"
            root.mkdir(parents=True)
            ours, its = server.Pipe(duplex=False)
            child = server.Process(target=write, args=(root, its))
            child.start()
            its.close()
            last = int(ours.recv())
            time.sleep(draw.uniform(0, LONGEST_WRITE_SECONDS))  # the moment of the kill
            child.kill()
            child.join()
            try:
                while True:
                    last = int(ours.recv())
            except EOFError:
                ours.close()
            step = read(root)
            if step is None:
                unreadable += 1
            else:
                lost.append(max(0, last - step))
        rows.append(
            {
                "writer": name,
                "kills": n_kills,
                "unreadable": unreadable,
                "most intervals lost": max(lost),
                "seconds": time.monotonic() - started,
                "kept": unreadable == 0 and max(lost) <= 1,
            }
        )
    return rows
