"""Reads the tensors of a PyTorch state dict without torch and without trusting it: nothing in the file is called.

The layout is that of torch.save before 1.6: five pickles (magic number, protocol version, byte order, the dict, and
the keys of its storages), then each storage: an int64 of its length, then its elements. The unpickler here knows four
names, all of them ours; any other one is refused.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "DoubleStorage": "<f8"}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    length: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module_name == "torch" and global_name in _TYPES:
            return global_name
        raise pickle.UnpicklingError(f"{module_name}.{global_name} has no place in a file of weights")

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, name, key, _, length, *_ = pid
        if kind != "storage" or name not in _TYPES:
            raise pickle.UnpicklingError(f"{kind!r} {name!r} has no place in a file of weights")
        return _Storage(str(key), _TYPES[name], int(length))


def read_state_dict(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a state dict by name.

    Raises:
        ConfigurationError: the file can't be read, or holds anything but tensors.

    """
    try:
        source = BytesIO(path.read_bytes())
        magic, _, order, found, keys = (_Reader(source).load() for _ in range(5))
        if magic != _MAGIC or not order["little_endian"]:
            raise ValueError("it is not a PyTorch state dict of the layout before 1.6")
        storages = {}
        types = {tensor.storage.key: tensor.storage.dtype for tensor in found.values()}
        for key in keys:
            length = int.from_bytes(source.read(8), "little")
            dtype = np.dtype(types[key])
            content = source.read(length * dtype.itemsize)
            storages[key] = np.frombuffer(content, dtype, length)
        return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in found.items()}
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; name a file of weights") from error
    except Exception as error:  # unpickling what is no pickle raises nearly everything
        raise ConfigurationError(f"{path} is no file of weights that can be read without torch: {error}") from error


def _array(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    size = int(np.prod(tensor.shape)) if tensor.shape else 1
    plain = np.cumprod((1, *tensor.shape[:0:-1]))[::-1] if tensor.shape else ()
    if tuple(int(step) for step in plain) != tuple(tensor.stride):
        raise ValueError("a tensor does not lie in one piece")
    return storage[tensor.offset : tensor.offset + size].reshape(tensor.shape)
