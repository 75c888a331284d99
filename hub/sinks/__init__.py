"""
Readers of the journal that show or deliver what is committed. docs/extending.md has the contract of a sink.

table           the types that the configuration can turn on: kinds (their tables) and values; sinks: runs them; runner:
                one of them, on its thread; sink: the contract between both
portions        what a sink is given: the journal after its cursor, filtered, decoded or as it is stored (stored):
                forms
orders          what the event loop wants done on its thread
waker           how it waits
place           its cursor
reporter        what a sink has lost or can never deliver, once: deadletter stores it, reported knows what was
figures         its counters and its rate
file            lines in files. Its stages: pathtemplate (which file), logfile (one file, also after a crash), finished
                and packing (compression, retention)
forward         chunks to a Forward server, undecoded. Its parts: forwardchunk (ids and bytes), forwardlink (one
                connection)
otlp            log records to a collector. Its parts: otlpencode (the body of a request), otlpcolumns (many messages),
                otlpmessage (one), otlpvalues (values), httplink (a connection)
gzipped         gzip for what travels
destination     servers on a network; dialing: connections to them; clienttls: their certificates and ours
boot            what makes ids unique
jetstream       blocks to a stream of NATS; jetstreamjson: messages as JSON; jetstreamlink: the connection of both
child           messages to a command, which prints what it has safe
overlap         whether files of a sink are in the way of the hub
stdout          prints each batch (`mpsr hub --print`)
"""
