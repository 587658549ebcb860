"""python -m benchmarks.claims [--claim N] [--quick] [--seeds N]: the article's figures, claimed beside measured."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.claims import registry, runner

RESULTS = Path(__file__).parent.parent / "results" / "claims.json"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims")
    parser.add_argument("--claim", type=int, action="append", help="only this one; may be given several times")
    parser.add_argument("--quick", action="store_true", help="the smallest size that still means something")
    parser.add_argument("--seeds", type=int, default=runner.SEEDS, help=f"at least {runner.SEEDS}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that the outcomes are merged into")
    parser.add_argument("--data", type=Path, help="folder of the data pack, for what needs real data; or OCTAVO_DATA")
    parsed = parser.parse_args(arguments)
    if parsed.data:
        os.environ["OCTAVO_DATA"] = str(parsed.data)
    try:
        if parsed.seeds < runner.SEEDS:
            raise ValueError(f"--seeds {parsed.seeds}: a claim is judged over at least {runner.SEEDS} seeds")
        claims = [registry.load(number) for number in parsed.claim or registry.modules()]
        for claim in claims:
            outcome = runner.run(claim, range(parsed.seeds), parsed.quick)
            runner.keep(parsed.results, {claim.number: outcome})
            print(runner.describe(claim.number, outcome), flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"kept in {parsed.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
