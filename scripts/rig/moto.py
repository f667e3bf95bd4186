"""moto: the ECR API (and STS) on loopback."""

from .process import Part, answers, free_port


class Moto:
    def __init__(self, run_dir, venv):
        self.run_dir = run_dir
        self.venv = venv
        self.port = None
        self.part = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.port = free_port()
        argv = [str(self.venv / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]
        self.part = Part("moto", self.run_dir, argv, env={"NO_COLOR": "1"})
        self.part.start()

    def wait(self):
        self.part.wait_until(lambda: answers(self.port))

    def stop(self):
        if self.part:
            self.part.stop()
