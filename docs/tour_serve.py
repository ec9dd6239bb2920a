"""What a program that serves the champion sees and answers, one observation a line.

    python docs/tour_serve.py 1000 1300               scans that the model never saw
    python docs/tour_serve.py 1300 1700 --negative    from a scanner that swaps light and dark

`upkeep.champion.Champion` downloads the version in charge once, checks its digest, and loads it.
(Its `answer` would log these rows by itself; here curl does, to show how.)
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from tour_rows import digits

from upkeep import Upkeep
from upkeep.champion import Champion
from upkeep.images import encoded

URL: Final = os.environ.get("UPKEEP_URL", "http://127.0.0.1:8321")


def answers(model: str, first: int, last: int, *, is_negative: bool) -> Iterator[dict[str, Any]]:
    """Yield the observations of the rows from `first` up to `last`."""
    rows = [(id_, 255 - seen if is_negative else seen) for id_, seen, _ in digits(first, last)]
    with (
        Upkeep(URL, key=os.environ.get("UPKEEP_KEY")) as service,
        Champion(service.model(model), device="cpu") as champion,
    ):
        given = champion.predict([{"image": picture} for _, picture in rows])
    for (id_, picture), answer in zip(rows, given, strict=True):
        yield {
            "id": id_,
            "inputs": encoded({"image": picture}),
            "prediction": answer.label,
            "scores": {label: round(score, 4) for label, score in answer.scores.items()},
            "version": answer.version,
        }


def main() -> None:
    """Write the observations that were asked for."""
    parser = argparse.ArgumentParser(description="What a serving program sees and answers.")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--model", default=os.environ.get("MODEL", "digits"))
    parser.add_argument("--negative", action="store_true", help="light and dark exchanged")
    args = parser.parse_args()
    rows = answers(args.model, args.first, args.last, is_negative=args.negative)
    sys.stdout.writelines(f"{json.dumps(row)}\n" for row in rows)


if __name__ == "__main__":
    main()
