"""The command line: options to plans, printed as text or as JSON."""

import argparse
import sys

from pydantic import TypeAdapter

from trainer.plan.estimate import Plan, estimate
from trainer.plan.processor import processor_for
from trainer.plan.text import text
from trainer.plan.works import Work, works_of

FIELDS = ("tokens", "rows", "context")  # of the work itself


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        plans = [_plan(work, options) for work in works_of(options.spec)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    as_json = TypeAdapter(list[Plan]).dump_json
    print(as_json(plans, indent=1).decode() if options.json else "\n\n".join(map(text, plans)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer plan", description="What a run would take.")
    add = parser.add_argument
    add("spec", help="a recipe's name, a .toml or .json file with a recipe or a job, or a preset's name")
    add("--tokens", type=float, help="tokens to train on, all steps together")
    add("--rows", type=int, help="rows of a step, over all devices")
    add("--context", type=int, help="tokens of a row")
    add("--device", default="h100", help="h100 (the default), h200, a100, …, or cpu: this machine")
    add("--devices", type=int, help="how many; by default the fewest on which a layout fits")
    add("--mfu", type=float, help="share of a device's peak that training reaches")
    add("--price-per-hour", type=float, help="US dollars for a device and hour")
    add("--json", action="store_true", help="print JSON: bytes, operations, hours, US dollars")
    return parser


def _plan(work: Work, options: argparse.Namespace) -> Plan:
    for name in (*FIELDS, "devices", "mfu", "price_per_hour"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value:g}; give a number above 0")
    if options.device == "cpu" and options.devices not in (None, 1):
        raise ValueError("a run on a cpu is one process; leave --devices out")
    work = work.adjusted({name: value for name in FIELDS if (value := getattr(options, name)) is not None})
    return estimate(work, processor_for(work, options.device, options.mfu, options.price_per_hour), options.devices)
