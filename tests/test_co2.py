"""The CO2 example: its numbers against what is published for Mauna Loa, its sweep from YAML to disk."""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

CO2 = Path(__file__).resolve().parents[1] / "configs" / "co2"
ROWS = 160


@pytest.fixture(scope="module")
def analysis() -> Iterator[ModuleType]:
    """The module without smm, and without leaving a module called `analysis` behind."""
    spec = importlib.util.spec_from_file_location("co2_analysis", CO2 / "analysis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RESAMPLES = 2_000  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="module")
def weekly(analysis: ModuleType) -> Any:
    return analysis.load_weekly()


@pytest.fixture(scope="module")
def cycle(analysis: ModuleType, weekly: Any) -> Any:
    return analysis.seasonal_cycle(4, weekly=weekly)


@pytest.fixture(scope="module")
def monthly(analysis: ModuleType, weekly: Any) -> Any:
    return analysis.monthly_means(weekly=weekly)


@pytest.fixture(scope="module")
def deseasonalised(analysis: ModuleType, weekly: Any, cycle: Any) -> Any:
    return analysis.deseasonalise(4, weekly=weekly, cycle=cycle)


@pytest.fixture
def copy_of_co2(tmp_path: Path) -> Path:
    """The example as a user has it, but with few resamples."""
    folder = tmp_path / "co2"
    shutil.copytree(CO2, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    code = (folder / "analysis.py").read_text()
    assert "RESAMPLES = 80_000" in code
    (folder / "analysis.py").write_text(code.replace("RESAMPLES = 80_000", "RESAMPLES = 100"))
    return folder


# --- the data -------------------------------------------------------------------------------------------


def test_every_week_is_there_and_gaps_are_nan(weekly: Any) -> None:
    assert weekly["date"][0] == np.datetime64("1958-03-29")
    assert weekly["date"][-1] == np.datetime64("2001-12-29")
    assert set(np.diff(weekly["date"]).astype(int)) == {7}
    assert np.isnan(weekly["co2_ppm"]).sum() == 59
    # The instrument stood still in spring 1964, when money had run out: Keeling 1998, Annu. Rev. Energy 23.
    gap = (weekly["date"] >= np.datetime64("1964-02-01")) & (weekly["date"] < np.datetime64("1964-05-01"))
    assert np.isnan(weekly["co2_ppm"][gap]).all()


def test_decimal_years(analysis: ModuleType) -> None:
    dates = np.array(["1960-01-01", "1960-07-02", "1961-07-02", "2000-12-31"], dtype="datetime64[D]")
    assert_allclose(analysis.decimal_year(dates), [1960, 1960.5, 1961 + 182 / 365, 2001 - 1 / 366])


@pytest.mark.parametrize(
    ("year", "published_ppm"),
    [(1959, 315.98), (1965, 320.04), (1970, 325.68), (1980, 338.75), (1990, 354.39), (2000, 369.55)],
)
def test_annual_means_are_noaas(monthly: Any, year: int, published_ppm: float) -> None:
    """NOAA's annual means at Mauna Loa are of another instrument's series, calibrated otherwise."""
    of_year = monthly["month"].astype("datetime64[Y]") == np.datetime64(str(year))
    assert monthly["co2_ppm"][of_year].mean() == pytest.approx(published_ppm, abs=0.35)


def test_months_without_data_are_nan_and_the_others_means(weekly: Any, monthly: Any) -> None:
    assert (np.isnan(monthly["co2_ppm"]) == (monthly["weeks"] == 0)).all()
    assert monthly["weeks"].sum() == (~np.isnan(weekly["co2_ppm"])).sum()
    last = weekly["date"].astype("datetime64[M]") == np.datetime64("2001-12")
    assert monthly["co2_ppm"][-1] == pytest.approx(weekly["co2_ppm"][last].mean())


# --- season ---------------------------------------------------------------------------------------------


def test_the_seasonal_cycle_is_mauna_loas(cycle: Any) -> None:
    """About 6 ppm from a maximum in May to a minimum at the turn of September: Thoning et al. 1989."""
    assert cycle["amplitude_ppm"] == pytest.approx(6, abs=0.7)
    assert 120 <= cycle["peak_day"] <= 150  # May
    assert 260 <= cycle["trough_day"] <= 285  # 18 September to 13 October
    assert abs(cycle["cycle_ppm"].mean()) < 1e-2


def test_the_seasonal_cycle_has_grown(analysis: ModuleType, weekly: Any) -> None:
    """By some 20 % from the 1960s to the 1990s: Keeling, Chin & Whorf 1996, Nature 382, 146."""
    first, last = (
        analysis.seasonal_cycle(4, start, 10, weekly=weekly)["amplitude_ppm"] for start in (1960, 1990)
    )
    assert 1.05 < last / first < 1.3


def test_harmonics_are_recovered_exactly_from_a_series_made_of_them(
    analysis: ModuleType, weekly: Any
) -> None:
    coefficients = np.array([2.0, -1.0, 0.5, 0.25])
    made = weekly | {"co2_ppm": 315 + analysis.cycle_at(weekly["year"], coefficients)}
    found = analysis.seasonal_cycle(2, weekly=made)
    assert_allclose(found["coefficients_ppm"], coefficients, atol=1e-9)
    flat = analysis.deseasonalise(2, weekly=made, cycle=found)
    assert_allclose(flat["co2_ppm"], 315, atol=1e-9)


def test_more_harmonics_fit_better_and_bic_has_a_minimum(analysis: ModuleType, weekly: Any) -> None:
    cycles = [analysis.seasonal_cycle(harmonics, weekly=weekly) for harmonics in range(1, 9)]
    assert 2 <= 1 + int(np.argmin([cycle["bic"] for cycle in cycles])) <= 5
    assert cycles[3]["residual_ppm"] < cycles[1]["residual_ppm"] < cycles[0]["residual_ppm"]


# --- trend ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "published", "tolerance"),
    [(1960, 0.86, 0.1), (1970, 1.28, 0.1), (1980, 1.61, 0.15), (1990, 1.5, 0.1)],
)
def test_growth_by_decade_is_noaas(
    analysis: ModuleType, monthly: Any, cycle: Any, start: int, published: float, tolerance: float
) -> None:
    """Decadal means of the annual growth rate that NOAA gives for Mauna Loa, ppm a year."""
    trend = analysis.trend(1, start, 10, monthly=monthly, cycle=cycle)
    assert trend["growth_ppm_per_year"] == pytest.approx(published, abs=tolerance)


def test_growth_over_the_whole_record(analysis: ModuleType, monthly: Any, cycle: Any) -> None:
    for degree in (1, 2, 3):
        trend = analysis.trend(degree, 1959, 43, monthly=monthly, cycle=cycle)
        assert trend["growth_ppm_per_year"] == pytest.approx(1.3, abs=0.05)
        assert 0 < trend["standard_error"] < 0.1
        assert 0 < trend["effective_months"] < trend["year"].size / 2


def test_a_straight_line_is_found_exactly(analysis: ModuleType, monthly: Any) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=0.1, size=monthly["year"].size)
    made = monthly | {"co2_ppm": 300 + 1.5 * (monthly["year"] - 1980) + noise}
    none = {"coefficients_ppm": np.zeros(2)}
    for degree in (1, 2, 3):
        trend = analysis.trend(degree, 1960, 40, monthly=made, cycle=none)
        assert abs(trend["growth_ppm_per_year"] - 1.5) < 4 * trend["standard_error"]
        assert trend["residual_ppm"] == pytest.approx(0.1, rel=0.15)


def test_the_standard_error_is_that_of_least_squares_when_months_are_independent(
    analysis: ModuleType, monthly: Any
) -> None:
    year = monthly["year"]
    # Residuals that change their sign at every step have no positive autocorrelation to widen by.
    made = monthly | {"co2_ppm": 300 + year - 1980 + 0.1 * (-1) ** np.arange(year.size)}
    trend = analysis.trend(1, 1960, 40, monthly=made, cycle={"coefficients_ppm": np.zeros(2)})
    inside = (year >= 1960) & (year < 2000)
    expected = np.polyfit(year[inside], made["co2_ppm"][inside], 1, cov=True)[1][0, 0] ** 0.5
    assert trend["standard_error"] == pytest.approx(expected)


def test_years_without_data_are_refused(analysis: ModuleType, monthly: Any, cycle: Any) -> None:
    with pytest.raises(ValueError, match="no data from 2010 to 2019"):
        analysis.trend(1, 2010, 10, monthly=monthly, cycle=cycle)


# --- growth rate ----------------------------------------------------------------------------------------


def test_growth_rate_of_the_record(analysis: ModuleType, deseasonalised: Any) -> None:
    growth = analysis.growth_rate(0, 104, series=deseasonalised)
    low, high = growth["interval"]
    assert growth["growth_ppm_per_year"] == pytest.approx(1.3, abs=0.05)
    assert low < growth["growth_ppm_per_year"] < high
    assert high - low == pytest.approx(2 * 1.96 * growth["standard_error"], rel=0.1)
    # It accelerates, beyond doubt: 0.8 ppm a year in the sixties, 1.5 and more in the eighties.
    assert growth["acceleration_interval"][0] > 0
    by_year = dict(zip(growth["year"], growth["growth_by_year"], strict=True))
    assert by_year[1965.5] == pytest.approx(0.85, abs=0.1)
    assert by_year[1985.5] == pytest.approx(1.55, abs=0.1)
    assert growth["growth_by_year_interval"].shape == (growth["year"].size, 2)


def test_longer_blocks_show_more_uncertainty(analysis: ModuleType, deseasonalised: Any) -> None:
    errors = [
        analysis.growth_rate(0, weeks, series=deseasonalised)["standard_error"] for weeks in (4, 26, 104)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 3 * errors[0]


def test_equal_seeds_give_equal_results_and_others_nearly(analysis: ModuleType, deseasonalised: Any) -> None:
    one, same, other = (analysis.growth_rate(seed, 52, series=deseasonalised) for seed in (1, 1, 2))
    assert one["standard_error"] == same["standard_error"] != other["standard_error"]
    assert one["standard_error"] == pytest.approx(other["standard_error"], rel=0.15)


def test_the_bootstrap_of_independent_weeks_is_least_squares(analysis: ModuleType, weekly: Any) -> None:
    """With blocks of one week the standard error must be the textbook's."""
    rng = np.random.default_rng(1)
    year = weekly["year"]
    made = {"year": year, "co2_ppm": 300 + 1.3 * (year - 1980) + rng.normal(scale=0.5, size=year.size)}
    growth = analysis.growth_rate(0, 1, 1, series=made)
    slope, covariance = np.polyfit(year, made["co2_ppm"], 1, cov=True)
    assert growth["growth_ppm_per_year"] == pytest.approx(slope[0])
    assert growth["standard_error"] == pytest.approx(covariance[0, 0] ** 0.5, rel=0.1)


def test_slopes_are_derivatives(analysis: ModuleType, deseasonalised: Any) -> None:
    year = np.linspace(1958, 2002, 2000)
    cubic = {"year": year, "co2_ppm": 300 + 1.3 * (year - 1980) + 1e-2 * (year - 1980) ** 2}
    growth = analysis.growth_rate(0, 10, 2, series=cubic)
    assert_allclose(growth["growth_by_year"], 1.3 + 2e-2 * (growth["year"] - 1980), rtol=1e-6)
    assert growth["acceleration_ppm_per_year2"] == pytest.approx(2e-2)


def test_resampled_blocks_are_whole_blocks_that_wrap_around(analysis: ModuleType) -> None:
    series = np.arange(10.0)
    chunks = list(analysis._resampled_blocks(series, 4, np.random.default_rng(0)))
    drawn = np.vstack(chunks)
    assert drawn.shape == (analysis.RESAMPLES, 10)
    for begin, end in ((0, 4), (4, 8), (8, 10)):
        assert (np.diff(drawn[:, begin:end], axis=1) % 10 == 1).all()
    counts = np.bincount(drawn.astype(int).ravel(), minlength=10)
    assert_allclose(counts / drawn.size, 0.1, rtol=0.1)


def test_block_lengths_are_compared_over_seeds(analysis: ModuleType, deseasonalised: Any) -> None:
    results = [
        {"block_weeks": weeks, "standard_error": weeks + seed, "degree": degree}
        for weeks in (8, 4)
        for seed in (0, 2)
        for degree in (3, 2)
    ]
    manager = SimpleNamespace(growth_rate=SimpleNamespace(get_all=lambda: results))
    table = analysis.compare_block_lengths(series=deseasonalised, CM=manager)
    assert 0 < table.pop("standard_error_if_independent") < 0.005
    assert {key: value.tolist() for key, value in table.items()} == {
        "block_weeks": [4, 8],
        "standard_error": [5, 9],
        "spread_over_seeds": [1, 1],
        "seeds": [2, 2],
    }


# --- the sweep ------------------------------------------------------------------------------------------


def smm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "smm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def statuses(done: subprocess.CompletedProcess[str]) -> Counter[str]:
    """How many rows a `run --json` computed, found stored, failed to compute."""
    return Counter(outcome["status"] for outcome in json.loads(done.stdout)["metrics"])


def test_the_whole_sweep_runs_once(copy_of_co2: Path) -> None:
    first = smm("run", "--json", "metrics.yaml", cwd=copy_of_co2)
    assert first.returncode == 0, first.stderr
    # block_lengths reads rows in its code alone, and may compute one that still waits in a batch.
    found = statuses(first)
    assert found["computed"] + found["stored"] == ROWS
    assert found["computed"] >= ROWS - 2
    before = {path: path.stat().st_mtime_ns for path in copy_of_co2.glob("results/[!.]*")}
    assert len(before) == 2 * ROWS

    second = smm("run", "--json", "metrics.yaml", cwd=copy_of_co2)
    assert second.returncode == 0, second.stderr
    assert statuses(second) == {"stored": ROWS}
    assert {path: path.stat().st_mtime_ns for path in copy_of_co2.glob("results/[!.]*")} == before

    with np.load(copy_of_co2 / "results" / "monthly.npz") as monthly:
        assert monthly["co2_ppm"].shape == (526,)


def test_inputs_of_a_row_are_those_of_its_own_params(copy_of_co2: Path) -> None:
    done = smm("run", "--json", "metrics.yaml", "deseasonalised_2", cwd=copy_of_co2)
    assert done.returncode == 0, done.stderr
    stored = {path.stem for path in copy_of_co2.glob("results/*.npz")}
    assert stored == {"weekly", "seasonal_cycle_2_1959_43", "deseasonalised_2"}


@pytest.mark.slow
def test_the_whole_sweep_as_it_is_costs_seconds_and_hardly_one_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "co2"
    shutil.copytree(CO2, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    seconds = []  # of processor time: a busy machine makes no run dearer
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert smm("run", "metrics.yaml", cwd=folder).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert seconds[0] < 60
    assert seconds[1] < 2
    done = smm("show", "metrics.yaml", "growth_rate_0_104_3", cwd=folder)
    assert "growth_ppm_per_year" in done.stdout
