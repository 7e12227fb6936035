"""blake2b without `hashlib`, whose import loads OpenSSL: a third of the time that Python takes to start."""

from __future__ import annotations

try:
    from _blake2 import blake2b as blake2b
except ImportError:  # a Python that keeps it elsewhere
    from hashlib import blake2b as blake2b
