"""The child that looks at an objective before the first trial: its space, its arguments, its sign.

User code is imported by children alone; what rank 0 learns of it comes back as JSON.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from mpibo.engine import loading
from mpibo.engine.children import Child, settle_in
from mpibo.engine.environment import child_environment
from mpibo.engine.sandbox import Pipe, one_line, parse, told

PATIENCE = 300.0  # seconds that an objective may take to import


class Refused(ValueError):
    """Bad input: one line for the person, and the traceback for ``--debug``."""

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line)
        self.details = details


class Probe:
    """Ask a child about an objective. Starting is cheap; ``result`` waits for the answer.

    Args:
        objective: Its description.
        name: What to call it in messages.
        space: The space file, or its JSON form; None for the objective's own.
        fix: Arguments held by ``--fix``.
        budgets: Whether trials differ in their budget: then the objective must see it.
    """

    def __init__(
        self,
        objective: Mapping[str, Any],
        name: str,
        space: str | Mapping[str, Any] | None,
        fix: Mapping[str, Any],
        budgets: bool = False,
    ) -> None:
        self._name = name
        self._child = Child("mpibo.engine.probe", environment=child_environment(1))
        question = {
            "objective": objective, "name": name, "space": space, "fix": dict(fix), "argv": sys.argv, "budgets": budgets
        }  # fmt: skip
        self._child.send(question)

    def result(self) -> dict[str, Any]:
        """``space`` (JSON form), ``text`` (in words), ``maximize``, ``budget``, ``source`` (a hash) of the objective.

        Raises:
            Refused: It can't be loaded, has no space, or does not fit it.
        """
        import select
        import time

        deadline = time.monotonic() + PATIENCE
        try:
            while True:
                select.select([self._child], [], [], max(0.0, deadline - time.monotonic()))
                for message in self._child.receive():
                    if "refused" in message:
                        raise Refused(message["refused"], message.get("details", ""))
                    return message
                if self._child.ended:
                    code = self._child.wait()
                    raise Refused(f"importing {self._name} ended its process with code {code}; see its output above")
                if time.monotonic() > deadline:
                    raise Refused(f"importing {self._name} took longer than {PATIENCE:.0f} s")
        finally:
            self._child.kill()


def look(question: Mapping[str, Any]) -> dict[str, Any]:
    """What the probe answers; raises whatever is wrong with the objective or its space."""
    from mpibo.space import Space

    sys.argv = list(question["argv"])
    objective = loading.load(question["objective"])
    if isinstance(question["space"], Mapping):
        space = Space.from_json(dict(question["space"]))
    elif question["space"]:
        space = Space.load(question["space"])
    else:
        own = getattr(objective, "space", None)
        if own is None:
            own = getattr(sys.modules.get(getattr(objective, "__module__", "")), "space", None)
        if own is None:
            raise ValueError(f"{question['name']} has no space: set its attribute .space or a variable `space` in its "
                             f"module, or give --space FILE")  # fmt: skip
        space = as_space(own)
    if question.get("budgets"):
        loading.check_budget(objective, question["name"])
    form = space.to_json()
    answer = {"space": form, "maximize": bool(getattr(objective, "maximize", False)), "text": space.describe()}
    answer["budget"] = int(getattr(objective, "budget", 1))
    if question["objective"]["kind"] == "command":
        names = [each["name"] for each in form["parameters"]]
        conditional = [each["name"] for each in form["parameters"] if each.get("when")]
        objective.check(names, conditional)  # type: ignore[attr-defined]
        if question["fix"]:
            raise ValueError("a command has no arguments to fix; write the value into its command line")
    else:
        arguments = loading.parameters_of(objective)
        loading.check_signature(arguments, form, question["fix"], question["name"])
    return answer | {"source": loading.source_hash(question["objective"], objective)}


def as_space(own: Any) -> Any:
    """A ``Space`` from what an objective carries: a Space, a dict of parameters, or a dict as TOML has it."""
    from mpibo.space import Space

    if isinstance(own, Space):
        return own
    if isinstance(own, Mapping) and isinstance(own.get("space"), Mapping):
        return Space.from_toml(own)
    return Space(own)


def main() -> None:
    """Answer one question and end."""
    arguments = parse()
    settle_in(arguments.parent)
    pipe = Pipe(arguments.answers)
    question = pipe.receive()
    if question is None:
        return
    os.dup2(2, 1)  # what the file prints while it is imported is no answer
    try:
        answer = look(question)
    except (Exception, SystemExit) as error:
        answer = {"refused": _where(one_line(error), question, error), "details": told(error)}
    pipe.send(answer)


def _where(line: str, question: Mapping[str, Any], error: BaseException) -> str:
    if isinstance(error, (ValueError, LookupError)) and not isinstance(error, KeyError):
        return line
    return f"can't load {question['name']}: {line}"


if __name__ == "__main__":
    main()
