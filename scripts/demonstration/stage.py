"""The demo's place: a folder in the run directory of `scripts/parts`, with the `.env` that every command reads, and what runs in it."""

import base64
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import threading
import time

from .dashboard import Dashboard
from .jobs import SECRET

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def _part(name):
    return os.environ[f"SLIPWAY_TEST_{name}"]


class Stage:
    def __init__(self):
        self.dir = pathlib.Path(_part("RUN_DIR")) / "demo"
        self.dir.mkdir()
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or "target")
        self.slipway = str(ROOT / target / "release" / "slipway")
        self.redis_host, self.redis_port = _part("REDIS").rsplit(":", 1)
        self.git_user = _part("GIT_USER")
        self.worker_log = self.dir / "worker.log"
        self.work_dir = self.dir / "work"
        self.dashboard = self.worker = None
        self.address = f"127.0.0.1:{_free_port()}"
        self._write_env()
        self._write_docker_login()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.dir),
            "TERM": os.environ.get("TERM", "dumb"),
            # how scripts/parts knows what was left running
            "SLIPWAY_TEST_RUN_DIR": _part("RUN_DIR"),
            "GIT_TOKEN": _part("GIT_TOKEN"),
            "API_TOKEN": SECRET,
            "REDISCLI_AUTH": _part("REDIS_PASSWORD"),
            "DOCKER_HOST": _part("DOCKER_HOST"),
            "DOCKER_CONFIG": str(self.dir / "docker"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def _write_env(self):
        """The contract's variables, and where moto and the git server of the parts stand in for AWS and GitHub."""
        variables = {
            "REDIS_HOST": self.redis_host,
            "REDIS_PORT": self.redis_port,
            "REDIS_PASSWORD": _part("REDIS_PASSWORD"),
            "API_URL": f"http://{self.address}/api",
            "API_KEY": secrets.token_hex(16),
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIADEMO000000000001",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_ENDPOINT_URL": _part("MOTO"),
            "ECR_REGISTRY_HOST": _part("REGISTRY"),
            "GITHUB_URL": _part("GIT"),
            "GIT_PRIVATE_HOSTS": "all",
            "DOCKER_HOST": _part("DOCKER_HOST"),
            "BUILDPACKS_BUILDERS": _part("BUILDPACKS_BUILDERS"),
            "BUILDPACKS_LIFECYCLE_IMAGE": _part("BUILDPACKS_LIFECYCLE_IMAGE"),
            "WORK_DIR": str(self.work_dir),
        }
        text = "".join(f"{name}={value}\n" for name, value in variables.items())
        _write_private(self.dir / ".env", text)
        # In place of the /etc/slipway/slipway.toml that this machine may have.
        _write_private(self.dir / "slipway.toml", "")

    def _write_docker_login(self):
        (self.dir / "docker").mkdir()
        login = f"{_part('REGISTRY_USER')}:{_part('REGISTRY_PASSWORD')}".encode()
        auths = {_part("REGISTRY"): {"auth": base64.b64encode(login).decode()}}
        _write_private(self.dir / "docker" / "config.json", json.dumps({"auths": auths}))

    def _argv(self, words):
        return [self.slipway, "--config", str(self.dir / "slipway.toml"), *words]

    def listen(self):
        argv = self._argv(["listen", "--address", self.address])
        # The dashboard and the worker have process groups of their own: Ctrl-C reaches the demo, and the demo ends them.
        self.dashboard = Dashboard(argv, self.dir, self.env)
        self.dashboard.wait_for(lambda line: "listens at" in line, "its first word", 10)

    def start_worker(self):
        with open(self.worker_log, "ab") as log:
            self.worker = subprocess.Popen(
                self._argv(["worker"]), cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

        def watch():
            code = self.worker.wait()
            self.dashboard.give_up(f"the worker ended with exit code {code}")

        threading.Thread(target=watch, daemon=True).start()

    def run(self, words):
        """Runs a command as a person would type it; `slipway`, `docker` and `redis-cli` are those of the demo. Returns what it printed."""
        if words[0] == "slipway":
            argv = self._argv(words[1:])
        elif words[0] == "docker":
            argv = [_part("DOCKER"), *words[1:]]
        elif words[0] == "redis-cli":
            argv = ["redis-cli", "-h", self.redis_host, "-p", self.redis_port, *words[1:]]
        else:
            argv = words
        done = subprocess.run(argv, cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise LookupError(f"`{' '.join(words[:2])}` ended with code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def make_repository(self, name, files):
        """A bare repository with these files in one commit on `main`, where the git server looks for it."""
        path = pathlib.Path(_part("GIT_ROOT")) / f"{name}.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], env=self.env, check=True)
        message = f"Add {name.split('/')[-1]}"
        stream = f"commit refs/heads/main\ncommitter Octo <octo@example.com> {int(time.time())} +0000\ndata {len(message)}\n{message}\n"
        for file, content in files.items():
            stream += f"M 100644 inline {file}\ndata {len(content.encode())}\n{content}\n"
        argv = ["git", "-C", str(path), "fast-import", "--quiet"]
        subprocess.run(argv, input=stream, text=True, env=self.env, check=True)

    def leftovers(self, ids):
        """What is left of the jobs where nothing should be: in Redis, in the Engine, in WORK_DIR. Looked at while the worker still runs."""
        left = [f"container {name}" for name in self.run(["docker", "ps", "--all", "--format", "{{.Names}} {{.Image}}"]).splitlines()]
        names = self.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).splitlines()
        left += [f"image name {name}" for name in names if any(i in name for i in ids)]
        volumes = self.run(["docker", "volume", "ls", "--quiet"]).splitlines()
        # A service's cache stays for its next build.
        left += [f"volume {name}" for name in volumes if not name.startswith("slipway-cache-")]
        for key in self.run(["redis-cli", "KEYS", "*"]).splitlines():
            if ":claimed:" in key or key.endswith(":incoming") or key == "builder-queue":
                left.append(f"{self.run(['redis-cli', 'LLEN', key])} job(s) in Redis, {key}")
        left += [f"file {path.name}" for path in (self.work_dir / "tmp").rglob("*") if path.is_file()]
        return left

    def stop_worker(self, within=15):
        """SIGTERM, and its exit code."""
        self.worker.send_signal(signal.SIGTERM)
        return self.worker.wait(within)

    def close(self):
        """Ends whatever still runs, however the demo ended."""
        for process in (self.worker, self.dashboard and self.dashboard.process):
            # The first signal lets running builds finish, the second one does not.
            for sig in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                if process is None or process.poll() is not None:
                    break
                process.send_signal(sig)
                try:
                    process.wait(1 if sig == signal.SIGTERM else None)
                except subprocess.TimeoutExpired:
                    continue
        if self.dashboard:
            self.dashboard.join()


def _write_private(path, text):
    path.touch(mode=0o600)
    path.write_text(text)


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
