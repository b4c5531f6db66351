"""Risk: signals, rules and verdicts about the uses of sessions. It judges; `issuing` and `administration` act."""
