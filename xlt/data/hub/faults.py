"""The errors of the hub's client as errors that say how to fix them, and several of them as one."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from xlt.errors import DataFault, EnvironmentFault, IncompleteFault, XltError

# Of httpx or httpx2, whichever this version of the hub's client is built on.
HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]
NOT_HERE = "not wholly here, and the network may not be used"


class SeveralFaults(XltError):
    """Several things could not be fetched; the rest was."""

    def __init__(self, faults: Sequence[XltError]) -> None:
        """Names every fault; the exit code is the lowest of theirs."""
        self.faults = faults
        self.exit_code = min(fault.exit_code for fault in faults)
        alike = [fault.name for fault in faults if isinstance(fault, NeverFetched) and not fault.why]
        lines = [f"{fault.what} {fault.why}".rstrip() for fault in faults if getattr(fault, "name", "") not in alike]
        lines += [f"{NOT_HERE.capitalize()}: {', '.join(alike)}."] * bool(alike)
        super().__init__(
            f"{len(faults)} things could not be fetched. All else is here, or the same command fetches it.",
            why="\n".join(f"- {line}" for line in lines),
            fix="\n".join(dict.fromkeys(fault.fix for fault in faults)),
        )


class NeverFetched(DataFault):
    """Something is not here, and the network may not be used."""

    def __init__(self, name: str, why: str = "") -> None:
        """``name`` is a repository or the address of an archive; ``why`` empty where it was never fetched whole."""
        super().__init__(
            f"{name} is {NOT_HERE}.",
            why=why,
            fix="xlt fetch without --offline and HF_HUB_OFFLINE, or copy the cache of another machine (HF_HOME).",
        )
        self.name = name


class NotAListing(Exception):
    """A server answered with something that is no list of a repository's files."""


@contextmanager
def collecting(collected: list[XltError], *, one_host: bool = False) -> Iterator[None]:
    """Keeps a fault for the end, so that the rest is tried.

    A fault that would hit the rest as well is raised at once, with those collected before it: a full disk and, with
    ``one_host``, a failed connection.
    """
    try:
        yield
    except XltError as fault:
        found = fault.faults if isinstance(fault, SeveralFaults) else [fault]
        collected += (each for each in found if each.what not in {known.what for known in collected})
        broken = isinstance(fault.__cause__, HTTPError) and not isinstance(fault.__cause__, HfHubHTTPError)
        if (one_host and broken) or any(isinstance(each, EnvironmentFault) for each in found):
            raise_collected(collected)


def raise_collected(collected: Sequence[XltError]) -> None:
    """Raises the fault, or the faults as one, if there is any."""
    if collected:
        raise collected[0] if len(collected) == 1 else SeveralFaults(collected)


@contextmanager
def faults(endpoint: str, page: str = "", revision: str = "", path: str = "") -> Iterator[None]:
    """Turns what the hub's client raises, for a listing or (with ``path``) a download, into one of our errors.

    ``page`` is the repository's below the address of the hub; without one, ``endpoint`` is the folder of an archive.
    """
    try:
        yield
    except (OSError, HTTPError, EntryNotFoundError, HFValidationError, JSONDecodeError, NotAListing) as error:
        raise _fault(error, endpoint, page, revision, path) from error


def disk_full(why: str) -> EnvironmentFault:
    """There is no room for the download."""
    return EnvironmentFault("The disk is full.", why=why, fix=f"Free space. {_OTHER_DISK} What was downloaded is kept.")


_OTHER_DISK = "A folder on another disk: HF_HOME for the hub's cache, --data-root for archives. Repeat the command."


def _fault(error: Exception, endpoint: str, page: str, revision: str, path: str) -> XltError:
    why = str(error).split("\n")[0]
    repository = page.removeprefix("datasets/") or endpoint
    match error:
        case HFValidationError():
            what, fix = f"'{repository}' is not the name of a repository.", "Check the name: OWNER/NAME."
        case JSONDecodeError() | NotAListing():
            what, why = f"{endpoint} does not answer as a hub does.", "A network's log-in page does so, or a proxy."
            fix = "Log in to the network, or correct --mirror or HF_ENDPOINT."
        case GatedRepoError():
            what = f"Access to {repository} is restricted."
            fix = f"Accept its terms at {endpoint}/{page} and set HF_TOKEN to a token of yours."
        case RevisionNotFoundError():
            what, why = f"{repository} has no revision '{revision}'.", "data.lock or artifact/hub.toml names it."
            fix = "Try without --mirror, or use the official files (--source files)."
        case RepositoryNotFoundError():
            what = f"{endpoint} has no repository {repository}, or not for everybody."
            fix = "Check the name, or omit --mirror; for a private one set HF_TOKEN."
        case _ if isinstance(error, EntryNotFoundError) or (path and _status(error) == 404):
            what = f"{repository} has no file '{path}'" + (f" at the revision {revision}." if revision else ".")
            fix = f"See {endpoint}/{page}"
        case _ if _status(error) in (401, 403):
            what = f"{endpoint} refuses access to {path if repository == endpoint else repository}."
            fix = "Set HF_TOKEN to a valid token, or unset it: public data needs none." if page else f"See {endpoint}"
        case _ if _status(error) == 429:
            fix = "Wait some minutes and repeat the command. The limit is higher with a token of yours in HF_TOKEN."
            return IncompleteFault(f"{endpoint} was asked too much at a time.", why=why, fix=fix)
        case OfflineModeIsEnabled():
            return NeverFetched(repository, why)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return disk_full(f"It ran full while '{path}' of {repository} was written.")
        case OSError(errno=int()) if not isinstance(error, HTTPError):
            return EnvironmentFault("The disk cannot be written.", why=why, fix=_OTHER_DISK)
        case _ if path:
            what = f"The download of '{path}' of {repository} broke off."
            return IncompleteFault(what, why=why, fix="The same command resumes it. What was downloaded is kept.")
        case _:
            what = f"The hub at {endpoint} cannot be reached."
            fix = "Check network and proxy, or add a mirror to the command: --mirror URL"
    return DataFault(what, why=why, fix=fix)


def _status(error: Exception) -> int:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else 0
