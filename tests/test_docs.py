"""The docs are true where a test can tell: links lead somewhere, named files exist, words are kept.

Also: nothing that git keeps names a path of one machine, or the address of a package registry.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.documentation.pages import differences
from scripts.documentation.pages import pages as generated_pages

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
# A file of ours, alone or as a command: `hive/api/routes.py`, `scripts/test -k x`; not `hive/*`.
NAMED_FILE = re.compile(
    r"^((?:protocol|node_agent|hive|tests|docs|scripts|\.ci)/[\w./-]*|[A-Z]+\.md|\w+\.toml)(?:\s|$)"
)
# What is named as an example, and need not be there.
EXAMPLES = {"hive/api/streams.py", "tests/hive/api/test_streams.py", "config.toml"}

# The words that code, API and page share.
WORDS = """
node; hive; project; checkout; task; work order; lease; fence; slot; attempt; execution; log entry;
log chunk; session; message; request; instance; epoch; journal; op; outbox; high-water mark;
position; backfill; credit; turn; operation; relay; direct; sync state; supervisor; spool;
chunk store
"""

# Folders that only the machine of one developer has.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root)/")
# Registries' hosts, each put together here, so that this file does not hold one.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
        ("jsdelivr", "net"),
        ("unpkg", "com"),
    )
]
REGISTRY = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)))


def none(faults: list[str]) -> None:
    """Fail with every fault on a line of its own."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def slug(heading: str) -> str:
    """The anchor a heading gets."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain.lower()))


def anchors(text: str) -> set[str]:
    """Every anchor of a page."""
    return {slug(heading) for heading in HEADING.findall(FENCE.sub("", text))}


def broken_links(root: Path, page: Path, text: str) -> Iterator[str]:
    """The links of a page, to files of ours, that lead nowhere."""
    prose = CODE.sub("", FENCE.sub("", text))
    for found in LINK.finditer(prose):
        link = found[1] or found[2]
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or not file.is_relative_to(root):
            yield f"{page.relative_to(root)}: {link} leads nowhere"
        elif anchor and anchor not in anchors(text if file == page else file.read_text("utf-8")):
            yield f"{page.relative_to(root)}: {link}: no such heading"


def absent_files(root: Path, page: Path, text: str) -> Iterator[str]:
    """The files of ours that a page names, in its text or as commands, and that are not there."""
    commands = [line.strip() for block in FENCE.finditer(text) for line in block[0].splitlines()]
    for code in [*CODE.findall(FENCE.sub("", text)), *commands]:
        named = NAMED_FILE.match(code)
        if named and named[1] not in EXAMPLES and not (root / named[1]).exists():
            yield f"{page.relative_to(root)}: names {named[1]}, which is not there"


def glossary_words(text: str) -> set[str]:
    """The words a glossary explains: the first cell of each row of its tables."""
    return {row[1].strip() for row in re.finditer(r"^\|([^|]+)\|[^|]*\w", text, re.MULTILINE)}


def task_names(root: Path, package: str) -> set[str]:
    """The names that a package gives its tasks; what is filled in stands as `*`."""
    names = set()
    for path in (root / package).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".create_task"):
                for given in (one.value for one in call.keywords if one.arg == "name"):
                    pieces = given.values if isinstance(given, ast.JoinedStr) else [given]
                    names.add("".join(map(_piece, pieces)))
    return names


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "*"


def task_rows(text: str, heading: str) -> set[str]:
    """The names in the table of tasks under a heading; words in capitals stand as `*`."""
    section = text.split(f"### {heading}\n")[1].split("\n### ", maxsplit=1)[0]
    rows = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    return {re.sub(r"\b[A-Z]+\b", "*", row) for row in rows}


def foreign_places(text: str) -> list[str]:
    """Paths of one machine, and hosts of registries."""
    return [found[0] for pattern in (MACHINE_PATH, REGISTRY) for found in pattern.finditer(text)]


def kept_files(root: Path) -> list[Path]:
    """Every file that git keeps, or would keep if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    names = {name for name in listed.stdout.decode().split("\0") if name}
    return [root / name for name in sorted(names) if (root / name).is_file()]


@pytest.fixture(scope="module")
def pages(checkout: Path) -> dict[Path, str]:
    """The pages people read."""
    found = [*checkout.glob("*.md"), *checkout.glob("docs/**/*.md")]
    return {page: page.read_text("utf-8") for page in found}


def test_links_lead_somewhere(checkout: Path, pages: dict[Path, str]):
    """Every link between pages, and to a heading, has its target."""
    none([fault for page, text in pages.items() for fault in broken_links(checkout, page, text)])


def test_named_files_exist(checkout: Path, pages: dict[Path, str]):
    """Every file of ours that a page names is there."""
    none([fault for page, text in pages.items() for fault in absent_files(checkout, page, text)])


def test_the_glossary_has_every_word(pages: dict[Path, str], checkout: Path):
    """Each word that code, API and page share is explained."""
    explained = glossary_words(pages[checkout / "docs/glossary.md"])
    assert {" ".join(word.split()) for word in WORDS.split(";")} - explained == set()


def test_decisions_are_numbered_and_listed(pages: dict[Path, str], checkout: Path):
    """Decisions have consecutive numbers, say what they must, and stand on the first page."""
    first_page = pages[checkout / "docs/index.md"]
    decisions = sorted(page for page in pages if page.parent == checkout / "docs/decisions")
    assert [page.name[:4] for page in decisions] == [f"{n:04}" for n in range(len(decisions))]
    for page in decisions:
        headings = HEADING.findall(pages[page])
        assert headings[0].startswith(f"{page.name[:4]} ")
        assert headings[1:] == ["Context", "Decision", "Consequences"]
        assert f"decisions/{page.name}" in first_page


def test_the_changelog_begins_with_the_policy(pages: dict[Path, str], checkout: Path):
    """What stays compatible stands before the list of what changed."""
    headings = HEADING.findall(pages[checkout / "CHANGELOG.md"])
    assert headings[:3] == ["Changelog", "Compatibility", "[Unreleased]"]


def test_nothing_kept_names_a_foreign_place(checkout: Path):
    """No kept file names a folder of one machine or the host of a package registry."""
    faults = [
        f"{file.relative_to(checkout)}: {place}"
        for file in kept_files(checkout)
        for place in foreign_places(file.read_bytes().decode("utf-8", "replace"))
    ]
    none(faults)


def test_no_kept_file_is_large(checkout: Path):
    """What is built or recorded at length is not kept in git."""
    assert [file for file in kept_files(checkout) if file.stat().st_size > 1_000_000] == []


def test_generated_pages_are_what_the_code_says(checkout: Path):
    """The reference, the map of files and `.env.example` are as scripts/docs makes them."""
    none(differences(checkout, generated_pages(checkout)))


@pytest.mark.parametrize(
    ("package", "heading"), [("node_agent", "In a node agent"), ("hive", "In a hive")]
)
def test_the_table_of_tasks_is_that_of_the_code(
    package: str, heading: str, pages: dict[Path, str], checkout: Path
):
    """Every named task has a row that says what it owns and when it ends, and no row is left."""
    text = pages[checkout / "docs/architecture/index.md"]
    assert task_rows(text, heading) == task_names(checkout, package)


def test_differences_of_generated_pages_are_seen(tmp_path: Path):
    """A page that is old, one that is missing, and one that nothing makes, are each named."""
    folder = tmp_path / "docs/reference"
    folder.mkdir(parents=True)
    for name in ("same", "old", "left"):
        (folder / f"{name}.md").write_text(f"{name}\n")
    (folder / "index.md").write_text("by hand\n")
    expected = {f"docs/reference/{name}.md": f"{name}\n" for name in ("same", "new")}
    expected["docs/reference/old.md"] = "young\n"
    said = differences(tmp_path, expected)
    named = [line.split()[0] for line in said if not line.startswith("  ")]
    assert named == [f"docs/reference/{name}.md" for name in ("new", "old", "left")]
    assert "  -old" in said
    assert "  +young" in said


def test_faults_are_seen(tmp_path: Path):
    """The checks above see a dead link, a missing heading, an absent file, a foreign place."""
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    (tmp_path / "docs/other.md").write_text("# One `word`, two\n```\n# no heading\n```\n")
    text = (
        "# Here\n[a](other.md) [b](other.md#one-word-two) [c](#here) [d](https://example.org/x)\n"
        "[e](gone.md) [f](other.md#three) [g](other.md#no-heading) ![h](gone.png) `[i](code.md)`\n"
        "`docs/other.md`, `docs/gone.md`, `scripts/gone --flag`, `hive/*.py`, `hive attempts`\n"
        "```\nscripts/absent\n[j](fenced.md)\n```\n"
    )
    page.write_text(text)
    links = [fault.split()[1].rstrip(":") for fault in broken_links(tmp_path, page, text)]
    assert links == ["gone.md", "other.md#three", "other.md#no-heading", "gone.png"]
    files = [fault.split()[2].rstrip(",") for fault in absent_files(tmp_path, page, text)]
    assert files == ["docs/gone.md", "scripts/gone", "scripts/absent"]
    assert glossary_words("| word | meaning |\n|---|---|\n| log chunk | a group |\n| bare | |") == {
        "word",
        "log chunk",
    }
    places = [f"see /{'root'}/.config", f"(/{'work'}/main)", f"https://{REGISTRY_HOSTS[0]}/simple"]
    assert [len(foreign_places(place)) for place in places] == [1, 1, 1]
    assert foreign_places("src/work/x ~/work/x ./root/x https://example.org/work/x") == []
