"""The jobs of the demo: a repository each, the command that pushes it, and how it has to end.

Another job is one more entry in JOBS. `busybox:base` is the only base image that the parts' Engine has, and its one builder knows a
`Procfile`: nothing is pulled.
"""

from dataclasses import dataclass, field

# The demo's own environment has it as API_TOKEN: a secret does not belong on a command line.
SECRET = "sk_live_5f8e2d71c4"


@dataclass(frozen=True)
class Job:
    id: str
    heading: str
    # path → content, the first commit on `main` of private/<id>, which only the git token may read
    files: dict
    # BUILDED, FAILED or CANCELLED, and what the status says with it
    status: str
    says: str
    options: list = field(default_factory=list)
    # what a container of the pushed image prints
    prints: str = ""
    # a line of the build at which the job is cancelled
    cancel_at: str = ""
    # what must not be seen in the dashboard, where *** stands for it
    hidden: str = ""


JOBS = [
    Job(
        id="hello",
        heading="A commit becomes an image, and the image runs",
        files={
            "Dockerfile": """\
FROM busybox:base
WORKDIR /app
COPY make.sh greet.sh ./
# Each variable of a job is a secret of its build, and .env in the context has them all.
RUN --mount=type=secret,id=NAME --mount=type=secret,id=API_TOKEN sh make.sh
CMD ["sh", "/app/greet.sh"]
""",
            "make.sh": """\
echo "publishing with $(cat /run/secrets/API_TOKEN)"
sed -i "s/NAME/$(cat /run/secrets/NAME)/" greet.sh
""",
            "greet.sh": 'echo "Hello, NAME! I was a git commit a moment ago."\n',
        },
        options=["--env", "NAME=Ada", "--env", "API_TOKEN"],
        status="BUILDED",
        says="@sha256:",
        prints="Hello, Ada! I was a git commit a moment ago.",
        hidden=SECRET,
    ),
    Job(
        id="no-dockerfile",
        heading="A repository without a Dockerfile: buildpacks build it",
        files={
            "Procfile": "web: sh greet.sh\n",
            "greet.sh": 'echo "$GREETING! No Dockerfile was needed."\n',
        },
        options=["--env", "BP_SHELL_GREETING=Ahoy"],
        status="BUILDED",
        says="@sha256:",
        prints="Ahoy! No Dockerfile was needed.",
    ),
    Job(
        id="broken",
        heading="A build that fails says why, in one line",
        files={
            "Dockerfile": "FROM busybox:base\nCOPY test.sh /\nRUN sh /test.sh\n",
            "test.sh": "echo 'cart.test: 3 passed'\necho 'total.test: expected 42, got 41' >&2\nexit 3\n",
        },
        status="FAILED",
        says="[dockerfile.step_failed]",
    ),
    Job(
        id="slow",
        heading="A build is cancelled in the middle of a RUN",
        files={
            "Dockerfile": "FROM busybox:base\nRUN for i in $(seq 1 300); do echo \"compiling file $i of 300\"; sleep 0.2; done\n",
        },
        status="CANCELLED",
        says="",
        cancel_at="compiling file 5 of 300",
    ),
]
