"""What the hub says of a model that no host has yet, asked from the operator's machine with the standard library.

Honours HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the proxy variables, as huggingface_hub does. A plan must not become
slow without a network: the first question that nobody answers is the last one of a run.
"""

import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from roles.errors import InputError
from roles.planner.memory import model_config, safetensors
from roles.planner.memory.found_model import FoundModel
from roles.planner.memory.model_config import ModelShape
from roles.planner.memory.safetensors import Weights

ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 3.0
# All of an answer: one that comes a byte every two seconds never times out by itself.
ANSWER_S = 10.0
API_MAX_BYTES = 8 * 2**20
_CHUNK_BYTES = 2**16


class Unreachable(Exception):
    """Nobody answered: one line that says what was tried."""


class _Refused(Exception):
    """The hub answered that this model or file is not to be had; one line."""


class Hub:
    """The hub for one run. After the first question without an answer it asks nothing more."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._endpoint = environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
        self._token = environ.get("HF_TOKEN", "").strip()
        self._gave_up: str | None = None
        self._found: dict[str, FoundModel] = {}
        self._asking = threading.Lock()
        self._is_resolved = False
        if environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            self._gave_up = "the hub was not asked: HF_HUB_OFFLINE is set"
        elif urllib.parse.urlsplit(self._endpoint).scheme not in ("http", "https"):
            self._gave_up = f"the hub was not asked: HF_ENDPOINT is no http or https address: {self._endpoint[:60]}"
        self._opener = urllib.request.build_opener(_WebOnly())

    def find(self, hub_id: str) -> FoundModel:
        """Config and size of a model, asked for once; what is missing has a reason. Never raises."""
        with self._asking:  # hosts are looked at side by side
            if hub_id not in self._found:
                self._found[hub_id] = self._find(hub_id)
            return self._found[hub_id]

    def _find(self, hub_id: str) -> FoundModel:
        reasons: list[str] = []
        shape = self._config(hub_id, reasons)
        weights = self._weights(hub_id, reasons)
        return FoundModel(shape, weights, tuple(dict.fromkeys(reasons)))

    def _config(self, hub_id: str, reasons: list[str]) -> ModelShape | None:
        name = f"{hub_id}/config.json on the hub"
        try:
            text = self._get(f"/{hub_id}/resolve/main/config.json", model_config.CONFIG_MAX_BYTES, hub_id)
            return model_config.read(text, name)
        except (InputError, Unreachable, _Refused) as error:
            reasons.append(str(error))
            return None

    def _weights(self, hub_id: str, reasons: list[str]) -> Weights | None:
        """From the index; a model of a single file has none, and the hub's API knows its tensors."""
        index = f"/{hub_id}/resolve/main/model.safetensors.index.json"
        try:
            try:
                text = self._get(index, safetensors.INDEX_MAX_BYTES, hub_id)
                return safetensors.from_index(text, f"{hub_id} on the hub")
            except _Refused:
                text = self._get(f"/api/models/{hub_id}", API_MAX_BYTES, hub_id)
                name = f"{hub_id} on the hub"
                return safetensors.from_parameters(safetensors.parse_json(text, name), name)
        except (InputError, Unreachable, _Refused) as error:
            reasons.append(str(error))
            return None

    def _get(self, path: str, limit: int, hub_id: str) -> bytes:
        """
        Raises:
            Unreachable: nobody answered, now or earlier in this run.
            _Refused: there is no such model or file, or it is not for this token.
        """
        if self._gave_up is not None:
            raise Unreachable(self._gave_up)
        request = urllib.request.Request(self._endpoint + urllib.parse.quote(path))
        if self._token:
            # Unredirected: the hub sends some files from elsewhere, which must not see the token.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            self._resolve_once()
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return _read(answer, limit, hub_id)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise _Refused(
                    f"{hub_id}: the hub does not show it (HTTP {error.code}): it is gated, private or does not exist; "
                    "set HF_TOKEN to a token that may read it, or weights_gib"
                ) from None
            if error.code < 500:
                raise _Refused(f"{hub_id}: the hub has no such model or file (HTTP {error.code})") from None
            self._gave_up = f"the hub at {self._endpoint} answers HTTP {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            self._gave_up = f"the hub at {self._endpoint} cannot be reached ({cause or type(error).__name__})"
        raise Unreachable(self._gave_up)

    def _resolve_once(self) -> None:
        """Look the name up before the first question: a resolver without a network may take half a minute, and no
        timeout of a socket ends it."""
        parts = urllib.parse.urlsplit(self._endpoint)
        host = parts.hostname or ""
        if self._is_resolved or (parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)):
            return
        failed: list[OSError] = []
        thread = threading.Thread(target=_look_up, args=(host, failed), daemon=True)
        thread.start()
        thread.join(TIMEOUT_S)
        if thread.is_alive():
            raise TimeoutError(f"no answer for its name within {TIMEOUT_S:g} s")
        if failed:
            raise failed[0]
        self._is_resolved = True


def _look_up(host: str, failed: list[OSError]) -> None:
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        failed.append(error)
    except UnicodeError:
        failed.append(OSError("its name is none"))


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web addresses only: urllib would also open ftp:// ones."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]  # urllib's own
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(answer: http.client.HTTPResponse, limit: int, hub_id: str) -> bytes:
    """The body, up to ``limit`` bytes and within the time that one answer may take."""
    until, parts, size = time.monotonic() + ANSWER_S, [], 0
    while chunk := answer.read1(_CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _Refused(f"{hub_id}: the hub's answer is larger than {limit // 2**20} MiB")
        if time.monotonic() > until:
            raise TimeoutError(f"an answer took longer than {ANSWER_S:g} s")
    return b"".join(parts)
