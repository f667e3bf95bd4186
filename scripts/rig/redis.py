"""A Redis with a password and nothing on disk, for the demo and the benches. Tests start their own, to be able to kill them."""

from .process import Part, answers, free_port


class Redis:
    def __init__(self, run_dir, password):
        self.run_dir = run_dir
        self.password = password
        self.port = None
        self.part = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.port = free_port()
        config = self.run_dir / "redis.conf"
        # In a file, not on the command line: that is readable by everybody.
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nsave ''\nappendonly no\ndir {self.run_dir}\n"
        )
        config.chmod(0o600)
        self.part = Part("redis", self.run_dir, ["redis-server", str(config)])
        self.part.start()

    def wait(self):
        self.part.wait_until(lambda: answers(self.port))

    def stop(self):
        if self.part:
            self.part.stop()
