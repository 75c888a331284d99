"""
Which messages of a journal are wanted, and how they look. No connection, no terminal.

query                    filters over batches
condition, level         one condition on a record (`--where`); levels as log libraries write them (`--level`)
backward                 the last N, and the newest first
rendering                pretty, json, text; the colours of levels
packed                   messages on their way to another process that shows them
"""
