"""How fast CO2 grew at Mauna Loa, 1958 to 2001: season, trend, growth rate, and how well each is known.

Concentrations are mole fractions in dry air, in parts per million (ppm). Times are decimal years
(1960.5 is the middle of 1960), so every rate is in ppm per year. Weeks without steady air are NaN.

Numpy alone: nothing here knows that smm stores what it returns. See README.md for the data's source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Result: TypeAlias = dict[str, Any]

DATA = Path(__file__).with_name("co2_mauna_loa_weekly.csv")

RESAMPLES = 80_000
"""Bootstrap resamples: the ends of a 95 % interval are then known to 1 % of the standard error, for the
quantile p of n normal draws has the sampling error sqrt(p (1 - p) / n) / density, in standard errors."""

_CHUNK = 25
"""Resamples made at once. So few fit into the processor's cache (0.4 MB for 44 years of weeks), and are too
few for a BLAS to spread over threads, which would be in each other's way on a busy machine."""


# --- the series -----------------------------------------------------------------------------------------


def load_weekly() -> Result:
    """The weekly series, every week present.

    Returns:
        `date`: datetime64[D], 7 days apart; `year`: decimal years; `co2_ppm`: NaN in weeks without data.
    """
    number, co2 = np.genfromtxt(DATA, delimiter=",", skip_header=1, unpack=True)
    yyyymmdd = number.astype(np.int64)
    month = (yyyymmdd // 10_000 - 1970) * 12 + yyyymmdd // 100 % 100 - 1
    day = (yyyymmdd % 100 - 1).astype("timedelta64[D]")
    date = month.astype("datetime64[M]").astype("datetime64[D]") + day
    return {"date": date, "year": decimal_year(date), "co2_ppm": co2}


def decimal_year(date: NDArray[np.datetime64]) -> Floats:
    """Days as decimal years, leap years being as long as any other."""
    year = date.astype("datetime64[Y]")
    first, next_first = year.astype("datetime64[D]"), (year + np.timedelta64(1, "Y")).astype("datetime64[D]")
    within: Floats = (date.astype("datetime64[D]") - first) / (next_first - first)
    return year.astype(np.int64) + 1970 + within


def monthly_means(*, weekly: Result) -> Result:
    """Mean of each calendar month; NaN in months without any data.

    Args:
        weekly: what `load_weekly` returns.

    Returns:
        `month`: datetime64[M]; `year`: decimal years, mid-month; `co2_ppm`; `weeks`: with data, by month.
    """
    seen = ~np.isnan(weekly["co2_ppm"])
    month_of_week = weekly["date"].astype("datetime64[M]")
    month = np.arange(month_of_week[0], month_of_week[-1] + np.timedelta64(1, "M"))
    index = (month_of_week - month[0]).astype(np.int64)[seen]
    weeks = np.bincount(index, minlength=month.size)
    total = np.bincount(index, weights=weekly["co2_ppm"][seen], minlength=month.size)
    mean = np.divide(total, weeks, out=np.full(month.size, np.nan), where=weeks > 0)
    return {
        "month": month,
        "year": decimal_year(month.astype("datetime64[D]") + np.timedelta64(14, "D")),
        "co2_ppm": mean,
        "weeks": weeks,
    }


# --- season ---------------------------------------------------------------------------------------------


def seasonal_cycle(harmonics: int, start: int = 1959, years: int = 43, *, weekly: Result) -> Result:
    """The mean seasonal cycle of a span of years, by harmonic regression.

    Least squares of the weekly values on a cubic in time plus `harmonics` sine and cosine pairs of the year
    (Thoning, Tans & Komhyr 1989, J. Geophys. Res. 94, 8549, who use four).

    Args:
        harmonics: pairs of sine and cosine; the shortest period is 1 / harmonics years.
        start: first calendar year.
        years: number of calendar years.
        weekly: what `load_weekly` returns.

    Returns:
        `coefficients_ppm`: shape (2 harmonics,), cosine and sine of each, as `cycle_at` takes them; `day`:
        days after 1 January, 0 to 364; `cycle_ppm`: the cycle on these days, mean zero; `amplitude_ppm`: peak
        to trough; `peak_day`, `trough_day`; `residual_ppm`: standard deviation of what the model leaves;
        `bic`: Schwarz' criterion, which takes the residuals for independent and so favours more harmonics.
    """
    year, co2 = _within(weekly, start, years)
    design = np.hstack([_polynomial(year, degree=3), _season(year, harmonics)])
    beta = np.linalg.lstsq(design, co2, rcond=None)[0]
    residual = co2 - design @ beta
    day = np.arange(365)
    cycle = cycle_at(day / 365, beta[4:])
    return {
        "coefficients_ppm": beta[4:],
        "day": day,
        "cycle_ppm": cycle,
        "amplitude_ppm": float(np.ptp(cycle)),
        "peak_day": int(cycle.argmax()),
        "trough_day": int(cycle.argmin()),
        "residual_ppm": float(np.sqrt(residual @ residual / (co2.size - design.shape[1]))),
        "bic": float(co2.size * np.log(residual @ residual / co2.size) + design.shape[1] * np.log(co2.size)),
    }


def cycle_at(year: Floats, coefficients_ppm: Floats) -> Floats:
    """A seasonal cycle, in ppm, at these decimal years."""
    cycle: Floats = _season(year, coefficients_ppm.size // 2) @ coefficients_ppm
    return cycle


def deseasonalise(harmonics: int, *, weekly: Result, cycle: Result) -> Result:
    """The weekly series without its seasonal cycle.

    Args:
        harmonics: of the cycle taken away; given so that the row has a name.
        weekly: what `load_weekly` returns.
        cycle: what `seasonal_cycle` returns for as many harmonics.

    Returns:
        `date`, `year`, `co2_ppm` as in `weekly`, NaN in the same weeks; `harmonics`.
    """
    return weekly | {
        "co2_ppm": weekly["co2_ppm"] - cycle_at(weekly["year"], cycle["coefficients_ppm"]),
        "harmonics": harmonics,
    }


# --- trend ----------------------------------------------------------------------------------------------


def trend(degree: int, start: int, years: int, *, monthly: Result, cycle: Result) -> Result:
    """A polynomial through a window of years, and the mean growth rate over it.

    Ordinary least squares on monthly means without their seasonal cycle. Monthly residuals are far from
    independent (El Nino lasts many months), so the standard error is widened as for an AR(1) process with
    their lag-one autocorrelation r: n months count as n (1 - r) / (1 + r) (Santer et al. 2000, J. Geophys.
    Res. 105, 7337).

    Args:
        degree: of the polynomial.
        start: first calendar year.
        years: number of calendar years.
        monthly: what `monthly_means` returns.
        cycle: what `seasonal_cycle` returns.

    Returns:
        `growth_ppm_per_year`: of the fitted curve from the first month to the last, and its `standard_error`;
        `year`, `fit_ppm`: the curve at each month with data; `residual_ppm`: standard deviation around it;
        `autocorrelation`: r; `effective_months`: n (1 - r) / (1 + r).

    Raises:
        ValueError: so few effective months are left that the polynomial cannot be told from the noise.
    """
    year, co2 = _within(monthly, start, years)
    co2 = co2 - cycle_at(year, cycle["coefficients_ppm"])
    design = _polynomial(year, degree)
    beta = np.linalg.lstsq(design, co2, rcond=None)[0]
    residual = co2 - design @ beta
    r = float(residual[1:] @ residual[:-1] / (residual @ residual))
    effective = co2.size * (1 - r) / (1 + r) if r > 0 else float(co2.size)
    if effective <= degree + 1:
        raise ValueError(f"{effective:.1f} effective months are too few for degree {degree}; take more years")
    variance = float(residual @ residual) / (effective - degree - 1)
    functional = _growth(year, design)
    return {
        "growth_ppm_per_year": float(functional @ beta),
        "standard_error": _standard_error(design, functional, variance),
        "year": year,
        "fit_ppm": design @ beta,
        "residual_ppm": float(residual.std()),
        "autocorrelation": r,
        "effective_months": effective,
    }


# --- growth rate ----------------------------------------------------------------------------------------


def growth_rate(seed: int, block_weeks: int, degree: int = 3, *, series: Result) -> Result:
    """The growth rate year by year and over the whole record, with intervals by the block bootstrap.

    A polynomial is fitted to the deseasonalised weeks. Its residuals are resampled in blocks of consecutive
    weeks, which keeps their dependence up to the length of a block (Kuensch 1989, Ann. Statist. 17, 1217;
    blocks wrap around the end: the circular bootstrap of Politis & Romano 1992, in LePage & Billard,
    Exploring the Limits of Bootstrap, 263), added to the fit, and the polynomial is fitted again, RESAMPLES
    times. Blocks are of weeks with data; where weeks are missing (3 % of them) a block closes the gap.

    Args:
        seed: of the random numbers; what differs between seeds is the error of finitely many resamples.
        block_weeks: length of a block.
        degree: of the polynomial.
        series: what `deseasonalise` returns.

    Returns:
        `growth_ppm_per_year`: of the fitted curve from first week to last; its `standard_error` and
        `interval` (95 %, basic bootstrap, two numbers); `acceleration_ppm_per_year2`: mean change of the
        growth rate per year, and `acceleration_interval`; `year`: the middle of each whole year;
        `growth_by_year`: the curve's slope then; `growth_by_year_interval`, shape (years, 2); and `seed`,
        `block_weeks`, `degree` as given.
    """
    year, co2 = _without_gaps(series)
    design = _polynomial(year, degree)
    midyear = np.arange(np.ceil(year[0]), np.floor(year[-1])) + 0.5
    slopes = _polynomial_slope(year, degree, at=midyear)
    first, last = _polynomial_slope(year, degree, at=year[[0, -1]])
    # Every result is linear in the coefficients, and these are linear in the data: one row for each result.
    functionals = np.vstack([_growth(year, design), (last - first) / (year[-1] - year[0]), slopes])
    fit = np.linalg.pinv(design)
    beta = fit @ co2
    estimate = functionals @ beta
    # A resample is the fitted curve plus blocks, so its estimate is ours plus what the blocks alone give.
    chunks = _resampled_blocks(co2 - design @ beta, block_weeks, np.random.default_rng(seed))
    errors = np.hstack([functionals @ (fit @ blocks.T) for blocks in chunks])
    interval = (estimate - np.quantile(errors, [0.975, 0.025], axis=1)).T
    return {
        "growth_ppm_per_year": float(estimate[0]),
        "standard_error": float(errors[0].std()),
        "interval": interval[0],
        "acceleration_ppm_per_year2": float(estimate[1]),
        "acceleration_interval": interval[1],
        "year": midyear,
        "growth_by_year": estimate[2:],
        "growth_by_year_interval": interval[2:],
        "seed": seed,
        "block_weeks": block_weeks,
        "degree": degree,
    }


def compare_block_lengths(degree: int = 3, *, series: Result, CM: Any) -> Result:  # noqa: N803 - smm's name
    """How the standard error of the growth rate depends on the length of the blocks, over all seeds.

    Short blocks cut the dependence between weeks and promise too much. With longer ones the error grows until
    a block holds all of the dependence; with very long ones few blocks are left to draw from.

    Args:
        degree: of the polynomial, one that `growth_rate` is declared with.
        series: what `deseasonalise` returns.
        CM: the manager, whose rows of `growth_rate` are read.

    Returns:
        `block_weeks`: the lengths, ascending; `standard_error`: mean over the seeds, ppm per year;
        `spread_over_seeds`: their standard deviation, which more resamples make smaller; `seeds`: how many;
        `standard_error_if_independent`: what least squares would say if each week told something new.
    """
    year, co2 = _without_gaps(series)
    design = _polynomial(year, degree)
    residual = co2 - design @ np.linalg.lstsq(design, co2, rcond=None)[0]
    variance = float(residual @ residual) / (co2.size - degree - 1)
    results = [result for result in CM.growth_rate.get_all() if result["degree"] == degree]
    weeks = np.array([result["block_weeks"] for result in results])
    error = np.array([result["standard_error"] for result in results])
    lengths = np.unique(weeks)
    return {
        "block_weeks": lengths,
        "standard_error": np.array([error[weeks == length].mean() for length in lengths]),
        "spread_over_seeds": np.array([error[weeks == length].std() for length in lengths]),
        "seeds": np.array([np.count_nonzero(weeks == length) for length in lengths]),
        "standard_error_if_independent": _standard_error(design, _growth(year, design), variance),
    }


def _resampled_blocks(residual: Floats, block: int, rng: np.random.Generator) -> Iterator[Floats]:
    """RESAMPLES circular block resamples of a series, in chunks of shape (up to _CHUNK, residual.size)."""
    n = residual.size
    block_at = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([residual, residual[: block - 1]]), block
    )
    for done in range(0, RESAMPLES, _CHUNK):
        starts = rng.integers(n, size=(min(_CHUNK, RESAMPLES - done), -(-n // block)))
        yield block_at[starts].reshape(len(starts), -1)[:, :n]


# --- least squares --------------------------------------------------------------------------------------


def _within(series: Result, start: int, years: int) -> tuple[Floats, Floats]:
    """`year` and `co2_ppm` of a series in these calendar years, without gaps."""
    year, co2 = _without_gaps(series)
    inside = (year >= start) & (year < start + years)
    if not inside.any():
        raise ValueError(f"there are no data from {start} to {start + years - 1}")
    return year[inside], co2[inside]


def _without_gaps(series: Result) -> tuple[Floats, Floats]:
    """`year` and `co2_ppm` of a series where there are data."""
    seen = ~np.isnan(series["co2_ppm"])
    return series["year"][seen], series["co2_ppm"][seen]


def _growth(year: Floats, design: Floats) -> Floats:
    """The functional of a polynomial's coefficients that is its change from first to last time, per year."""
    functional: Floats = (design[-1] - design[0]) / (year[-1] - year[0])
    return functional


def _standard_error(design: Floats, functional: Floats, variance: float) -> float:
    """Of a functional of least-squares coefficients, for residuals of this variance."""
    return float(np.sqrt(variance * (functional @ np.linalg.solve(design.T @ design, functional))))


def _unit(year: Floats, at: Floats) -> Floats:
    """Times scaled so that the first of a series is -1 and its last 1, where Legendre polynomials live."""
    unit: Floats = 2 * (at - year[0]) / (year[-1] - year[0]) - 1
    return unit


def _polynomial(year: Floats, degree: int) -> Floats:
    """Legendre polynomials up to `degree`, shape (year.size, degree + 1)."""
    return np.polynomial.legendre.legvander(_unit(year, year), degree)


def _polynomial_slope(year: Floats, degree: int, *, at: Floats) -> Floats:
    """Derivative, per year, of each column of `_polynomial(year, degree)` at other times."""
    slopes = np.polynomial.legendre.legder(np.eye(degree + 1), axis=0)
    basis = np.polynomial.legendre.legvander(_unit(year, at), max(degree - 1, 0))
    per_year: Floats = basis @ slopes * 2 / (year[-1] - year[0])
    return per_year


def _season(year: Floats, harmonics: int) -> Floats:
    """Cosine and sine of each harmonic of the year, shape (year.size, 2 harmonics)."""
    angle = 2 * np.pi * np.outer(year, np.arange(1, harmonics + 1))
    return np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(year.size, -1)
