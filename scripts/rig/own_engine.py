"""An Engine of one test's own, which can be stopped, killed and started again, alone or with all that it runs.

Driven by words on standard input, each answered by a line once it is done; ends with its input, and leaves nothing.
"""

import subprocess
import sys

from .engine import Engine
from .process import run_as_root

# Starts and ends the Engine as it is told. What the Engine has started stays, as on a host where it is killed alone.
_OBEY = r"""
set +e
while read -r word; do
    case $word in
    start)
        dockerd "$@" &
        engine=$!
        : >"$run_dir/runs"
        ;;
    cut)
        kill -KILL -1
        exit
        ;;
    *)
        kill "-$word" $engine
        wait $engine
        rm "$run_dir/runs"
        ;;
    esac
done
"""


class OwnEngine(Engine):
    serve = _OBEY

    def __init__(self, run_dir, name, disk_mib=None):
        """`disk_mib`: its data lies on a disk of its own with so many MiB, which the whole host sees as such."""
        super().__init__(run_dir, name)
        self.disk_mib = disk_mib

    def launch(self):
        data = self.directory / "data"
        if self.disk_mib and not data.exists():
            data.mkdir()
            run_as_root("mount", "-t", "tmpfs", "-o", f"size={self.disk_mib}m,mode=711", "tmpfs", str(data))
        super().launch(subprocess.PIPE)
        self._order("start")

    def restart(self):
        """Wants it ended. After a power cut the namespace has to be made anew too."""
        if self.part.process.poll() is None:
            self._order("start")
        else:
            self.launch()
        self.answers()

    def terminate(self):
        """As systemd stops it: with all that it runs."""
        self._end("TERM")

    def kill(self):
        """kill -9 of the Engine alone: containers run on, as where it crashes."""
        self._end("KILL")

    def cut(self):
        """All of it at once. What stands in /run on a real host is gone with the power."""
        self._order("cut")
        # Not before its last process is gone.
        self.part.process.wait()
        run_as_root("rm", "-rf", str(self.directory / "exec"), str(self.directory / "dockerd.pid"))

    def unplug(self):
        """Its bridge is deleted, as another program does that takes it for its own: no step's network can be made any more."""
        run_as_root("ip", "link", "delete", self.name)

    def plug(self):
        self._add_bridge(self.subnet)

    def stop(self):
        if self.part and self.part.process.poll() is None:
            self.part.process.stdin.close()
        super().stop()

    def obey(self):
        """Says where it is, then does what it is told."""
        print(self.socket, flush=True)
        words = {"start": self.restart, "terminate": self.terminate, "kill": self.kill, "cut": self.cut}
        words |= {"unplug": self.unplug, "plug": self.plug}
        for line in sys.stdin:
            words[line.strip()]()
            print("done", flush=True)

    def _end(self, signal):
        self._order(signal)
        self.part.wait_until(lambda: not (self.directory / "runs").exists())

    def _order(self, word):
        self.part.process.stdin.write(f"{word}\n".encode())
        self.part.process.stdin.flush()


class HostEngine(OwnEngine):
    """An Engine as hosts have it: docker0, forwarding and firewall rules, all of them in a network namespace of its own."""

    serve = "ip link set lo up\n" + _OBEY
    namespaces = ("--net",)

    def flags(self):
        own = ("bridge", "iptables", "ip-masq", "ip-forward")
        return {flag: value for flag, value in super().flags().items() if flag not in own}

    def make_bridge(self):
        """It makes docker0 by itself."""
