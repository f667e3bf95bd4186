"""`slipway listen` as the demo shows it: on a terminal of its own where there is one, so that it has its colours; every line is kept to look at."""

import os
import re
import subprocess
import threading
import time

from . import screen

_COLOUR = re.compile(r"\033\[[0-9;]*m")
_ENDS = ("BUILDED", "FAILED", "CANCELLED")


class Dashboard:
    def __init__(self, argv, cwd, env):
        if screen.COLOURS:
            self._reader, writer = os.openpty()
        else:
            self._reader, writer = os.pipe()
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, process_group=0
        )
        os.close(writer)
        self.lines = []
        self._changed = threading.Condition()
        # Why no more lines will come.
        self._over = ""
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    def _show(self):
        pending = b""
        while True:
            try:
                data = os.read(self._reader, 65536)
            except OSError:  # how a terminal says that its other end is closed
                data = b""
            *whole, pending = (pending + data).split(b"\n")
            for line in whole:
                self._line(line.decode(errors="replace").rstrip("\r"))
            if not data:
                break
        os.close(self._reader)
        self.give_up("the dashboard has ended")

    def _line(self, line):
        screen.write(f"  {line}")
        with self._changed:
            self.lines.append(_COLOUR.sub("", line))
            self._changed.notify_all()

    def give_up(self, why):
        """Whoever waits for a line is told."""
        with self._changed:
            self._over = self._over or why
            self._changed.notify_all()

    def wait_for(self, matches, what, within):
        """The first line, from the beginning on, that `matches`. LookupError where it does not come."""
        deadline = time.monotonic() + within
        with self._changed:
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if matches(line):
                        return line
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._over:
                    raise LookupError(f"{self._over}: {what} will not come")
                if left <= 0:
                    raise LookupError(f"{what} did not come within {within:.0f} s")
                self._changed.wait(left)

    def line_of(self, deployment, text, within=60):
        """Waits for a line of the build that ends with `text`, or for its end."""
        self.wait_for(lambda line: line.endswith(text) or _is_end(deployment, line), f"“{text}” of {deployment}", within)

    def end_of(self, deployment, within=60):
        """How a deployment ended: its status and what was said with it."""
        line = self.wait_for(lambda line: _is_end(deployment, line), f"the end of {deployment}", within)
        _, _, status, *details = line.split(maxsplit=3)
        return status, "".join(details)

    def join(self):
        """After the process: everything that it said has been shown."""
        self._thread.join(5)


def _is_end(deployment, line):
    words = line.split(maxsplit=3)
    return words[:2] == [deployment, "*"] and words[2] in _ENDS
