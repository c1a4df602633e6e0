"""How strongly an adapter counts: its update times a factor, written in PEFT's own terms, so that whoever loads it does the same.

Weakening an adapter moves a model back along the line on which it was tuned. For whole models this is known to bring back much of
what was forgotten at little cost to the task (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fettle.errors import disk_errors_explained, require_range
from fettle.files import sha256_of_file, sha256_of_json, write_atomically

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_SCALING = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
"""What of PEFT's configuration decides how much the weights count."""


def at_strength(folder: Path, strength: float, *, into: Path) -> Path:
    """An adapter that counts `strength` times as much as the one in `folder`: the same weights, with another `lora_alpha`.

    Args:
        folder: A PEFT folder.
        strength: Factor of the update, above 0; 1 is the adapter as it is.
        into: The new folder; replaced where it exists, and not made for a strength of 1.

    Returns:
        Where it is: `into`, and `folder` itself at a strength of 1.

    Raises:
        ConfigError: The strength is out of its range.
        DiskFullError: No space is left.
    """
    require_range("strength", strength, low=1e-6)
    if strength == 1:
        return folder
    config = _at_strength(json.loads((folder / _CONFIG).read_text("utf-8")), strength)
    with disk_errors_explained(into):
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / _WEIGHTS, into / _WEIGHTS)
    write_atomically(into / _CONFIG, json.dumps(config, indent=2, sort_keys=True))
    return into


def tuned_sha256(folder: Path, *, strength: float = 1) -> str:
    """Hash of what was trained: of all weights in a folder, and of an adapter how much they count, or would at a strength."""
    weights = [sha256_of_file(file) for file in sorted(folder.glob("*.safetensors"))]
    config = folder / _CONFIG
    scaling = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    scaling = scaling if strength == 1 else _at_strength(scaling, strength)
    return sha256_of_json([weights, {name: scaling.get(name) for name in _SCALING}])


def _at_strength(config: Mapping[str, Any], strength: float) -> dict[str, Any]:
    patterns = {name: _scaled(alpha, strength) for name, alpha in (config.get("alpha_pattern") or {}).items()}
    return {**config, "lora_alpha": _scaled(config["lora_alpha"], strength), "alpha_pattern": patterns}


def _scaled(alpha: float, strength: float) -> float:
    """A whole number where it is one, as most readers of the configuration expect.

    >>> _scaled(32, 0.75), _scaled(2, 0.25)
    (24, 0.5)
    """
    scaled = alpha * strength
    return int(scaled) if float(scaled).is_integer() else scaled
