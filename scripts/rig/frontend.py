"""The image of a hostile BuildKit frontend, as a tenant's `# syntax=` line can name one. It lies in the Engine alone."""

from .process import PartFailed
from .rootfs import Rootfs

IMAGE = "slipway-test/frontend:1"


def make(engine, compiled):
    """`compiled`: the directory that scripts/setup has put the program in."""
    program = compiled / "frontend"
    if not program.exists():
        raise PartFailed("no .parts/frontend. Run scripts/setup.")
    rootfs = Rootfs()
    rootfs.file("frontend", program.read_bytes(), mode=0o755)
    engine.import_image(IMAGE, rootfs.bytes(), ['ENTRYPOINT ["/frontend"]'])
