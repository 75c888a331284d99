"""
The wire: bytes to items, and items to bytes. No socket, clock, log or `await`.

detect                   selects the decoder of a connection by its first bytes; what a decoder is
forward                  Fluent Forward: cuts a stream into frames. Its parts, in the order of the data:
                         frame (headers, options, acknowledgements), repeated (frames that begin alike),
                         runs (Message frames that become one batch), arriving (a frame in pieces), longtag (one whose
                         tag is over the limit), scanner (where an object ends), pieces (of Docker's long lines), output
payload                  the entries of a frame: compression, checking (large ones, on a thread)
lines, length_prefixed   texts, cut by newlines or by lengths; batcher: what they share
bodies                   whole bodies of requests: lines, JSON arrays
otlp                     bodies of OpenTelemetry's log records, and the replies. Its parts: otlpprotobuf, otlpjson (the
                         two formats), otlprecord (one log record to one message)
jsonlines, text          a text that is a JSON object; any other text
multiline                joins lines that belong together; stacks: which lines make a traceback or a stack
sysloglines              a text that is a line of syslog, and where its frame ends
journald                 messages of journald's native protocol; journalexport: entries as journalctl exports them
kmsg                     records of the kernel's log
parsers, containerlogs   the lines of files: a table of formats; the logs of containers, whose lines have parts
pickled                  log records of Python's SocketHandler; plainpickle: pickles of plain data
jsonrpc                  requests and replies
chunkid, claim           chunk ids, our own and others; the place of a chunk in a file that is imported
chunkrun                 chunks of our own that become one batch
handshake, clientshake   the shared key of Forward: the server's half, the client's
replies                  what a Forward server replies to chunks
shipped                  blocks on their way from one hub to another
spoolfile                the files that a producer leaves for the hub
items, buffer            items of one call, in order; half a frame in parts
"""
