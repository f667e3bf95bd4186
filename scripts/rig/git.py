"""git over smart HTTP: the part that runs `git_http.py`."""

import pathlib
import sys

from .process import Part


class Git:
    def __init__(self, run_dir, user, token):
        self.run_dir = run_dir
        self.user = user
        self.token = token
        self.root = run_dir / "repositories"
        self.part = None
        self._port_file = run_dir / "git.port"

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port_file.read_text()}"

    def start(self):
        self.root.mkdir()
        server = pathlib.Path(__file__).with_name("git_http.py")
        argv = [sys.executable, str(server), str(self.root), str(self._port_file)]
        # By the environment, not as arguments: those are readable by everybody.
        self.part = Part("git", self.run_dir, argv, env={"GIT_HTTP_USER": self.user, "GIT_HTTP_TOKEN": self.token})
        self.part.start()

    def wait(self):
        self.part.wait_until(self._port_file.exists)

    def stop(self):
        if self.part:
            self.part.stop()
