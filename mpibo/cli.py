"""``mpibo run`` on rank 0: flags, files and names become settings and an objective; then the search."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mpibo.engine import launch, loading, mpi
from mpibo.engine.ends import Ended
from mpibo.engine.job import Job
from mpibo.engine.probe import Probe
from mpibo.settings import FIELDS, TRIALS_OF_A_BUILT_IN, Settings, literal, load_toml, settings_from
from mpibo.store.lock import Locked

GROUPS = {
    "goal": "when to end, and what is good",
    "search": "where and how to search",
    "trials": "one evaluation",
    "workers": "how many evaluations at once",
    "output": "what is written and shown",
}
EXAMPLES = """examples:
  mpirun -n 8 python -m mpibo.run                                      a CNN on handwritten digits, 64 trials, 7 workers
  mpirun -n 8 python -m mpibo.run train.py:train --max-trials 200      your function; its module has a variable `space`
  python -m mpibo.run --workers 4 --space space.toml --max-trials 50 -- ./train.sh --lr '{lr}'    any program
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see --help)")


def parser(prog: str = "mpibo run") -> Parser:
    """The parser of ``mpibo run``: a flag for every setting, in groups."""
    made = Parser(
        prog=prog, allow_abbrev=False, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{prog} [NAME | file.py:function | package.module:function] [flags] [-- COMMAND ...]",
        description="Asynchronous search over hyperparameters: rank 0 proposes, all other ranks evaluate.\n"
        "Built-in objectives: digits (the default), mnist, mlp, synthetic:branin and others.",
    )  # fmt: skip
    made.add_argument("objective", nargs="?", help=argparse.SUPPRESS)
    made._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")  # -1e-3 is a value, no flag
    groups = {name: made.add_argument_group(name, text) for name, text in GROUPS.items()}
    for name, each in FIELDS.items():
        about = each.metadata
        flag = "--" + name.replace("_", "-")
        options: dict[str, Any] = {"dest": name, "help": about["help"], "default": None}
        if isinstance(each.default, bool):
            options |= {"action": argparse.BooleanOptionalAction}
        elif name == "fix":
            options |= {"action": "append", "metavar": about["metavar"]}
        else:
            options |= {"metavar": about["metavar"]}
        groups[about["group"]].add_argument(flag, **options)
    groups["output"].add_argument("--settings", metavar="FILE", help="TOML file of settings; flags win over it")
    return made


def from_flags(given: argparse.Namespace) -> dict[str, Any]:
    """The settings among the parsed flags, files read."""
    values = {name: getattr(given, name) for name in FIELDS if getattr(given, name) is not None}
    if "fix" in values:
        pairs = [pair.partition("=") for pair in values["fix"]]
        for name, equals, _ in pairs:
            if not equals or not name:
                raise ValueError(f"--fix expects NAME=VALUE, got {name!r}")
        values["fix"] = {name: literal(text) for name, _, text in pairs}
    return values


def settings_of(given: argparse.Namespace) -> Settings:
    """The settings that the parsed flags and their file say."""
    file = load_toml(given.settings) if given.settings else {}
    return settings_from({key.replace("-", "_"): value for key, value in file.items()}, from_flags(given))


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Our own arguments, and the command after ``--`` if there is one."""
    argv = list(argv)
    if "--" not in argv:
        return argv, None
    cut = argv.index("--")
    return argv[:cut], argv[cut + 1 :]


def describe(text: str | None, command: Sequence[str] | None) -> tuple[str, dict[str, Any], bool]:
    """Name, description and whether it is a built-in, of what the command line names.

    Raises:
        ValueError: Nothing of that name.
    """
    if command is not None:
        if text is not None:
            raise ValueError(f"give an objective ({text}) or a command after --, not both")
        if not command:
            raise ValueError("expected a command after --")
        return Path(command[0]).stem or "command", {"kind": "command", "argv": list(command)}, False
    from mpibo.objectives import NAMES, resolve

    text = text or "digits"
    if text in NAMES or ":" not in text:
        return text.replace(":", "-"), loading.named(resolve(text)), True
    description = loading.named(text)
    return description["function"], description, False


def run(argv: Sequence[str], prog: str = "mpibo run") -> int:
    """Run a search; gives the exit code.

    Raises:
        ValueError: Bad input, one line.
    """
    argv, command = split_command(argv)
    given = parser(prog).parse_args(argv)
    if given.debug:
        logging.getLogger("mpibo").setLevel(logging.DEBUG)
    name, description, builtin = describe(given.objective, command)
    file = {key.replace("-", "_"): value for key, value in load_toml(given.settings).items()} if given.settings else {}
    flags = from_flags(given)
    settings = settings_from(file, flags)
    probe = Probe(description, name, settings.space, settings.fix, settings.schedule is not None)
    world = mpi.join()
    found = probe.result()
    if "maximize" not in flags and "maximize" not in file and not settings.goals:
        settings = settings_from(file, flags, {"maximize": found["maximize"]})
    if settings.max_trials is None and settings.walltime is None and settings.target is None:
        if not builtin:
            raise ValueError("when is the search to end? give --max-trials, --walltime or --target")
        settings = settings_from(settings.plain(), {"max_trials": TRIALS_OF_A_BUILT_IN})
    job = Job(name, description, found["space"], found["source"], None, found["text"], found["budget"])
    return told(launch.run(job, settings, world).ended, given.debug)


def told(ended: Ended, debug: bool) -> int:
    """Say how a run ended, where it went wrong; gives the exit code."""
    if ended.line:
        print(f"mpibo: {ended.line}", file=sys.stderr)
        if ended.details and (debug or ended.why == "failing"):
            print(ended.details, file=sys.stderr)
    return ended.exit_code


def main(argv: Sequence[str] | None = None, prog: str = "mpibo run") -> NoReturn:
    """The command on rank 0: run the search, say what went wrong in one line."""
    logging.basicConfig(format="mpibo: %(message)s", level=logging.INFO, stream=sys.stderr)
    arguments = list(sys.argv[1:] if argv is None else argv)
    leave(guarded(lambda: run(arguments, prog), "--debug" in arguments))


def guarded(command: Any, debug: bool) -> int:
    """Run a command; bad input becomes one line and code 2, a fault of ours a traceback and code 1."""
    try:
        code: int = command()
        return code
    except (ValueError, Locked, mpi.BrokenLaunch) as error:
        if debug:
            traceback.print_exc()
            print(getattr(error, "details", ""), file=sys.stderr)
        print(f"mpibo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:  # --help, or a signal before the search began
        return error.code if isinstance(error.code, int) else 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"mpibo: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def leave(code: int) -> NoReturn:
    """End this process: the other ranks are told, MPI is finalised."""
    sys.stdout.flush()
    sys.stderr.flush()
    world = None
    try:
        world = mpi.join()  # the ranks that wait in MPI_Init are let go, too
    except mpi.BrokenLaunch:
        pass
    if world is not None:
        world.close(code)
    raise SystemExit(code)
