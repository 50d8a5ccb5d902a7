"""`afmrl push`."""

from __future__ import annotations

from pathlib import Path

from afmrl.cli.summary import Summary
from afmrl.errors import InputError

NOT_UPLOADED = ["checkpoint-*", "checkpoint-*/**", "training_args.bin", "*.tmp", ".*"]
"""Left out of an upload: `training_args.bin` is a pickle, which nobody should have to trust."""


def push(model: Path, name: str, *, license: str = "", private: bool = True, card_only: bool = False) -> Summary:
    """Upload a trained model to the Hugging Face hub, with a model card.

    The token is read from HF_TOKEN or from `hf auth login`; HF_ENDPOINT names another hub.

    Parameters
    ----------
    model
        RUN/embedder or RUN/generator.
    name
        Of the repository on the hub: OWNER/NAME.
    license
        An identifier of the hub, such as apache-2.0. The license of the base model may bind yours: look there first.
    private
        Make a private repository; --no-private makes a public one.
    card_only
        Write the card (README.md in the model's folder) and upload nothing.
    """
    from afmrl.training.model_card import write_model_card

    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"push: {name!r} does not name a repository; expected OWNER/NAME")
    card = write_model_card(model, name, license=license)
    print(f"Model card: {card}")
    if card_only:
        return {"card": card}
    url = _upload(model, name, private)
    print(f"Uploaded: {url}")
    return {"card": card, "name": name, "url": url}


def _upload(model: Path, name: str, private: bool) -> str:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=model,
            ignore_patterns=NOT_UPLOADED,
            commit_message="Upload of afmrl",
        )
    except OfflineModeIsEnabled as error:
        raise InputError("push: HF_HUB_OFFLINE is set; unset it to upload") from error
    except LocalTokenNotFoundError as error:
        raise InputError("push: no token; set HF_TOKEN or run `hf auth login`") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        advice = "; is the token valid, and may it write there?" if status in (401, 403, 404) else ""
        raise InputError(f"push: the hub refused {name} ({status}){advice}") from error
    except httpx2.HTTPError as error:
        raise InputError(f"push: {api.endpoint} cannot be reached ({type(error).__name__})") from error
    return str(done.commit_url)
