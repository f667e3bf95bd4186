"""A Docker Engine of our own: socket, data root, bridge, containerd; the host's is neither used nor disturbed.

It runs in a PID and mount namespace of its own. So nothing of it outlives it (containerd, shims and containers die with the
namespace), its mounts are gone with it, it cannot see the host's containerd, and what it writes to /run and /etc stays its own.
It sets no firewall rules: a second Engine that does so throws out those of the host's own.
"""

import io
import json
import os
import random
import shutil
import subprocess
import tarfile

from .process import Part, PartFailed, run_as_root

# Process 1 of the namespace: gives the Engine a private /run and /etc, cgroups where the host has mounted none, and reaps.
_INIT = r"""
set -e
run_dir=$1; shift
real=$(readlink -f /etc/resolv.conf || true)
[ -z "$real" ] || cp "$real" "$run_dir/resolv.conf" 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
case $real in /run/*) mkdir -p "${real%/*}"; cp "$run_dir/resolv.conf" "$real" ;; esac
mkdir -p "$run_dir/etc/upper" "$run_dir/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$run_dir/etc/upper,workdir=$run_dir/etc/work" overlay /etc || true
if ! grep -q ' cgroup2\{0,1\} ' /proc/self/mounts; then
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r name hierarchy _ enabled; do
        [ "$enabled" = 1 ] || continue
        mkdir "/sys/fs/cgroup/$name"
        mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" || rmdir "/sys/fs/cgroup/$name"
    done </proc/cgroups
fi
dockerd "$@" &
engine=$!
trap 'kill -TERM $engine 2>/dev/null || true' TERM
set +e
while kill -0 $engine 2>/dev/null; do wait $engine; code=$?; done
exit $code
"""


def docker_cli():
    """The client that belongs to the installed Engine; another one on the PATH may be too new or too old for it."""
    for path in ("/usr/bin/docker", shutil.which("docker")):
        if path and os.access(path, os.X_OK):
            return path
    raise PartFailed("no docker client. Run scripts/setup.")


class Engine:
    def __init__(self, run_dir, name):
        """`name`: at most 15 characters, unique on this host. It names the bridge and the cgroup."""
        self.run_dir = run_dir
        self.name = name
        self.socket = run_dir / "engine.sock"
        self.cli = docker_cli()
        self.cli_config = run_dir / "docker-config"
        self.part = None

    @property
    def host(self):
        return f"unix://{self.socket}"

    def start(self):
        directory = self.run_dir / "engine"
        directory.mkdir()
        self.cli_config.mkdir()
        # Without a file of its own it would read the host's.
        (directory / "daemon.json").write_text(json.dumps({"features": {"buildkit": True}}))
        self._make_bridge()
        flags = {
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
        }
        argv = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "sh", "-c", _INIT, "engine", str(directory)]
        argv += [f"--{flag}={value}" for flag, value in flags.items()]
        # Without these BuildKit cuts a step's output at 200 KiB a second and 2 MiB. Not -1: the 20.10 Engine takes that for
        # "nothing at all" and prints "[output clipped, log limit -1B reached]" in place of the first line.
        limits = {"BUILDKIT_STEP_LOG_MAX_SIZE": "2147483647", "BUILDKIT_STEP_LOG_MAX_SPEED": "2147483647"}
        path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        argv = ["env", *(f"{k}={v}" for k, v in {**limits, "PATH": path}.items()), *argv]
        self.part = Part("engine", self.run_dir, argv, root=True, grace=10.0)
        self.part.start()

    def wait(self):
        self.part.wait_until(lambda: self.socket.exists() and self.docker("version").returncode == 0)
        self._import_base_image()

    def stop(self):
        if self.part:
            self.part.stop()
        remove_traces(self.name)

    def docker(self, *args, stdin=None):
        argv = [self.cli, "--host", self.host, "--config", str(self.cli_config), *args]
        return subprocess.run(argv, input=stdin, capture_output=True)

    def _make_bridge(self):
        with open("/proc/net/route") as routes:
            taken = {line.split()[1] for line in routes.readlines()[1:]}
        subnets = [n for n in range(256) if f"{n:02X}".join(("00", "C90A")) not in taken]
        if not subnets:
            raise PartFailed("every subnet of 10.201.0.0/16 has a route already; no bridge for the Engine can be made.")
        run_as_root("ip", "link", "add", "name", self.name, "type", "bridge")
        run_as_root("ip", "addr", "add", f"10.201.{random.choice(subnets)}.1/24", "dev", self.name)
        run_as_root("ip", "link", "set", self.name, "up")

    def _import_base_image(self):
        """`busybox:base`: a static busybox with its applets, so that tests have a base image without a pull."""
        changes = ["--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin"]
        done = self.docker("import", *changes, "-", "busybox:base", stdin=_busybox_rootfs())
        if done.returncode != 0:
            raise PartFailed(f"docker import of busybox:base failed: {done.stderr.decode(errors='replace').strip()}")


def remove_traces(name):
    """The bridge and the cgroups of an Engine that has ended."""
    if os.path.exists(f"/sys/class/net/{name}"):
        run_as_root("ip", "link", "delete", name, check=False)
    run_as_root(
        "find", "/sys/fs/cgroup", "-depth", "-type", "d", "(", "-path", f"*/{name}", "-o", "-path", f"*/{name}/*", ")",
        "-exec", "rmdir", "{}", ";", check=False,
    )  # fmt: skip


def _busybox_rootfs():
    busybox = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin")
    if not busybox:
        raise PartFailed("no busybox. Run scripts/setup.")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(path, *, kind=tarfile.REGTYPE, mode=0o755, content=b"", link=""):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), link
            tar.addfile(entry, io.BytesIO(content))

        for path, mode in {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755}.items():
            add(path, kind=tarfile.DIRTYPE, mode=mode)
        with open(busybox, "rb") as f:
            add("bin/busybox", content=f.read())
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777, link="busybox")
        add("usr/bin/env", kind=tarfile.SYMTYPE, mode=0o777, link="../../bin/busybox")
        add("etc/passwd", mode=0o644, content=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        add("etc/group", mode=0o644, content=b"root:x:0:\nnogroup:x:65534:\n")
    return out.getvalue()
