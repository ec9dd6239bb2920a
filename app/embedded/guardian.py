"""What kills the process groups of a supervisor that died without stopping them?

Run as a script of its own, standard library only, with the read end of a pipe as its input.
The supervisor writes `+PID SECONDS` for each child and `-PID` when that one is gone. The end of
the pipe means that the supervisor is gone: its children have been told to leave by the kernel,
and whatever is left of a group after its seconds is killed here.
"""

import os
import signal
import sys
import time


def serve() -> None:
    """Keep the list until the pipe ends, then see everyone on it out."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    seconds_by_group: dict[int, float] = {}
    for line in sys.stdin:
        word, _, seconds = line.strip().partition(" ")
        if word.startswith("+"):
            seconds_by_group[int(word[1:])] = float(seconds)
        else:
            seconds_by_group.pop(int(word[1:]), None)
    see_out(seconds_by_group)


def see_out(seconds_by_group: dict[int, float]) -> None:
    """Wait for each group to be gone; kill it when its seconds are over."""
    started_at_seconds = time.monotonic()
    waiting = dict(seconds_by_group)
    while waiting:
        elapsed_seconds = time.monotonic() - started_at_seconds
        for group, seconds in list(waiting.items()):
            try:
                os.killpg(group, signal.SIGKILL if elapsed_seconds >= seconds else 0)
            except ProcessLookupError:
                del waiting[group]
            if elapsed_seconds >= seconds + 1.0:  # killed, yet perhaps never reaped by init
                waiting.pop(group, None)
        time.sleep(0.05)


if __name__ == "__main__":
    serve()
