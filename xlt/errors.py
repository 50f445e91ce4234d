"""The errors a user can meet: what happened, why, and the one command or step that fixes it."""

from __future__ import annotations

from enum import IntEnum
from traceback import walk_tb


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    DEVIATES = 1
    USAGE = 2
    ENVIRONMENT = 3
    DATA = 4
    INCOMPLETE = 5


def encodable(text: str) -> str:
    """The text with escapes for what UTF-8 cannot write: half a surrogate pair, a byte of a file name."""
    return text.encode("utf-8", "backslashreplace").decode()


class XltError(Exception):
    """An error that a user can fix.

    ``what`` happened, ``why`` (may be empty), and how to ``fix`` it (a command where there is one).
    """

    exit_code = ExitCode.ENVIRONMENT

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(encodable(what))
        self.what = encodable(what)
        self.why = encodable(why)
        self.fix = encodable(fix)

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.fix) if part)


class UsageFault(XltError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(XltError):
    """The machine lacks something: a compiler, memory, disk, a package."""

    exit_code = ExitCode.ENVIRONMENT


class DataFault(XltError):
    """A data file is absent, damaged or not what its task expects."""

    exit_code = ExitCode.DATA


class IncompleteFault(XltError):
    """Results are missing or unfinished; the same command resumes."""

    exit_code = ExitCode.INCOMPLETE


def package_fault(error: ModuleNotFoundError) -> EnvironmentFault:
    """An absent package as an error that says which one, what needs it, and how to get it."""
    cause: BaseException = error
    while isinstance(cause.__cause__, ModuleNotFoundError):
        # transformers raises its own error, which does not name the package, from the first.
        cause = cause.__cause__
    package = (getattr(cause, "name", None) or str(cause)).partition(".")[0]
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    needing = next((name for name in reversed(modules) if name.startswith("xlt")), "This command")
    fault = EnvironmentFault(
        f"{needing} needs the Python package '{package}', which is not installed.",
        fix=f"make install, or: pip install {_DISTRIBUTIONS.get(package, package)}",
    )
    fault.__cause__ = error
    return fault


# Where a package is not called as what it is imported by.
_DISTRIBUTIONS = {"faiss": "faiss-cpu", "sklearn": "scikit-learn", "yaml": "pyyaml", "google": "protobuf"}
