"""A small root file system as a tar archive, for `docker import`: busybox and what else a test image needs. Nothing is pulled."""

import io
import os
import shutil
import subprocess
import tarfile

from .process import PartFailed


class Rootfs:
    """Root owns what is not said to be somebody else's. A path may be named once: the Engine refuses doubles."""

    def __init__(self):
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w")

    def directory(self, path, *, mode=0o755, owner=0):
        self._add(path, kind=tarfile.DIRTYPE, mode=mode, owner=owner)

    def file(self, path, content, *, mode=0o644):
        self._add(path, mode=mode, content=content)

    def link(self, path, target):
        self._add(path, kind=tarfile.SYMTYPE, mode=0o777, link=target)

    def tree(self, source, under):
        """A directory's files below `under`, with their right to be executed."""
        for path in sorted(source.rglob("*")):
            name = f"{under}/{path.relative_to(source)}"
            if path.is_dir():
                self.directory(name)
            else:
                self.file(name, path.read_bytes(), mode=0o755 if os.access(path, os.X_OK) else 0o644)

    def busybox(self):
        """A static busybox with a link for each applet, in /bin."""
        busybox = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin")
        if not busybox:
            raise PartFailed("no busybox. Run scripts/setup.")
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        self.directory("bin")
        with open(busybox, "rb") as f:
            self.file("bin/busybox", f.read(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                self.link(f"bin/{applet}", "busybox")

    def bytes(self):
        self._tar.close()
        return self._out.getvalue()

    def _add(self, path, *, kind=tarfile.REGTYPE, mode=0o755, owner=0, content=b"", link=""):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), link
        entry.uid = entry.gid = owner
        self._tar.addfile(entry, io.BytesIO(content))
