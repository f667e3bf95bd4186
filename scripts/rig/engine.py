"""A Docker Engine of our own: socket, data root, bridge, containerd; the host's is neither used nor disturbed.

It runs in a PID and mount namespace of its own. So nothing of it outlives it (containerd, shims and containers die with the
namespace), its mounts are gone with it, it cannot see the host's containerd, and what it writes to /run and /etc stays its own.
It leaves the host's network as it is:
1. It sets no firewall rules: a second Engine that does so throws out those of the host's own.
2. It is given no default address pools: with them an Engine deletes the interface docker0 whenever it finds its own bridge network of an
   earlier start, also where docker0 belongs to another Engine.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile

from .process import Part, PartFailed, run_as_root
from .rootfs import Rootfs

# Process 1 of the namespace: gives the Engine a private /run and /etc, and cgroups where the host has mounted none.
_PRIVATE = r"""
set -e
run_dir=$1; shift
real=$(readlink -f /etc/resolv.conf || true)
[ -z "$real" ] || cp "$real" "$run_dir/resolv.conf" 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
case $real in /run/*) mkdir -p "${real%/*}"; cp "$run_dir/resolv.conf" "$real" ;; esac
first=$([ -e "$run_dir/etc" ] || echo yes)
mkdir -p "$run_dir/etc/upper" "$run_dir/etc/work"
if mount -t overlay -o "lowerdir=/etc,upperdir=$run_dir/etc/upper,workdir=$run_dir/etc/work" overlay /etc && [ -n "$first" ]; then
    # An id of its own: with the host's, Engines that run side by side would give their bridges one name.
    rm -f /etc/docker/key.json
fi
if ! grep -q ' cgroup2\{0,1\} ' /proc/self/mounts; then
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r name hierarchy _ enabled; do
        [ "$enabled" = 1 ] || continue
        mkdir "/sys/fs/cgroup/$name"
        mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" || rmdir "/sys/fs/cgroup/$name"
    done </proc/cgroups
fi
"""
# Then it runs the Engine for as long as that lives, and reaps.
_SERVE = r"""
dockerd "$@" &
engine=$!
trap 'kill -TERM $engine 2>/dev/null || true' TERM
set +e
while kill -0 $engine 2>/dev/null; do wait $engine; code=$?; done
exit $code
"""

_PATHS = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"}


def docker_cli():
    """The client that belongs to the installed Engine; another one on the PATH may be too new or too old for it."""
    for path in ("/usr/bin/docker", shutil.which("docker")):
        if path and os.access(path, os.X_OK):
            return path
    raise PartFailed("no docker client. Run scripts/setup.")


class Engine:
    # Further namespaces of its own, as flags of unshare.
    namespaces = ()
    # What process 1 of the namespace does once that is made: a shell's words, with the Engine's flags as arguments.
    serve = _SERVE

    def __init__(self, run_dir, name):
        """`name`: at most 15 characters, unique on this host. It names the bridge and the cgroup."""
        self.run_dir = run_dir
        self.name = name
        self.socket = run_dir / "engine.sock"
        self.cli = docker_cli()
        self.cli_config = run_dir / "docker-config"
        self.directory = run_dir / "engine"
        self.part = None

    @property
    def host(self):
        return f"unix://{self.socket}"

    def start(self):
        self.directory.mkdir()
        self.cli_config.mkdir()
        self.make_bridge()
        # Without a file of its own it would read the host's.
        (self.directory / "daemon.json").write_text(json.dumps({"features": {"buildkit": True}}))
        self.launch()

    def launch(self, stdin=subprocess.DEVNULL):
        """Starts the namespace on what `start` has made."""
        argv = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", *self.namespaces]
        argv += ["bash", "-c", _PRIVATE + self.serve, "engine", str(self.directory), *(f"--{k}={v}" for k, v in self.flags().items())]
        # Without these BuildKit cuts a step's output at 200 KiB a second and 2 MiB. Not -1: the 20.10 Engine takes that for
        # "nothing at all" and prints "[output clipped, log limit -1B reached]" in place of the first line.
        limits = {"BUILDKIT_STEP_LOG_MAX_SIZE": "2147483647", "BUILDKIT_STEP_LOG_MAX_SPEED": "2147483647"}
        argv = ["env", *(f"{k}={v}" for k, v in {**limits, "PATH": _PATHS["PATH"]}.items()), *argv]
        self.part = Part("engine", self.run_dir, argv, root=True, grace=10.0)
        self.part.start(stdin)

    def flags(self):
        directory = self.directory
        return {
            "config-file": directory / "daemon.json",
            "host": self.host,
            "group": os.getgid(),
            "data-root": directory / "data",
            "exec-root": directory / "exec",
            "pidfile": directory / "dockerd.pid",
            "bridge": self.name,
            "cgroup-parent": f"/{self.name}",
            "exec-opt": "native.cgroupdriver=cgroupfs",
            "iptables": "false",
            "ip-masq": "false",
            "ip-forward": "false",
            "shutdown-timeout": "1",
            # By default five layers at a time for all pushes: many jobs that each hold one back would hold up all others.
            "max-concurrent-uploads": "500",
            "max-concurrent-downloads": "500",
        }

    def wait(self):
        self.answers()
        self._import_base_image()

    def answers(self):
        """Waits until it does."""
        self.part.wait_until(lambda: self.socket.exists() and self.docker("version").returncode == 0)

    def stop(self):
        if self.part:
            self.part.stop()
        remove_traces(self.name, self.directory)

    def docker(self, *args, stdin=None):
        argv = [self.cli, "--host", self.host, "--config", str(self.cli_config), *args]
        return subprocess.run(argv, input=stdin, capture_output=True)

    def import_image(self, name, archive, changes):
        """An image of one layer. `changes`: Dockerfile instructions for its configuration."""
        flags = [word for change in changes for word in ("--change", change)]
        self.must("import", *flags, "-", name, stdin=archive)

    def push(self, name, user, password):
        """The client's own login file would stay; this one goes with the directory."""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        with tempfile.TemporaryDirectory(dir=self.run_dir) as config:
            (pathlib.Path(config) / "config.json").write_text(json.dumps({"auths": {name.split("/")[0]: {"auth": login}}}))
            self.must("--config", config, "push", "--quiet", name)

    def must(self, *args, stdin=None):
        done = self.docker(*args, stdin=stdin)
        if done.returncode != 0:
            raise PartFailed(f"docker {' '.join(args)} failed: {done.stderr.decode(errors='replace').strip()}")

    def make_bridge(self):
        with one_at_a_time(self.run_dir.parent):
            self._add_bridge(self._free_subnet())

    def _free_subnet(self):
        with open("/proc/net/route") as routes:
            taken = {line.split()[1] for line in routes.readlines()[1:]}
        subnets = [n for n in range(256) if f"{n:02X}".join(("00", "C90A")) not in taken]
        if not subnets:
            raise PartFailed("every subnet of 10.201.0.0/16 has a route already; no bridge for the Engine can be made.")
        return f"10.201.{random.choice(subnets)}"

    def _add_bridge(self, subnet):
        self.subnet = subnet
        run_as_root("ip", "link", "add", "name", self.name, "type", "bridge")
        run_as_root("ip", "addr", "add", f"{subnet}.1/24", "dev", self.name)
        run_as_root("ip", "link", "set", self.name, "up")

    def _import_base_image(self):
        """`busybox:base`: a static busybox with its applets, so that tests have a base image without a pull."""
        self.import_image("busybox:base", _busybox_rootfs(), ['CMD ["/bin/sh"]', "ENV PATH=/usr/local/bin:/usr/bin:/bin"])


def unmount_below(directory):
    """A disk that was made for an Engine's data."""
    with open("/proc/self/mounts") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in points:
        if point.startswith(f"{directory}/"):
            run_as_root("umount", point, check=False)


@contextlib.contextmanager
def one_at_a_time(directory):
    """Among all processes that ask for the same directory. Two Engines that start at once would find the same subnet free."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_traces(name, directory):
    """The bridges and the cgroups of an Engine that has ended. `directory`: where its data is."""
    for interface in [name, *_network_bridges(directory)]:
        run_as_root("ip", "link", "delete", interface, check=False)
    run_as_root(
        "find", "/sys/fs/cgroup", "-depth", "-type", "d", "(", "-path", f"*/{name}", "-o", "-path", f"*/{name}/*", ")",
        "-exec", "rmdir", "{}", ";", check=False,
    )  # fmt: skip


def _network_bridges(directory):
    """Those of networks that were made in the Engine; they stay when it ends. Its own store has their names."""
    store = directory / "data" / "network" / "files" / "local-kv.db"
    named = run_as_root("grep", "-aoE", '"BridgeName":"[^"]+"', str(store), check=False).stdout
    # Asked of the kernel: /sys shows the interfaces of the namespace that it was mounted in.
    present = {name for _, name in socket.if_nameindex()}
    # docker0 is the host's: an Engine of ours has one in a network namespace of its own at most.
    return sorted(present & {line.split('"')[3] for line in named.splitlines()} - {"docker0"})


def _busybox_rootfs():
    rootfs = Rootfs()
    for path, mode in {"etc": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755}.items():
        rootfs.directory(path, mode=mode)
    rootfs.busybox()
    rootfs.link("usr/bin/env", "../../bin/busybox")
    rootfs.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    rootfs.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    return rootfs.bytes()
