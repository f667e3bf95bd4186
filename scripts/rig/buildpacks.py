"""The images that apps without a Dockerfile are built with: a builder, a run image, and the lifecycle in an image without a shell.

All are made from busybox, the lifecycle that scripts/setup has compiled, and the buildpacks in `builder/`. Builder and lifecycle
lie in the Engine alone; the run image is in the registry, where the lifecycle reads it.
"""

import json
import pathlib

from .process import PartFailed
from .rootfs import Rootfs

BUILDER = "slipway-test/builder:1"
LIFECYCLE = "slipway-test/lifecycle:1"
RUN = "slipway-test/run:1"

_FILES = pathlib.Path(__file__).with_name("builder")
_PHASES = ["analyzer", "detector", "restorer", "builder", "exporter", "creator"]
_PATH = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
# The user that buildpacks and apps run as.
_CNB = 1000
_USER = [f"USER {_CNB}:{_CNB}", f"ENV HOME=/home/cnb CNB_USER_ID={_CNB} CNB_GROUP_ID={_CNB}"]
_DISTRO = ["LABEL io.buildpacks.base.distro.name=slipway-test io.buildpacks.base.distro.version=1"]
_APIS = {
    "buildpack": {"deprecated": [], "supported": ["0.10", "0.11"]},
    "platform": {"deprecated": [], "supported": ["0.12", "0.13", "0.14"]},
}


class Buildpacks:
    """`compiled`: the directory that scripts/setup has put `lifecycle` and `launcher` in."""

    def __init__(self, engine, registry, compiled):
        self.engine = engine
        self.registry = registry
        self.compiled = compiled

    @property
    def run_image(self):
        return f"{self.registry.address}/{RUN}"

    @property
    def builders(self):
        """As BUILDPACKS_BUILDERS has it."""
        return f"{BUILDER}={self.run_image}"

    def make(self):
        """Wants the Engine and the registry up."""
        self.make_local()
        self.engine.import_image(self.run_image, self._run(), [f"USER {_CNB}:{_CNB}", _PATH, "ENV HOME=/home/cnb", *_DISTRO])
        self.engine.push(self.run_image, self.registry.user, self.registry.password)
        self.engine.must("image", "rm", self.run_image)

    def make_local(self):
        """What lies in the Engine alone; wants no registry."""
        if not (self.compiled / "lifecycle").exists():
            raise PartFailed("no .parts/lifecycle. Run scripts/setup.")
        apis = f"LABEL io.buildpacks.lifecycle.apis='{json.dumps(_APIS)}'"
        self.engine.import_image(LIFECYCLE, self._lifecycle(), [*_USER, apis])
        self.engine.import_image(BUILDER, self._builder(), [*_USER, _PATH, *_DISTRO, apis])

    def _lifecycle(self):
        rootfs = _base()
        self._add_lifecycle(rootfs)
        return rootfs.bytes()

    def _builder(self):
        rootfs = _base()
        rootfs.busybox()
        self._add_lifecycle(rootfs)
        rootfs.directory("cnb/buildpacks")
        rootfs.tree(_FILES / "buildpacks", "cnb/buildpacks")
        rootfs.file("cnb/order.toml", (_FILES / "order.toml").read_bytes())
        return rootfs.bytes()

    def _run(self):
        rootfs = _base()
        rootfs.busybox()
        return rootfs.bytes()

    def _add_lifecycle(self, rootfs):
        rootfs.directory("cnb")
        rootfs.directory("cnb/lifecycle")
        for program in ("lifecycle", "launcher"):
            rootfs.file(f"cnb/lifecycle/{program}", (self.compiled / program).read_bytes(), mode=0o755)
        # One program: the name that it is called by says the phase.
        for phase in _PHASES:
            rootfs.link(f"cnb/lifecycle/{phase}", "lifecycle")


def _base():
    rootfs = Rootfs()
    for path in ("etc", "root", "home"):
        rootfs.directory(path)
    rootfs.directory("home/cnb", owner=_CNB)
    rootfs.directory("tmp", mode=0o1777)
    rootfs.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ncnb:x:1000:1000:cnb:/home/cnb:/bin/sh\n")
    rootfs.file("etc/group", b"root:x:0:\ncnb:x:1000:\n")
    rootfs.file("etc/os-release", b'NAME="Slipway test"\nID=slipway-test\nVERSION_ID="1"\n')
    return rootfs
