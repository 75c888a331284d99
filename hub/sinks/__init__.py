"""
Readers of the journal that show or deliver what is committed. Each is a row in `hub.service.service.Service._parts`,
before the receiver: it stops after it, and gets the last messages.

The contract is in docs/extending.md. In short, a sink reads on a thread of its own, hands on a `Gap` like a message,
waits and tries again if its destination fails, and ends in `stop` within the time given. `stdout` remembers nothing
between two runs; a place that a sink remembers is not built yet.

stdout          prints each batch (`mpsr hub --print`)
"""
