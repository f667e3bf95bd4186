"""What of this host a test run must leave as it was: its network, firewall, kernel settings, mounts, cgroups, and Docker's own objects.

A snapshot is a list of lines for each kind. Left out is what changes by itself (counters, lifetimes, systemd's units), and what belongs to
another run of scripts/parts that goes on beside this one.
"""

import json
import os
import pathlib
import re
import subprocess

from . import other_runs
from .process import as_root

_PATHS = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin", "LC_ALL": "C"}
# Docker sets the first by itself where it may, and the second kind comes with the module that its bridges load.
_SYSCTLS = ("net/ipv4/ip_forward", "net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/disable_ipv6", "net/ipv6/conf/*/accept_ra",
            "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/route_localnet", "net/ipv4/conf/*/rp_filter",
            "net/ipv4/ip_local_port_range", "net/bridge/*", "net/netfilter/nf_conntrack_max", "vm/overcommit_memory",
            "kernel/keys/root_max*", "fs/inotify/max_user_*")  # fmt: skip
# Units come and go with timers and sessions. Containers are compared as Docker has them.
_UNIT = re.compile(r"\.(service|scope|slice|mount|socket|swap)(/|$)")
# The kernel gives each interface such an address by itself, some seconds after it is up.
_LINK_LOCAL = ("fe80::", "ff00::")
_INSPECTED = {
    "container": "{{.Id}} {{.Name}} {{.State.Status}} since {{.State.StartedAt}} restarts {{.RestartCount}}"
    " {{json .NetworkSettings.Ports}} {{range $n, $e := .NetworkSettings.Networks}}{{$n}}={{$e.IPAddress}} {{end}}",
    "network": "{{.Id}} {{.Name}} {{.Driver}} {{json .IPAM.Config}}",
    "volume": "{{.Name}} {{.Driver}} {{.CreatedAt}}",
    "image": "{{.Id}} {{json .RepoTags}}",
}
_LISTED = {
    "container": ["ps", "--all", "--quiet", "--no-trunc"],
    "network": ["network", "ls", "--quiet", "--no-trunc"],
    "volume": ["volume", "ls", "--quiet"],
    "image": ["images", "--all", "--quiet", "--no-trunc"],
}


def snapshot(docker_host=None):
    """`docker_host`: of the Engine whose objects are compared; by default the one that this host's users have, if any."""
    others = list(other_runs.alive())
    busy = {str(pid) for run in others for pid in run.processes}
    names = [name for run in others for name in run.names]
    state = {
        "interfaces": _lines("ip", "-o", "link", "show", clean=_interface),
        "addresses": _lines("ip", "-o", "addr", "show", clean=_address),
        "routes": _lines("ip", "-4", "route", "show", "table", "all", clean=_route)
        + _lines("ip", "-6", "route", "show", "table", "all", clean=_route),
        "routing rules": _lines("ip", "-4", "rule") + _lines("ip", "-6", "rule"),
        "firewall": _firewall(),
        "kernel settings": _sysctls(),
        "listening sockets": _lines("ss", "-Hlntup", clean=lambda line: _socket(line, busy)),
        "mounts": _mounts(),
        "cgroups": _cgroups(),
        "network namespaces": _lines("ip", "netns", "list", clean=lambda line: line.split()[0]),
        **_docker(docker_host),
    }
    return {kind: [line for line in lines if not any(name in line for name in names)] for kind, lines in state.items()}


def differences(before, after):
    """In words, a line each: what is gone, and what is there that was not."""
    told = []
    for kind in {**before, **after}:
        old, new = before.get(kind, []), after.get(kind, [])
        told += [f"{kind}: gone: {line}" for line in old if line not in new]
        told += [f"{kind}: new: {line}" for line in new if line not in old]
    return told


def _lines(*argv, clean=lambda line: line):
    """What a command prints, each line once and in order. A command that this host does not have says nothing."""
    try:
        done = subprocess.run(as_root(list(argv)), capture_output=True, text=True, env=_PATHS)
    except FileNotFoundError:
        return []
    cleaned = (clean(line) for line in done.stdout.splitlines())
    return sorted({line for line in cleaned if line})


def _interface(line):
    """Without its index, its carrier and its queue: those are the moment's. What has no name of its own (veth…) comes with containers."""
    name = line.split(": ")[1].split("@")[0]
    master = re.search(r" master (\S+)", line)
    mac = re.search(r" link/\S+ (\S+)", line)
    mtu = re.search(r" mtu (\d+)", line)
    up = "up" if "UP" in re.search(r"<(.*?)>", line).group(1).split(",") else "down"
    return " ".join([name, up, f"mtu {mtu.group(1)}", mac.group(1) if mac else "-", f"master {master.group(1)}" if master else "-"])


def _address(line):
    words = line.split()
    return None if words[3].startswith(_LINK_LOCAL) else f"{words[1]} {words[2]} {words[3]}"


def _route(line):
    if any(word.startswith(_LINK_LOCAL) for word in line.split()):
        return None
    return re.sub(r" (expires|error|hoplimit|users|age|pref) \S+|\blinkdown\b", "", line).strip()


def _socket(line, busy):
    """Protocol, state, address, the name of who has it. None of a process in `busy`."""
    owners = set(re.findall(r"\bpid=(\d+)", line))
    if owners and owners <= busy:
        return None
    words = line.split()
    names = sorted(set(re.findall(r'\("([^"]*)"', line)))
    return " ".join([words[0], words[1], words[4], *names])


def _firewall():
    """All rules and chains, without counters, time stamps and what says only that a table was looked at."""
    rules = []
    for family in ("iptables", "ip6tables"):
        table = ""
        for backend in ("save", "nft-save", "legacy-save"):
            for line in _ordered(f"{family}-{backend}"):
                if line.startswith("*"):
                    table = line[1:]
                elif line[:1] in (":", "-"):
                    line = re.sub(r" \[\d+:\d+\]", "", line)
                    rules.append(f"{family} {table} {line}")
    rules += [f"nft {line.strip()}" for line in _ordered("nft", "-s", "list", "ruleset")]
    built_in = re.compile(r"^ip6?tables \S+ :(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING) ACCEPT$")
    # Each with its place among the others: an order that is changed is a change.
    kept = [rule for rule in dict.fromkeys(rules) if not built_in.match(rule) and rule != "nft"]
    return [f"{rule}  (#{n})" for n, rule in enumerate(kept)]


def _ordered(*argv):
    try:
        return subprocess.run(as_root(list(argv)), capture_output=True, text=True, env=_PATHS).stdout.splitlines()
    except FileNotFoundError:
        return []


def _sysctls():
    root = pathlib.Path("/proc/sys")
    told = []
    for pattern in _SYSCTLS:
        for path in root.glob(pattern):
            try:
                told.append(f"{path.relative_to(root)} = {' '.join(path.read_text().split())}")
            except OSError:
                continue
    return sorted(told)


def _mounts():
    with open("/proc/self/mountinfo") as mounts:
        fields = [line.split() for line in mounts]
    return sorted(f"{f[4]} {f[f.index('-') + 1]} {f[f.index('-') + 2]} {f[3]} {f[5]}" for f in fields)


def _cgroups():
    root = pathlib.Path("/sys/fs/cgroup")
    paths = (pathlib.Path(directory).relative_to(root) for directory, _, _ in os.walk(root))
    return sorted(str(path) for path in paths if not _UNIT.search(str(path)))


def _docker(host):
    client = ["docker"] + (["--host", host] if host else [])

    def ask(*arguments):
        try:
            done = subprocess.run([*client, *arguments], capture_output=True, text=True, env=_PATHS)
        except FileNotFoundError:
            return None
        return done.stdout.splitlines() if done.returncode == 0 else None

    engine = ask("version", "--format", "{{.Server.Version}}")
    if not engine or not engine[0]:
        return {"Docker Engine": ["none answers"]}
    told = {"Docker Engine": engine}
    for kind, listing in _LISTED.items():
        names = sorted(set(ask(*listing) or []))
        found = ask(kind, "inspect", "--format", _INSPECTED[kind], *names) if names else []
        told[f"Docker's {kind}s"] = sorted(found if found is not None else names)
    return told


def write(path, state):
    pathlib.Path(path).write_text(json.dumps(state, indent=1))


def read(path):
    return json.loads(pathlib.Path(path).read_text())
