"""Loading a base model with the gist attention, at a precision, on a device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from gistbench.errors import PrerequisiteError, UsageError, first_line
from gistbench.models.architectures import SUPPORTED_ARCHITECTURES, require_supported
from gistbench.models.attention import ATTENTION
from gistbench.models.catalog import (
    ModelSource,
    fingerprint,
    weight_files,
)
from gistbench.models.gguf import SOURCE_FILE, dequantise
from gistbench.models.manifest import BaseReference

Quantization = Literal["none", "nf4"]

ARCHITECTURE_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "head_dim",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "tie_word_embeddings",
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model ready for use.

    Attributes:
        model: Evaluation mode, gist attention, on the device.
        tokenizer: Its tokenizer; knows nothing of gist tokens, so no text can produce one.
        folder: Local folder that plain transformers can load the same weights from.
        reference: Name, architecture and fingerprint, as a checkpoint's manifest stores them.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    reference: BaseReference

    @property
    def num_text_tokens(self) -> int:
        """Vocabulary rows of the base model; gist rows come after them."""
        return self.reference.num_rows

    @property
    def max_positions(self) -> int:
        """Longest sequence the model was made for, in tokens."""
        return int(self.model.config.max_position_embeddings)


def local_folder(source: ModelSource, *, revision: str | None = None) -> Path:
    """A folder in the hub's layout with the source's weights and tokenizer.

    A GGUF file is dequantised to float32 once and kept in the cache folder. A hub model is
    downloaded, or found in the hub's own cache.

    Raises:
        PrerequisiteError: The hub cannot be reached, or refuses access.
    """
    if source.kind == "folder":
        return Path(source.location)
    if source.kind == "gguf":
        return dequantise(Path(source.location))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        found = snapshot_download(source.location, revision=revision, allow_patterns=patterns)
        return Path(found)
    except GatedRepoError as error:
        raise PrerequisiteError(
            f"{source.location} is gated on the hub; accept its licence there and run "
            "`hf auth login`, then repeat the command"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"the hub has no model {source.location!r} that you may read; check the name of --base "
            "or run `hf auth login`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise PrerequisiteError(
            f"{source.location} is not on this machine and the hub cannot be reached "
            f"({type(error).__name__}); connect, or give --base a local folder or GGUF file"
        ) from error


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
    """Load a folder's tokenizer.

    Raises:
        PrerequisiteError: The folder has none.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"no tokenizer in {folder} ({first_line(error)}); put tokenizer.json beside the weights"
        ) from error


def load_base(
    source: ModelSource,
    *,
    dtype: torch.dtype,
    device: str,
    quantization: Quantization = "none",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> BaseModel:
    """Load a base model with the gist attention.

    Args:
        source: Where it is.
        dtype: Of the weights, or of the computation where they are quantised.
        device: A torch device, for instance ``"cuda:0"``.
        quantization: ``"nf4"`` for 4-bit NormalFloat through bitsandbytes (QLoRA, Dettmers et
            al., 2023, arXiv 2305.14314).
        revision: Of a hub model.
        trust_remote_code: Run code from the model's folder. Off unless asked for.

    Raises:
        UsageError: An unsupported architecture.
        PrerequisiteError: Weights, tokenizer or bitsandbytes are missing.
    """
    folder = local_folder(source, revision=revision)
    config = load_config(folder, trust_remote_code)
    require_supported(config)
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"device_map": {"": device}}
    if quantization == "nf4":
        options["quantization_config"] = nf4_settings(dtype)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=ATTENTION,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise PrerequisiteError(
            f"the weights in {folder} cannot be loaded ({first_line(error)}); "
            "check that the folder holds the whole model"
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise PrerequisiteError(
            f"the weights in {folder} lack {missing[0]} ({len(missing)} missing in all), which "
            "would be drawn at random; restore the whole model"
        )
    model.eval()
    return BaseModel(model, tokenizer, folder, reference(source, folder, dtype, quantization))


def reference(
    source: ModelSource, folder: Path, dtype: torch.dtype, quantization: Quantization
) -> BaseReference:
    """What identifies a base model: its architecture and the sha256 of its weight files."""
    config = load_config(folder, trust_remote_code=False)
    return reference_of(config, source.name, _folder_fingerprint(folder), dtype, quantization)


def reference_of(
    config: PreTrainedConfig,
    name: str,
    fingerprint: str,
    dtype: torch.dtype,
    quantization: Quantization,
) -> BaseReference:
    """The same, of a configuration and weights whose fingerprint is known."""
    names = ARCHITECTURE_FIELDS + SUPPORTED_ARCHITECTURES[config.model_type].identity_fields
    architecture = {field: getattr(config, field, None) for field in names}
    return BaseReference(
        name=name,
        model_type=config.model_type,
        architecture=architecture,
        fingerprint=fingerprint,
        dtype=str(dtype).removeprefix("torch."),
        quantization=quantization,
        num_rows=config.vocab_size,
    )


def key_value_bytes_per_token(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values over all layers."""
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * kv_heads * head_dim * dtype.itemsize)


def rotary_frequencies(model: torch.nn.Module) -> torch.Tensor:
    """Radians per position of each rotary pair, ``(rotary_dim / 2)``.

    To be asked for after a context was read: some scalings choose them by its length.
    """
    rotary = next(module for name, module in model.named_modules() if name.endswith("rotary_emb"))
    frequencies: torch.Tensor = rotary.get_buffer("inv_freq")
    return frequencies


def load_config(folder: Path, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration in a folder.

    Raises:
        PrerequisiteError: There is none that can be read.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise PrerequisiteError(
            f"{folder}/config.json cannot be read as a model configuration "
            f"({first_line(error)}); check the folder, or pass --trust-remote-code if the model "
            "brings code of its own that you trust"
        ) from error


def nf4_settings(dtype: torch.dtype) -> Any:
    """4-bit NormalFloat with doubly quantised scales, computing in `dtype`.

    Raises:
        PrerequisiteError: bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            "quantization nf4 needs bitsandbytes, which is not installed; run "
            "`pip install bitsandbytes` or pass --quantization none"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _folder_fingerprint(folder: Path) -> str:
    source = folder / SOURCE_FILE
    if source.is_file():
        return str(json.loads(source.read_text(encoding="utf-8"))["gguf_sha256"])
    files = weight_files(folder)
    if not files:
        raise PrerequisiteError(
            f"{folder} holds no weights (.safetensors); put them there or choose another base"
        )
    return fingerprint(files)
