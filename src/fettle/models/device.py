"""Where a model runs, and how what is made on the processor gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fettle.errors import ConfigError
from fettle.settings import Device, get_settings

if TYPE_CHECKING:
    import torch


def chosen_device() -> torch.device:
    """The device that `FETTLE_DEVICE` names; by itself a CUDA GPU where there is one, else the processor.

    Raises:
        ConfigError: There is no such device here, or this build of torch cannot use it.
    """
    import torch

    match get_settings().device:
        case Device.CPU:
            return torch.device("cpu")
        case Device.CUDA if not torch.cuda.is_available():
            raise _not_there("CUDA", "install the CUDA build of torch and a driver that fits it")
        case Device.MPS if not torch.backends.mps.is_available():
            raise _not_there("MPS", "it takes a Mac with Apple silicon")
        case Device.MPS:
            return torch.device("mps")
        case _:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _not_there(name: str, how: str) -> ConfigError:
    return ConfigError(
        f"torch finds no {name} device",
        where="FETTLE_DEVICE",
        remedy=f"unset it, or set it to auto or cpu; for {name}, {how}",
    )


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the processor on `device`. A GPU is not waited for: it takes the copy when it gets there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def tensor_on(device: torch.device, values: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Numbers as a tensor on `device`, as `moved` brings them there."""
    import torch

    return moved(torch.as_tensor(values, dtype=dtype), device)
