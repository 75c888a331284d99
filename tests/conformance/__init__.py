"""
Real clients against a real hub: what each sends is compared with the journal, message by message.

    clients.py      the table CLIENTS: how each is started, and what its messages look like in the journal
    recordings.py   what clients that cannot be installed everywhere have sent, byte by byte, with its origin
    host.py         a hub with every way in
"""
