"""Structure of an ONNX file: inputs, outputs, metadata, and files with its weights.

The file is read without onnxruntime. Field numbers are those of ``onnx.proto``.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.onnx.protobuf import Message, MessageError, whole
from napari_uhrseg.units import formatted

MOST_BYTES = 8 * 2**30
"""Bytes of a network with its weights."""
MOST_DEPTH = 16
"""Graphs inside operators of graphs."""
DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Sets of operators that onnxruntime contains."""
FOREIGN = frozenset(("EPContext",))  # operators that name further files
SAME = frozenset(("Identity", "Cast"))  # operators that keep the meaning of values
ELEMENTS = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64",
            10: "float16", 11: "float64"}  # fmt: skip
EXTERNAL = 1  # data_location of a tensor outside the file

Sizes = tuple[int | None, ...]
"""Sizes of a tensor's axes; None: any size."""


@dataclass(frozen=True, slots=True)
class Value:
    """Input or output of a network: name, type of the elements, sizes of the axes."""

    name: str
    dtype: str
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """Structure of an ONNX file.

    Attributes
    ----------
    inputs, outputs
        Inputs without weights, and outputs.
    last
        Operator that makes the first output, such as ``Softmax``; empty if unknown.
    metadata
        Texts by name.
    producer
        Program that wrote the file.
    files
        The file, and those with its weights.
    size
        Bytes of all files.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    last: str
    metadata: dict[str, str]
    producer: str
    files: tuple[Path, ...]
    size: int


def read_graph(path: Path) -> OnnxGraph:
    """Read the structure of an ONNX file, and check that it may be run.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or too large, needs operators of a library, or
        has data outside its folder.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise _damaged(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path).read(whole(data))
    except MessageError as error:
        raise _damaged(path, str(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"The network {path} cannot be opened: {reason}.",
            "Check the path and the permissions.",
        ) from error


class _Reader:
    """Reader of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._domains: set[str] = set()
        self._own: set[str] = set()  # domains of functions in the file
        self._outside: set[str] = set()  # files of weights

    def read(self, model: Message) -> OnnxGraph:
        metadata, producer, graph = {}, "", None
        for number, value in model.fields():
            if not isinstance(value, Message):
                continue
            if number == 2:
                producer = value.text()
            elif number == 7:
                graph = value
            elif number == 14:
                key, text = value.texts(1, 2)
                metadata[key] = text
            elif number == 20:
                self._training(value)
            elif number == 25:
                self._function(value)
        if graph is None:
            raise MessageError("it is no ONNX file")
        inputs, outputs, last = self._main(graph)
        self._check_domains()
        files = (self._path, *self._files())
        size = sum(file.stat().st_size for file in files)
        if size > MOST_BYTES:
            raise CheckpointError(
                f"{self._path.name} has {formatted(size >> 20)} MB with its weights.",
                f"Networks of up to {formatted(MOST_BYTES >> 20)} MB can be run.",
            )
        return OnnxGraph(inputs, outputs, last, metadata, producer, files, size)

    def _main(self, graph: Message) -> tuple[tuple[Value, ...], tuple[Value, ...], str]:
        """Return inputs, outputs and the last operator of the main graph."""
        inputs, outputs, weights = [], [], set()
        made: dict[str, tuple[str, str]] = {}  # output -> operator, its first input
        for number, value in graph.fields():
            if not isinstance(value, Message):
                continue
            if number == 1:
                taken, names, operator = self._node(value, 0)
                made |= dict.fromkeys(names, (operator, taken[0] if taken else ""))
            elif number == 5:
                weights.add(self._tensor(value))
            elif number == 11:
                inputs.append(_value(value))
            elif number == 12:
                outputs.append(_value(value))
            elif number == 15:
                self._sparse(value)
        if not outputs:
            raise MessageError("it has no output")
        name, last = outputs[0].name, ""
        for _ in range(MOST_DEPTH):
            last, before = made.get(name, ("", ""))
            if last not in SAME:
                break
            name = before
        real = (value for value in inputs if value.name not in weights)
        return tuple(real), tuple(outputs), last

    def _graph(self, graph: Message, depth: int) -> None:
        """Check a graph inside an operator."""
        if depth > MOST_DEPTH:
            raise MessageError("its graphs are nested too deeply")
        for number, value in graph.fields():
            if isinstance(value, Message):
                if number == 1:
                    self._node(value, depth)
                elif number == 5:
                    self._tensor(value)
                elif number == 15:
                    self._sparse(value)

    def _node(self, node: Message, depth: int) -> tuple[list[str], list[str], str]:
        """Check an operator; return its inputs, its outputs and its name."""
        taken, made, operator, domain = [], [], "", ""
        for number, value in node.fields():
            if not isinstance(value, Message):
                continue
            if number == 1:
                taken.append(value.text())
            elif number == 2:
                made.append(value.text())
            elif number == 4:
                operator = value.text()
            elif number == 7:
                domain = value.text()
            elif number == 5:
                self._attribute(value, depth)
        self._domains.add(domain)
        if operator in FOREIGN:
            raise CheckpointError(
                f"{self._path.name} has an operator {operator}, which reads other "
                "files.",
                "Export the network with standard ONNX operators.",
            )
        return taken, made, operator

    def _attribute(self, attribute: Message, depth: int) -> None:
        for number, value in attribute.fields():
            if isinstance(value, Message):
                if number in (5, 10):
                    self._tensor(value)
                elif number in (6, 11):
                    self._graph(value, depth + 1)
                elif number in (22, 23):
                    self._sparse(value)

    def _tensor(self, tensor: Message) -> str:
        """Note the file of a tensor's data; return its name."""
        name, places, outside = "", [], False
        for number, value in tensor.fields():
            if number == 14:
                outside = value == EXTERNAL
            elif isinstance(value, Message):
                if number == 8:
                    name = value.text()
                elif number == 13:
                    key, text = value.texts(1, 2)
                    places += [text] if key == "location" else []
        if outside or places:
            self._outside.update(places or [""])
        return name

    def _sparse(self, tensor: Message) -> None:
        for number, value in tensor.fields():
            if number in (1, 2) and isinstance(value, Message):
                self._tensor(value)

    def _function(self, function: Message) -> None:
        for number, value in function.fields():
            if isinstance(value, Message):
                if number == 7:
                    self._node(value, 0)
                elif number == 10:
                    self._own.add(value.text())
                elif number == 11:
                    self._attribute(value, 0)

    def _training(self, training: Message) -> None:
        for number, value in training.fields():
            if number in (1, 2) and isinstance(value, Message):
                self._graph(value, 0)

    def _check_domains(self) -> None:
        """Raise CheckpointError if operators belong to a library."""
        unknown = sorted(self._domains - DOMAINS - self._own)
        if unknown:
            raise CheckpointError(
                f"{self._path.name} needs operators of a library: "
                f"{', '.join(unknown)}. Libraries are not loaded, because they can run "
                "any code.",
                "Export the network with standard ONNX operators.",
            )

    def _files(self) -> Iterator[Path]:
        """Yield the files of the weights, all in the folder of the network."""
        folder = self._path.resolve().parent
        for name in sorted(self._outside):
            file = (folder / name).resolve()
            inside = file.is_relative_to(folder) and not Path(name).is_absolute()
            if not inside or file == folder:
                raise CheckpointError(
                    f"{self._path.name} has weights outside its folder: {name!r}.",
                    "Put the file of the weights into the folder of the network, and "
                    "export it again if its name has to change.",
                )
            if not file.is_file():
                raise CheckpointError(
                    f"{self._path.name} has its weights in {name}, which is missing.",
                    "Copy this file into the folder of the network.",
                )
            yield file


def _value(message: Message) -> Value:
    """Return an input or output: ValueInfoProto."""
    name, dtype, sizes = "", "", []
    for number, value in message.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            name = value.text()
        elif number == 2:
            for tensor in value.messages(1):
                dtype = ELEMENTS.get(next(iter(tensor.numbers(1)), 0), "")
                for shape in tensor.messages(2):
                    sizes = [_size(axis) for axis in shape.messages(1)]
    return Value(name, dtype, tuple(sizes))


def _size(axis: Message) -> int | None:
    """Return the size of an axis; None if it may have any size."""
    size = next(iter(axis.numbers(1)), 0)
    return size if 0 < size < 2**31 else None


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a valid ONNX file: {why}.",
        "Export or download it again.",
    )
