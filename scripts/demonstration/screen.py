"""What the demo says: short headings, the commands as a person would type them, good and bad news. Colours only on a terminal."""

import os
import shlex
import sys

# A terminal that knows no “✓” gets a ?, not a stack trace.
sys.stdout.reconfigure(errors="replace")
COLOURS = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def painted(colour, text):
    return f"\033[{colour}m{text}\033[0m" if COLOURS else text


def write(text):
    # One write a line: the dashboard's lines come from another thread.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def heading(number, text):
    write("\n" + painted("1;7", f" {number} ") + " " + painted("1", text))


def command(argv, note=""):
    """`argv`: words, or the line as it would be typed."""
    line = argv if isinstance(argv, str) else shlex.join(argv)
    write(painted("1;36", f"  $ {line}") + (painted("2", f"   # {note}") if note else ""))


def quiet(text):
    write(painted("2", f"    {text}"))


def good(text):
    write(painted("32", f"  ✓ {text}"))


def bad(text):
    write(painted("1;31", f"  ✗ {text}"))
