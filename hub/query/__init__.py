"""
Which messages of a journal are wanted, and how they look. No connection, no terminal.

query, found             filters over batches; the wanted messages of a batch
candidates, literals     what every wanted message contains, found by bytes before anything is decoded
packedfield              the bytes of a field with a value that is looked for
plaintext                a text that is found as it is
ranks                    the levels of a batch, without its records
condition, level         one condition on a record (`--where`); levels as log libraries write them (`--level`)
backward                 the last N, and the newest first
index, indexing          what the index of a segment knows; makes it
indexed                  reads with indexes
holdings                 what each tag takes in each segment
upkeep                   the process that packs sealed segments, makes their indexes, and leaves out what has expired
context                  the messages around those that are found
counting, timeline       counts by value, and over time; spread: a number over time; spreadby: the same by a field
fieldnames               the fields that messages have
repeats                  repeated lines as one
columns, arrow           messages as columns, and in Arrow's form
sqlplan, sqlrows         what a query in SQL needs of the journal, and its rows
sql, sqlcache            the database; Parquet files of sealed segments
parquet                  writes such files
rendering                pretty, json, text; the colours of levels
packed                   messages on their way to another process that shows them
"""
