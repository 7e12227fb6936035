"""smm: named metrics, computed once, dated, kept where a person can find them."""

__version__ = "0.1.0"
