"""The house's own laws: which way imports point, what `import mpibo` costs, what stands where."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mpibo

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpibo"
FILES = sorted(PACKAGE.rglob("*.py"))

RECORDS = "goals trial outcome strict budgets"
SPACE = "values expression meaning parameters notation space"
CORE = f"{RECORDS} {SPACE} merit rows table"
SEARCH = f"{CORE} models acquisition strategies schedules front recommend"
TOP = f"{SEARCH} search store settings objectives engine report api integrations"

# What a module or package may import of ours, besides its own package. A module's own row wins over its package's.
MAY_IMPORT = {
    "__init__": TOP,
    "goals": "",
    "strict": "",
    "budgets": "",
    "trial": "goals",
    "outcome": "goals trial",
    "store": RECORDS,
    "settings": RECORDS,
    "objectives": RECORDS,
    "values": "",
    "expression": "values",
    "meaning": "values expression",
    "parameters": "values",
    "notation": "parameters",
    "integrations.configspace": "values expression meaning parameters",  # below the space, which is given its parts
    "space": "expression meaning parameters notation integrations.configspace",
    "merit": "",
    "either": "",
    "rows": f"{RECORDS} {SPACE}",
    "table": f"{RECORDS} {SPACE} merit either rows",
    "front": RECORDS,
    "recommend": f"{CORE} models",
    "models": CORE,
    "acquisition": f"{CORE} models",
    "strategies": f"{CORE} models acquisition",
    "schedules": f"{CORE} models acquisition strategies",  # which they wrap
    "warm": f"{RECORDS} store {SPACE}",
    "search": f"{SEARCH} warm",  # where a warm start is asked for
    "engine": f"{RECORDS} store settings",
    "engine.beginning": f"{RECORDS} store settings space warm",  # where a warm start is asked for
    "engine.loading": f"{RECORDS} store settings objectives",  # an objective's name becomes the objective
    "engine.probe": f"{RECORDS} store settings {SPACE}",  # an objective's own space becomes JSON, in a child
    "engine.proposer": f"{SEARCH} search store settings",
    "engine.scribe": f"{RECORDS} store settings report",
    "report": f"{CORE} models store",
    "integrations": TOP,
    "testing": f"{SEARCH} search",
    "sklearn": TOP,
    "api": TOP,
    "cli": TOP,
    "run": f"{TOP} cli",
    "commands": f"{TOP} cli",
    "submit": f"{TOP} cli",
    "needs": f"{TOP} cli",
    "pulling": f"{RECORDS} store engine",
    "resuming": f"{TOP} cli pulling",
    "grammar": RECORDS,
    "replaying": f"{SEARCH} search store engine grammar",
    "verdict": f"{TOP} cli grammar replaying",
    "forecast": TOP,
    "forecast.command": f"{TOP} cli",
    "__main__": f"{TOP} cli commands verdict forecast resuming submit",
}

NUMERIC = {"scipy", "sklearn", "torch", "h5py", "pandas", "matplotlib", "ConfigSpace", "joblib"}
HEAVY = {"mpi4py", "torch", "sklearn", "h5py", "boto3", "matplotlib", "scipy", "rich", "numpy"}
OUTSIDE = {"time", "datetime", "socket", "subprocess", "mpi4py", "h5py", "rich", "boto3", "matplotlib"}

TOP_LEVEL = set(
    "mpibo scripts slurm aws-parallelcluster benchmarks tests docs examples Dockerfile Makefile setup.cfg "
    "pyproject.toml ruff.toml README.md LICENSE CONTRIBUTING.md CHANGELOG.md".split()
)


def module_of(path: Path) -> str:
    """``mpibo/engine/working/worker.py`` is ``engine.working.worker``; a package is its ``__init__``'s name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, in functions too, with its line; not what only a type checker reads."""
    queue: list[ast.AST] = [ast.parse(path.read_text())]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            queue.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                inside = ROOT / Path(*full.split("."))
                is_module = inside.with_suffix(".py").exists() or inside.is_dir()
                yield (full if is_module else node.module), node.lineno
        queue.extend(ast.iter_child_nodes(node))


def row(module: str) -> str | None:
    """The row of ``MAY_IMPORT`` that speaks of this module: its own, or that of the nearest package around it."""
    parts = module.split(".")
    names = [".".join(parts[:k]) for k in range(len(parts), 0, -1)]
    return next((name for name in names if name in MAY_IMPORT), None)


def imported_by(names: str) -> set[str]:
    """The top-level names of the modules that a fresh Python holds after importing these."""
    code = f"import sys, {names}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_one_way(path):
    """A module imports from its own package and from the rooms below it, nowhere else."""
    module = module_of(path)
    assert row(module), f"{path}: MAY_IMPORT has no row for it"
    allowed = {module.partition(".")[0], *MAY_IMPORT[row(module)].split()}
    for name, line in imports(path):
        if name.startswith("mpibo."):
            target = name.removeprefix("mpibo.")
            assert {target, target.partition(".")[0]} & allowed, f"{path}:{line}: {module} may not import {target}"


# The rooms of the engine, and what of its rooms each may import; what stands in the engine itself, all may.
ROOMS = {"managing": set(), "working": set(), "mirroring": {"managing"}}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_engine_do_not_need_each_other(room):
    """The manager is written without a worker in mind, and a worker without the manager: they know messages."""
    files = sorted((PACKAGE / "engine" / room).glob("*.py"))
    assert len(files) > 1
    for path in files:
        rooms = {name.removeprefix("mpibo.engine.").partition(".")[0] for name, _ in imports(path)} & ROOMS.keys()
        assert rooms <= {room} | ROOMS[room], path


def test_no_two_files_need_each_other():
    """Inside a package too, and in functions: of any two files at most one imports the other, through others or not."""
    files = {f"mpibo.{module_of(path)}": path for path in FILES}
    needs = {module: {name for name, _ in imports(path)} & files.keys() for module, path in files.items()}
    TopologicalSorter(needs).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_one_idea(path):
    """The first line of a file says its idea in one sentence."""
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc, f"{path} has no docstring"
    first, *rest = doc.splitlines()
    assert first.endswith("."), f"{path}: its idea is not one line: {first!r}"
    assert not rest or not rest[0].strip(), f"{path}: its idea takes more than a line"


@pytest.mark.parametrize(
    "room", ["space", "rows", "table", "models", "acquisition", "strategies", "schedules", "search"]
)
def test_the_core_knows_arrays_and_tables_only(room):
    """No clock, no process, no network, no screen: what a strategy sees is in the journal."""
    for path in FILES:
        if module_of(path).partition(".")[0] == room:
            for name, line in imports(path):
                assert name.partition(".")[0] not in OUTSIDE, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("module", ["managing.manager", "working.worker"])
def test_message_loops_know_no_numeric_library_but_numpy(module):
    """They start fast and stay small: neither they nor what they import load one, or the space."""
    for name, line in imports(PACKAGE / "engine" / f"{module.replace('.', '/')}.py"):
        assert name.partition(".")[0] not in NUMERIC, f"{module}.py:{line} imports {name}"
    assert not imported_by(f"mpibo.engine.{module}") & NUMERIC
    code = f"import sys, mpibo.engine.{module}; print('mpibo.space' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_import_mpibo_loads_nothing_heavy():
    """A rank, a child and a shell's completion all pay for it."""
    assert not imported_by("mpibo") & HEAVY


def test_import_mpibo_takes_under_a_fifth_of_a_second():
    """CPU time beyond that of a bare interpreter, best of three."""

    def seconds(statement: str) -> float:
        code = (
            f"{statement}; from resource import *; used = getrusage(RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
        )
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    assert min(seconds("import mpibo") - seconds("pass") for _ in range(3)) < 0.2


@pytest.mark.parametrize("name", mpibo.__all__)
def test_public_names_are_there(name):
    """Each lazy name is found, documented and stays the same object."""
    value = getattr(mpibo, name)
    assert value.__doc__
    assert value is getattr(mpibo, name)
    assert name in dir(mpibo)


def test_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'minimise'"):
        mpibo.minimise  # noqa: B018


def tracked() -> list[str]:
    """The files of this repository, those not yet added too."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_every_package_is_installed():
    """A folder without ``__init__.py`` would be missing from the wheel."""
    assert all((path.parent / "__init__.py").exists() for path in FILES)


def test_the_top_level_holds_what_is_known():
    """A new name there is a decision, not an accident."""
    names = {name.partition("/")[0] for name in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_path_of_someones_machine():
    """What works only under one person's folder works for nobody else."""
    someones = re.compile(rb"(?<![\w.~$}])/(home|Users|root|work)/\w")
    for name in tracked():
        found = someones.search((ROOT / name).read_bytes())
        assert not found, f"{name}: {found and found[0]!r}"
