"""The errors of the hub's client as errors that say how to mend them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from httpx2 import HTTPError
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from xlt.errors import DataFault, EnvironmentFault, IncompleteFault, XltError

_OTHER_DISK = "Set HF_HOME to a folder on another disk, and repeat the command."


@contextmanager
def faults(endpoint: str, page: str, revision: str, path: str = "") -> Iterator[None]:
    """Turns what the hub's client raises, for a listing or (with ``path``) a download, into one of our errors.

    ``page`` is the repository's below the address of the hub.
    """
    try:
        yield
    except (OSError, HTTPError, EntryNotFoundError) as error:
        raise _fault(error, endpoint, page, revision, path) from error


def disk_full(why: str) -> EnvironmentFault:
    """There is no room for the download."""
    return EnvironmentFault(
        "The disk of the hub's cache is full.", why=why, mend=f"Free space. {_OTHER_DISK} What has come is kept."
    )


def never_fetched(repository: str, why: str) -> DataFault:
    """Something is not in the cache, and the hub may not be asked."""
    return DataFault(
        f"{repository} is not wholly in the hub's cache, and the hub may not be asked.",
        why=why,
        mend="xlt fetch without --offline and HF_HUB_OFFLINE, or bring the cache of another machine (HF_HOME).",
    )


def _fault(error: Exception, endpoint: str, page: str, revision: str, path: str) -> XltError:
    reason = str(error).split("\n")[0]
    repository = page.removeprefix("datasets/")
    match error:
        case GatedRepoError():
            what = f"Access to {repository} is restricted."
            return DataFault(
                what, why=reason, mend=f"Accept its terms at {endpoint}/{page} and set HF_TOKEN to a token of yours."
            )
        case RevisionNotFoundError():
            what, reason = f"{repository} has no revision '{revision}'.", "data.lock or artifact/hub.toml names it."
            return DataFault(what, why=reason, mend="Try without --mirror, or use the official files (--source files).")
        case RepositoryNotFoundError():
            what = f"{endpoint} has no repository {repository}, or not for everybody."
            return DataFault(what, why=reason, mend="Check the name; for a private repository set HF_TOKEN.")
        case _ if isinstance(error, EntryNotFoundError) or (path and _status(error) == 404):
            what = f"{repository} has no file '{path}' at the revision {revision}."
            return DataFault(what, why=reason, mend=f"See {endpoint}/{page}")
        case _ if _status(error) in (401, 403):
            what = f"{endpoint} refuses access to {repository}."
            return DataFault(what, why=reason, mend="Set HF_TOKEN to a valid token.")
        case OfflineModeIsEnabled():
            return never_fetched(repository, reason)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return disk_full(f"It ran full while '{path}' of {repository} was written.")
        case OSError(errno=int()) if not isinstance(error, HTTPError):
            return EnvironmentFault("The hub's cache cannot be written.", why=reason, mend=_OTHER_DISK)
    if path:
        what = f"The download of '{path}' of {repository} broke off."
        return IncompleteFault(what, why=reason, mend="The same command resumes it. What has come is kept.")
    what = f"The hub at {endpoint} cannot be reached."
    return DataFault(what, why=reason, mend="Check network and proxy, or name a mirror: xlt fetch --mirror URL")


def _status(error: Exception) -> int:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else 0
