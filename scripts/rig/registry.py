"""A registry with a password (docker-registry), storage in the run directory, deletion allowed."""

import json
import subprocess
import urllib.error
import urllib.request

from .process import Part, PartFailed, free_port

# moto's GetAuthorizationToken always gives out these for its default account.
MOTO_LOGIN = ("AWS", "123456789012-auth-token")

_HTPASSWD = """
import bcrypt, json, sys
for user, password in json.load(sys.stdin):
    print(user + ":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())
"""


class Registry:
    def __init__(self, run_dir, venv, user, password):
        self.run_dir = run_dir
        self.venv = venv
        self.user = user
        self.password = password
        self.port = None
        self.part = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        directory = self.run_dir / "registry"
        directory.mkdir()
        logins = json.dumps([(self.user, self.password), MOTO_LOGIN])
        python = str(self.venv / "bin" / "python")
        hashed = subprocess.run([python, "-c", _HTPASSWD], input=logins, capture_output=True, text=True)
        if hashed.returncode != 0:
            raise PartFailed(f"the registry's password file could not be made: {hashed.stderr.strip()}. Run scripts/setup.")
        (directory / "htpasswd").write_text(hashed.stdout)
        self.port = free_port()
        config = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.address, "secret": self.password, "relativeurls": True},
            "auth": {"htpasswd": {"realm": "slipway", "path": str(directory / "htpasswd")}},
        }
        # JSON is YAML.
        (directory / "config.yml").write_text(json.dumps(config))
        self.part = Part("registry", self.run_dir, ["docker-registry", "serve", str(directory / "config.yml")])
        self.part.start()

    def wait(self):
        self.part.wait_until(self._asks_for_a_password)

    def stop(self):
        if self.part:
            self.part.stop()

    def _asks_for_a_password(self):
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2)
        except urllib.error.HTTPError as e:
            return e.code == 401
        except OSError:
            return False
        return False
