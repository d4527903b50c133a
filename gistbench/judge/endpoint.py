"""A judge behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from gistbench.errors import PrerequisiteError, UsageError, first_line

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_RETRIES = 4
TIMEOUT_SECONDS = 60.0


def require_endpoint(url: str, flag: str = "--url") -> None:
    """Refuse to judge without the client's package, or at what is no address.

    Args:
        url: Of the endpoint.
        flag: It was given in.

    Raises:
        PrerequisiteError: The package is not installed.
        UsageError: The address is none.
    """
    if find_spec("openai") is None:
        raise PrerequisiteError(
            "a judge needs openai, not installed here; run `pip install openai`"
        )
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{flag} {url} is no address; write for instance http://localhost:8000/v1")


class Endpoint:
    """Asks one model, greedily; the client waits and asks again where that may help."""

    def __init__(self, model: str, url: str) -> None:
        require_endpoint(url)
        import openai

        self.model = model
        self.url = url
        # Local servers want no key, the client wants one.
        key = os.environ.get(KEY_VARIABLE) or "none"
        self._errors = openai
        self._client: Any = openai.OpenAI(
            base_url=url, api_key=key, max_retries=MAX_RETRIES, timeout=TIMEOUT_SECONDS
        )

    def ask(self, system: str, prompt: str) -> str:
        """The reply's text, empty where there is none.

        Raises:
            UsageError: The endpoint does not know the model, or refuses the request.
            PrerequisiteError: It cannot be reached, refuses the key, or wants to be asked later.
        """
        errors = self._errors
        try:
            done = self._client.chat.completions.create(
                model=self.model,
                temperature=0,
                messages=[
                    {"role": "system", "content": system},
                    {"role": "user", "content": prompt},
                ],
            )
        except (errors.AuthenticationError, errors.PermissionDeniedError) as error:
            # Not the server's words: they may repeat the key.
            raise PrerequisiteError(
                f"the judge at {self.url} refuses the key in {KEY_VARIABLE} (status "
                f"{error.status_code}); set that variable"
            ) from error
        except errors.RateLimitError as error:
            raise PrerequisiteError(
                f"the judge at {self.url} allows no more requests for now (status 429)"
            ) from error
        except errors.APIConnectionError as error:
            raise PrerequisiteError(
                f"the judge at {self.url} does not answer ({first_line(error)})"
            ) from error
        except errors.APIStatusError as error:
            raise UsageError(
                f"the judge at {self.url} refuses model {self.model} (status {error.status_code}: "
                f"{first_line(error)})"
            ) from error
        except errors.OpenAIError as error:
            raise UsageError(f"the judge at {self.url}: {first_line(error)}") from error
        choices = getattr(done, "choices", None)
        if not isinstance(choices, list):
            raise UsageError(
                f"{self.url} does not answer as an OpenAI-compatible endpoint; its address often "
                "ends in /v1"
            )
        message = getattr(choices[0], "message", None) if choices else None
        return str(getattr(message, "content", None) or "")
