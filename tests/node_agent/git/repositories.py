"""Real repositories for tests, made by the git program itself and not by the code under test."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ATTEMPT = "01920000-0000-7000-8000-0000deadbeef"
OTHER_ATTEMPT = "01920000-0000-7000-8000-0000cafef00d"
#: What people call branches, beyond words of ASCII.
NAMES = ("fix/#12", "#1+a=b,c", "@ann/_x@home", "größe", "日本/修正", "हिन्दी")
NAMED = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(cwd: Path, *args: str | bytes, check: bool = True) -> str:
    """Run git as a user would, by another way than the code under test."""
    finished = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=cwd,
        env=dict(os.environ) | NAMED,
        capture_output=True,
        check=False,
    )
    if check and finished.returncode:
        raise AssertionError(finished.stderr.decode(errors="replace"))
    return finished.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


@dataclass(frozen=True)
class Sample:
    """A user's checkout."""

    path: Path

    @classmethod
    def make(cls, path: Path, branch: str = "main", object_format: str = "sha1") -> "Sample":
        path.mkdir(parents=True)
        git(path, "init", "-q", "-b", branch, f"--object-format={object_format}")
        sample = cls(path)
        sample.commit("first", {"README": "hello\n", "src/code.py": "print(1)\n"})
        return sample

    def commit(self, message: str, files: dict[str, str | bytes]) -> str:
        """Write files and commit them; return the commit."""
        for name, content in files.items():
            self.write(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head

    def write(self, name: str | bytes, content: str | bytes = "") -> Path:
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def git(self, *args: str | bytes, check: bool = True) -> str:
        return git(self.path, *args, check=check)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def state(self) -> tuple[str, str, bytes]:
        """All of a checkout that a person would miss: its branch, its status, its index."""
        return (
            self.git("symbolic-ref", "-q", "HEAD", check=False),
            self.git("status", "--porcelain", "--ignored"),
            (self.path / ".git" / "index").read_bytes(),
        )
