"""Numbers, times and texts the way people read them. Pure functions."""

import json
import re
import shlex
import time
from math import isfinite, log10
from typing import Any

# Names that are abbreviations, as people write them.
SPELLED = {
    "lr": "learning rate",
    "kl": "KL",
    "rl": "RL",
    "n": "number",
    "logps": "log-probabilities",
    "mfu": "MFU",
    "flops": "FLOPs",
}
HUGE = "GTPEZY"
THINK = re.compile(r"<think>(.*?)(?:</think>|$)", re.DOTALL)


def duration(seconds: float | None) -> str:
    """4 s, 2 min 05 s, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return "–"
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def latency(seconds: float | None) -> str:
    """340 ms, 1.25 s."""
    if seconds is None:
        return "–"
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{seconds:.3g} s"


def ago(moment: float | None, now: float | None = None) -> str:
    """How long ago, in its largest unit."""
    if moment is None:
        return "–"
    seconds = max((time.time() if now is None else now) - moment, 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def clock(moment: float | None) -> str:
    return "–" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def number(value: float | int | None) -> str:
    """Four significant digits; thousands grouped by thin spaces; tiny numbers in powers of ten, huge ones in giga."""
    if value is None:
        return "–"
    if abs(value) >= 1e9 and isfinite(value):
        power = min(int(log10(abs(value))) // 3, len(HUGE) + 2)
        return f"{value / 1000**power:.4g} {HUGE[power - 3]}"
    if isinstance(value, int) or (abs(value) >= 1000 and value == value and abs(value) != float("inf")):
        return f"{value:,.0f}".replace(",", "\u202f")
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.4g}"


def size(bytes: int | float) -> str:
    amount = float(bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def percent(share: float | None, signed: bool = False) -> str:
    """A share in [0, 1] (or a difference of two) in percent."""
    if share is None:
        return "–"
    return f"{100 * share:+.1f} %" if signed else f"{100 * share:.1f} %"


def interval(low: float, high: float, signed: bool = False) -> str:
    """A 95 % interval of shares, in percent."""
    form = "+.1f" if signed else ".1f"
    return f"{format(100 * low, form)} to {format(100 * high, form)} %"


def words(name: str) -> str:
    """An identifier as words: 'exact_match' -> 'Exact match', 'kl_upper' -> 'KL upper'."""
    parts = name.replace("/", " · ").replace("_", " ").split(" ")
    text = " ".join(SPELLED.get(part, part) for part in parts)
    return text[:1].upper() + text[1:]


def brief(value: Any) -> str:
    """A JSON value in a table cell."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(brief(item) for item in value) or "none"
    return ", ".join(f"{words(str(key))} {brief(item)}" for key, item in value.items()) or "none"


def split_think(text: str) -> tuple[str, str]:
    """(what stands in <think>…</think>, what is answered); an unclosed thought reaches to the end."""
    thoughts = [match.strip() for match in THINK.findall(text)]
    return "\n\n".join(thoughts), THINK.sub("", text).strip()


def python(url: str, body: dict[str, Any]) -> str:
    """A program that asks the same with the official client; the key comes from the variable OCTAVO_KEY."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in body.items())
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{url}/v1", api_key=os.environ["OCTAVO_KEY"])\n'
        f"answer = client.chat.completions.create(\n{arguments})\n"
        "print(answer.choices[0].message.content)"
    )


def curl(url: str, body: dict[str, Any]) -> str:
    """A command line that asks the same; the key stays in the shell's variable OCTAVO_KEY."""
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    lines = (f"curl -N {url}/v1/chat/completions", '-H "Authorization: Bearer $OCTAVO_KEY"')
    return " \\\n  ".join((*lines, "-H 'Content-Type: application/json'", f"-d {data}"))
