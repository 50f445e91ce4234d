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
    """The text with escapes in the place of what UTF-8 cannot write: half a surrogate pair, a byte of a file name."""
    return text.encode("utf-8", "backslashreplace").decode()


class XltError(Exception):
    """An error that a user can fix."""

    exit_code = ExitCode.ENVIRONMENT
    """The exit code of the command that ends with it."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(encodable(what))
        self.what = encodable(what)
        """What happened."""
        self.why = encodable(why)
        """Why it happened; may be empty."""
        self.fix = encodable(fix)
        """How to fix it, as a command where there is one; may be empty."""

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.fix) if part)


class UsageFault(XltError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(XltError):
    """The machine lacks something: a compiler, memory, disk, a package."""

    exit_code = ExitCode.ENVIRONMENT


class DivergedFault(EnvironmentFault):
    """A training whose numbers grew without bounds, or are none any more; ``what`` says since when."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            why="Training diverged; its weights are of no use.",
            fix="Lower the learning rate (--learning-rate) or try another seed (--seed).",
        )


class DataFault(XltError):
    """A data file is absent, damaged or not what its task expects."""

    exit_code = ExitCode.DATA


class NotFiniteFault(DataFault):
    """What a model computed is no finite number."""


class IncompleteFault(XltError):
    """Results are missing or unfinished; the same command resumes."""

    exit_code = ExitCode.INCOMPLETE


def package_fault(error: ModuleNotFoundError) -> EnvironmentFault:
    """The error for a Python package that is not installed: which one it is, what needs it, and how to install it."""
    cause: BaseException = error
    while isinstance(cause.__cause__, ModuleNotFoundError):
        # transformers raises its own error, which does not name the package, from the first.
        cause = cause.__cause__
    package = (getattr(cause, "name", None) or str(cause)).partition(".")[0]
    frames = (frame for frame, _ in walk_tb(error.__traceback__) if "__tracebackhide__" not in frame.f_locals)
    modules = [frame.f_globals.get("__name__", "") for frame in frames]
    needing = next((name for name in reversed(modules) if name.startswith("xlt")), "This command")
    fault = EnvironmentFault(
        f"{needing} needs the Python package '{package}', which is not installed.",
        fix=f"make install, or: pip install {_DISTRIBUTIONS.get(package, package)}",
    )
    fault.__cause__ = error
    return fault


# The names under which pip knows packages that are imported under another one.
_DISTRIBUTIONS = {"faiss": "faiss-cpu", "sklearn": "scikit-learn", "yaml": "pyyaml", "google": "protobuf"}
