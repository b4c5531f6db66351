"""The fault campaign: the whole service under load while everything around it fails, and a judge of what was seen.

A token whose revocation was acknowledged at t is not accepted as fresh after t + S, whatever crashes.

`site` starts the processes, `load` and `validators` and `consumers` are programs that write what they see into a
history, `faults` breaks things by a seed, `checks` judge the history, and `conductor` runs all of them.
"""
