"""Files of the model hub: from the cache of this computer, or downloaded. Without a network it raises in seconds."""

from collections.abc import Sequence
from pathlib import Path

import timm

from shpeft.errors import WeightsUnavailable
from shpeft.support.network import unreachable


def download(repository: str, file: str) -> Path:
    """Return a file of the model hub, from the cache or downloaded.

    Raises:
        WeightsUnavailable: it is not cached and cannot be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    owner, _, revision = repository.partition("@")
    try:
        cached = try_to_load_from_cache(owner, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
        reason = None if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)
        if constants.HF_HUB_OFFLINE or reason is not None:
            why = "HF_HUB_OFFLINE is set" if reason is None else f"the hub cannot be reached ({reason})"
            raise WeightsUnavailable(
                f"{file} of {owner} is not in the cache of this computer, and {why}. Download the repository into a "
                f"folder elsewhere, and give it as local-dir:FOLDER."
            )
        return Path(hf_hub_download(owner, file, revision=revision or None))
    except GatedRepoError:
        raise WeightsUnavailable(
            f"{owner} is gated: accept its license on {constants.ENDPOINT}/{owner} and log in with 'hf auth login'."
        ) from None
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(
            f"{file} of {owner} cannot be read from the model hub: {reason}. Check the name, OWNER/NAME."
        ) from None


def download_files(repository: str, files: Sequence[str]) -> Path:
    """Return a folder with those of the files that a repository of the model hub has, from the cache or downloaded.

    Raises:
        WeightsUnavailable: it is not cached and cannot be downloaded.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    owner, _, revision = repository.partition("@")
    reason = None if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)
    offline = constants.HF_HUB_OFFLINE or reason is not None
    try:
        return Path(
            snapshot_download(owner, revision=revision or None, allow_patterns=list(files), local_files_only=offline)
        )
    except GatedRepoError:
        raise WeightsUnavailable(
            f"{owner} is gated: accept its license on {constants.ENDPOINT}/{owner} and log in with `hf auth login`."
        ) from None
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if reason is None else f"the hub cannot be reached ({reason})"
        raise WeightsUnavailable(
            f"{owner} is not in the cache of this computer, and {why}. Download the repository into a folder "
            "elsewhere, and give it as local-dir:FOLDER."
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(f"{owner} cannot be read from the model hub: {reason}. Check the name.") from None


def check_hub(name: str) -> None:
    """Raise within seconds if pretrained weights cannot be downloaded; timm alone would retry for minutes.

    Raises:
        WeightsUnavailable: timm publishes none, or they are not cached and the hub cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    advice = (
        "Give a local file of weights (--weights FILE.safetensors), use the backbone 'embedded', or ask for 'random'."
    )
    if config is None or not config.has_weights:
        tagged = timm.list_pretrained(f"{name.split('.')[0]}*")
        hint = f" Models with weights: {', '.join(tagged[:3])}." if tagged else ""
        raise WeightsUnavailable(f"timm publishes no pretrained weights for {name}.{hint} {advice}")
    if config.hf_hub_id:
        files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return
    host = constants.ENDPOINT.split("//")[-1]
    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(f"HF_HUB_OFFLINE is set and the weights of {name} are not in the cache. {advice}")

    reason = unreachable(constants.ENDPOINT)
    if reason is not None:
        raise WeightsUnavailable(
            f"The pretrained weights of {name} are on {host}, which cannot be reached ({reason}). {advice}"
        )
