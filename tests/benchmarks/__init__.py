"""How fast smm is, against its peers and against the plain limit: `python -m tests.benchmarks --help`.

`measure` takes turns and makes ratios, `report` shows them. Each area is a module that says what is measured:
`warm`, `cold`, `store`, `sweep`, `look`, `declare`, `start`. `ours` and `peers` set up what is compared,
`work` has the functions that they cache.
"""
