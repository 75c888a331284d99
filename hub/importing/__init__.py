"""
`mpsr import`: finished logs, sent to the hub once.

contents     a file: what is in it, decompressed
formats      what its lines are
cutting      its content, cut into chunks of messages
delivery     a connection that sends chunks and awaits their acknowledgements
importer     where to continue, and how it is known that nothing is sent twice
"""
