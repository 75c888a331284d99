"""
Other ways in than a connection to the socket. docs/extending.md has the contract of a source, and one to start from.

table           SOURCES: which class serves which type; kinds, values: what the table of each type may hold
source          the contract of those that the configuration turns on; configured: their base; sources: runs them
shown           what a source may show of its hub
datagram        syslog and journald's native protocol; lane (one user's datagrams), passed (descriptors)
fifo            lines from a named pipe
journald        the systemd journal. Its stages: journalctl (the child), journalchoice (which entries), journalbatches,
                journalplace (how far it was read, what is missing), journalfiles (what this machine has)
positioned      what journald and kmsg have in common
kmsg            the kernel's log; kmsgdevice: its device
jetstream       blocks of other hubs, from a stream of NATS. Its stages: jetstreampull (requests for messages),
                jetstreamblocks (what they become), hubplace (which are new, what is missing)
pickled         log records of Python's SocketHandler
tcp             clients on TCP; greeting (what they prove first), credentials (the files with keys and certificates),
                renewed (they are read again when they change)
tail            log files. Its stages: watching, unseen (events of the kernel), following (all files of a source).
                folderfinding, fileglob, filelink, sourceglobs (which folders, and since when), looking, lookfolder
                (through them), filefinding (what a name leads to), fileset, fileowner (what is followed, for whom),
                rowindex (what the journal knows), rotations (what a rotation has done: renamed, copied and truncated),
                searching (in which folders, and what is known), generations (which files are older ones, or copies),
                ages (in which order they were made), readorder, filereading, openfiles (whose turn it is), filesgone
                (what is given up), followed (one file);
                fileidentity, filecheck, filerow (which file it is, whether it is as it was, what is stored of that);
                linecutter, fileparse (lines, messages); complaints (what is logged once)
tagging         a tag for messages that name none
spool           adopts the spools of dead producers. Its stages: spoolfolder (the folder), userfiles (limits per user),
                deadspool (one spool, read in steps), spoolreader (the thread that takes these steps)
"""
