"""The installation of the matrix: one hive, two nodes, a forge, a plot for each kind of repository.

Each kind's repository is made when the first field of it asks for it.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.end_to_end.hive_program import free_port
from tests.end_to_end.installation import Installation
from tests.end_to_end.matrix.cell import Plot
from tests.end_to_end.matrix.repositories import Kind
from tests.end_to_end.matrix.ways import Ground
from tests.node_agent.forge.fake_forge import TOKEN, FakeForge, connect, make_bare, said, serving

#: Of turns that wait for a test to let go of them, there is one at a time.
SLOTS = 6


class ForgeOfMany(FakeForge):
    """A forge with a repository for each kind."""

    def __init__(self, bare: Path) -> None:
        super().__init__(bare)
        self.repositories: dict[str, FakeForge] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        for name, repository in self.repositories.items():
            if f"/{name}/" in f"{request.path}/":
                return await repository.handle(request)
        return said(404, "Not Found")

    def add(self, name: str, bare: Path) -> FakeForge:
        """Add a repository."""
        made = FakeForge(make_bare(bare), url=self.url, name=name)
        self.repositories[name] = made
        return made


class Installed:
    """What all fields share, from the first to the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh_config = folder / "ssh_config"
        self._plots: dict[str, Plot] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            installation = Installation(self.folder)
            stack.callback(installation.close)
            self._forge = stack.enter_context(serving(ForgeOfMany(self.folder)))
            self.ground = self._found(installation)
            self._stack = stack.pop_all()
        return self

    def _found(self, installation: Installation) -> Ground:
        """Found the hive, and have both nodes join it."""
        installation.found()
        owner = installation.new_node("owner")
        owner.environment |= {
            "SKEP_NODE_DIRECT_LISTEN": f"127.0.0.1:{free_port()}",
            "SKEP_NODE_GITHUB_URL": self._forge.url,
            "SKEP_NODE_SLOTS": str(SLOTS),
            # For remotes over SSH: the user's own settings are not for tests.
            "GIT_SSH_COMMAND": f"ssh -F {self.ssh_config}",
        }
        owner.json("join", installation.hive.url, installation.join_token(), "--name", "owner")
        owner.json("secrets", "set", "github_token", stdin=TOKEN)
        owner.start()
        other = installation.add_node("other")
        installation.hive.wait_node("owner")
        maintainer = installation.hive.client.post(
            "tokens", {"name": "maintainer", "role": "maintainer"}
        )
        other.json("login", stdin=f"{maintainer['token']}\n")
        return Ground(installation, owner, other)

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def plot(self, kind: Kind) -> Plot:
        """The kind's repository, known to the node and the hive."""
        if kind.name not in self._plots:
            self._plots[kind.name] = self._make(kind)
        return self._plots[kind.name]

    def _make(self, kind: Kind) -> Plot:
        installation = self.ground.installation
        folder = self.folder / "repositories" / kind.name / (kind.folder or kind.name)
        kind.make(folder)
        name = kind.name.replace(" ", "-")
        forge = self._forge.add(name, self.folder / "remotes" / f"{name}.git")
        connect(forge, folder)
        self.ground.owner.json("checkout", "add", str(folder))
        project = self._project(folder)
        script = "echo 'dev script' > dev.txt"
        installation.hive.client.request(
            "PATCH", f"projects/{project['id']}", body={"dev_script": script}
        )
        kind.after_added(folder)
        return Plot(
            ground=self.ground,
            kind=kind,
            project=project["name"],
            checkout=folder,
            forge=forge,
        )

    def _project(self, folder: Path) -> dict[str, str]:
        """The project to which the hive linked the checkout."""
        checkouts = self.ground.owner.client.get("checkouts")["items"]
        [name] = [one["name"] for one in checkouts if one["path"] == str(folder)]
        shown: dict[str, str] = self.ground.installation.wait_project(name, "owner")
        return shown
