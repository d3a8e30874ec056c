"""Makes pipelines of the tests start in half the time. Not used in CI, where all tests meet Beam as it is.

For each transform of a pipeline, Beam builds the argument parser of its options anew, looks for states and timers in all
methods of a DoFn, and inspects the signatures of its functions. All have the same result each time, so here they are done
once per class or function. Other work is left out or done cheaply, since no test depends on it: the origins of type hints,
which are lines of the stack for the messages of type errors; looking at all loaded modules for each side input, to measure
its size without them; and the best compression of pickled functions.
"""

import bz2
import copy
import inspect
import types
import weakref
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import objsize.traverse
import pytest
from apache_beam.internal import cloudpickle_pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core, ptransform, userstate
from apache_beam.transforms.core import CallableWrapperDoFn
from apache_beam.typehints import decorators

_find_specs = userstate.get_dofn_specs
_find_signature = decorators.get_signature
_find_options = PipelineOptions._visible_option_list
_parsed: dict[tuple[Any, ...], Namespace] = {}
_options: dict[type, list[str]] = {}
_specs: dict[Any, Any] = {}
_signatures: weakref.WeakKeyDictionary[Callable[..., Any], dict[bool, inspect.Signature]] = (
    weakref.WeakKeyDictionary()
)


def remember_what_beam_finds(patch: pytest.MonkeyPatch) -> None:
    """Replaces the functions of Beam."""
    patch.setattr(userstate, "get_dofn_specs", _dofn_specs)
    patch.setattr(PipelineOptions, "view_as", _view_as)
    patch.setattr(PipelineOptions, "_visible_option_list", _option_list)
    for module in (decorators, core, ptransform):
        patch.setattr(module, "get_signature", _signature)
    patch.setattr(decorators, "traceback", types.SimpleNamespace(format_stack=lambda **_: []))
    patch.setattr(objsize.traverse, "_iter_modules_globals", lambda: ())
    quick = types.SimpleNamespace(compress=lambda data, **_: bz2.compress(data, 1), decompress=bz2.decompress)
    patch.setattr(cloudpickle_pickler, "bz2", quick)


def _dofn_specs(dofn: Any) -> Any:
    key: Any = type(dofn)
    if isinstance(dofn, CallableWrapperDoFn):
        key = getattr(dofn._fn, "__code__", None)
        if key is None:  # a partial function or the like
            return _find_specs(dofn)
    if key not in _specs:
        _specs[key] = _find_specs(dofn)
    return _specs[key]


def _signature(function: Any) -> inspect.Signature:
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, types.FunctionType):
        return _find_signature(function)
    known = _signatures.setdefault(plain, {})
    is_bound = plain is not function
    if is_bound not in known:
        known[is_bound] = _find_signature(function)
    return known[is_bound]


def _option_list(options: Any) -> list[str]:
    kind = type(options)
    if kind not in _options:
        _options[kind] = _find_options(options)
    return _options[kind]


def _view_as(options: Any, cls: Any) -> Any:
    flags = options._flags
    if flags is None:  # those of the process, which a test may change
        view = cls(flags)
    else:
        key = (cls, *flags)
        if key not in _parsed:
            _parsed[key] = cls(flags)._visible_options
        view = object.__new__(cls)
        view._flags = flags
        parsed = vars(_parsed[key])
        view._visible_options = Namespace(**{name: _copied(value) for name, value in parsed.items()})
    for name in view._visible_option_list():
        options._all_options.setdefault(name, getattr(view._visible_options, name))
    view._all_options = options._all_options
    return view


def _copied(value: object) -> object:
    return value if value is None or isinstance(value, (str, int, float)) else copy.deepcopy(value)
