"""
Other ways in than a connection to the socket. Each is a row in `hub.service.service.Service._parts`, after the receiver
and before the socket: it stops after the clients, and what it gave is committed after that.

The contract, with a source to start from, is in docs/extending.md. In short, a source
- gets an intake from `Endpoint.intake` for each stream;
- waits for room (`Budget.room_to_read`) before a read, and for its turn (`Intake.ready`) before each step of a decoder;
- counts what it holds: `Budget.arrived`, `Budget.decoded`, `Budget.keep`;
- ends a stream when `Intake.take` returns False, and itself at HubClosed;
- deletes or confirms nothing before `Intake.all_settled`;
- reports its faults and tries again: an error that leaves `run` stops the hub.

spool           adopts the spools of dead producers; its stages are spoolfolder, userfiles, spoolreader and deadspool
"""
