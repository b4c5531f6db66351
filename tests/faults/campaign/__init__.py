"""The fault campaign: the whole service under load while its parts and surroundings fail, and a judge of the history.

A token whose revocation was acknowledged at t is not accepted as fresh after t + S, whatever crashes.

`site` starts the processes. `load`, `validators` and `consumers` are programs that record their observations in a
history. `faults` breaks things by a seed. `checks` judge the history. `conductor` runs all of them.
"""
