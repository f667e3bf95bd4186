"""One started part: its process group, its log, how it is waited for and how it ends. Knows no part in particular."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

READY_WITHIN = 30.0
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class PartFailed(Exception):
    """A part did not come up. The message has the tail of its log."""


def as_root(argv):
    """The command, through sudo where this process is not root itself."""
    return argv if os.geteuid() == 0 else ["sudo", "-n", *argv]


def run_as_root(*argv, check=True):
    done = subprocess.run(as_root(list(argv)), capture_output=True, text=True)
    if check and done.returncode != 0:
        raise PartFailed(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done


def free_port():
    """A port that was free a moment ago. Who takes it may lose a race: see `Part.start`'s callers, which try again."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_time(pid):
    """When the process started, in clock ticks: with the pid it names one process for ever. None: it is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rsplit(")", 1)[1].split()[19]


def _die_with_parent():
    # The kernel ends the part when this process is killed and cannot end it itself.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Part:
    """A part's process, leader of a process group of its own. Its output goes to `<run directory>/<name>.log`."""

    def __init__(self, name, run_dir, argv, *, env=None, root=False, grace=5.0):
        self.name = name
        self.argv = as_root(argv) if root else argv
        self.root = root
        self.grace = grace
        self.log = run_dir / f"{name}.log"
        self.pids = run_dir / "pids"
        self.env = {**os.environ, **(env or {})}
        self.process = None

    def start(self, stdin=subprocess.DEVNULL):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=stdin,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        with open(self.pids, "a") as pids:
            pids.write(f"{self.process.pid} {start_time(self.process.pid)} {self.name}\n")

    def wait_until(self, ready):
        """Waits until `ready()` is true; fails when the process ends or 30 s are over."""
        deadline = time.monotonic() + READY_WITHIN
        while True:
            if self.process.poll() is not None:
                raise PartFailed(f"{self.name} ended with code {self.process.returncode}.\n{self.tail()}")
            if ready():
                return
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} did not come up within {READY_WITHIN:.0f} s.\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines=25):
        try:
            text = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            text = []
        return "\n".join(f"  {self.name}.log: {line}" for line in text)

    def stop(self):
        """SIGTERM to the group, SIGKILL when it has not ended within `grace` seconds."""
        self._end(signal.SIGTERM, signal.SIGKILL)

    def kill(self):
        self._end(signal.SIGKILL)

    def _end(self, *signals):
        if self.process is None:
            return
        for sig in signals:
            signal_group(self.process.pid, sig, root=self.root)
            try:
                self.process.wait(self.grace)
                break
            except subprocess.TimeoutExpired:
                continue
        # The leader is gone; what else is in its group has no reason to live.
        signal_group(self.process.pid, signal.SIGKILL, root=self.root)


def signal_group(pgid, sig, *, root=False):
    if root and os.geteuid() != 0:
        run_as_root("kill", f"-{int(sig)}", "--", f"-{pgid}", check=False)
        return
    try:
        os.killpg(pgid, sig)
    except ProcessLookupError:
        pass


def answers(port, host="127.0.0.1"):
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
