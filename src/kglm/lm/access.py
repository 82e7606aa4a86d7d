"""Whether the hub lets this user read the gated models, asked before anything is submitted. No torch here."""

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kglm.errors import InputError
from kglm.lm.entries import Hub, read_entry
from kglm.lm.folder import WANTED, weight_files

HUB_ERRORS = (HTTPError, HFValidationError, OSError)


def check_access(models: dict, built: Path | None = None) -> None:
    """InputError, one line for all models together, if a gated hub entry of `models` can not be fetched.

    Entries that stand in the folder `built`, or whole in the hub's cache, need no access.
    """
    refused = []
    for entry in _gated(models, built).values():
        if cached(entry):
            continue
        try:
            HfApi().auth_check(entry.id)
        except HUB_ERRORS as error:
            refused.append(str(explain(error, entry.id)))
    if refused:
        raise InputError("; ".join(refused))


def cached(entry: Hub) -> bool:
    """Whether the hub's cache on this machine holds all weights of a model at its revision."""
    try:
        folder = snapshot_download(
            entry.id, revision=entry.revision, allow_patterns=list(WANTED), local_files_only=True
        )
        return bool(weight_files(Path(folder)))
    except (*HUB_ERRORS, InputError):
        return False


def explain(error: Exception, repository: str) -> InputError:
    """An error of the hub in one line: what is wrong with `repository` and what to do; never the token."""
    copy = "or point to a copy with `source: local`"
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error.__cause__, HfHubHTTPError | OfflineModeIsEnabled):
        error = error.__cause__  # "not in the cache", said because the hub itself had refused
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError) and get_token():
        what, remedy = (
            "your token has no access",
            f"accept the licence at {page} with the token's account, {copy}",
        )
    elif isinstance(error, GatedRepoError):
        what = "no access without a token"
        remedy = f"accept the licence at {page} and set HF_TOKEN, {copy}"
    elif isinstance(error, RepositoryNotFoundError):
        what = "no such model on the hub, or it is private"
        remedy = f"check the id at {page} and that HF_TOKEN may read it, {copy}"
    elif isinstance(error, RevisionNotFoundError):
        what, remedy = "no such revision on the hub", f"choose one of {page}/commits/main"
    elif isinstance(error, HFValidationError):
        what, remedy = "no valid hub id", "write owner/name"
    elif status in (401, 403):
        what, remedy = (
            "the hub refuses the token",
            f"set HF_TOKEN to a valid token that may read {page}, {copy}",
        )
    elif status is not None:
        what, remedy = f"the hub answers with status {status}", f"try again later, {copy}"
    elif isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        what = "not in the hub's cache, and HF_HUB_OFFLINE forbids to ask the hub"
        remedy = f"unset HF_HUB_OFFLINE on a machine with a network, {copy}"
    else:
        what, remedy = f"the hub can not be reached ({type(error).__name__})", f"check the network, {copy}"
    return InputError(what, repository, remedy)


def _gated(models: dict, built: Path | None) -> dict[str, Hub]:
    entries = {
        name: read_entry(spec)
        for name, spec in models.items()
        if not (built and (Path(built) / name / "provenance.json").is_file())
    }
    return {name: entry for name, entry in entries.items() if isinstance(entry, Hub) and entry.gated}
