"""The state of the whole service: its nodes, their subscribers, and the problems that need attention."""
