"""Runs of scripts/parts on this host that are alive: what is theirs is no change that somebody else has made."""

import dataclasses
import os
import pathlib

from .process import start_time

PREFIX = "slipway-parts-"


@dataclasses.dataclass
class Run:
    # What stands in the names of its interfaces, cgroups and mounts.
    names: list
    processes: set


def base_dir():
    return pathlib.Path(os.environ.get("TMPDIR") or "/tmp")


def bridge_name(run_dir):
    """Names a run's bridge and its cgroups."""
    return "slip" + run_dir.name.removeprefix(PREFIX)


def owner(run_dir):
    """The process that made the directory, if it is alive."""
    try:
        pid, started = (run_dir / "owner").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(pid) == started else None


def alive():
    children = children_of_all()
    for run_dir in base_dir().glob(PREFIX + "*"):
        pid = owner(run_dir)
        if pid is not None:
            # The last: disks that its tests have made for hosts of their own.
            yield Run([bridge_name(run_dir), str(run_dir), f"{base_dir()}/slipway-host-"], {pid, *below(pid, children)})


def children_of_all():
    """Of each process those that it has started, zombies left out."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    return children


def below(pid, children):
    """All descendants."""
    found, look = [], [pid]
    while look:
        next_ones = children.get(look.pop(), [])
        found += next_ones
        look += next_ones
    return sorted(found)
