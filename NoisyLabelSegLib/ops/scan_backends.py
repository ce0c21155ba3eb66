"""Which implementation of the selective scan runs: the fastest that can, unless one is chosen."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from NoisyLabelSegLib.errors import InputError

Backend = Literal["auto", "mamba-ssm", "triton", "blocked"]

_MODULES = {
    "mamba-ssm": "mamba_ssm.ops.selective_scan_interface",
    "triton": "NoisyLabelSegLib.ops.selective_scan_triton",
}
_of_process: Backend = "auto"


def use_backend(name: Backend) -> ExitStack:
    """Choose the backend of this process; as a context manager, of the block alone.

    Raises:
        InputError: there is no such backend.
    """
    _check_name(name)
    restore = ExitStack()
    restore.callback(_set_backend, _of_process)
    _set_backend(name)
    return restore


def _set_backend(name: Backend) -> None:
    global _of_process
    _of_process = name


def choose(backend: Backend, u: Tensor) -> Backend:
    """The backend for a call on `u`: the call's own, else the process's, else the fastest that runs.

    Raises:
        InputError: there is no such backend, or it cannot run here.
    """
    _check_name(backend)
    wanted = _of_process if backend == "auto" else backend
    if wanted == "auto":
        return _fastest(u)
    hindrance = _hindrance(wanted, u)
    if hindrance:
        raise InputError(f"The selective scan cannot run as {wanted!r}: {hindrance}. Use 'auto' or 'blocked'.")
    return wanted


def _check_name(name: str) -> None:
    names = get_args(Backend)
    if name not in names:
        raise InputError(f"The selective scan has no backend {name!r}. Use one of {', '.join(names)}.")


def _fastest(u: Tensor) -> Backend:
    if u.is_cuda and not _hindrance("mamba-ssm", u):
        return "mamba-ssm"
    if u.is_cuda and not _hindrance("triton", u):
        return "triton"
    return "blocked"


def _hindrance(backend: Backend, u: Tensor) -> str | None:
    if backend == "blocked":
        return None
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if not (u.is_cuda or interpreted):
        return f"it needs tensors on a CUDA device, and these are on {u.device}"
    if backend == "mamba-ssm" and u.dtype == torch.float64:
        return "it does not compute in float64"
    return None if _imports(backend) else f"the package {backend} cannot be imported"


@cache
def _imports(backend: str) -> bool:
    try:
        module(backend)
    except (ImportError, OSError):  # OSError: a build for another version of PyTorch.
        return False
    return True


def module(backend: str) -> Any:
    """The module of a backend, imported now: no package needs it."""
    return import_module(_MODULES[backend])
