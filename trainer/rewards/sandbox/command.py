"""python -m trainer sandbox: what isolates model-written code on this machine, and every attack tried against it."""

import argparse
import sys
from collections.abc import Sequence

from trainer.rewards.sandbox.escapes import ESCAPES
from trainer.rewards.sandbox.isolation import probe, require_isolation
from trainer.rewards.sandbox.sandbox import Sandbox
from trainer.rewards.sandbox.targets import aimed, escaped, targets


def main(arguments: Sequence[str] = ()) -> int:
    """Exit status 0 if this machine isolates and no attack got out."""
    argparse.ArgumentParser(prog="python -m trainer sandbox").parse_args(arguments)
    for name, finding in probe()._asdict().items():
        print(f"{name}: {finding.words}")
    try:
        isolation = require_isolation()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"programs run behind {isolation.name}, seccomp and limits")
    out = []
    with targets() as at, Sandbox(isolation=isolation) as sandbox:
        for escape in ESCAPES:
            outcome = sandbox.run(aimed(escape, at), limits=escape.limits)
            got_out = escaped(escape, outcome)
            out += [escape.name] * got_out
            print(f"{'ESCAPED' if got_out else 'held':8} {escape.name} ({outcome.status}, {outcome.seconds:.2f} s)")
    print(f"{len(ESCAPES) - len(out)} of {len(ESCAPES)} attacks held" + (f"; not: {', '.join(out)}" if out else ""))
    return 1 if out else 0
