"""
The supervisor of `mpsr spawn`: starts children, sends their output as messages, restarts and stops them.

supervisor               carries out the decisions of lifecycle, with processes
output                   what the children write: pipes to parcels
lines                    bytes to messages (hub.wire.multiline joins lines). merge: the order of two streams
delivery, console        messages to the hub; lines to our standard output
procfile                 Procfile, .env and formation
"""
