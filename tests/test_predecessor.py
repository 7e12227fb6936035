"""What people wrote for simple-metrics-manager runs with `smm` in place of the old import.

The examples follow its README (version 0.5.0), whose `collect(params_list=[1, 2], [1, 3], [4, 5])` is no
Python: a list of lists is meant; and what its own tests ask for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smm import (
    DataCacheManager,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDataCacheManager,
    ParameterizedDatedCacheManager,
)
from smm.errors import SmmWarning

A = np.array([1, 4, 5])


def test_basic_usage(tmp_path: Path) -> None:
    calls = []
    factor = [2]
    CM = DataCacheManager(NpyStorageInterface(tmp_path))

    @CM.collect
    def metric_1() -> Any:
        calls.append("metric_1")
        return A * factor[0]

    @CM.collect
    def metric_2() -> Any:
        calls.append("metric_2")
        return CM.metric_1() + 1

    assert CM.metric_2().tolist() == [3, 9, 11]
    assert CM.metric_1().tolist() == [2, 8, 10]
    assert metric_1(cache=True).tolist() == [2, 8, 10]
    assert CM["metric_1"].tolist() == [2, 8, 10]
    assert calls == ["metric_2", "metric_1"]

    assert metric_1().tolist() == [2, 8, 10], "without cache=True it is the plain function"
    assert calls == ["metric_2", "metric_1", "metric_1"]

    factor[0] = 3
    metric_1(cache=True, use_stored=False)
    assert len(calls) == 4

    again = DataCacheManager(NpyStorageInterface(tmp_path))
    with pytest.warns(SmmWarning, match="its input metric_1 was computed again"):
        assert again["metric_2"].tolist() == [3, 9, 11], "a stored name needs no function"


def test_parameterized_usage(tmp_path: Path) -> None:
    CM = ParameterizedDataCacheManager(NpyStorageInterface(tmp_path))
    runs = []

    @CM.collect(params_list=[[1], [4]])
    def poly_X(a: int) -> int:
        runs.append(a)
        return a * 10

    @CM.collect(params_list=[[1, 2], [1, 3], [4, 5]])
    def poly_Y(a: int, b: int) -> Any:
        return CM.poly_X(a) ** 2 + b

    assert CM.poly_Y(1, 2) == 102
    assert CM["poly_Y_1_2"] == 102
    assert CM.poly_Y(1, 3) == 103
    assert runs == [1]
    CM.poly_X.get_all()
    assert [int(value) for value in CM.poly_Y.get_all()] == [102, 103, 1605]
    assert runs == [1, 4]
    with pytest.raises(ValueError, match=r"poly_Y\(12, 13\) is not among the declared params"):
        CM.poly_Y(12, 13)
    assert poly_X(7) == 70

    dynamic = ParameterizedDataCacheManager(NpyStorageInterface(tmp_path), dynamic_metric_creation=True)

    @dynamic.collect(params_list=[[1, 2]])
    def poly_Z(a: int, b: int) -> int:
        return a - b

    assert dynamic.poly_Z(12, 13) == -1


def test_manual_usage(tmp_path: Path) -> None:
    METRIC_1 = "metric_1"
    METRIC_2 = "metric_2"
    CM = DataCacheManager(NpyStorageInterface(str(tmp_path)))

    def metric_1_function() -> Any:
        return A

    def metric_2_function() -> Any:
        return CM[METRIC_1] + 1

    CM.set_functions_dict({METRIC_1: metric_1_function, METRIC_2: metric_2_function})
    assert CM[METRIC_2].tolist() == [2, 5, 6]
    assert CM[METRIC_1].tolist() == [1, 4, 5]
    assert CM.functions_dict[METRIC_1] is metric_1_function


def test_collect_without_params(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path))

    @cm.collect
    def sample() -> Any:
        return A

    assert hasattr(cm, "sample")
    assert hasattr(cm.sample, "original_function")
    assert cm.sample.params_list == ((),)
    assert "sample" in cm.functions_dict
    assert np.array_equal(cm.sample(), A)
    assert np.array_equal(cm.cache["sample"], A)
    assert np.array_equal(sample(cache=True), A)


@pytest.mark.parametrize("dynamic", [False, True])
def test_collect_with_params(tmp_path: Path, dynamic: bool) -> None:
    params_list = [[2, 3], [4, 5]]
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), dynamic_metric_creation=dynamic)

    @cm.collect(params_list=params_list)
    def sample(x: int, y: int) -> Any:
        return A * x + y

    assert cm.parameterized_metrics[0].__name__ == "sample"
    assert "sample_2_3" in cm.functions_dict
    assert "sample_4_5" in cm.functions_dict
    assert "sample" not in cm.functions_dict
    assert cm.sample.params_list == params_list
    assert np.array_equal(sample(2, 4), A * 2 + 4)
    if dynamic:
        assert np.array_equal(cm.sample(2, 4), A * 2 + 4)
        assert np.array_equal(cm.sample(2, 4, cache=True), A * 2 + 4)
    else:
        with pytest.raises(ValueError, match="not among the declared params"):
            cm.sample(2, 4)
        with pytest.raises(ValueError, match="not among the declared params"):
            sample(2, 4, cache=True)
    assert np.array_equal(cm.sample(2, 3), A * 2 + 3)
    assert np.array_equal(cm.cache["sample_2_3"], A * 2 + 3)

    cm.functions_dict["sample_2_3"] = lambda: A * 2 + 6
    assert np.array_equal(sample(2, 3, cache=True), A * 2 + 3)
    assert np.array_equal(sample(2, 3, cache=True, use_stored=False), A * 2 + 6)
