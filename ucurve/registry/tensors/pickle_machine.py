"""The stack machine of pickles, on inert records: nothing that a pickle names is imported or run.

It knows the instructions and the names that torch accepts with `weights_only=True`, so that what
is read here can be loaded, and what cannot be loaded is refused with its name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from ucurve.registry.tensors.stored_tensor import RegistrationError

MAX_INSTRUCTIONS = 2_000_000  # 40 per tensor; 2 s
VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")
EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
STORAGES = (
    "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
    "ComplexFloat", "ComplexDouble",
)  # fmt: skip
DTYPES = (
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32",
    "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
)  # fmt: skip
REBUILD = frozenset(f"torch._utils._rebuild_tensor{suffix}" for suffix in ("", "_v2", "_v3"))
PARAMETER = frozenset(f"torch._utils._rebuild_parameter{end}" for end in ("", "_with_state"))
FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
ORDERED = "collections.OrderedDict"
ALLOWED = frozenset(
    {
        *REBUILD, *PARAMETER, FROM_TYPE, ORDERED, "collections.Counter", "torch.Size",
        "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage", "torch.storage.TypedStorage",
        *(f"torch.{word}Storage" for word in STORAGES),
        *(f"torch.cuda.{word}Storage" for word in STORAGES),
        *(f"torch.{word}" for word in DTYPES),
    }
)  # fmt: skip


class Global(NamedTuple):
    """A name that a pickle would import."""

    name: str


class Storage(NamedTuple):
    """A block of numbers in the file."""

    key: str
    dtype: str  # torch.FloatStorage
    numel: int


class View(NamedTuple):
    """A tensor: numbers of a storage, with its own type where the storage is untyped."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class Other(NamedTuple):
    """An object of a harmless type that is no tensor."""

    name: str


MARK = Other("mark")


def interpret(file: BinaryIO, name: str) -> Any:
    """Return what the next pickle of an open file describes: dicts, numbers, and records.

    Raises:
        RegistrationError: torch would refuse it, with the name of what it refuses.
        ValueError, IndexError, KeyError, TypeError: the pickle is damaged.
    """
    machine = _Machine(name)
    for number, (opcode, arg, _) in enumerate(pickletools.genops(file)):
        if number > MAX_INSTRUCTIONS:
            raise RegistrationError(f"the table of {name} is too long")
        machine.step(opcode.name, arg)
    return machine.stack.pop()


class _Machine:
    """Stack and memo of a pickle while it is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, arg: Any) -> None:
        """Follow one instruction."""
        if opcode in VALUES:
            self.stack.append(arg)
        elif opcode in EMPTY:
            self.stack.append(EMPTY[opcode]())
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[arg])
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = self.stack[-1]
        elif opcode == "MARK":
            self.stack.append(MARK)
        elif opcode == "GLOBAL":
            self.stack.append(self._global(arg))
        elif opcode.startswith("TUPLE"):
            size = opcode.removeprefix("TUPLE")
            self.stack.append(tuple(self._pop(int(size)) if size else self._pop_mark()))
        elif opcode in ("SETITEM", "SETITEMS"):
            self._set(self._pop(2) if opcode == "SETITEM" else self._pop_mark())
        elif opcode in ("APPEND", "APPENDS"):
            items = self._pop(1) if opcode == "APPEND" else self._pop_mark()
            _expect(self.stack[-1], list).extend(items)
        elif opcode == "BUILD":
            self.stack.pop()  # the state of an OrderedDict or a parameter: no tensor of its own
        elif opcode == "BINPERSID":
            self.stack.append(_storage(self.stack.pop()))
        elif opcode in ("REDUCE", "NEWOBJ"):
            function, args = self._pop(2)
            self.stack.append(_call(_expect(function, Global).name, _expect(args, tuple)))
        elif opcode not in ("PROTO", "STOP"):
            raise RegistrationError(
                f"{self.name} is a pickle with {opcode}, which torch does not read as plain "
                "tensors: save it again with torch.save(model.state_dict(), FILE)"
            )

    def _global(self, arg: str) -> Global:
        name = arg.replace(" ", ".")
        if name not in ALLOWED:
            raise RegistrationError(
                f"{self.name} holds an object of {name}, and only tensors are read: save the "
                "weights alone, with save_pretrained(DIR) or torch.save(model.state_dict(), FILE)"
            )
        return Global(name)

    def _pop(self, num: int) -> list[Any]:
        items = self.stack[-num:]
        if len(items) < num:
            raise IndexError("the stack is empty")
        del self.stack[-num:]
        return items

    def _pop_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise IndexError("no mark on the stack")

    def _set(self, items: list[Any]) -> None:
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value


def _call(name: str, args: tuple[Any, ...]) -> Any:
    """Return a record of what a call would make."""
    if name == FROM_TYPE:  # a subclass of Tensor: the function, the class, its arguments, its state
        name, args = _expect(args[0], Global).name, _expect(args[2], tuple)
    if name in REBUILD:
        return _view(args, name)
    if name in PARAMETER:
        return args[0]
    if name == ORDERED:
        return _ordered(args[0] if args else [])
    return Other(name)


def _ordered(pairs: Any) -> dict[str | int, Any]:
    """Return the dict that a pickle of Python 2 lists as pairs."""
    items: dict[str | int, Any] = {}
    for key, value in _expect(pairs, list):
        items[_key(key)] = value
    return items


def _key(key: Any) -> str | int:
    """Return a key that is a name or a number; hashing anything else may recurse without end."""
    if not isinstance(key, str | int):
        raise TypeError("keys are names or numbers")
    return key


def _view(args: tuple[Any, ...], name: str) -> View:
    storage, offset, shape, stride = args[:4]
    dtype = _expect(args[6], Global).name if name.endswith("_v3") else storage.dtype
    sizes = (offset, *_expect(shape, tuple), *_expect(stride, tuple))
    if not all(type(size) is int and size >= 0 for size in sizes) or len(shape) != len(stride):
        raise ValueError("sizes are whole numbers from 0 up")
    return View(_expect(storage, Storage), offset, shape, stride, dtype)


def _storage(pid: Any) -> Storage:
    """Return the storage of a persistent id: "storage", type, key, device, length, ..."""
    word, kind, key, _, numel = _expect(pid, tuple)[:5]
    if word != "storage" or type(numel) is not int or numel < 0:
        raise ValueError("not the id of a storage")
    return Storage(_expect(key, str), _expect(kind, Global).name, numel)


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
