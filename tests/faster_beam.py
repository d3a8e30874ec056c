"""Makes pipelines of the tests start in half the time. Not used in CI, where all tests meet Beam as it is.

For each transform of a pipeline, Beam builds the argument parser of its options anew, and looks for states and timers in
all methods of a DoFn. Both have the same result each time, so here they are done once per class.
"""

import copy
from argparse import Namespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate
from apache_beam.transforms.core import CallableWrapperDoFn

_find_specs = userstate.get_dofn_specs
_parsed: dict[tuple[Any, ...], Namespace] = {}
_specs: dict[Any, Any] = {}


def remember_what_beam_finds(patch: pytest.MonkeyPatch) -> None:
    """Replaces the two functions of Beam."""
    patch.setattr(userstate, "get_dofn_specs", _dofn_specs)
    patch.setattr(PipelineOptions, "view_as", _view_as)


def _dofn_specs(dofn: Any) -> Any:
    key: Any = type(dofn)
    if isinstance(dofn, CallableWrapperDoFn):
        key = getattr(dofn._fn, "__code__", None)
        if key is None:  # a partial function or the like
            return _find_specs(dofn)
    if key not in _specs:
        _specs[key] = _find_specs(dofn)
    return _specs[key]


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
        view._visible_options = copy.deepcopy(_parsed[key])
    for name in view._visible_option_list():
        options._all_options.setdefault(name, getattr(view._visible_options, name))
    view._all_options = options._all_options
    return view
