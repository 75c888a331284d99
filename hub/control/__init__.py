"""
What clients can ask a running hub for.

methods                  the table of JSON-RPC methods, and the right that each requires
messages                 query and tail: the journal, a page at a time and as a stream
newest                   one answer for all that ask for the newest messages
looking                  timeline, counts, chart and fields: figures of many messages, in stages
sql                      a query in SQL, run by a process; sqlchild: what the process does
selecting                the parameters that these methods have in common
counting                 counts for callers, in steps
reading                  the thread that reads the journal for callers, in steps
pieces                   large batches, cut into pieces; largebatches: those that several steps read
filters                  what to select, as callers write it
globs                    globs of callers that would take long to compile
figures                  the counters and gauges that stats returns
events                   subscriptions, and the events that are emitted
params                   the named parameters of these methods
typed                    commands from typed functions
threads                  where plain functions run
"""
