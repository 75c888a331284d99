"""
The journal: batches in one order, on disk. FORMAT.md describes the bytes and the procedures.

    journal.py                  the event loop's interface; owns the writer's thread and the lock
    writer.py                   commits, segments, expiry, on that thread
    clock.py, retention.py      the times of a journal; which segments expire
    sharing.py                  small batches that share a block
    recovery.py, positions.py   opens a journal after any kind of stop; how far sources were read
    cursors.py                  how far each sink has delivered
    reader.py, verify.py        read and check it, from any process
    tagrules.py                 which messages expire by rule, under which tags
    rewriting.py                packs a sealed segment, and leaves out what has expired by rule
    indexfile.py                the file of a segment's index
    segment.py, hole.py         one segment file, read forward; what a place without a block is
    packed.py                   the packed form of a segment, and reading it as the plain one
    block.py, seal.py           packing and unpacking: segment headers and blocks; the seal
    files.py, direct.py         the only access to the disk; large writes past the page cache

Each file imports only from files in the lines below it, or from its own line.
"""
