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
        self._ended = False
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
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _line(self, line):
        screen.write(f"  {line}")
        with self._changed:
            self.lines.append(_COLOUR.sub("", line))
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
                if self._ended:
                    raise LookupError(f"the dashboard ended before {what} came")
                if left <= 0:
                    raise LookupError(f"{what} did not come within {within:.0f} s")
                self._changed.wait(left)

    def end_of(self, deployment, within=60):
        """How a deployment ended: its status and what was said with it."""

        def is_end(line):
            words = line.split(maxsplit=3)
            return words[:2] == [deployment, "*"] and words[2] in _ENDS

        _, _, status, *details = self.wait_for(is_end, f"the end of {deployment}", within).split(maxsplit=3)
        return status, "".join(details)

    def join(self):
        """After the process: everything that it said has been shown."""
        self._thread.join(5)
