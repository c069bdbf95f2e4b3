"""An exported program as a list of calls, checked before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models.exported import operators
from recond_models.exported.arguments import names_in, read_argument, value_of
from recond_models.exported.errors import ProgramError

_SCHEMA: Final = 8
_MOST_CALLS: Final = 200_000
_TENSOR_OF_SPEC: Final = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of an operator: `outputs` are names, or lists of names for operators that return lists; `last` are used here last."""

    target: str
    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]
    outputs: tuple[str | tuple[str, ...], ...]
    last: tuple[str, ...] = ()

    def run(self, values: Mapping[str, Any], device: torch.device) -> Any:  # noqa: ANN401
        """Return what the operator returns."""
        given = {name: value_of(argument, values, device) for name, argument in self.arguments}
        if self.target.startswith("torch.ops."):
            return self.function(**given)
        return self.function(*given.values())  # functions of sizes have their own names for arguments


class Program:
    """A program that `torch.export.save` wrote.

    Parameters
    ----------
    serialised
        The program, as in the archive (``models/model.json``).
    tensors
        Its weights, buffers and constants. No gradients are computed.

    Attributes
    ----------
    inputs
        Names of what it is given, in order.
    output
        Name of what it returns.
    graph, constraints
        The serialised graph and the ranges of its symbolic sizes; `recond_models.exported.signature` reads them.

    Raises
    ------
    ProgramError
        It is of another version, calls what is not on the list of operators, changes its weights, lacks tensors, returns more than
        one, or is damaged.

    Notes
    -----
    The format is that of ``torch/_export/serde/schema.py``, version 8.
    """

    def __init__(self, serialised: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        try:
            self._read(serialised, tensors)
        except (AttributeError, IndexError, KeyError, TypeError, RecursionError) as error:
            raise ProgramError(f"the program is damaged ({type(error).__name__}: {error}): export it again") from error

    def _read(self, serialised: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        version = serialised["schema_version"]["major"]
        if version != _SCHEMA:
            raise ProgramError(
                f"the program has the format {version!r}, {_SCHEMA} is read: export it with torch 2.9 or later"
            )
        module = serialised["graph_module"]
        self.graph: Mapping[str, Any] = module["graph"]
        self.constraints: Mapping[str, Any] = serialised["range_constraints"]
        self._weights: dict[str, Tensor] = {}
        self.inputs: tuple[str, ...] = ()
        for spec in module["signature"]["input_specs"]:
            self._take_input(spec, tensors)
        self.output = _only_output(module["signature"]["output_specs"])
        self._calls = _calls(
            self.graph["nodes"], {*self._weights, *self.inputs}, {self.output, *self._weights, *self.inputs}
        )
        produced = {name for call in self._calls for output in call.outputs for name in _flat(output)}
        if self.output not in produced:
            raise ProgramError("the program returns what it was given")

    def _take_input(self, spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            ((form, argument),) = content["arg"].items()
            if form != "as_tensor":
                raise ProgramError(
                    f"the program takes an input that is no tensor ({str(form)[:40]}): export it with tensors alone"
                )
            self.inputs = (*self.inputs, str(argument["name"]))
        elif kind in _TENSOR_OF_SPEC:
            name = content[_TENSOR_OF_SPEC[kind]]
            if name not in tensors:
                raise ProgramError(f"the archive lacks the {kind.replace('_', ' ')} {str(name)[:100]}: export it again")
            self._weights[str(content["arg"]["name"])] = tensors[name]
        else:
            raise ProgramError(f"the program takes a {str(kind)[:40].replace('_', ' ')}: export it with tensors alone")

    @property
    def weights(self) -> Sequence[Tensor]:
        """Its weights, buffers and constants."""
        return tuple(self._weights.values())

    def place(self, device: torch.device) -> None:
        """Bring the weights to a device."""
        self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the program.

        Parameters
        ----------
        inputs
            What `inputs` names; the program may change them.

        Raises
        ------
        ProgramError
            It does not return a tensor, or computes sizes that cannot be.
        Interrupted
            Nobody waits for the result; see `recond_kernels.interruption`.
        """
        values: dict[str, Any] = dict(self._weights) | dict(zip(self.inputs, inputs, strict=True))
        device = inputs[0].device
        for call in self._calls:
            interruption.checkpoint()
            _keep(call, call.run(values, device), values)
            for name in call.last:
                del values[name]
        image = values[self.output]
        if not isinstance(image, Tensor):
            raise ProgramError("the program returns no tensor")
        return image


def _only_output(specs: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the only output."""
    kinds = [next(iter(spec)) for spec in specs]
    others = sorted({str(kind)[:40] for kind in kinds} - {"user_output"})
    if others:
        raise ProgramError(
            f"the program also has the outputs {others}, so it changes itself when it runs: export it in evaluation "
            "mode, network.eval()"
        )
    if len(specs) != 1:
        raise ProgramError(f"the program returns {len(specs)} values: let it return the image alone")
    ((form, argument),) = specs[0]["user_output"]["arg"].items()
    if form != "as_tensor":
        raise ProgramError(f"the program returns no tensor ({str(form)[:40]}): let it return the image alone")
    return str(argument["name"])


def _calls(nodes: Sequence[Mapping[str, Any]], known: set[str], kept: set[str]) -> list[_Call]:
    """Return the calls of a graph; every name is known before it is used, and forgotten after its last use unless it is kept."""
    if len(nodes) > _MOST_CALLS:
        raise ProgramError(f"the program makes {len(nodes)} calls, more than {_MOST_CALLS}")
    calls = []
    for node in nodes:
        target = str(node["target"])
        function = operators.find(target)
        arguments = tuple((str(entry["name"]), read_argument(entry["arg"])) for entry in node["inputs"])
        used = {name for _, argument in arguments for name in names_in(argument)}
        if not used <= known:
            raise ProgramError(f"the program uses {min(used - known)[:100]} before it is made")
        if any(name == "out" for name, _ in arguments):
            raise ProgramError(
                f"the program writes the result of {target[:100]} into another tensor: export it again without out="
            )
        outputs = tuple(_output(output) for output in node["outputs"])
        made = {name for output in outputs for name in _flat(output)}
        if made & known:
            raise ProgramError(f"the program makes {min(made & known)[:100]} twice")
        known |= made
        calls.append(_Call(target, function, arguments, outputs))
    forgotten: set[str] = set(kept)
    for number in range(len(calls) - 1, -1, -1):
        call = calls[number]
        used = {name for _, argument in call.arguments for name in names_in(argument)}
        used |= {name for output in call.outputs for name in _flat(output)}
        calls[number] = _Call(call.target, call.function, call.arguments, call.outputs, tuple(sorted(used - forgotten)))
        forgotten |= used
    return calls


def _output(output: Mapping[str, Any]) -> str | tuple[str, ...]:
    ((form, content),) = output.items()
    if form == "as_none":
        return ()
    if form == "as_tensors":
        return tuple(str(tensor["name"]) for tensor in content)
    if form == "as_tensor":
        return str(content["name"])
    if form in {"as_sym_int", "as_sym_bool", "as_sym_float"}:
        return str(content["as_name"])
    raise ProgramError(f"an operator of the program returns {str(form)[:40]}, which is not known here")


def _flat(output: str | tuple[str, ...]) -> tuple[str, ...]:
    return (output,) if isinstance(output, str) else output


def _keep(call: _Call, made: Any, values: dict[str, Any]) -> None:  # noqa: ANN401
    """Remember what a call has made by its names."""
    if not call.outputs:
        return
    returned = [made] if len(call.outputs) == 1 else list(made)
    for output, value in zip(call.outputs, returned, strict=True):
        if isinstance(output, str):
            values[output] = value
        elif output:
            values.update(zip(output, value, strict=True))
